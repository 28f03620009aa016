"""Answers shuffled among the examples of a dataset: a control that teaches no task."""

import dataclasses
from collections.abc import Iterable

from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.data import stable_hash
from flan_jax.errors import InputError


def targets(
  dataset: Dataset, examples: Iterable[Example], *, seed: int
) -> list[Example]:
  """Gives each example the answer of another one of its dataset, drawn at random.

  The answers keep their distribution, and lose what they have to do with the prompt. An
  example with options of its own gets the one at the place of the other's answer.

  Args:
    dataset: the declaration.
    examples: its training examples.
    seed: template seed.

  Raises:
    InputError: if the dataset has conversations, or tokens of its own.
  """
  found = list(examples)
  if dataset.messages or any(example.tokens is not None for example in found):
    raise InputError(
      f'SHUFFLE_TARGETS: {dataset.name!r} has '
      f'{"conversations" if dataset.messages else "tokens of its own"}, whose answers '
      'cannot be shuffled; must be False',
      field='Run.shuffle_targets',
    )
  others = sorted(
    found, key=lambda example: stable_hash.key(seed, 'shuffled', example.example_id)
  )
  return [_with_answer(*pair) for pair in zip(found, others, strict=True)]


def _with_answer(example: Example, other: Example) -> Example:
  """An example with the answer of another one."""
  own, taken = example.answer, other.answer
  text, gold, references = taken.text, taken.gold, taken.references
  if own.options and own.options != taken.options:
    place = taken.gold[0] % len(own.options) if taken.gold else 0
    text, gold, references = own.options[place], (place,), ()
  answer = dataclasses.replace(
    own, text=text, gold=gold, references=references, span=()
  )
  return example._replace(values={**example.values, 'answer': text}, answer=answer)
