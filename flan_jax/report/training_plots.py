"""Plots of a training run: its losses and its evaluation steps, by step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from flan_jax.report import statements
from flan_jax.report.canvas import (
  BASE,
  FONT_SIZE,
  GRID,
  INK,
  PUBLISHED,
  TUNED,
  canvas,
  finish,
  short,
)


def draw(report: Mapping[str, Any]) -> dict[str, str]:
  """Draws the curves of a run that have more than one point: file stem -> SVG."""
  curves, drawn = report.get('curves', {}), {}
  if any(len(curves.get(name, ())) > 1 for name in ('train', 'validation')):
    drawn['loss'] = loss(report)
  if any(len(points) > 1 for _, points in _metrics(report)):
    drawn['metrics'] = metrics(report)
  return drawn


def loss(report: Mapping[str, Any]) -> str:
  """Draws the loss of a training run by step, of training and on dev.

  The axis on the right is the perplexity, e to the loss.
  """
  curves = report['curves']
  figure, axes = _by_step('loss of a target token, nats')
  handles = []
  for name, color, marker in (('train', BASE, ''), ('validation', TUNED, 'o')):
    if name in curves:
      label = 'training' if name == 'train' else 'dev of the training datasets'
      handles += _curve(axes, curves[name], label, color=color, marker=marker)
  _with_perplexity(axes)
  return finish(figure, handles)


def _with_perplexity(axes: Axes) -> None:
  """Adds the perplexity of a target token on the right of an axis of losses."""
  right = axes.twinx()
  right.set_ylim(axes.get_ylim())
  right.set_ylabel('perplexity', fontsize=FONT_SIZE, color=INK)
  right.tick_params(length=0, labelsize=FONT_SIZE, labelcolor=INK)
  for side in right.spines.values():
    side.set_visible(False)
  low, high = np.exp(axes.get_ylim())
  decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
  marks = np.outer(decades, (1, 1.2, 1.5, 2, 3, 5, 7)).ravel()
  marks = marks[(marks >= low) & (marks <= high)]
  if len(marks) < 2:  # a narrow range
    marks = np.exp(np.linspace(*axes.get_ylim(), 5)[1:-1])
  marks = marks[:: -(-len(marks) // _TICKS)]
  right.set_yticks(np.log(marks), [f'{float(f"{mark:.3g}"):,g}' for mark in marks])


_TICKS = 7
"""Maximum number of marked perplexities."""


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
  return finish(figure, handles)


def _metrics(report: Mapping[str, Any]) -> list[tuple[str, list[list[float]]]]:
  """Returns the curves of evaluation steps, the held-out clusters' first.

  Of more metrics of training datasets than colors, the mean is one curve.
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
  return [*found, (f'mean of {len(own)} metrics of training datasets', mean)]


_LINES = (TUNED, BASE, PUBLISHED, '#2e7d32', '#8a6d00', '#a3305a')


def _by_step(label: str) -> tuple[Figure, Axes]:
  """Returns a canvas of figures by training step."""
  figure, axes = canvas(2.8)
  axes.autoscale(axis='x')
  axes.grid(axis='y', color=GRID, linewidth=0.8, zorder=0)
  axes.set_xlabel('training step')
  axes.set_ylabel(label)
  return figure, axes


def _curve(axes: Axes, points: Sequence, label: str, **style: Any) -> list[Line2D]:
  steps, values = zip(*points, strict=True)
  axes.plot(steps, values, linewidth=1.6, markersize=4.5, zorder=3, **style)
  return [
    Line2D([], [], linewidth=1.6, markersize=4.5, label=short(label, 40), **style)
  ]
