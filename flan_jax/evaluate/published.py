"""Published figures of FLAN's datasets, each with the mark of its source."""

import csv
import functools
import importlib.resources
from collections.abc import Iterable
from typing import Any

MARKS = {
  'confirmed': 'seen in a second source',
  'M+': 'from memory; agrees with an average that was seen',
  'M': 'from memory, unverified',
  'D': 'derived from an average that was seen',
}
"""Mark of a figure -> what it says. All but the first are shown as unverified."""

AVERAGE = 'average:'
"""Before the cluster, in the table's column of datasets: a mean over datasets."""


@functools.cache
def table() -> tuple[dict[str, str], ...]:
  """Lines of published.csv: dataset, model, setting, metric, value, mark, source."""
  path = importlib.resources.files('flan_jax.evaluate') / 'published.csv'
  with path.open(encoding='utf-8', newline='') as file:
    return tuple(csv.DictReader(file))


def shown(figure: dict[str, Any]) -> str:
  """A figure as a report shows it: `47.7`, or `39.6 ?` where it is unverified."""
  return f'{figure["value"]:.1f}' + ('' if figure['mark'] == 'confirmed' else ' ?')


def _by_setting(lines: Iterable[dict[str, str]]) -> dict[str, dict[str, Any]]:
  return {
    f'{line["model"]}_{line["setting"]}': {
      'value': float(line['value']),
      'mark': line['mark'],
    }
    for line in lines
  }


def figures(dataset: str, *, metric: str) -> dict[str, dict[str, Any]]:
  """Published figures of a FLAN dataset, in percent, each with its source mark.

  Args:
    dataset: short name of a dataset of the `flan` family.
    metric: headline name of the dataset's metric. Translation is measured into
      English; the paper's ROUGE-L is our rougeLsum.

  Returns:
    `{'flan_137b_zero_shot': {'value': 47.7, 'mark': 'confirmed'}, ...}`, the mark being
    one of MARKS.
  """
  wanted = {'rougeLsum': 'rougeL'}.get(metric, metric)
  found = []
  for line in table():
    name, _, direction = line['metric'].partition(' ')
    if line['dataset'] != dataset or name != wanted:
      continue
    if not direction or direction.endswith('-en'):
      found.append(line)
  return _by_setting(found)


def averages(cluster: str, datasets: Iterable[str]) -> dict[str, dict[str, Any]]:
  """The paper's averages over a cluster (FLAN figure 1), if they are over `datasets`.

  Returns:
    As `figures`; {} where the paper averages over other datasets.
  """
  found = [
    line
    for line in table()
    if line['dataset'] == AVERAGE + cluster
    and sorted(line['source'].partition('mean over ')[2].split('; ')[0].split())
    == sorted(datasets)
  ]
  return _by_setting(found)
