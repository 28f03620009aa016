"""Published figures of FLAN's datasets, each with the mark of its source."""

import csv
import importlib.resources
from typing import Any


def figures(dataset: str, *, metric: str) -> dict[str, dict[str, Any]]:
  """Published figures of a FLAN dataset, in percent, each with its source mark.

  Args:
    dataset: short name of a dataset of the `flan` family.
    metric: headline name of the dataset's metric. Translation is measured into
      English; the paper's ROUGE-L is our rougeLsum.

  Returns:
    `{'flan_137b_zero_shot': {'value': 47.7, 'mark': 'confirmed'}, ...}`. The mark is
    `confirmed` (seen in a second source), `M+` (from memory, agrees with an average
    that was) or `M` (from memory, unverified).
  """
  wanted = {'rougeLsum': 'rougeL'}.get(metric, metric)
  table = importlib.resources.files('flan_jax.evaluate') / 'published.csv'
  found = {}
  with table.open(encoding='utf-8', newline='') as file:
    for line in csv.DictReader(file):
      name, _, direction = line['metric'].partition(' ')
      if line['dataset'] != dataset or name != wanted:
        continue
      if direction and not direction.endswith('-en'):
        continue
      found[f'{line["model"]}_{line["setting"]}'] = {
        'value': float(line['value']),
        'mark': line['mark'],
      }
  return found
