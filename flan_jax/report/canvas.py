"""Canvas of a report's figures: SVG with text, legible on a phone.

Figures are drawn with matplotlib's object interface: no display, no global state, and
the same bytes for the same report.
"""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if TYPE_CHECKING:
  from matplotlib.typing import RcKeyType

TUNED, BASE, CHANCE, MAJORITY = '#0b6e99', '#b5622e', '#8b949d', '#5f6973'
PUBLISHED = '#5b3a8c'
INK, GRID = '#1c2126', '#dfe3e7'

WIDTH = 4.6
"""Width of a figure in inches."""

FONT_SIZE = 11.5
"""Size of every text in points: 12 px or more where a phone is 390 px wide."""

_STYLE: 'dict[RcKeyType, Any]' = {
  'svg.fonttype': 'none',
  'svg.hashsalt': 'flan_jax',
  'font.family': 'sans-serif',
  'font.sans-serif': ['system-ui', 'Segoe UI', 'Roboto', 'Arial', 'DejaVu Sans'],
  'font.size': FONT_SIZE,
  'axes.labelsize': FONT_SIZE,
  'axes.titlesize': FONT_SIZE,
  'xtick.labelsize': FONT_SIZE,
  'ytick.labelsize': FONT_SIZE,
  'legend.fontsize': FONT_SIZE,
  'text.parse_math': False,  # a model's name may hold dollar signs
  'axes.edgecolor': GRID,
  'axes.labelcolor': INK,
  'text.color': INK,
  'xtick.color': INK,
  'ytick.color': INK,
}


def short(name: str, max_length: int = 28) -> str:
  """Shortens a name, for a legend."""
  return name if len(name) <= max_length else f'{name[: max_length - 1]}…'


def wrapped(text: str | None, width: int = 16) -> str:
  """Breaks a long name at blanks or underscores, to fit the margin on a phone."""
  lines, line = [], ''
  for word in re.split(r'(?<=[ _])', text or ''):
    if line and len(line) + len(word.rstrip()) > width:
      lines.append(line.rstrip())
      line = ''
    line += word
  return '\n'.join([*lines, line])


def panels(
  count: int, height: float, *, grid: Literal['x', 'y'] = 'y'
) -> tuple[Figure, list[Axes]]:
  """Returns a figure with a column of axes, which share what is on the horizontal."""
  with matplotlib.rc_context(_STYLE):
    figure = Figure(figsize=(WIDTH, height), layout='constrained')
    column = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
  for axes in column:
    axes.grid(axis=grid, color=GRID, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ('top', 'right', 'left'):
      axes.spines[side].set_visible(False)
  return figure, column


def canvas(height: float) -> tuple[Figure, Axes]:
  """Returns a figure with one pair of axes, 0 to 100 percent from left to right."""
  figure, (axes,) = panels(1, height, grid='x')
  axes.set_xlim(0, 100)
  axes.set_xlabel('percent')
  return figure, axes


def finish(figure: Figure, handles: Sequence[Line2D]) -> str:
  """Returns the figure as SVG, with a legend above it that makes it higher."""
  longest = max((len(str(handle.get_label())) for handle in handles), default=0)
  columns = 2 if longest <= _HALF else 1
  rows = -(-len(handles) // columns)
  figure.set_figheight(figure.get_figheight() + _ROW * rows)
  with matplotlib.rc_context(_STYLE):
    if handles:
      figure.legend(
        handles=handles,
        loc='outside upper left',
        ncols=columns,
        frameon=False,
        handlelength=1.5,
        columnspacing=1.2,
      )
    out = io.StringIO()
    figure.savefig(out, format='svg', transparent=True, metadata={'Date': None})
  return out.getvalue()


_ROW = 0.23
"""Height of a line of the legend in inches."""

_HALF = 18
"""Letters of a label that fits in half of a figure."""


def inline(svg: str, *, name: str, title: str) -> str:
  """Turns an SVG document into an element of an HTML page.

  The prologue, the metadata and the namespaces are removed, since HTML needs none.

  Args:
    svg: the document.
    name: prefix that makes its ids unique on the page.
    title: text alternative, for screen readers.
  """
  body = svg[svg.index('<svg') :]
  body = re.sub(r'<metadata>.*?</metadata>', '', body, flags=re.DOTALL)
  body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', '', body)
  body = re.sub(r'\bid="', f'id="{name}-', body)
  body = re.sub(r'url\(#', f'url(#{name}-', body)
  body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
  opening = f'<svg role="img" aria-labelledby="{name}-title" '
  body = re.sub(r'<svg\s', lambda _: opening, body, count=1)
  end = body.index('>') + 1
  escaped = title.replace('&', '&amp;').replace('<', '&lt;')
  return f'{body[:end]}<title id="{name}-title">{escaped}</title>{body[end:]}'
