"""Compares the data path with seqio's pipeline and packer and with Grain's packers.

  python benchmarks/data.py                                   # generated examples
  TFDS_DATA_DIR=DIR python benchmarks/data.py rte sst2 ...    # prepared datasets

Everything runs in one process, with one thread of `flan_jax`; the two sides alternate.
A figure is the median of REPEATS. On a shared machine, compare the ratios.
"""

import argparse
import collections
import functools
import itertools
import os
import pathlib
import resource
import sys
import tempfile
import time

import figures
import numpy as np

from flan_jax.catalog import registry
from flan_jax.catalog.registry import Mixture
from flan_jax.data import raw_records
from flan_jax.data.loader import Loader
from flan_jax.data.packing import PackingPlan
from flan_jax.data.preprocess import Limits
from flan_jax.data.store import parts
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store

GENERATED = ('mini_trec', 'mini_copa', 'mini_cb')
EXAMPLES = 200_000
PEER_EXAMPLES = 10_000
"""Number of examples that the slower peers pack."""
SEQUENCE_LENGTH = 2048
BATCH_SIZE = 4
STEPS = 30_000
REPEATS = 3
BINS = 64
"""Number of sequences that a Grain packer fills at a time."""

LENGTHS = {'inputs': 1024, 'targets': 256}


def in_turn(works: dict, size: dict) -> dict[str, float]:
  """Name -> units per second, the median of REPEATS rounds."""
  rates = collections.defaultdict(list)
  for _ in range(REPEATS):
    for name, work in works.items():
      start = time.perf_counter()
      work()
      rates[name].append(size[name] / (time.perf_counter() - start))
  return {name: float(np.median(found)) for name, found in rates.items()}


def rendering(store: Store, names, family: str, data_dir, folder: pathlib.Path) -> None:
  """Records -> text -> tokens: a store, and the same tasks through seqio."""
  import seqio

  from flan_jax.interop.seqio import tasks

  tokenizer = store.tokenizer()
  path = str(store.path / tokenizer.filename)
  tasks.register(seqio.SentencePieceVocabulary(path), family=family, data_dir=data_dir)
  datasets = [registry.get(name) for name in names]
  runs = itertools.count()

  def materialized():
    out = folder / f'run{next(runs)}'
    for part in ('train', parts.WORK):
      (out / part).mkdir(parents=True)
    tokenizer.save(out / tokenizer.filename)
    job = parts.Job(
      folder=str(out),
      seed=0,
      limits=Limits(),
      sequence_length=None,
      data_dir=data_dir,
      sizes={d.name: raw_records.sizes(d, data_dir=data_dir) for d in datasets},
      stamps=dict.fromkeys(names, ''),
      tokenizer=tokenizer.filename,
      tokenizer_digest=tokenizer.digest,
      threads=1,
    )
    for name in names:
      parts.read(job, name, lambda *_: None)
      parts.render(job, name, 0, 'render', lambda *_: None)

  def peer(task):
    for dataset in datasets:
      examples = seqio.get_mixture_or_task(task(dataset)).get_dataset(
        LENGTHS, split='train', shuffle=False
      )
      for _ in examples:
        pass

  count = sum(store.num_examples(name) for name in names)
  tokens = sum(int(store.lengths(name).sum(dtype=np.int64)) for name in names)
  works = {
    'flan materialize': materialized,
    'seqio, our training task': functools.partial(peer, lambda d: d.task),
    'seqio, one template': functools.partial(peer, lambda d: f'{d.task}_template_0'),
  }
  rates = in_turn(works, dict.fromkeys(works, count))
  first = rates['flan materialize']
  title = f'{count:,} examples of {", ".join(names)}, one process'
  print(f'\nrendering and tokenizing, {title}')
  print('| | examples/s | tokens/s | ours is |\n|---|--:|--:|--:|')
  for name, rate in rates.items():
    print(
      f'| {name} | {rate:,.0f} | {rate * tokens / count:,.0f} | {first / rate:.1f} x |'
    )
    if name != 'flan materialize':
      figures.add('rendering', first, 'examples/s', peer=name, peer_value=rate)


def plan_of(sizes: np.ndarray) -> PackingPlan:
  """Plans one epoch of one dataset, but for the examples of the last sequences."""
  return PackingPlan.build(
    {'all': sizes},
    {'all': 1},
    {'all': 1},
    seed=0,
    sequences=int(sizes.sum() / SEQUENCE_LENGTH * 0.99),
    sequence_length=SEQUENCE_LENGTH,
    digest='benchmark',
  )


def seqio_packs(sizes: np.ndarray) -> float:
  """Fill of `seqio.utils.trim_and_pack_dataset`."""
  import seqio
  import tensorflow as tf

  def generate():
    for size in sizes:
      yield {'targets': np.ones(size, np.int32)}

  signature = {'targets': tf.TensorSpec([None], tf.int32)}
  dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
  packed = seqio.utils.trim_and_pack_dataset(dataset, {'targets': SEQUENCE_LENGTH})
  return fill(packed.as_numpy_iterator())


def grain_packs(sizes: np.ndarray, kind: str) -> float:
  """Fill of one of Grain's packers."""
  import grain

  source = grain.MapDataset.source(sizes.tolist())
  source = source.map(lambda size: {'targets': np.ones(size, np.int32)})
  packer = getattr(grain.experimental, kind)
  return fill(
    packer(
      source.to_iter_dataset(),
      length_struct={'targets': SEQUENCE_LENGTH},
      num_packing_bins=BINS,
    )
  )


def fill(sequences) -> float:
  used = [int((sequence['targets'] > 0).sum()) for sequence in sequences]
  return sum(used) / (len(used) * SEQUENCE_LENGTH)


def packing(store: Store) -> None:
  import seqio  # noqa: F401  imported outside of the first peer's time
  import tensorflow as tf

  tf.constant(0)
  real = np.concatenate([store.lengths(name) for name in store.datasets])
  sizes = np.random.default_rng(0).choice(real, EXAMPLES).astype(np.int64)
  part = sizes[:PEER_EXAMPLES]
  packers = {
    'our plan': lambda: plan_of(sizes).fill,
    'seqio trim_and_pack_dataset': lambda: seqio_packs(part),
    'Grain first fit': lambda: grain_packs(part, 'FirstFitPackIterDataset'),
    'Grain best fit': lambda: grain_packs(part, 'BestFitPackIterDataset'),
  }
  fills = {}

  def keep(name, work):
    fills[name] = work()

  works = {name: functools.partial(keep, name, work) for name, work in packers.items()}
  count = {name: PEER_EXAMPLES for name in works} | {'our plan': EXAMPLES}
  rates = in_turn(works, count)
  print(f'\npacking {EXAMPLES:,} examples ({PEER_EXAMPLES:,} by the peers)')
  print(f'lengths drawn from the store, {sizes.mean():.0f} tokens on average')
  print('| | examples/s | sequences/s | fill | ours is |\n|---|--:|--:|--:|--:|')
  for name, rate in rates.items():
    sequences = rate * sizes.mean() / SEQUENCE_LENGTH / fills[name]
    ratio = rates['our plan'] / rate
    print(
      f'| {name} | {rate:,.0f} | {sequences:,.0f} | {fills[name]:.2%} | '
      f'{ratio:,.0f} x |'
    )
    if name != 'our plan':
      ours = rates['our plan']
      figures.add('packing', ours, 'examples/s', peer=name, peer_value=rate)


def loading(store: Store) -> None:
  plan = store.plan(
    seed=0, sequences=STEPS * BATCH_SIZE, sequence_length=SEQUENCE_LENGTH
  )

  def batches(start, count):
    loader = Loader(
      store,
      plan,
      batch_size=BATCH_SIZE,
      start_step=start,
      process_index=0,
      process_count=1,
    )
    for _ in itertools.islice(iter(loader), count):
      pass

  batches(0, 1)  # opens the shards
  last = f'first batch at step {STEPS - 1:,}'
  works = {
    'first batch at step 0': functools.partial(batches, 0, 1),
    last: functools.partial(batches, STEPS - 1, 1),
    'a batch after that': functools.partial(batches, 0, 200),
  }
  rates = in_turn(works, dict.fromkeys(works, 1) | {'a batch after that': 200})
  title = f'{BATCH_SIZE} sequences of {SEQUENCE_LENGTH:,} tokens a batch'
  print(f'\nloader, {title}, {STEPS:,} steps')
  print('| | ms |\n|---|--:|')
  for name, rate in rates.items():
    print(f'| {name} | {1000 / rate:.2f} |')
    figures.add(f'loader, {name}', 1000 / rate, 'ms', lower_is_better=True)


def memory() -> None:
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  which = 'with' if 'tensorflow' in sys.modules else 'without'
  print(f'\npeak memory so far, {which} TensorFlow: {peak:,.0f} MB')


def main() -> None:
  global EXAMPLES, PEER_EXAMPLES, REPEATS
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('datasets', nargs='*')
  parser.add_argument('--examples', type=int, default=EXAMPLES)
  parser.add_argument('--peer-examples', type=int, default=PEER_EXAMPLES)
  parser.add_argument('--repeats', type=int, default=REPEATS)
  figures.add_flag(parser)
  options = parser.parse_args()
  EXAMPLES, PEER_EXAMPLES = options.examples, options.peer_examples
  REPEATS = options.repeats
  names = tuple(options.datasets) or GENERATED
  family = 'flan' if options.datasets else 'microworld'
  data_dir = os.environ.get('TFDS_DATA_DIR')
  mixture = Mixture(name='benchmark', datasets=names, held_out=())
  print(f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before anything began')
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    materialize(
      mixture, StoreConfig(vocab_size=4_000), out=folder / 'store', data_dir=data_dir
    )
    store = Store.open(folder / 'store')
    memory()
    loading(store)
    memory()
    packing(store)
    rendering(store, names, family, data_dir, folder)
  figures.write(options.json)


if __name__ == '__main__':
  main()
