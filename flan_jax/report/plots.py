"""Plots of a report as SVG: FLAN's figure 1, spread, calibration, curves.

They are drawn with matplotlib's object interface: no display, no global state, and the
same bytes for the same report.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flan_jax.evaluate import calibration
from flan_jax.report import published, schema, statements

if TYPE_CHECKING:
  from matplotlib.typing import RcKeyType

TUNED, BASE, CHANCE, MAJORITY = '#0b6e99', '#b5622e', '#8b949d', '#5f6973'
PUBLISHED = '#5b3a8c'
_INK, _GRID = '#1c2126', '#dfe3e7'

_WIDTH = 5.2  # inches: text stays legible when a phone shows it at two thirds

_STYLE: 'dict[RcKeyType, Any]' = {
  'svg.fonttype': 'none',
  'svg.hashsalt': 'flan_jax',
  'font.family': 'sans-serif',
  'font.sans-serif': ['system-ui', 'Segoe UI', 'Roboto', 'Arial', 'DejaVu Sans'],
  'font.size': 11,
  'text.parse_math': False,  # a model's name may hold dollar signs
  'axes.edgecolor': _GRID,
  'axes.labelcolor': _INK,
  'text.color': _INK,
  'xtick.color': _INK,
  'ytick.color': _INK,
}


def draw(report: Mapping[str, Any]) -> dict[str, str]:
  """Draws every plot of a report: file stem -> SVG document."""
  drawn = {}
  if report['results']:
    drawn = {'averages': averages(report), 'templates': templates(report)}
  curves = report.get('curves', {})
  if any(len(curves.get(name, ())) > 1 for name in ('train', 'validation')):
    drawn['loss'] = loss(report)
  if any(len(points) > 1 for _, points in _metrics(report)):
    drawn['metrics'] = metrics(report)
  if calibration.of_models(report):
    drawn['calibration'] = reliability(report)
  return drawn


def averages(report: Mapping[str, Any]) -> str:
  """Draws bars per cluster: base, tuned, published; chance and majority class below.

  Measured bars have 95 % intervals. A published average is drawn if it is over the same
  datasets, and hollow if it is unverified.
  """
  groups = [_with_published(group) for group in schema.averages(report)]
  models = _models(report)
  known = any(group['flan'] for group in groups)
  bars = [
    *models,
    *([('flan', PUBLISHED, _published(report))] if known else []),
    ('majority', MAJORITY, 'majority class'),
    ('chance', CHANCE, 'chance'),
  ]
  bars = [
    bar
    for bar in bars
    if bar[0] == 'tuned' or any(group.get(bar[0]) is not None for group in groups)
  ]
  shown = [
    (group, [bar for bar in bars if bar[0] == 'tuned' or group.get(bar[0]) is not None])
    for group in groups
  ]
  figure, axes = _canvas(1.1 + sum(0.25 + 0.27 * len(some) for _, some in shown))
  ticks, labels, place = [], [], 0.0
  for group, some in shown:
    ticks.append(place + (len(some) - 1) / 2)
    name = statements.cluster_name(group['cluster'])
    labels.append(_wrapped(name + statements.dev(group['splits'])))
    for key, color, _ in some:
      measured = group if key == 'tuned' else group[key]
      if key in ('tuned', 'base'):
        _bar(axes, place, measured['mean'], measured['ci95'], color)
      elif key == 'flan':
        _bar(axes, place, measured['value'], None, color,
             text=published.shown(measured))  # fmt: skip
      else:
        _bar(axes, place, group[key], None, color)
      place += 1
    place += 1
  axes.set_yticks(ticks, labels)
  axes.set_ylim(place - 1.3, -0.8)
  axes.set_xlabel(_percent(report))
  handles = [
    Line2D([], [], color=color, linewidth=7, label=label) for _, color, label in bars
  ]
  return _finish(figure, axes, handles)


def _published(report: Mapping[str, Any]) -> str:
  return f'{published.model(report["results"][0]["num_fewshot"])} (hollow: unverified)'


def _with_published(group: Mapping[str, Any]) -> dict[str, Any]:
  return {**group, 'flan': published.beside(group)}


def _bar(axes, place: float, value: float, interval, color: str, text='') -> None:
  hollow = text.endswith('?')
  axes.barh(place, value, height=0.86, zorder=2, edgecolor=color,
            color='none' if hollow else color)  # fmt: skip
  end = value
  if interval is not None:
    low, high = interval
    axes.plot([low, high], [place, place], color=_INK, linewidth=1.2, zorder=3)
    end = max(value, high)
  text = text or f'{value:.1f}'
  axes.text(end + 1.2, place, text, va='center', fontsize=9.5, zorder=4)


def templates(report: Mapping[str, Any]) -> str:
  """Draws each result: a dot per template, and the mean with its 95 % interval."""
  results = report['results']
  models = _models(report)
  lanes = len(models)
  figure, axes = _canvas(1.2 + len(results) * (0.34 + 0.26 * lanes))
  for i, result in enumerate(results):
    for lane, (key, color, _) in enumerate(models):
      measured = result if key == 'tuned' else result.get('base')
      if measured is None:
        continue
      place = i + (lane - (lanes - 1) / 2) * 0.36
      dots = [entry[result['split']] for entry in measured['per_template']]
      dots = [dot for dot in dots if dot is not None]
      axes.plot(measured['ci95'], [place, place], color=color, linewidth=1.4, zorder=3)
      axes.plot(dots, [place] * len(dots), 'o', markersize=5, alpha=0.45,
                color=color, markeredgewidth=0, zorder=2, clip_on=False)  # fmt: skip
      axes.plot(measured['mean'], place, '|', markersize=13, markeredgewidth=2.4,
                color=color, zorder=4, clip_on=False)  # fmt: skip
    for key, color, style in (('chance', MAJORITY, ':'), ('majority', MAJORITY, '-')):
      if result[key] is not None:
        axes.plot([result[key]] * 2, [i - 0.46, i + 0.46], style, color=color,
                  linewidth=1.3, zorder=1)  # fmt: skip
    known = published.beside(result)
    if known:
      filled = 'full' if known['mark'] == 'confirmed' else 'none'
      axes.plot(known['value'], i, 'D', markersize=5.5, color=PUBLISHED, zorder=5,
                fillstyle=filled)  # fmt: skip
  labels = [_wrapped(schema.shown(result), 16) for result in results]
  axes.set_yticks(range(len(results)), labels)
  axes.set_ylim(len(results) - 0.4, -0.6)
  axes.set_xlabel(_percent(report))
  handles = [
    Line2D([], [], color=color, marker='|', markersize=11, markeredgewidth=2.4,
           label=f'{label}: mean, 95 %') for _, color, label in models
  ]  # fmt: skip
  handles.append(
    Line2D(
      [], [], color='#777777', marker='o', linestyle='', alpha=0.6, label='template'
    )
  )
  marks: tuple[tuple[str, Literal['-', ':'], str], ...] = (
    ('majority', '-', 'majority class'),
    ('chance', ':', 'chance'),
  )
  for key, style, text in marks:
    if any(result[key] is not None for result in results):
      handles.append(Line2D([], [], color=MAJORITY, linestyle=style, label=text))
  if any(map(published.beside, results)):
    handles.append(
      Line2D([], [], color=PUBLISHED, marker='D', linestyle='', markersize=5.5,
             label=_published(report))
    )  # fmt: skip
  return _finish(figure, axes, handles)


def reliability(report: Mapping[str, Any]) -> str:
  """Draws accuracy over confidence: the calibration of each model.

  All ranked datasets are pooled. The area of a dot is its number of answers; a dot
  below the diagonal is overconfident.
  """
  figure, axes = _canvas(4.6)
  axes.set_ylim(0, 100)
  axes.set_aspect('equal')
  axes.plot([0, 100], [0, 100], color=MAJORITY, linewidth=1, linestyle=':', zorder=1)
  handles = []
  measured = calibration.of_models(report)
  for key, color, label in _models(report):
    found = measured.get(key)
    if found is None:
      continue
    places = [(part['confidence'], part['right']) for part in found['bins']]
    sizes = [16 + 500 * part['n'] / found['n'] for part in found['bins']]
    axes.plot(*zip(*places, strict=True), color=color, linewidth=1.4, zorder=2)
    axes.scatter(*zip(*places, strict=True), s=sizes, color=color, alpha=0.55,
                 linewidths=0, zorder=3, clip_on=False)  # fmt: skip
    text = f'{label}: off by {found["ece"]:.1f} points'
    handles.append(Line2D([], [], color=color, marker='o', label=text))
  axes.set_xlabel('confidence, percent')
  axes.set_ylabel('right, percent')
  return _finish(figure, axes, handles, columns=1)


def loss(report: Mapping[str, Any]) -> str:
  """Draws the loss of a training run by step: of training, and on dev."""
  curves = report['curves']
  figure, axes = _by_step('loss of a target token, nats')
  handles = []
  for name, color, marker in (('train', BASE, ''), ('validation', TUNED, 'o')):
    if name in curves:
      label = 'training' if name == 'train' else 'dev of the training datasets'
      handles += _curve(axes, curves[name], label, color=color, marker=marker)
  return _finish(figure, axes, handles)


def metrics(report: Mapping[str, Any]) -> str:
  """Draws the evaluation steps of a training run on dev, by step.

  Held-out clusters are solid lines, training datasets dashed ones.
  """
  figure, axes = _by_step('percent')
  axes.set_ylim(0, 100)
  handles = []
  held_out = report['curves'].get('held_out', {})
  for i, (label, points) in enumerate(_metrics(report)):
    handles += _curve(
      axes, points, label, color=_LINES[i % len(_LINES)], marker='o',
      linestyle='-' if i < len(held_out) else '--',
    )  # fmt: skip
  return _finish(figure, axes, handles, columns=1)


def _metrics(report: Mapping[str, Any]) -> list[tuple[str, list[list[float]]]]:
  """Returns the curves of evaluation steps, the held-out clusters' first.

  Of more training datasets than colors, the mean is one curve.
  """
  curves = report.get('curves', {})
  found = [
    (f'{statements.cluster_name(cluster)} (held out)', points)
    for cluster, points in curves.get('held_out', {}).items()
  ]
  own = curves.get('metrics', {})
  if len(found) + len(own) <= len(_LINES):
    return found + [(f'{label} (trained on)', points) for label, points in own.items()]
  by_step: dict[float, list[float]] = {}
  for points in own.values():
    for step, value in points:
      by_step.setdefault(step, []).append(value)
  mean = [[step, sum(some) / len(some)] for step, some in sorted(by_step.items())]
  return [*found, (f'mean of {len(own)} training datasets', mean)]


_LINES = (TUNED, BASE, PUBLISHED, '#2e7d32', '#8a6d00', '#a3305a')


def _by_step(label: str) -> tuple[Figure, Axes]:
  """Returns a canvas of figures by training step."""
  figure, axes = _canvas(3.4)
  axes.autoscale(axis='x')
  axes.grid(axis='y', color=_GRID, linewidth=0.8, zorder=0)
  axes.set_xlabel('training step')
  axes.set_ylabel(label)
  return figure, axes


def _curve(axes: Axes, points: Sequence, label: str, **style: Any) -> list[Line2D]:
  steps, values = zip(*points, strict=True)
  axes.plot(steps, values, linewidth=1.6, markersize=4.5, zorder=3, **style)
  return [
    Line2D([], [], linewidth=1.6, markersize=4.5, label=_short(label, 40), **style)
  ]


_STRIP = (112, 22)


def strip(result: Mapping[str, Any]) -> str:
  """Draws the templates of one result as dots from 0 to 100, for a table cell.

  The base is above, the tuned model below, chance a tick. It is hidden from screen
  readers: the cell has the range as text.
  """
  width, height = _STRIP
  middle = height / 2
  place = lambda value: f'{4 + value / 100 * (width - 8):.1f}'  # noqa: E731
  parts = [f'<path d="M4 {middle}H{width - 4}" stroke="{_GRID}"/>']
  if result['chance'] is not None:
    at = place(result['chance'])
    parts.append(f'<path d="M{at} 3V{height - 3}" stroke="{MAJORITY}"/>')
  lanes = [('base', BASE, middle - 4), ('tuned', TUNED, middle + 4)]
  if 'base' not in result:
    lanes = [('tuned', TUNED, middle)]
  for key, color, y in lanes:
    for entry in (result if key == 'tuned' else result['base'])['per_template']:
      if entry[result['split']] is not None:
        at = place(min(max(entry[result['split']], 0), 100))
        parts.append(
          f'<circle cx="{at}" cy="{y}" r="3" fill="{color}" fill-opacity=".6"/>'
        )
  return (
    f'<svg aria-hidden="true" class="strip" viewBox="0 0 {width} {height}" '
    f'width="{width}" height="{height}">{"".join(parts)}</svg>'
  )


def _models(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
  """Returns (key, color, label) of each measured model."""
  names = statements.models(report)
  model = ('tuned', TUNED, _short(names['tuned']))
  if any('base' in result for result in report['results']):
    return [('base', BASE, names['base']), model]
  return [model]


def _short(name: str, max_length: int = 28) -> str:
  return name if len(name) <= max_length else f'{name[: max_length - 1]}…'


def _percent(report: Mapping[str, Any]) -> str:
  """Returns the axis label: the unit, the prompts and the dataset family."""
  return f'percent, {statements.prompts(report)}{statements.on(report)}'


def _wrapped(text: str | None, width: int = 16) -> str:
  """Breaks a long name at blanks or underscores, to fit the margin on a phone."""
  lines, line = [], ''
  for word in re.split(r'(?<=[ _])', text or ''):
    if line and len(line) + len(word.rstrip()) > width:
      lines.append(line.rstrip())
      line = ''
    line += word
  return '\n'.join([*lines, line])


def _canvas(height: float) -> tuple[Figure, Axes]:
  with matplotlib.rc_context(_STYLE):
    figure = Figure(figsize=(_WIDTH, height), layout='constrained')
    axes = figure.add_subplot()
  axes.set_xlim(0, 100)
  axes.grid(axis='x', color=_GRID, linewidth=0.8, zorder=0)
  axes.set_axisbelow(True)
  axes.tick_params(length=0)
  for side in ('top', 'right', 'left'):
    axes.spines[side].set_visible(False)
  axes.set_xlabel('percent')
  return figure, axes


def _finish(
  figure: Figure, axes: Axes, handles: Sequence[Line2D], columns: int = 2
) -> str:
  with matplotlib.rc_context(_STYLE):
    figure.legend(
      handles=handles,
      loc='outside upper left',
      ncols=columns,
      frameon=False,
      fontsize=9.5,
    )
    out = io.StringIO()
    figure.savefig(out, format='svg', transparent=True, metadata={'Date': None})
  return out.getvalue()


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
