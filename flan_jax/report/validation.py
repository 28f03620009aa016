"""Validation in a report: figures on dev of the training datasets, in words."""

import math
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from flan_jax.report import statements

if TYPE_CHECKING:
  from rich.table import Table

MAX_NAMED = 4
"""Maximum number of metrics that a sentence names one by one."""


def summary(found: Mapping[str, Any]) -> str:
  """Returns figures in words: `loss 1.234 nats, perplexity 3.43, rte accuracy 61.0 %`.

  Args:
    found: figures of `jobs.validation.Validation`.
  """
  if found['loss'] is None:
    return 'no example fits'
  text = f'loss {found["loss"]:.3f} nats, perplexity {found["perplexity"]:,.2f}'
  metrics = [
    f', {label} {metric["metric"]} {metric["value"]:.1f} %'
    for figures in found['datasets'].values()
    for label, metric in figures['metrics'].items()
  ]
  return text + ''.join(metrics if len(metrics) <= MAX_NAMED else ())


def headline(report: Mapping[str, Any]) -> str:
  """Returns the line of a report: `Validation at step 200: loss 1.234 nats, ...`."""
  found = report['validation']
  return f'Validation at step {found["step"]:,}: {summary(found)}'


def rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Lists the figures of each dataset, and of all if there are several.

  Returns:
    Dicts of 'dataset', 'examples', 'target_tokens', 'loss', 'perplexity', 'accuracy'
    (target tokens that are the most likely, in percent) and 'metrics': [(name, value,
    ci95)].
  """
  found = report['validation']
  parts = [
    {
      **figures,
      'dataset': name,
      'metrics': [
        (
          ' '.join(filter(None, (label.removeprefix(name).strip(), metric['metric']))),
          metric['value'],
          metric['ci95'],
        )
        for label, metric in figures['metrics'].items()
      ],
    }
    for name, figures in found['datasets'].items()
  ]
  if len(parts) > 1:
    parts.append({**found, 'dataset': 'all', 'metrics': []})
  return parts


def table(report: Mapping[str, Any]) -> 'Table':
  """Returns the table for a terminal."""
  from rich import box
  from rich.markup import escape
  from rich.table import Table

  made = Table(
    title=f'Validation at step {report["validation"]["step"]:,}, on dev of the '
    'training datasets',
    box=box.SIMPLE, title_justify='left', pad_edge=False,
  )  # fmt: skip
  heads = 'dataset', 'examples', 'loss (nats)', 'perplexity', 'tokens right', 'metric'
  for name in heads:
    left = name in ('dataset', 'metric')
    made.add_column(
      name,
      justify='left' if left else 'right',
      no_wrap=left,
      min_width=max(map(len, name.split())),  # a heading is broken between words
    )
  for row in rows(report):
    metrics = ', '.join(
      f'{name} {value:.1f} % [{low:.1f}, {high:.1f}]'
      for name, value, (low, high) in row['metrics']
    )
    loss = ('-', '-', '-')
    if row['loss'] is not None:
      loss = (
        f'{row["loss"]:.3f}', f'{row["perplexity"]:,.2f}', f'{row["accuracy"]:.1f} %'
      )  # fmt: skip
    made.add_row(escape(row['dataset']), f'{row["examples"]:,}', *loss, escape(metrics))
  return made


def print_table(report: Mapping[str, Any], *, file: IO[str] | None = None) -> None:
  """Prints the figures of each dataset; to standard error if `file` is None."""
  from rich.console import Console

  Console(file=file, stderr=file is None, width=_WIDTH).print(table(report))


_WIDTH = 120


def by_step(report: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Lists the figures of each evaluation step of a run.

  Returns:
    Dicts of 'step' and 'figures', name -> figure in words; every step has the same
    names. Of more than `MAX_NAMED` metrics of training datasets none is listed.
  """
  curves = report.get('curves', {})
  named: dict[str, tuple[str, dict[int, float]]] = {}
  losses = dict(curves.get('validation', ()))
  if losses:
    named['loss, nats'] = '{:.3f}', losses
    perplexities = {step: math.exp(loss) for step, loss in losses.items()}
    named['perplexity'] = '{:,.2f}', perplexities
  for cluster, points in curves.get('held_out', {}).items():
    name = f'{statements.cluster_name(cluster)} (held out)'
    named[name] = '{:.1f}', dict(points)
  metrics = curves.get('metrics', {})
  if len(metrics) <= MAX_NAMED:
    for label, points in metrics.items():
      named[f'{label} (trained on)'] = '{:.1f}', dict(points)
  steps = sorted({step for _, figures in named.values() for step in figures})
  return [
    {
      'step': step,
      'figures': {
        name: form.format(figures[step]) if step in figures else '–'
        for name, (form, figures) in named.items()
      },
    }
    for step in steps
  ]


def alternative(name: str, report: Mapping[str, Any]) -> str:
  """Returns the text alternative of a curve's plot, for screen readers."""
  curves = report['curves']
  if name == 'loss':
    named = {key: curves[key] for key in ('train', 'validation') if key in curves}
    unit, what = 'nats', 'Loss by step'
  else:
    named = {
      statements.cluster_name(cluster): points
      for cluster, points in curves.get('held_out', {}).items()
    }
    named |= curves.get('metrics', {})
    unit, what = 'percent', 'Metrics on dev by step'
  parts = [
    f'{label}: {points[0][1]:.2f} at step {points[0][0]:,} to {points[-1][1]:.2f} at '
    f'step {points[-1][0]:,}'
    for label, points in named.items()
  ]
  return f'{what}, in {unit}. ' + '. '.join(parts)
