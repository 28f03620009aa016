"""Costs: what the models of an evaluation computed for each dataset, in what time."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Cost(NamedTuple):
  """A row of the table of costs; figures as texts.

  Attributes:
    dataset: label of the dataset.
    model: `tuned` or `base`.
    prompts: prompts answered.
    scored: tokens computed to rank options, padding included.
    scored_per_s: the same in a second.
    written: tokens of generated answers.
    written_per_s: the same in a second.
    padding: percent of the computed tokens that are padding or idle.
    seconds: time of the model, compilation included.
  """

  dataset: str
  model: str
  prompts: str
  scored: str
  scored_per_s: str
  written: str
  written_per_s: str
  padding: str
  seconds: str


def by_dataset(timing: Mapping[str, Any]) -> list[Cost]:
  """Lists the costs of each dataset, of each model; [] if they were not counted."""
  models = {'tuned': timing, 'base': timing.get('base', {})}
  each = {name: part.get('by_dataset', {}) for name, part in models.items()}
  datasets = dict.fromkeys(name for found in each.values() for name in found)
  return [
    _cost(dataset, model, found[dataset])
    for dataset in datasets
    for model, found in each.items()
    if dataset in found
  ]


def _cost(dataset: str, model: str, counts: Mapping[str, Any]) -> Cost:
  padding = counts['padding_share']
  return Cost(
    dataset=dataset,
    model=model,
    prompts=f'{counts["examples"]:,}',
    scored=_some(counts['tokens_scored']),
    scored_per_s=_some(counts['tokens_scored_per_s']),
    written=_some(counts['written_tokens']),
    written_per_s=_some(counts['written_tokens_per_s']),
    padding='–' if padding is None else f'{100 * padding:.0f}',
    seconds=f'{counts["seconds"]:,.1f}',
  )


def _some(count: float) -> str:
  """A count, or a dash for none."""
  return f'{count:,.0f}' if count else '–'
