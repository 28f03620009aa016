"""Predictions: every answer of an evaluation as a line of JSON."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from flan_jax.errors import InputError
from flan_jax.evaluate.metric import Metric
from flan_jax.runtime import renamed_keys
from flan_jax.runtime.atomic_file import writing

KEYS = ('example_id', 'dataset', 'template', 'prompt', 'options', 'gold', 'predicted')
"""What every prediction has."""


def records(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """(where its line begins, prediction) of a file; nothing where there is none.

  Raises:
    InputError: at a line that is no prediction.
  """
  if not path.is_file():
    return
  start = 0
  with path.open('rb') as file:
    for number, line in enumerate(file, 1):
      try:
        record = renamed_keys.upgraded(json.loads(line), renamed_keys.PREDICTION)
      except ValueError:
        record = None
      if not isinstance(record, dict) or not record.keys() >= set(KEYS):
        raise InputError(
          f'{path}: line {number} is no prediction, or a torn one; evaluate again, or '
          'delete the file: the report then has no examples'
        )
      yield start, record
      start += len(line)


def statistics(record: Mapping[str, Any], metric: Metric) -> np.ndarray:
  """Statistics of one prediction, float64 [S]; the mean over options that tie."""
  wanted = right(record)
  if record['predicted'] is None:
    said = [None]
  elif 'text' in record:
    said = [record['predicted']]
  else:
    tied = record.get('tied', [record['predicted']])
    said = [record['options'][i].strip() for i in tied]
  return metric.scores(said, [wanted] * len(said)).mean(0)


def right(record: Mapping[str, Any]) -> list[str]:
  """The texts that a prediction was compared with."""
  if 'text' in record:
    return record['gold']
  options = (record['options'][i].strip() for i in record['gold'])
  return record.get('references') or list(options)


def name(split: str, model: str = 'tuned') -> str:
  """The file that holds the answers of a model to a split."""
  of_base = '.base' if model == 'base' else ''
  of_dev = '.dev' if split == 'dev' else ''
  return f'predictions{of_base}{of_dev}.jsonl'


_PREDICTIONS = tuple(
  name(split, model) for model in ('tuned', 'base') for split in ('test', 'dev')
)


class Predictions:
  """Writes predictions as they come, one JSON object a line.

  `predictions.jsonl` holds what the report's figures of test are made of: the answers
  of the evaluated model. Dev examples and the base model have files of their own:
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
      self._files[name] = self._stack.enter_context(writing(self._out / name))
    return self._files[name]

  def __call__(self, prediction: Mapping[str, Any], *, split: str, model: str) -> None:
    """Writes one prediction.

    Args:
      prediction: example_id, dataset, template, prompt, options, log_probabilities or
        text, gold, predicted.
      split: `dev`, or the reported one.
      model: `tuned` or `base`.
    """
    file = self._file(name(split, model))
    file.write(json.dumps(prediction, ensure_ascii=False) + '\n')
