"""Plots of an evaluation as SVG: FLAN's figure 1, templates, calibration."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from matplotlib.lines import Line2D

from flan_jax.evaluate import calibration
from flan_jax.report import published, schema, statements, training_plots
from flan_jax.report.canvas import (
  BASE,
  CHANCE,
  FONT_SIZE,
  GRID,
  INK,
  MAJORITY,
  PUBLISHED,
  TUNED,
  canvas,
  finish,
  short,
  wrapped,
)


def draw(report: Mapping[str, Any]) -> dict[str, str]:
  """Draws every plot of a report: file stem -> SVG document."""
  drawn = {}
  if report['results']:
    drawn = {'averages': averages(report), 'templates': templates(report)}
  if calibration.of_models(report):
    drawn['calibration'] = reliability(report)
  return drawn | training_plots.draw(report)


def averages(report: Mapping[str, Any]) -> str:
  """Draws bars per cluster: base, tuned, published; chance and majority class below.

  Measured bars have 95 % intervals. A published average is drawn if it is over the same
  datasets, and hollow if it is unverified.
  """
  groups = [_with_published(group) for group in schema.averages(report)]
  models = _models(report)
  known = [group['flan'] for group in groups]
  bars = [
    *models,
    *([('flan', PUBLISHED, _published(report, known))] if any(known) else []),
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
  figure, axes = canvas(0.9 + sum(0.25 + 0.27 * len(some) for _, some in shown))
  ticks, labels, place = [], [], 0.0
  for group, some in shown:
    ticks.append(place + (len(some) - 1) / 2)
    name = statements.cluster_name(group['cluster'])
    labels.append(wrapped(name + statements.dev(group['splits'])))
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
  return finish(figure, handles)


def _published(
  report: Mapping[str, Any], figures: Iterable[Mapping[str, Any] | None]
) -> str:
  """Names the published figures; says that hollow ones are unverified, if any is."""
  hollow = any(figure and figure['mark'] != 'confirmed' for figure in figures)
  named = published.model(report['results'][0]['num_fewshot'])
  return f'{named} (hollow: unverified)' if hollow else named


def _with_published(group: Mapping[str, Any]) -> dict[str, Any]:
  return {**group, 'flan': published.beside(group)}


def _bar(axes, place: float, value: float, interval, color: str, text='') -> None:
  hollow = text.endswith('?')
  axes.barh(place, value, height=0.86, zorder=2, edgecolor=color,
            color='none' if hollow else color)  # fmt: skip
  end = value
  if interval is not None:
    low, high = interval
    axes.plot([low, high], [place, place], color=INK, linewidth=1.2, zorder=3)
    end = max(value, high)
  text = text or f'{value:.1f}'
  axes.text(end + 1.2, place, text, va='center', fontsize=FONT_SIZE, zorder=4)


def templates(report: Mapping[str, Any]) -> str:
  """Draws each result: a dot per template, and the mean with its 95 % interval."""
  results = report['results']
  models = _models(report)
  lanes = len(models)
  figure, axes = canvas(1.0 + len(results) * (0.34 + 0.26 * lanes))
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
  labels = [wrapped(schema.shown(result), 16) for result in results]
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
  known = list(map(published.beside, results))
  if any(known):
    handles.append(
      Line2D([], [], color=PUBLISHED, marker='D', linestyle='', markersize=5.5,
             label=_published(report, known))
    )  # fmt: skip
  return finish(figure, handles)


def reliability(report: Mapping[str, Any]) -> str:
  """Draws accuracy over confidence: the calibration of each model.

  All ranked datasets are pooled. The area of a dot is its number of answers; a dot
  below the diagonal is overconfident.
  """
  figure, axes = canvas(4.0)
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
    text = f'{short(label, 20)}: off by {found["ece"]:.1f} points'
    handles.append(Line2D([], [], color=color, marker='o', label=text))
  axes.set_xlabel('confidence, percent')
  axes.set_ylabel('right, percent')
  return finish(figure, handles)


_STRIP = (112, 22)


def strip(result: Mapping[str, Any]) -> str:
  """Draws the templates of one result as dots from 0 to 100, for a table cell.

  The base is above, the tuned model below, chance a tick. It is hidden from screen
  readers: the cell has the range as text.
  """
  width, height = _STRIP
  middle = height / 2
  place = lambda value: f'{4 + value / 100 * (width - 8):.1f}'  # noqa: E731
  parts = [f'<path d="M4 {middle}H{width - 4}" stroke="{GRID}"/>']
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
  model = ('tuned', TUNED, short(names['tuned']))
  if any('base' in result for result in report['results']):
    return [('base', BASE, names['base']), model]
  return [model]


def _percent(report: Mapping[str, Any]) -> str:
  """Returns the axis label: the unit, the prompts and the dataset family."""
  unit = f'percent, {statements.prompts(report)}{statements.on(report)}'
  return wrapped(unit, _AXIS)


_AXIS = 44
"""Letters of a line below an axis."""
