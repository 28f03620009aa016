"""mkdocs hook: fills `<!-- generated: NAME -->` in pages from the code itself."""

import functools
import re
from collections.abc import Callable, Mapping

import architecture
import changelog
import command_line
import metrics_table
import notebook
import python_api
import report_keys
import settings_tables

GENERATORS: Mapping[str, Callable[[], str]] = {
  'house': architecture.render_house,
  'imports': architecture.render_imports,
  'way of the data': architecture.render_way,
  'changelog': changelog.render,
  'command line': command_line.render,
  'metrics': metrics_table.render,
  'notebook': notebook.render,
  'report keys': report_keys.render,
  'published marks': report_keys.render_marks,
  'python api': python_api.render,
  'macros': settings_tables.render_macros,
  'security': functools.partial(changelog.render, 'SECURITY.md'),
  'settings': settings_tables.render,
}
"""Name in the marker -> the Markdown that replaces it."""

MARKER = re.compile(r'<!-- generated: (.*?) -->')


def on_page_markdown(markdown: str, **_) -> str:
  """Replaces the markers of a page; mkdocs calls it before it reads the Markdown."""
  return MARKER.sub(lambda match: GENERATORS[match.group(1)](), markdown)


NAME = re.compile(r'(?<=<td><code>)[^<\s]+(?=</code>)')


def on_post_page(output: str, **_) -> str:
  """Lets a name in a table break after `_` and `.` alone; the search index is made."""
  return NAME.sub(lambda name: re.sub(r'([_.])', r'\1<wbr>', name.group()), output)
