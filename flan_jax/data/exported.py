"""Exported examples: stored ones as text, in the columns of published FLAN data.

Columns rather than records: a block of examples is a mapping of column -> values.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flan_jax.catalog import registry
from flan_jax.catalog.template import OPTIONS
from flan_jax.data.packing import PackingPlan
from flan_jax.data.store.store import Store
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError

COLUMNS = {
  'inputs': 'string',
  'targets': 'string',
  'task_name': 'string',
  'task_source': 'string',
  'template_type': 'string',
  'example_id': 'string',
  'template': 'int64',
  'num_fewshot': 'int64',
  'split': 'string',
  'cluster': 'string',
  'rate': 'int64',
  'options': 'list',
}
"""Column -> its type; `list` is a list of strings."""

MESSAGES = 'messages'
"""Column of an example as a chat: a user's message, and the assistant's answer."""

BLOCK = 4096
"""Examples read and decoded together, to bound memory."""

Block = Mapping[str, list]
"""Column -> the values of some examples."""


class Order(NamedTuple):
  """Training examples of a store, in the order of an export.

  Attributes:
    datasets: names of the datasets.
    dataset: index into `datasets` of each example, [n].
    entry: entry of each example in the store, [n].
  """

  datasets: tuple[str, ...]
  dataset: np.ndarray
  entry: np.ndarray

  @property
  def repeated(self) -> int:
    """Number of examples that are there before, in the same words."""
    key = self.dataset.astype(np.int64) << 32 | self.entry.astype(np.int64)
    return len(key) - len(np.unique(key))

  def part(self, start: int, stop: int) -> 'Order':
    return self._replace(dataset=self.dataset[start:stop], entry=self.entry[start:stop])


def all_examples(store: Store, *, epochs: int = 1) -> Order:
  """Every training example of a store, dataset by dataset, in stored order.

  Args:
    store: the store.
    epochs: number of epochs, in each of which an example has another template; a
      dataset of which the store has fewer gives those.

  Raises:
    InputError: if the store has fewer of every dataset.
  """
  names = tuple(store.manifest['datasets'])
  rendered = {name: store.manifest['datasets'][name]['epochs'] for name in names}
  most = max(rendered.values())
  if epochs > most:
    raise InputError(
      f'--epochs: got {epochs}; the store has {most} at most; materialize it with '
      f'--epochs {epochs}'
    )
  counts = [store.num_examples(name) * min(epochs, rendered[name]) for name in names]
  return Order(
    names,
    np.repeat(np.arange(len(names), dtype=np.uint16), counts),
    np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
  )


def drawn_examples(
  store: Store, count: int, *, seed: int, sequence_length: int, pack: bool = True
) -> Order:
  """The first `count` examples that a run over the store trains on, in its order.

  Args:
    store: the store.
    count: number of examples.
    seed: SEED of the run.
    sequence_length: tokens of a sequence of the run.
    pack: whether its sequences hold several examples.
  """
  lengths = {name: store.lengths(name) for name in store.datasets}
  total = sum(store.rates.values())
  mean = sum(
    rate / total * float(lengths[name].mean()) for name, rate in store.rates.items()
  )
  per_sequence = sequence_length / mean if pack else 1
  sequences = max(1, round(count / per_sequence))
  while True:
    plan = PackingPlan.build(
      lengths, store.rates, store.rendered, seed=seed, sequences=sequences,
      sequence_length=sequence_length, digest=store.digest, pack=pack,
    )  # fmt: skip
    if plan.examples >= count:
      dataset, entry = plan.draws
      return Order(plan.datasets, dataset[:count], entry[:count])
    sequences += max(1, sequences // 8)


class Labels(NamedTuple):
  """Columns that all examples of a dataset share."""

  task_name: str
  task_source: str
  cluster: str
  rate: int


class Exported(NamedTuple):
  """One example of an export.

  Attributes:
    inputs, targets: its text.
    labels: columns of its dataset.
    example_id: id of the example in the raw data.
    template: index of its template.
    num_fewshot: number of exemplars before it.
    options: options of the answer; empty for free text.
  """

  inputs: str
  targets: str
  labels: Labels
  example_id: str
  template: int
  num_fewshot: int
  options: list[str]


def labels(store: Store, name: str) -> Labels:
  """Columns that all examples of a dataset share.

  A dataset that is not registered in this process has what the store tells of it.
  """
  manifest = store.manifest
  found = registry.find(name)
  family = manifest['family'] if found is None else found.family
  task = '_'.join(filter(None, (family, name))) if found is None else found.task
  known = registry.families().get(family)
  source = known.task_source if known is not None else ''
  return Labels(
    task_name=task,
    task_source=source or family or name,
    cluster=store.clusters[name],
    rate=manifest['datasets'].get(name, {'rate': 0})['rate'],
  )


def template_type(inputs: str, options: Sequence[str], num_fewshot: int) -> str:
  """`zs_opt`, `zs_noopt`, `fs_opt` or `fs_noopt`, as published collections say it.

  `opt` if the prompt lists the options of the answer.
  """
  shown = bool(options) and f'{OPTIONS}:' in inputs
  return f'{"fs" if num_fewshot else "zs"}_{"opt" if shown else "noopt"}'


def blocks(
  store: Store, order: Order, shared: Sequence[Labels], *, tokenizer: Tokenizer
) -> Iterator[Block]:
  """Yields the columns of training examples, BLOCK examples at a time.

  Args:
    store: the store.
    order: the examples.
    shared: labels of each dataset of `order`.
    tokenizer: tokenizer of the store.
  """
  for start in range(0, len(order.dataset), BLOCK):
    part = order.part(start, start + BLOCK)
    found: list[Any] = [None] * len(part.dataset)
    for i in np.unique(part.dataset).tolist():
      at = np.flatnonzero(part.dataset == i)
      read = store.examples(order.datasets[i], part.entry[at].tolist())
      for place, example in zip(at.tolist(), read, strict=True):
        found[place] = example
    inputs = tokenizer.decode_batch([example.tokens.inputs for example in found])
    targets = tokenizer.decode_batch([example.tokens.targets for example in found])
    yield block(
      [
        Exported(
          asked,
          answer,
          shared[i],
          example.example_id,
          example.template,
          len(example.exemplars),
          list(example.options),
        )
        for asked, answer, i, example in zip(
          inputs, targets, part.dataset.tolist(), found, strict=True
        )
      ],
      'train',
    )


def block(examples: Sequence[Exported], split: str) -> Block:
  """Makes the columns of some examples of one split."""
  columns = [list(column) for column in zip(*examples, strict=True)]
  inputs, targets, shared, ids, templates, shots, options = columns or [[]] * 7
  return {
    'inputs': inputs,
    'targets': targets,
    'task_name': [one.task_name for one in shared],
    'task_source': [one.task_source for one in shared],
    'template_type': list(map(template_type, inputs, options, shots)),
    'example_id': ids,
    'template': templates,
    'num_fewshot': shots,
    'split': [split] * len(inputs),
    'cluster': [one.cluster for one in shared],
    'rate': [one.rate for one in shared],
    'options': options,
  }


def with_messages(block: Block) -> Block:
  """Adds the column of chats."""
  chats = [
    [{'role': 'user', 'content': asked}, {'role': 'assistant', 'content': answer}]
    for asked, answer in zip(block['inputs'], block['targets'], strict=True)
  ]
  return {**block, MESSAGES: chats}
