"""The report of an evaluation: report.json, predictions, and the terminal table.

Everything is written under a temporary name and renamed when whole, so that a reader
never sees half a file and a full disk costs nothing that was there before.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from flan_jax.errors import InputError
from flan_jax.evaluate import metrics, published, statistics
from flan_jax.evaluate.statistics import Interval

if TYPE_CHECKING:
  from flan_jax.evaluate.protocol import DatasetResult, Results

CLUSTER_NAMES = {
  'nli': 'NLI',
  'reading_comprehension': 'Reading comprehension',
  'closed_book_qa': 'Closed-book QA',
  'commonsense': 'Commonsense',
  'coreference': 'Coreference',
  'reading_comp_commonsense': 'Reading comprehension with commonsense',
  'sentiment': 'Sentiment',
  'paraphrase': 'Paraphrase',
  'struct_to_text': 'Struct to text',
  'translation': 'Translation',
  'summarization': 'Summarization',
  'misc': 'Miscellaneous',
}
"""Cluster -> its name in headlines and figures."""


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[str]]:
  """Opens a new text file that takes the place of `path` once it is whole."""
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with draft.open('w', encoding='utf-8', newline='\n') as file:
      yield file
    draft.replace(path)
  finally:
    draft.unlink(missing_ok=True)


_PREDICTIONS = tuple(
  f'predictions{model}{split}.jsonl'
  for model in ('', '.base')
  for split in ('', '.dev')
)


class Predictions:
  """Writes predictions as they come, one JSON object a line.

  `predictions.jsonl` holds what the report's figures are made of: the evaluated
  model on the reported split. Dev rows and the base model have files of their own:
  `predictions.dev.jsonl`, `predictions.base.jsonl`, `predictions.base.dev.jsonl`.

  >>> with Predictions(out) as predictions:  # doctest: +SKIP
  ...   results = protocol.evaluate(scorer, emit=predictions, ...)
  """

  def __init__(self, out: str | os.PathLike):
    self._out = pathlib.Path(out)
    self._files: dict[str, IO[str]] = {}
    self._stack = contextlib.ExitStack()

  def __enter__(self) -> 'Predictions':
    self._stack.__enter__()
    self._file('predictions.jsonl')
    return self

  def __exit__(self, *error) -> bool | None:
    handled = self._stack.__exit__(*error)
    if error == (None, None, None):
      for name in _PREDICTIONS:
        if name not in self._files:  # of an earlier evaluation in the same folder
          (self._out / name).unlink(missing_ok=True)
    return handled

  def _file(self, name: str) -> IO[str]:
    if name not in self._files:
      self._files[name] = self._stack.enter_context(replacing(self._out / name))
    return self._files[name]

  def __call__(self, prediction: Mapping[str, Any], *, split: str, model: str) -> None:
    """Writes one prediction.

    Args:
      prediction: row_id, dataset, template, prompt, options, log_probabilities or
        text, gold, predicted.
      split: `dev`, or the reported one.
      model: `tuned` or `base`.
    """
    of_base = '.base' if model == 'base' else ''
    of_dev = '.dev' if split == 'dev' else ''
    file = self._file(f'predictions{of_base}{of_dev}.jsonl')
    file.write(json.dumps(prediction, ensure_ascii=False) + '\n')


def _rounded(value: Any) -> Any:
  """Floats to four decimals, inside lists and dicts too; NaN as None."""
  if isinstance(value, Mapping):
    return {key: _rounded(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_rounded(item) for item in value]
  if isinstance(value, float | np.floating):
    return None if np.isnan(value) else round(float(value), 4)
  return value


def best_dev_template(per_template: Sequence[Mapping[str, Any]]) -> dict | None:
  """The template that scores highest on dev, with its test score; None without dev.

  The test score plays no part in the choice; the earlier of two equals wins.
  """
  measured = [entry for entry in per_template if entry['dev'] is not None]
  if not measured:
    return None
  best = max(measured, key=lambda entry: entry['dev'])
  return {key: best[key] for key in ('template', 'dev', 'test')}


def _measures(
  result: 'DatasetResult', model: str, *, replicates: np.ndarray
) -> dict[str, Any]:
  """The figures of one model on one dataset."""
  metric = metrics.get(result.dataset.metric)
  figures = {
    name: statistics.figures(getattr(part, model), metric=metric)
    for name, part in result.splits.items()
  }
  name = _reported(result)
  counts = (~np.isnan(getattr(result.splits[name], model)).any(-1)).sum(1)
  per_template = [
    {
      'template': template,
      'dev': _figure(figures, 'dev', i),
      'test': _figure(figures, 'test', i),
      'n': int(counts[i]),
    }
    for i, template in enumerate(result.templates)
  ]
  mean, std = statistics.spread(figures[name])
  return {
    'mean': mean,
    'std_over_templates': std,
    'ci95': statistics.percentiles(replicates),
    'per_template': per_template,
    'best_dev_template': best_dev_template(per_template),
  }


def _figure(figures: Mapping[str, np.ndarray], split: str, i: int) -> float | None:
  """The figure of template `i`; None where it was not measured on that split."""
  if split not in figures or np.isnan(figures[split][i]):
    return None
  return float(figures[split][i])


def _reported(result: 'DatasetResult') -> str:
  """The split whose figures are the row's: test, or dev where there is no other."""
  return 'test' if 'test' in result.splits else 'dev'


def _row(result: 'DatasetResult', *, seed: int) -> dict[str, Any]:
  name = _reported(result)
  split = result.splits[name]
  dataset = result.dataset
  metric = metrics.get(dataset.metric)
  answers = [row.answer for row in split.rows]
  tuned = statistics.replicates(split.tuned, metric=metric, seed=seed)
  row = {
    'dataset': dataset.name,
    'cluster': dataset.cluster,
    'metric': metric.name,
    'split': name,
    'n': len(split.rows),
    'shots': 0,
    'chance': statistics.chance(answers, metric=metric),
    'majority': statistics.majority(answers, metric=metric),
    **_measures(result, 'tuned', replicates=tuned),
  }
  if split.base is not None:
    # The same seed draws the same rows for both: the difference is paired.
    base = statistics.replicates(split.base, metric=metric, seed=seed)
    row['base'] = _measures(result, 'base', replicates=base)
    row['delta'] = row['mean'] - row['base']['mean']
    row['delta_ci95'] = statistics.percentiles(tuned - base)
  row['published'] = (
    published.figures(dataset.name, metric=metric.name)
    if dataset.family == 'flan'
    else {}
  )
  return row


def build(
  results: 'Results',
  *,
  model: str,
  checkpoint: str,
  held_out: Sequence[str],
  trained_on: Sequence[str],
  train_rows: Mapping[str, int],
  data_digest: str,
  seed: int,
  guard: Mapping[str, Any] | None = None,
  missing: Sequence[str] = (),
) -> dict[str, Any]:
  """The content of report.json.

  Args:
    results: what `protocol.evaluate` returned.
    model: name of the model.
    checkpoint: where its parameters came from.
    held_out: clusters measured and never trained on.
    trained_on: clusters it was tuned on.
    train_rows: cluster -> rows seen in tuning.
    data_digest: digest of the store of training and evaluation rows.
    seed: of the row sample and the bootstrap.
    guard: the proof that what is held out did not train, or None.
    missing: datasets of the mixture that the store was made without.
  """
  guard = dict(guard or {})
  report = {
    'model': model,
    'checkpoint': checkpoint,
    'held_out': list(held_out),
    'trained_on': list(trained_on),
    'train_rows': dict(train_rows),
    'data_digest': data_digest,
    'seed': seed,
    'guard': guard,
    'rows': [_row(result, seed=seed) for result in results.datasets],
    'timing': dict(results.timing),
    'warnings': [
      *guard.get('warnings', ()),
      *results.warnings,
      *(f'{name}: missing when the store was made; left out' for name in missing),
    ],
  }
  return _rounded(report)


def load(out: str | os.PathLike) -> dict[str, Any]:
  """Reads OUT/report.json.

  Raises:
    InputError: if there is none, or it is truncated.
  """
  path = pathlib.Path(out) / 'report.json'
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise InputError(
      f'{str(path)!r}: not a report ({error}); `flan eval` writes one'
    ) from None


def write(out: str | os.PathLike, results: 'Results', **about: Any) -> dict[str, Any]:
  """Writes OUT/report.json, OUT/report.html and OUT/plots/*.svg; returns the report.

  `about` are the keyword arguments of `build`. The predictions were written by
  `Predictions` while they were made; the page takes its examples from them.
  """
  from flan_jax.evaluate import page

  out = pathlib.Path(out)
  report = build(results, **about)
  with replacing(out / 'report.json') as file:
    json.dump(report, file, indent=2, ensure_ascii=False)
    file.write('\n')
  page.write(out)
  return report


def averages(report: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The mean over the datasets of each cluster, as in FLAN figure 1.

  Returns:
    One dict per cluster: cluster, seen (in words, whether tuning saw it), datasets, n,
    mean, ci95, chance, majority, and where a base model was measured base (mean,
    ci95), delta, delta_ci95; published is the paper's average where it is over the
    same datasets. Datasets are independent draws, so their intervals
    combine by MOVER.
  """
  found = []
  for cluster in dict.fromkeys(row['cluster'] for row in report['rows']):
    rows = [row for row in report['rows'] if row['cluster'] == cluster]
    average = {
      'cluster': cluster,
      'seen': _seen(cluster, report),
      'datasets': len(rows),
      'n': sum(row['n'] for row in rows),
      **_average(rows, 'mean', 'ci95'),
    }
    for key in ('chance', 'majority'):
      known = [row[key] for row in rows]
      average[key] = None if None in known else float(np.mean(known))
    if all('base' in row for row in rows):
      average['base'] = _average([row['base'] for row in rows], 'mean', 'ci95')
      average |= _average(rows, 'delta', 'delta_ci95')
    average['published'] = published.averages(cluster, [row['dataset'] for row in rows])
    found.append(average)
  return found


def _seen(cluster: str, report: Mapping[str, Any]) -> str:
  """What may be claimed of a cluster, from what the report knows of the tuning."""
  trained = {*report['trained_on'], *(c for c, n in report['train_rows'].items() if n)}
  if cluster in trained:
    return 'trained on'
  return 'never trained on' if trained else 'zero-shot'


def _average(rows: Sequence[Mapping[str, Any]], key: str, interval: str) -> dict:
  means = [row[key] for row in rows]
  parts = [Interval(*row[interval]) for row in rows]
  return {
    key: float(np.mean(means)),
    interval: statistics.average_interval(means, parts),
  }


def headline(average: Mapping[str, Any]) -> str:
  """One line: `NLI, never trained on: 34.1 → 41.7, +7.6 [5.2, 10.0]`."""
  name = CLUSTER_NAMES.get(average['cluster'], average['cluster'])
  seen = average['seen']
  known = average.get('published', {}).get('flan_137b_zero_shot')
  paper = f' (FLAN 137B: {published.shown(known)})' if known else ''
  if 'base' not in average:
    return f'{name}, {seen}: {average["mean"]:.1f} [{bounds(average["ci95"])}]{paper}'
  return (
    f'{name}, {seen}: {average["base"]["mean"]:.1f} → {average["mean"]:.1f}, '
    f'{points(average["delta"])} [{bounds(average["delta_ci95"])}]{paper}'
  )


def points(value: float) -> str:
  """A difference: `+7.6`; never `-0.0`."""
  return f'{round(value, 1) + 0.0:+.1f}'


def bounds(interval: Sequence[float]) -> str:
  """An interval: `5.2, 10.0`; never `-0.0`."""
  return ', '.join(f'{round(bound, 1) + 0.0:.1f}' for bound in interval)


def print_table(report: Mapping[str, Any], *, file: IO[str] | None = None) -> None:
  """Prints one line per dataset and one headline per cluster.

  Args:
    report: the content of report.json.
    file: where to; standard error when None, so that JSON can have standard output.
  """
  from rich import box
  from rich.console import Console
  from rich.markup import escape
  from rich.table import Table

  console = Console(file=file, stderr=file is None)
  if not console.is_terminal:
    console = Console(file=file, stderr=file is None, width=120)
  with_base = any('base' in row for row in report['rows'])
  with_published = any(_KNOWN in row['published'] for row in report['rows'])
  table = Table(
    title=f'{escape(report["model"])}: zero-shot, percent',
    box=box.SIMPLE,
    title_justify='left',
  )
  cluster = None
  for row in report['rows']:
    cells = _cells(row, with_base=with_base, with_published=with_published)
    if not table.columns:
      for name in cells:
        side = 'left' if name in ('dataset', 'metric') else 'right'
        table.add_column(name, justify=side, overflow='fold')
    if row['cluster'] != cluster:
      table.add_section()
      cluster = row['cluster']
    table.add_row(*map(escape, cells.values()))
  console.print(table)
  for average in averages(report):
    console.print(headline(average), markup=False, highlight=False)
  for warning in report.get('warnings', ()):
    console.print(f'warning: {warning}', markup=False, highlight=False)


_KNOWN = 'flan_137b_zero_shot'
"""The published figure that is shown beside ours."""


def _cells(
  row: Mapping[str, Any], *, with_base: bool, with_published: bool
) -> dict[str, str]:
  """Heading -> cell of one line of the terminal table."""

  def number(value: float | None) -> str:
    return '-' if value is None else f'{value:.1f}'

  best, base = row['best_dev_template'], row.get('base')
  cells = {
    'dataset': row['dataset'],
    'metric': row['metric'],
    'n': f'{row["n"]:,}',
    'chance': number(row['chance']),
    'majority': number(row['majority']),
  }
  if with_base:
    cells['base'] = number(base and base['mean'])
  cells['tuned' if with_base else 'mean'] = number(row['mean'])
  cells['± std'] = number(row['std_over_templates'])
  cells['best dev'] = number(best and best['test'])
  if not with_base:
    cells['[95 %]'] = f'[{bounds(row["ci95"])}]'
  elif base:
    cells['delta [95 %]'] = f'{points(row["delta"])} [{bounds(row["delta_ci95"])}]'
  else:
    cells['delta [95 %]'] = '-'
  if with_published:
    known = row['published'].get(_KNOWN)
    cells['FLAN 137B (?: unverified)'] = published.shown(known) if known else '-'
  return cells
