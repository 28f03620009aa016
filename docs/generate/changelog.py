"""Markdown of CHANGELOG.md and SECURITY.md: no title, and links of the site."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {'](docs/': '](', '](SECURITY.md': '](security.md'}
"""Beginning of a link in the repository -> in the site."""


def render(name: str = 'CHANGELOG.md') -> str:
  text = (ROOT / name).read_text(encoding='utf-8').partition('\n')[2]
  for link, page in PAGES.items():
    text = text.replace(link, page)
  return text
