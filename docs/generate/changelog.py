"""Markdown of the changelog: CHANGELOG.md without its title, with links of the site."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def render() -> str:
  text = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
  return text.partition('\n')[2].replace('](docs/', '](')
