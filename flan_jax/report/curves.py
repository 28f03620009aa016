"""Figures of many reports as SVG: means with intervals, steps of a run, its history."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flan_jax.report import many_tables, statements
from flan_jax.report.canvas import canvas, finish, panels, short, wrapped

_QUIET = '#5f6973'
_COLORS = (
  '#0b6e99', '#b5622e', '#5b3a8c', '#2e7d32', '#a3305a', '#7a5f00', '#4b5563',
  '#00796b',
)  # fmt: skip
_MARKERS = 'osD^vP*X'

_PANEL = 2.2
"""Height of a panel in inches."""
_LINE = 0.234
"""Height of a line of a label in inches."""


def draw(content: Mapping[str, Any]) -> dict[str, str]:
  """Draws every figure of the page: name -> SVG document.

  Args:
    content: content of the page, from `many.build`.
  """
  drawn = {}
  if content['averages']:
    drawn['means'] = means(content)
  if content.get('differences', {}).get('averages'):
    drawn['differences'] = differences(content)
  if content['steps'] and content['averages']:
    drawn['steps'] = steps(content)
  for name, key in (
    ('loss', 'validation'),
    ('loss', 'train'),
    ('held_out', 'held_out'),
  ):
    if name not in drawn and any(_long(run.get(key)) for run in content['history']):
      drawn[name] = loss(content) if name == 'loss' else held_out(content)
  return drawn


def _long(curve: Any) -> bool:
  """Returns whether a curve, or one of several by name, has two points."""
  if isinstance(curve, Mapping):
    return any(map(_long, curve.values()))
  return curve is not None and len(curve) > 1


def means(content: Mapping[str, Any]) -> str:
  """Draws the mean of each cluster, or of each dataset of a single cluster.

  A lane for each model: its mean with the 95 % interval, and a small dot per seed.
  """
  columns = many_tables.main(content)
  figure, axes, ends = _lanes(content, columns, start=0.9)
  axes.set_xlim(min([0.0, *ends]), 100)
  handles = [
    _handle(columns, column['name'], many_tables.heading(column)) for column in columns
  ]
  return finish(figure, handles)


def differences(content: Mapping[str, Any]) -> str:
  """Draws the differences between columns, in points, as `means` draws the means."""
  table = content['differences']
  columns = table['columns']
  figure, axes, ends = _lanes(table, columns, start=0.9)
  reach = 1.05 * max(1.0, *map(abs, ends))
  axes.set_xlim(-reach, reach)
  axes.axvline(0, color=_QUIET, linewidth=1.2, zorder=1)
  axes.set_xlabel('points')
  handles = [_handle(columns, column['name'], column['name']) for column in columns]
  return finish(figure, handles)


def _lanes(
  content: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], *, start: float
) -> tuple[Figure, Axes, list[float]]:
  """Draws a lane for each column on each cluster; returns the ends of all intervals."""
  rows = content['averages']
  if len(rows) == 1:
    of_datasets = [row for row in content['rows'] if row.get('kind') != 'value']
    rows = of_datasets if len(of_datasets) == 1 else of_datasets + rows
  lanes = [
    [column['name'] for column in columns if row['cells'][column['name']]]
    for row in rows
  ]
  if len(content['averages']) > 1:
    several = many_tables.family(rows) is None
    names = [many_tables.cluster(row, family=several) for row in rows]
  else:
    names = [many_tables.name_of(row) for row in rows]
  labels = [wrapped(name) for name in names]
  height = 0.26 if len(columns) <= 3 else 0.2  # of a lane, in inches
  rooms = [
    max(len(lane), _LINE / height * (label.count('\n') + 1))
    for lane, label in zip(lanes, labels, strict=True)
  ]
  figure, axes = canvas(start + height * (sum(rooms) + len(rooms)))
  ticks, place = [], 0.0
  for row, lane, room in zip(rows, lanes, rooms, strict=True):
    ticks.append(place + (room - 1) / 2)
    place += (room - len(lane)) / 2
    for column in lane:
      cell = row['cells'][column]
      color, marker = _look(columns, column)
      if cell['seeds'] > 1:  # an empty line would take room in the layout
        axes.plot(cell['by_seed'], [place + 0.3] * cell['seeds'], 'o', markersize=3.5,
                  alpha=0.6, color=color, markeredgewidth=0, zorder=2,
                  clip_on=False)  # fmt: skip
      if cell['ci95']:
        axes.plot(cell['ci95'], [place, place], color=color, linewidth=2, zorder=3)
      axes.plot(cell['mean'], place, marker, markersize=7, color=color, zorder=4,
                clip_on=False)  # fmt: skip
      place += 1
    place += (room - len(lane)) / 2 + 1
  axes.set_yticks(ticks, labels)
  axes.set_ylim(place - 1.3, -0.8)
  return figure, axes, [*_ends(rows, min), *_ends(rows, max)]


def _ends(
  rows: Sequence[Mapping[str, Any]], which: Callable[[Sequence[float]], float]
) -> Iterator[float]:
  for row in rows:
    for cell in row['cells'].values():
      if cell is not None:
        yield which(cell['ci95'] or [cell['mean']])


def steps(content: Mapping[str, Any]) -> str:
  """Draws the mean of each cluster by training step, with its 95 % interval."""
  shown = []
  several = len(content['steps']) > 1
  for average in content['averages']:
    curves = []
    for i, series in enumerate(content['steps']):
      found = [
        (step, average['cells'][name])
        for step, name in zip(series['steps'], series['columns'], strict=True)
        if average['cells'][name]
      ]
      if len(found) > 1:
        curves.append((i, series['name'], found))
    if curves:
      shown.append((many_tables.cluster(average), curves))
  figure, axes = panels(max(len(shown), 1), 0.6 + _PANEL * len(shown))
  for place, (title, curves) in zip(axes, shown, strict=True):
    place.set_title(title, loc='left')
    for i, _, found in curves:
      color, marker = _COLORS[i % len(_COLORS)], _MARKERS[i % len(_MARKERS)]
      at = [step for step, _ in found]
      place.plot(at, [cell['mean'] for _, cell in found], color=color, marker=marker,
                 linewidth=1.8, zorder=3)  # fmt: skip
      ends = [cell['ci95'] or [cell['mean']] * 2 for _, cell in found]
      low, high = zip(*ends, strict=True)
      place.fill_between(at, low, high, color=color, alpha=0.16, linewidth=0, zorder=1)
    place.set_ylabel('percent')
  axes[-1].set_xlabel('training step')
  handles = [
    Line2D([], [], color=_COLORS[i % len(_COLORS)], marker=_MARKERS[i % len(_MARKERS)],
           label=short(series['name']))
    for i, series in enumerate(content['steps'])
  ]  # fmt: skip
  return finish(figure, handles if several else [])


def loss(content: Mapping[str, Any]) -> str:
  """Draws the losses of each run by step: a line per seed, bold on dev."""
  figure, (axes,) = panels(1, 3.8)
  names = list(dict.fromkeys(run['name'] for run in content['history']))
  kinds = set()
  for run in content['history']:
    color = _COLORS[names.index(run['name']) % len(_COLORS)]
    for key, width, style in (('train', 1.0, '-'), ('validation', 2.2, '--')):
      if _long(run.get(key)):
        axes.plot(*zip(*run[key], strict=True), style, color=color, linewidth=width,
                  alpha=0.85, zorder=3)  # fmt: skip
        kinds.add(key)
  axes.set_ylabel('loss of a target token, nats')
  axes.set_xlabel('training step')
  handles = _runs(names)
  if len(kinds) > 1:
    handles += [
      Line2D([], [], color=_QUIET, linestyle='-', linewidth=1, label='training'),
      Line2D([], [], color=_QUIET, linestyle='--', linewidth=2.2, label='dev'),
    ]
  return finish(figure, handles)


def held_out(content: Mapping[str, Any]) -> str:
  """Draws the evaluation steps of each run on dev: a panel per held-out cluster."""
  runs = [run for run in content['history'] if _long(run.get('held_out'))]
  names = list(dict.fromkeys(run['name'] for run in runs))
  clusters = list(dict.fromkeys(name for run in runs for name in run['held_out']))
  figure, axes = panels(len(clusters), 0.6 + _PANEL * len(clusters))
  for place, cluster in zip(axes, clusters, strict=True):
    place.set_title(statements.cluster_name(cluster), loc='left')
    place.set_ylabel('percent')
    for run in runs:
      points = run['held_out'].get(cluster, ())
      if points:
        color = _COLORS[names.index(run['name']) % len(_COLORS)]
        place.plot(*zip(*points, strict=True), 'o-', color=color, linewidth=1.4,
                   markersize=4, alpha=0.85)  # fmt: skip
  axes[-1].set_xlabel('training step')
  return finish(figure, _runs(names))


def _runs(names: Sequence[str]) -> list[Line2D]:
  return [
    Line2D([], [], color=_COLORS[i % len(_COLORS)], linewidth=2, label=short(name))
    for i, name in enumerate(names)
  ]


def _look(columns: Sequence[Mapping[str, Any]], name: str) -> tuple[str, str]:
  """Returns the color and the marker of a column."""
  i = [column['name'] for column in columns].index(name)
  turn = i // len(_COLORS)
  return _COLORS[i % len(_COLORS)], _MARKERS[(i + turn) % len(_MARKERS)]


def _handle(columns: Sequence[Mapping[str, Any]], name: str, label: str) -> Line2D:
  color, marker = _look(columns, name)
  return Line2D([], [], color=color, marker=marker, linewidth=2, label=short(label))
