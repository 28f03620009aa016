"""Packing: our plan against seqio's packer, on the same examples, in one process.

  python benchmarks/packing.py

Prints rows filled per second, how full they are, and the ratios. The examples have
lognormal lengths like those of FLAN's datasets (median about 90 tokens, most 1280).
"""

import time

import numpy as np

from flan_jax.data.plan import Plan

EXAMPLES = 20_000
ROW_LENGTH = 2048
REPEATS = 3


def lengths() -> np.ndarray:
  rng = np.random.default_rng(0)
  return np.clip(rng.lognormal(4.5, 0.9, EXAMPLES), 8, 1280).astype(np.int64)


def ours(sizes: np.ndarray) -> tuple[int, float]:
  """(examples placed, fill) of a plan over one dataset of one epoch."""
  rows = int(sizes.sum() / ROW_LENGTH * 0.98)
  plan = Plan.build(
    {'all': sizes},
    {'all': 1},
    {'all': 1},
    seed=0,
    rows=rows,
    row_length=ROW_LENGTH,
    digest='benchmark',
  )
  return plan.examples, plan.fill


def seqio_packer(sizes: np.ndarray) -> tuple[int, float]:
  """The same through `seqio.utils.trim_and_pack_dataset`."""
  import seqio
  import tensorflow as tf

  def generate():
    for size in sizes:
      yield {'targets': np.ones(size, np.int32)}

  signature = {'targets': tf.TensorSpec([None], tf.int32)}
  dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
  packed = seqio.utils.trim_and_pack_dataset(dataset, {'targets': ROW_LENGTH})
  used = rows = examples = 0
  for row in packed.as_numpy_iterator():
    rows += 1
    used += int((row['targets'] > 0).sum())
    examples += int(row['targets_segment_ids'].max())
  return examples, used / (rows * ROW_LENGTH)


def main() -> None:
  sizes = lengths()
  print(f'{EXAMPLES:,} examples, {sizes.mean():.0f} tokens on average')
  rates: dict[str, list[float]] = {'ours': [], 'seqio': []}
  fills = {}
  for _ in range(REPEATS):
    for name, pack in (('ours', ours), ('seqio', seqio_packer)):
      start = time.perf_counter()
      examples, fills[name] = pack(sizes)
      rates[name].append(examples / (time.perf_counter() - start))
  for name, found in rates.items():
    print(
      f'{name:>6}: {np.median(found):>12,.0f} examples/s (median of {REPEATS}), '
      f'{fills[name]:.2%} full'
    )
  ratio = np.median(rates['ours']) / np.median(rates['seqio'])
  print(f' ratio: {ratio:,.1f} x')


if __name__ == '__main__':
  main()
