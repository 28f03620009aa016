"""Raw records of the generated datasets, in the format of the real ones.

Example i of a split is a function of (seed, dataset, split, i) alone. A split uses only
combinations of its own side (`World.side`): a passage of a test example occurs neither in
a training example nor in the pretraining text. A single fact of it may, and so may a
hypothesis or a question on it, whose answer is in the passage. Closed-book questions must
rest on that text; of those, no question is in two splits. Labels cycle, so that
the classes of every split are balanced.
"""

import functools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flan_jax.catalog.source import Generator
from flan_jax.errors import InputError, did_you_mean
from flan_jax.microworld import makers
from flan_jax.microworld.world import World

Record = Mapping[str, Any]
Maker = Callable[[World, random.Random, str, int], dict[str, Any]]

_SIDE = {'train': 'train', 'validation': 'dev', 'test': 'test'}

DATASETS: dict[str, tuple[Maker, int]] = {
  'mini_rte': (makers.rte, 2400),
  'mini_cb': (makers.cb, 900),
  'mini_boolq': (makers.boolq, 4000),
  'mini_multirc': (makers.multirc, 4000),
  'mini_squad': (makers.squad, 3000),
  'mini_obqa': (makers.obqa, 2400),
  'mini_arc': (makers.arc, 1600),
  'mini_copa': (makers.copa, 1200),
  'mini_winogrande': (makers.winogrande, 2400),
  'mini_cosmos': (makers.cosmos, 2400),
  'mini_sst2': (makers.sst2, 3000),
  'mini_mrpc': (makers.mrpc, 2400),
  'mini_common_gen': (makers.common_gen, 2000),
  'mini_wmt': (makers.wmt, 3000),
  'mini_xsum': (makers.xsum, 2000),
  'mini_trec': (makers.trec, 2000),
  'mini_cola': (makers.cola, 2000),
}
"""Dataset -> its maker and its number of training examples."""


def sizes(name: str) -> dict[str, int]:
  """Split -> number of examples of a dataset.

  Raises:
    InputError: if there is no such dataset; names the nearest.
  """
  return {'train': _entry(name)[1], 'validation': 150, 'test': 300}


def record(name: str, split: str, index: int, *, seed: int = 0) -> dict[str, Any]:
  """Makes example `index` of a split, independently of all others."""
  make, _ = _entry(name)
  rng = random.Random(f'{seed}/{name}/{split}/{index}')
  return make(World(seed), rng, _SIDE[split], index)


def records(name: str, split: str, *, seed: int = 0) -> Iterator[tuple[str, Record]]:
  """Yields (example id, record) of every example of a split, in order.

  Raises:
    InputError: if there is no such dataset or split; names the nearest.
  """
  examples = sizes(name)
  if split not in examples:
    raise InputError(
      f'split {split!r}: {name} has {", ".join(examples)}'
      + did_you_mean(split, examples)
    )
  for index in range(examples[split]):
    yield f'{name}-{split}-{index:05d}', record(name, split, index, seed=seed)


def source(name: str) -> Generator:
  """The source of a dataset's records."""
  return Generator(functools.partial(records, name), examples=sizes(name))


def _entry(name: str) -> tuple[Maker, int]:
  if name not in DATASETS:
    raise InputError(
      f'dataset {name!r}: not in the microworld' + did_you_mean(name, DATASETS)
    )
  return DATASETS[name]
