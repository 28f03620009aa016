"""Results by metrics of a user's own: values as the metric returns them.

One result for each named figure of a metric, of a seqio Task or registered with
`flan_jax.metric`, with `kind` 'value'. It is in units of its own, so it is in no
average and no plot.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flan_jax.errors import InputError
from flan_jax.evaluate import metrics, task_metrics, value_metric
from flan_jax.evaluate.task_metrics import Figure, TaskResult, TaskSplit
from flan_jax.report import schema, statements

if TYPE_CHECKING:
  from rich.console import Console
  from rich.table import Table

  from flan_jax.evaluate.contamination import Overlap
  from flan_jax.evaluate.evaluator import DatasetResult

STYLE = 'seqio_task'
"""Prompt style of the results: the prompts are those of a seqio Task."""


def results(
  measured: TaskResult, *, seed: int, overlap: 'Overlap | None' = None
) -> list[dict[str, Any]]:
  """Returns the `results` of report.json on one dataset, but for `p_holm`.

  Args:
    measured: figures of the models.
    seed: seed for the test of a difference.
    overlap: examples that occur in suspect texts.
  """
  by_model = measured.reported.figures
  base = by_model.get('base', {})
  return [
    _result(measured, name, figure, base.get(name), seed, overlap)
    for name, figure in by_model['tuned'].items()
  ]


def of_metric(
  measured: 'DatasetResult', *, seed: int, overlap: 'Overlap | None' = None
) -> list[dict[str, Any]]:
  """Returns the `results` on a dataset whose metric is in units of its own.

  Args:
    measured: statistics of the models.
    seed: seed for the test of a difference.
    overlap: examples that occur in suspect texts.

  Raises:
    InputError: if a figure is NaN or infinite; names the metric and the dataset.
  """
  dataset = measured.dataset
  part = measured.reported
  figures, by_template = {}, {}
  for model in ('tuned', *(['base'] if part.base is not None else [])):
    figures[model], by_template[model] = _of_templates(measured, model)
  split = TaskSplit(
    examples=part.examples,
    total=dataset.known_examples(measured.split) or 0,
    figures=figures,
  )
  whole = TaskResult(dataset=dataset, splits={measured.split: split})
  found = results(whole, seed=seed, overlap=overlap)
  for result in found:
    name = result['metric']
    result |= {
      **({'direction': dataset.direction} if dataset.direction else {}),
      'n_declared': split.total or None,
      'num_fewshot': measured.num_fewshot,
      'templates_declared': len(measured.templates),
      **measured.own_style,
      **by_template['tuned'][name],
    }
    if 'base' in result:
      result['base_prompt_style'] = measured.base_prompt_style
      result['base'] |= by_template['base'][name]
  return found


def _of_templates(
  measured: 'DatasetResult', model: str
) -> tuple[dict[str, Figure], dict[str, dict[str, Any]]]:
  """Returns the figures of a model by name, and what results say of its templates."""
  metric = metrics.get(measured.dataset.metric)
  assert isinstance(metric, value_metric.Metric)
  parts = {
    split: value_metric.figures(getattr(part, model), metric=metric)
    for split, part in measured.splits.items()
  }
  figures, reported = parts[measured.split]
  templates, style = measured.templates, measured.prompt_style
  if model == 'base':
    templates, style = (
      measured.base_templates or templates,
      measured.base_prompt_style,
    )
  counts = (~np.isnan(getattr(measured.reported, model)).any(-1)).sum(1)
  texts = measured.template_texts.get(model)
  found = {}
  for name, figure in figures.items():
    if not np.isfinite(figure.value):
      raise InputError(
        f'metric {metric.name!r}, dataset {measured.dataset.label!r}: {name} of all '
        f'examples is {figure.value}; must be a finite number'
      )
    values = {split: each[name] for split, (_, each) in parts.items() if name in each}
    several = np.sum(~np.isnan(reported[name])) > 1
    found[name] = {
      'std_over_templates': float(np.nanstd(reported[name])) if several else None,
      'per_template': [
        {
          'template': template,
          **({'text': texts[i]} if texts else {}),
          **{split: _at(values.get(split), i) for split in ('dev', 'test')},
          'n': int(counts[i]),
        }
        for i, template in enumerate(templates)
      ],
      'prompt_style': style,
    }
  return figures, found


def _at(values: np.ndarray | None, i: int) -> float | None:
  return None if values is None or np.isnan(values[i]) else float(values[i])


def _result(
  measured: TaskResult,
  name: str,
  tuned: Figure,
  base: Figure | None,
  seed: int,
  overlap: 'Overlap | None',
) -> dict[str, Any]:
  dataset, count = measured.dataset, len(measured.reported.examples)
  metric = task_metrics.mean_of(name, [tuned] if base is None else [tuned, base])
  result = {
    'dataset': dataset.name,
    'cluster': dataset.cluster,
    'metric': name,
    'kind': schema.VALUE,
    'highest': metric.unit if metric.kind == 'mean' else None,
    'split': measured.split,
    'n': count,
    'n_declared': measured.reported.total,
    'num_fewshot': 0,
    'base_prompt_style': None if base is None else STYLE,
    'seeds': [seed],
    'chance': None,
    'majority': None,
    'templates_declared': 1,
    **_figures(tuned, metric, measured.split, count),
    'published': {},
  }
  if base is not None:
    result['base'] = _figures(base, metric, measured.split, count)
    result['delta'] = tuned.value - base.value
    result['delta_ci95'] = task_metrics.paired_interval(tuned, base, metric)
    p = task_metrics.paired_p_value(tuned, base, metric, seed=seed)
    result |= {} if p is None else {'p': p}
  if overlap is not None:
    clean_N = overlap.judged & ~overlap.contaminated
    result['contamination'] = {
      'judged': int(overlap.judged.sum()),
      'contaminated': int(overlap.contaminated.sum()),
      'clean': int(clean_N.sum()),
    }
    if tuned.values is not None and clean_N.any():
      clean = tuned._replace(values=tuned.values[clean_N])
      mean, interval = np.nanmean(tuned.values[clean_N]), task_metrics.interval
      result['contamination'] |= {'mean': mean, 'ci95': interval(clean, metric)}
  return result


def _figures(
  figure: Figure, metric: task_metrics.Mean, split: str, count: int
) -> dict[str, Any]:
  """Returns the figures of one model; `no_interval` says why `ci95` is None."""
  interval = task_metrics.interval(figure, metric)
  reason = figure.reason or task_metrics.ALIKE
  entry = {'template': 0, 'dev': None, 'test': None, 'n': count}
  return {
    'mean': figure.value,
    'std_over_templates': None,
    'ci95': interval,
    **({'no_interval': reason} if interval is None else {}),
    'per_template': [entry | {split: figure.value}],
    'best_dev_template': None,
    'prompt_style': STYLE,
  }


def plain(value: Any) -> Any:
  """Converts numbers to those of JSON, without rounding; NaN and infinite to None."""
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  if isinstance(value, float | np.floating):
    return float(value) if np.isfinite(value) else None
  return value


def number(value: float | None) -> str:
  """Formats a value: `0.4213`, `67.5`, `12,345`, `-` for none."""
  if value is None:
    return '-'
  return f'{value:.4g}' if abs(value) < 10_000 else f'{value:,.0f}'


def change(result: Mapping[str, Any]) -> str:
  """Formats the difference of two models with its interval: `+0.12 [0.05, 0.19]`."""
  delta = result.get('delta')
  if delta is None:
    return '-'
  sign = '+' if delta >= 0 else ''
  return f'{sign}{number(delta)}{_bounds(result["delta_ci95"])}'


def _bounds(interval: Sequence[float] | None) -> str:
  return '' if interval is None else f' [{", ".join(map(number, interval))}]'


def figure(result: Mapping[str, Any]) -> str:
  """Formats the figure of a model with its interval: `0.42 [0.31, 0.54]`."""
  return number(result['mean']) + _bounds(result['ci95'])


def headlines(
  values: Sequence[Mapping[str, Any]], report: Mapping[str, Any]
) -> list[str]:
  """`their_task, zero-shot, never trained on: tuned accuracy 61.2, f1 0.43`."""
  name = statements.models(report)['tuned']
  lines = []
  for dataset in dict.fromkeys(result['dataset'] for result in values):
    some = [result for result in values if result['dataset'] == dataset]
    with_base = 'base' in some[0]
    parts = [
      f'{result["metric"]} '
      + (f'{number(result["base"]["mean"])} → ' if 'base' in result else '')
      + number(result['mean'])
      for result in some
    ]
    seen = schema.seen(some[0]['cluster'], report)
    claim = statements.claim(seen, some[0]['num_fewshot'])
    what = dataset + statements.dev([some[0]['split']])
    models = f'base → {name}' if with_base else name
    lines.append(f'{what}, {claim}: {models} {", ".join(parts)}')
  return lines


def notes(values: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """Yields the caveats of values: their units, and why some have no interval."""
  own = [result['dataset'] for result in values if result['prompt_style'] == STYLE]
  if own:
    yield (
      f'{", ".join(dict.fromkeys(own))}: metrics of the seqio task itself, on its own '
      'prompts; values as they return them, in their own units'
    )
  others = [result['dataset'] for result in values if result['prompt_style'] != STYLE]
  if others:
    yield (
      f'{", ".join(dict.fromkeys(others))}: values as the metric returns them, in '
      'units of its own'
    )
  overlaps = {r['dataset']: r['contamination'] for r in values if 'contamination' in r}
  for name, found in overlaps.items():
    yield (
      f'{name}: {found["contaminated"]:,} of {found["judged"]:,} judged examples are '
      'contaminated'
    )
  reasons: dict[str, list[str]] = {}
  for result in values:
    for measured in (result, result.get('base', {})):
      if 'no_interval' in measured:
        reasons.setdefault(measured['no_interval'], []).append(schema.label(result))
        break
  for reason, some in reasons.items():
    yield f'{", ".join(some)}: no interval: {reason}'


def differences(found: Mapping[str, Any]) -> Iterator[str]:
  """Yields a line for each of the `values` of a comparison."""
  for result in found.get('values', ()):
    p = result['p_holm']
    test = 'not paired' if p is None else f'p (Holm) {p:.3f}, {result["n"]:,} examples'
    yield (
      f'{schema.label(result)}{statements.dev_of_pair(result)}: '
      f'{number(result["old"])} → {number(result["new"])}, {change(result)}; {test}'
    )


def _cells(result: Mapping[str, Any], *, model: str, with_base: bool) -> dict[str, str]:
  """Returns one line of a table: heading -> cell."""
  found = {
    'dataset': result['dataset'] + statements.dev([result['split']]),
    'metric': result['metric'],
    'n': schema.examples_of(result),
  }
  if not with_base:
    return found | {'value [95 %]': figure(result)}
  p, holm = result.get('p'), result.get('p_holm')
  return found | {
    'base': figure(result['base']) if 'base' in result else '-',
    model: figure(result),
    'delta [95 %]': change(result),
    'p (Holm)': '-' if p is None else f'{p:.3f} ({holm:.3f})',
  }


def _lines(
  report: Mapping[str, Any], values: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
  with_base = any('base' in result for result in values)
  model = statements.models(report)['tuned']
  return [_cells(result, model=model, with_base=with_base) for result in values]


def print_table(
  report: Mapping[str, Any],
  values: Sequence[Mapping[str, Any]],
  console_of: Callable[['Table'], 'Console'],
) -> 'Console':
  """Prints the results in units of their own, their headlines and caveats.

  Args:
    report: content of report.json.
    values: those of its results.
    console_of: returns the console for a table.

  Returns:
    The console.
  """
  from rich import box
  from rich.markup import escape
  from rich.table import Table

  made = _lines(report, values)
  title = f'{statements.title(report)}: metrics in units of their own'
  table = Table(
    title=escape(title), box=box.SIMPLE, title_justify='left', pad_edge=False
  )
  for head in made[0]:
    left = head in ('dataset', 'metric')
    table.add_column(
      escape(head), justify='left' if left else 'right', overflow='fold', no_wrap=left
    )
  for line in made:
    table.add_row(*map(escape, line.values()))
  console = console_of(table)
  console.print(table)
  for line in (*headlines(values, report), *notes(values)):
    console.print(line, markup=False, highlight=False)
  return console


def latex(
  report: Mapping[str, Any],
  values: Sequence[Mapping[str, Any]],
  tex: Callable[[str], str],
) -> str:
  """Returns the table of results in units of their own, in LaTeX with booktabs.

  Args:
    report: content of report.json.
    values: those of its results.
    tex: escapes a text.
  """
  made = _lines(report, values)
  return '\n'.join(
    [
      *(f'% {note}' for note in notes(values)),
      f'\\begin{{tabular}}{{ll{"r" * (len(made[0]) - 2)}}}',
      '\\toprule',
      ' & '.join(tex(head).replace('%', '\\%') for head in made[0]) + ' \\\\',
      '\\midrule',
      *(' & '.join(map(tex, line.values())) + ' \\\\' for line in made),
      '\\bottomrule',
      '\\end{tabular}',
      '',
    ]
  )
