"""Renamed keys of the JSON files on disk: an older file is read under today's names.

Files are written with the new names only. A reader calls `upgraded` right after it
parsed a file and then knows no old name:

  run = upgraded(json.loads(text), RUN)

A map is {path of the old key: new key}. A path is dotted and spelled with the old keys
throughout; `*` stands for every key of an object or every item of a list, so names of
datasets or clusters are never taken for keys. `within` puts a map at a deeper path.
Standard library only.
"""

from collections.abc import Mapping
from typing import Any

Names = Mapping[str, str]
"""Dotted path of an old key -> the new key in its place."""


def upgraded(value: Any, names: Names) -> Any:
  """Returns a parsed JSON value with its old keys renamed; the order of keys is kept.

  A value that has the new keys already comes back equal. Where an object holds both
  spellings of a key, both are kept: it is no file of an older version.

  Args:
    value: parsed JSON. It is not modified.
    names: the map of its format.
  """
  below: dict[str, dict[str, str]] = {}
  for path, new in names.items():
    first, _, rest = path.partition('.')
    if rest:
      below.setdefault(first, {})[rest] = new
  if isinstance(value, list):
    return [upgraded(item, below['*']) for item in value] if '*' in below else value
  if not isinstance(value, dict):
    return value
  out = {}
  for key, item in value.items():
    inside = below.get('*', {}) | below.get(key, {})
    new = names.get(key, key)
    out[key if new in value else new] = upgraded(item, inside) if inside else item
  return out


def within(path: str, names: Names) -> dict[str, str]:
  """Returns the map for an object in which the format of `names` stands at `path`."""
  return {f'{path}.{old}': new for old, new in names.items()}


MANIFEST: Names = {
  'request.row_length': 'sequence_length',
  'style.form': 'prompt_style',
  'style.shots': 'num_fewshot',
  'datasets.*.rows_read': 'examples_read',
  'datasets.*.rows': 'examples',
  'datasets.*.filters.unlabelled': 'unlabeled',
  'datasets.*.shots': 'num_fewshot',
  'evaluation.*.rows_read': 'examples_read',
  'evaluation.*.rows': 'examples',
  'evaluation.*.filters.unlabelled': 'unlabeled',
  'plan.row_length': 'sequence_length',
  'plan.rows': 'sequences',
}
"""STORE/manifest.json."""

PART: Names = {
  'said': 'metadata',
  'said.filters.unlabelled': 'unlabeled',
  'said.rows': 'examples',
  'said.shots': 'num_fewshot',
}
"""STORE/.NAME.partial/work/PART.json: a finished part of an interrupted build."""

PACKING_PLAN: Names = {'row_length': 'sequence_length', 'rows': 'sequences'}
"""STORE/plans/DIGEST/plan.json."""

RUN: Names = {
  'row_length': 'sequence_length',
  'accept': 'allow_overlap',
  'head_chunk': 'logits_chunk',
  'spike': 'loss_spike',
  'evaluate.max_rows': 'max_examples',
  'evaluate.batch_rows': 'batch_size',
  'evaluate.row_length': 'sequence_length',
  'evaluate.normalisation': 'normalization',
  'evaluate.shots': 'num_fewshot',
  'evaluate.form': 'prompt_style',
  'evaluate.base_form': 'base_prompt_style',
  'evaluate.period': 'eval_period',
  'evaluate.period_rows': 'eval_examples',
}
"""MODEL_DIR/run.json."""

LINEAGE: Names = {
  '*.weights': 'digest',
  '*.train_rows': 'train_examples',
  '*.accepted': 'allowed_overlap',
}
"""A lineage: the list of trainings in training.json, flan_training.json and reports."""

LEAKAGE: Names = {
  'accepted': 'allowed_overlap',
  'base.accepted': 'allowed_overlap',
  **within('base.lineage', LINEAGE),
}
"""A leakage report: what training.json and report.json once called their guard."""

TRAINING: Names = {
  'guard': 'leakage',
  **within('guard', LEAKAGE),
  **within('lineage', LINEAGE),
  'watched': 'loss_guard',
  'train_rows': 'train_examples',
}
"""training.json, flan_training.json and the metadata of a checkpoint."""

EVALUATIONS: Names = {'rows': 'examples'}
"""A line of MODEL_DIR/evaluations.jsonl."""

RESPONSE: Names = {
  'tokens_read': 'prefill_tokens',
  'tokens_written': 'generated_tokens',
}
"""An answer in a line of NAME.journal.jsonl."""

_RESULT: Names = {
  'shots': 'num_fewshot',
  'form': 'prompt_style',
  'base.form': 'prompt_style',
  'shown': 'num_fewshot_shown',
  'contamination.dirty': 'contaminated',
}

REPORT: Names = {
  'train_rows': 'train_examples',
  **within('lineage', LINEAGE),
  'guard': 'leakage',
  **within('guard', LEAKAGE),
  'data.datasets.*.splits.*.rows': 'examples',
  'answers.normalisation': 'normalization',
  'rows': 'results',
  **within('rows.*', _RESULT),
  **within('timing', RESPONSE),
  **within('timing.base', RESPONSE),
}
"""report.json of schema 1, which names no schema."""

PREDICTION: Names = {'row_id': 'example_id'}
"""A line of predictions.jsonl."""


_SELECTORS = {'': 'Run', 'evaluate': 'Evaluate'}
"""An object of run.json -> the gin selector of its settings."""

SETTINGS: Names = {
  **{
    f'{_SELECTORS[place]}.{old}': new
    for (place, _, old), new in (
      (path.rpartition('.'), new) for path, new in RUN.items()
    )
  },
  'Evaluation.accept': 'allow_overlap',
}
"""A setting `SELECTOR.name` in the configuration text of a report."""
