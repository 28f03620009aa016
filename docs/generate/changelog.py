"""Markdown of CHANGELOG.md and SECURITY.md: no title, and links of the site."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def render(name: str = 'CHANGELOG.md') -> str:
  text = (ROOT / name).read_text(encoding='utf-8')
  return (
    text.partition('\n')[2]
    .replace('](docs/', '](')
    .replace('](SECURITY.md', '](security.md')
  )
