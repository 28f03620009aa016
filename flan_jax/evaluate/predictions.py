"""Prediction files: every answer of an evaluation as a line of JSON."""

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
"""Keys of every prediction."""


def records(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (byte offset, prediction) for each line; nothing if the file is absent.

  Raises:
    InputError: at a line that is not a prediction.
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
          f'{path}: line {number} is not a whole prediction; evaluate again, or delete '
          'the file: the report then shows no examples'
        )
      yield start, record
      start += len(line)


def statistics(record: Mapping[str, Any], metric: Metric) -> np.ndarray:
  """Scores one prediction, float64 [S]; tied options count by their mean."""
  if record['predicted'] is None:
    texts = [None]
  elif 'text' in record:
    texts = [record['predicted']]
  else:
    tied = record.get('tied', [record['predicted']])
    texts = [record['options'][i].strip() for i in tied]
  return metric.scores(texts, [right(record)] * len(texts)).mean(0)


def right(record: Mapping[str, Any]) -> list[str]:
  """Returns the right answers that a prediction was compared with."""
  if 'text' in record:
    return record['gold']
  options = (record['options'][i].strip() for i in record['gold'])
  return record.get('references') or list(options)


def name(split: str, model: str = 'tuned') -> str:
  """Returns the name of the file with a model's answers on a split."""
  base = '.base' if model == 'base' else ''
  dev = '.dev' if split == 'dev' else ''
  return f'predictions{base}{dev}.jsonl'


_PREDICTIONS = tuple(
  name(split, model) for model in ('tuned', 'base') for split in ('test', 'dev')
)


class Predictions:
  """Writes predictions as they come, one JSON object a line.

  `predictions.jsonl` holds the evaluated model's answers on test, the source of the
  report's figures. Dev and the base model have files of their own:
  `predictions.dev.jsonl`, `predictions.base.jsonl`, `predictions.base.dev.jsonl`.

  >>> import tempfile
  >>> answer = {'example_id': 'test.0.0', 'template': 0, 'predicted': 1}
  >>> with tempfile.TemporaryDirectory() as out:
  ...   with Predictions(out) as predictions:
  ...     predictions(answer, split='test', model='tuned')
  ...   print(pathlib.Path(out, 'predictions.jsonl').read_text(), end='')
  {"example_id": "test.0.0", "template": 0, "predicted": 1}
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
        if name not in self._files:  # left by an earlier evaluation
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
      split: `dev`, or the reported split.
      model: `tuned` or `base`.
    """
    file = self._file(name(split, model))
    file.write(json.dumps(prediction, ensure_ascii=False) + '\n')
