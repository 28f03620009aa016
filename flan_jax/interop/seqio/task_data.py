"""Examples of a seqio Task as `seqio.Evaluator` reads them. Imports TensorFlow."""

import dataclasses
import functools
import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio

from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.source import SeqioTask
from flan_jax.data import stable_hash
from flan_jax.data.sources import seqio_task
from flan_jax.data.sources.seqio_task import INPUTS, TARGETS
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError, failure

SEED = 42
"""Seed of `seqio.Evaluator` for preprocessors that draw."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TaskData:
  """Examples of one split of a Task.

  Attributes:
    task: the Task.
    split: split of the Task.
    total: number of examples of the whole split.
    ids: id of each example: its split and position.
    examples: features of each example, as the Task's preprocessors make them.
    inputs: prompt of each example, int32 [n] without EOS.
    targets: target of each example, int32 [n] without EOS.
  """

  task: seqio.Task
  split: str
  total: int
  ids: list[str]
  examples: list[Mapping[str, Any]]
  inputs: list[np.ndarray]
  targets: list[np.ndarray]

  def decode(self, tokens: Sequence[int]) -> str:
    """Decodes an answer by the Task's output vocabulary."""
    return self.task.output_features[TARGETS].vocabulary.decode([*map(int, tokens)])

  def text(self, i: int, feature: str) -> str:
    """Text of a feature before it was tokenized, or of its tokens."""
    found = self.examples[i].get(f'{feature}_pretokenized')
    if found is None:
      features = self.task.output_features
      if feature not in features:
        return ''
      ids = [int(token) for token in self.examples[i][feature]]
      return features[feature].vocabulary.decode(ids)
    return found.decode('utf-8') if isinstance(found, bytes) else str(found)

  @functools.cached_property
  def rendered(self) -> list[Example]:
    """The examples as texts."""
    return [
      Example(
        example_id,
        {INPUTS: self.text(i, INPUTS), TARGETS: self.text(i, TARGETS)},
        Answer(self.text(i, TARGETS)),
      )
      for i, example_id in enumerate(self.ids)
    ]

  @functools.cached_property
  def references(self) -> list[Any]:
    """Postprocessed target of each example."""
    every = range(len(self.examples))
    return [self.postprocess(self.text(i, TARGETS), i, is_target=True) for i in every]

  def postprocess(self, text: str, i: int, *, is_target: bool) -> Any:
    """Postprocesses a target or a prediction as `seqio.Evaluator` does.

    Raises:
      InputError: if the Task's function fails: its own error, in one line.
    """
    try:
      return self.task.postprocess_fn(
        text, example=self.examples[i], is_target=is_target
      )
    except Exception as error:
      what = 'target' if is_target else 'prediction'
      where = f'the {what} {text[:40]!r} of example {self.ids[i]!r}'
      raise failure(
        f'seqio task {self.task.name!r}: postprocess_fn of {where}', error
      ) from error


def task_of(dataset: Dataset) -> seqio.Task:
  """Returns the Task of a dataset."""
  return seqio_task.get(_source(dataset).name)


def _source(dataset: Dataset) -> SeqioTask:
  assert isinstance(dataset.source, SeqioTask), dataset
  return dataset.source


def lengths(dataset: Dataset) -> dict[str, int]:
  """Feature of the Task -> its maximum tokens."""
  return seqio_task.lengths(_source(dataset))


def read(
  dataset: Dataset, split: str, *, max_examples: int | None = None, seed: int = 0
) -> TaskData:
  """Reads a split of a Task, or a sample of it.

  Args:
    dataset: dataset whose source is the Task.
    split: one of its splits: `train`, `dev` or `test`.
    max_examples: limit on the examples, drawn by a seeded hash of their ids as in
      `evaluator.sample`; None for all.
    seed: seed for the sample.

  Raises:
    InputError: if the Task cannot be read.
  """
  source = dataclasses.replace(_source(dataset), seed=SEED)
  return _read(task_of(dataset), source, dataset.slices[split], max_examples, seed)


@functools.lru_cache(maxsize=8)
def _read(
  task: seqio.Task, source: SeqioTask, split: str, max_examples: int | None, seed: int
) -> TaskData:
  """Reads a split once for all evaluations of a run, with its references."""
  total = 0

  def ranked() -> Iterator[tuple[int, int, str, Mapping[str, Any]]]:
    nonlocal total
    for total, (name, example) in enumerate(
      seqio_task.examples(source, split), start=1
    ):
      yield stable_hash.key('sample', seed, name), total, name, example

  if max_examples is None:
    kept = list(ranked())
  else:
    kept = heapq.nsmallest(max_examples, ranked(), key=lambda entry: entry[:2])
    kept.sort(key=lambda entry: entry[1])
  examples = [example for *_, example in kept]
  return TaskData(
    task=task,
    split=split,
    total=total,
    ids=[name for _, _, name, _ in kept],
    examples=examples,
    inputs=[_tokens(task, example, INPUTS) for example in examples],
    targets=[_tokens(task, example, TARGETS) for example in examples],
  )


def _tokens(task: seqio.Task, example: Mapping[str, Any], feature: str) -> np.ndarray:
  """Token ids of a feature without its EOS, as they train; none if it is absent."""
  declared = task.output_features.get(feature)
  if declared is None or feature not in example:
    return np.zeros(0, np.int32)
  return seqio_task.without_eos(declared, example[feature])


def check_vocabulary(dataset: Dataset, tokenizer: Tokenizer, *, model: str) -> None:
  """Refuses a Task whose vocabulary is not the model's.

  Args:
    dataset: dataset whose source is the Task.
    tokenizer: tokenizer of the model.
    model: name of the model.

  Raises:
    InputError: names both digests.
  """
  own = seqio_task.tokenizer(_source(dataset)).digest
  if own != tokenizer.digest:
    raise InputError(
      f'seqio task {dataset.name!r}: vocabulary of digest {own[:12]}, and the {model} '
      f'has one of {tokenizer.digest[:12]}; must be the same'
    )
