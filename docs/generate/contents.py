"""Markdown of a section's contents: its pages in the order of the navigation."""

import os
from collections.abc import Iterator
from typing import Any


def render(page: Any) -> str:
  """A list of the pages beside an index page.

  Args:
    page: mkdocs' page of the index.
  """
  return '\n'.join(_lines(page.parent.children, page, depth=0))


def _lines(items: list[Any], index: Any, depth: int) -> Iterator[str]:
  for item in items:
    if item is index:
      continue
    if item.is_section:
      yield f'{"    " * depth}- {item.title}'
      yield from _lines(item.children, index, depth + 1)
    else:
      start = os.path.dirname(index.file.src_uri)
      link = os.path.relpath(item.file.src_uri, start)
      yield f'{"    " * depth}- [{item.title or link}]({link})'
