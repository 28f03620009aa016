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
"""Mark of a figure -> what it says. All but the first are shown as unverified."""

AVERAGE = 'average:'
"""Before the cluster, in the table's column of datasets: a mean over datasets."""

FIGURE = 'figure_'
"""Before the number, in the table's column of datasets: a point of an ablation."""

_OVER = 'mean over '
"""Before the results, in the source of an average; a direction after a colon."""


@functools.cache
def table() -> tuple[dict[str, str], ...]:
  """Lines of published.csv: dataset, model, setting, metric, value, mark, source."""
  path = importlib.resources.files('flan_jax.report') / 'published.csv'
  with path.open(encoding='utf-8', newline='') as file:
    return tuple(csv.DictReader(file))


def shown(figure: dict[str, Any]) -> str:
  """A figure as a report shows it: `47.7`, or `39.6 ?` where it is unverified."""
  return f'{figure["value"]:.1f}' + ('' if figure['mark'] == 'confirmed' else ' ?')


def setting(num_fewshot: int) -> str:
  """The setting of the paper that a result of `num_fewshot` exemplars stands beside."""
  return 'few_shot' if num_fewshot else 'zero_shot'


def model(num_fewshot: int) -> str:
  """What the published figure beside such a result is called."""
  return 'FLAN 137B' + (' few-shot' if num_fewshot else '')


def beside(of: Mapping[str, Any]) -> dict[str, Any] | None:
  """FLAN's own figure for a result, or an average, of a report; None if unknown.

  It is the mean over templates: zero-shot beside a zero-shot result, few-shot (with as
  many exemplars as the paper shows, up to 16) beside any other.
  """
  return of.get('published', {}).get(f'flan_137b_{setting(of.get("num_fewshot", 0))}')


def _by_setting(lines: Iterable[dict[str, str]]) -> dict[str, dict[str, Any]]:
  return {
    f'{line["model"]}_{line["setting"]}': {
      'value': float(line['value']),
      'mark': line['mark'],
    }
    for line in lines
  }


def _of(num_fewshot: int | None, line: dict[str, str]) -> bool:
  """Whether a line is of that many exemplars: none, some, or (None) whichever."""
  return num_fewshot is None or line['setting'].startswith(setting(num_fewshot))


def figures(
  dataset: str, *, metric: str, num_fewshot: int | None = None, direction: str = ''
) -> dict[str, dict[str, Any]]:
  """Published figures of a FLAN dataset, in percent, each with its source mark.

  Args:
    dataset: short name of a dataset of the `flan` family.
    metric: headline name of the dataset's metric. The paper's ROUGE-L is our rougeLsum.
    num_fewshot: exemplars of the result that they stand beside: the zero-shot figures for 0,
      the few-shot ones for more, all of them for None.
    direction: of a translation, as `en-fr`.

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
  """The paper's averages over a cluster (figures 1 and 9), if they are over `results`.

  Args:
    cluster: name of the cluster.
    results: the datasets averaged over, each with its direction where it has one
      (`wmt14_enfr en-fr`).
    num_fewshot: as in `figures`.

  Returns:
    As `figures`; {} where the paper averages over others.
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
  """The points of one of the paper's ablations, as lines of the table, in its order.

  Figure 6 adds clusters to what tunes; figure 8 takes the instructions away. Figure 7
  (scale) has no numbers printed.
  """
  name = f'{FIGURE}{figure}'
  return tuple(line for line in table() if line['dataset'].partition(':')[0] == name)
