"""Published figures of FLAN's datasets, each with the mark of its source."""

import csv
import functools
import importlib.resources
from collections.abc import Iterable, Mapping
from typing import Any

MARKS = {
  'confirmed': 'seen in a second source',
  'M+': 'from memory; agrees with an average that was seen',
  'M': 'from memory, unverified',
  'D': 'derived from an average that was seen',
}
"""Mark of a figure -> its meaning. All but the first are shown as unverified."""

AVERAGE = 'average:'
"""Prefix of a cluster in the table's dataset column: a mean over datasets."""

FIGURE = 'figure_'
"""Prefix of a number in the table's dataset column: a point of an ablation."""

_OVER = 'mean over '
"""Prefix of the results in the source of an average; a colon before a direction."""


@functools.cache
def table() -> tuple[dict[str, str], ...]:
  """Reads published.csv: dataset, model, setting, metric, value, mark, source."""
  path = importlib.resources.files('flan_jax.report') / 'published.csv'
  with (
    importlib.resources.as_file(path) as found,
    found.open(encoding='utf-8', newline='') as file,
  ):
    return tuple(csv.DictReader(file))


def shown(figure: dict[str, Any]) -> str:
  """Formats a figure for a report: `47.7`, or `39.6 ?` if it is unverified."""
  return f'{figure["value"]:.1f}' + ('' if figure['mark'] == 'confirmed' else ' ?')


def setting(num_fewshot: int) -> str:
  """Returns the paper's setting for a result with `num_fewshot` exemplars."""
  return 'few_shot' if num_fewshot else 'zero_shot'


def model(num_fewshot: int) -> str:
  """Names the published figure for a result with `num_fewshot` exemplars."""
  return 'FLAN 137B' + (' few-shot' if num_fewshot else '')


def beside(result: Mapping[str, Any]) -> dict[str, Any] | None:
  """Returns FLAN's own figure for a result, or an average, of a report, if known.

  It is the mean over templates: the zero-shot figure for a zero-shot result, the
  few-shot figure (the paper's number of exemplars, up to 16) for any other.
  """
  name = f'flan_137b_{setting(result.get("num_fewshot", 0))}'
  return result.get('published', {}).get(name)


def _by_setting(lines: Iterable[dict[str, str]]) -> dict[str, dict[str, Any]]:
  return {
    f'{line["model"]}_{line["setting"]}': {
      'value': float(line['value']),
      'mark': line['mark'],
    }
    for line in lines
  }


def _of(num_fewshot: int | None, line: dict[str, str]) -> bool:
  """Returns whether a line has the few-shot setting; None for any."""
  return num_fewshot is None or line['setting'].startswith(setting(num_fewshot))


def figures(
  dataset: str, *, metric: str, num_fewshot: int | None = None, direction: str = ''
) -> dict[str, dict[str, Any]]:
  """Returns the published figures of a FLAN dataset, in percent, with source marks.

  Args:
    dataset: short name of a dataset of the `flan` family.
    metric: headline name of the dataset's metric. The paper's ROUGE-L is our rougeLsum.
    num_fewshot: exemplars of the result beside them: the zero-shot figures for 0, the
      few-shot figures for more, all figures for None.
    direction: direction of a translation, as `en-fr`.

  Returns:
    `{'flan_137b_zero_shot': {'value': 47.7, 'mark': 'confirmed'}, ...}`, the mark being
    one of MARKS.
  """
  name = {'rougeLsum': 'rougeL'}.get(metric, metric)
  wanted = f'{name} {direction}'.rstrip()
  return _by_setting(
    line
    for line in table()
    if line['dataset'] == dataset
    and line['metric'] == wanted
    and _of(num_fewshot, line)
  )


def averages(
  cluster: str, results: Iterable[str], *, num_fewshot: int | None = None
) -> dict[str, dict[str, Any]]:
  """Returns the paper's averages (figures 1 and 9) that are over `results`.

  Args:
    cluster: name of the cluster.
    results: the datasets averaged over, each with its direction if it has one
      (`wmt14_enfr en-fr`).
    num_fewshot: as in `figures`.

  Returns:
    As `figures`; {} if the paper averages over other datasets.
  """
  wanted = sorted(result.replace(' ', ':') for result in results)
  return _by_setting(
    line
    for line in table()
    if line['dataset'] == AVERAGE + cluster
    and sorted(line['source'].partition(_OVER)[2].split('; ')[0].split()) == wanted
    and _of(num_fewshot, line)
  )


def points(figure: int) -> tuple[dict[str, str], ...]:
  """Returns the points of one of the paper's ablations: lines of the table, in order.

  Figure 6 adds clusters to the tuning mixture; figure 8 removes the instructions.
  Figure 7 (scale) has no printed numbers.
  """
  name = f'{FIGURE}{figure}'
  return tuple(line for line in table() if line['dataset'].partition(':')[0] == name)
