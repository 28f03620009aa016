"""Measures `flan export` from a store: examples a second and a core, by format.

  python benchmarks/export.py             # generated examples as long as FLAN's
  python benchmarks/export.py STORE ...   # stores, or MODEL_DIRs

One process, one thread of `flan_jax`. A second is one of CPU time of this process, so
that other work on the machine does not count; wall time stands beside it. A figure is
the median of REPEATS.
"""

import argparse
import os
import pathlib
import random
import tempfile
import time

import figures
import numpy as np

from flan_jax import (
  Dataset,
  Generator,
  Label,
  Mixture,
  Template,
  register,
)
from flan_jax.catalog import registry
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.jobs import export
from flan_jax.jobs.export_settings import ExportConfig
from flan_jax.runtime.progress import Progress

EXAMPLES = 30_000
WORDS = (20, 260)
"""Words of a text: with its template, about 200 tokens, as a FLAN example has."""
SAMPLED = 30_000
REPEATS = 3
FORMATS = ('jsonl', 'parquet', 'hf')


def records(split: str):
  """Yields records of random words, the same ones at every call."""
  draw = random.Random(0)
  words = [
    ''.join(draw.choices('etaoinshrdlu', k=draw.randint(2, 9))) for _ in range(5_000)
  ]
  for _ in range(EXAMPLES):
    size = draw.randint(*WORDS)
    yield {'text': ' '.join(draw.choices(words, k=size)), 'label': draw.randrange(2)}


def made_store(folder: pathlib.Path) -> Store:
  register(
    Dataset(
      name='words',
      cluster='words',
      source=Generator(records, {'train': EXAMPLES}),
      fields={'text': 'text'},
      answer=Label('label', ('yes', 'no')),
      metric='accuracy',
      templates=(Template('{text}\n\nIs it so?\n\n{OPTIONS}'),),
    ),
    Mixture(name='benchmark', datasets=('words',)),
  )
  mixture = registry.mixture('benchmark')
  materialize(mixture, StoreConfig(vocab_size=8_000), out=folder / 'store')
  return Store.open(folder / 'store')


def measured(store: Store, format: str, folder: pathlib.Path, **settings):
  """Returns (examples, CPU seconds, wall seconds, megabytes) of an export."""
  found = []
  for number in range(REPEATS):
    out = folder / f'{format}{number}{len(settings)}'
    cpu, wall = time.process_time(), time.perf_counter()
    config = ExportConfig(
      out=str(out), store=str(store.path), format=format, **settings
    )
    summary = export.export(config, progress=Progress(quiet=True))
    found.append((time.process_time() - cpu, time.perf_counter() - wall))
  count = sum(summary['examples']['train'].values())
  size = sum(path.stat().st_size for path in out.rglob('*') if path.is_file())
  return count, *np.median(found, axis=0).tolist(), size / 2**20


def main() -> None:
  global EXAMPLES, REPEATS
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('stores', nargs='*')
  parser.add_argument('--examples', type=int, default=EXAMPLES)
  parser.add_argument('--repeats', type=int, default=REPEATS)
  figures.add_flag(parser)
  options = parser.parse_args()
  EXAMPLES, REPEATS = options.examples, options.repeats
  print(f'{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before anything began')
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    stores = [Store.open(path) for path in options.stores] or [made_store(folder)]
    for number, store in enumerate(stores):
      entries = store.manifest['datasets'].values()
      count = sum(entry['examples'] * entry['epochs'] for entry in entries)
      tokens = sum(sum(entry['tokens'].values()) for entry in entries)
      name, kind = store.manifest['mixture'], store.manifest['tokenizer']['name']
      print(f'\n{name}: {tokens / count:.0f} tokens an example, tokenizer {kind}')
      print('| | examples | MB | examples/s a core | wall examples/s |')
      print('|---|--:|--:|--:|--:|')
      for format in FORMATS:
        for title, settings in (
          ('all', {}),
          ('drawn', {'sampled': SAMPLED}),
          ('all, with chats', {'chat': True}),
        ):
          out = folder / f'{number}{title}'
          try:
            examples, cpu, wall, size = measured(store, format, out, **settings)
          except InputError as error:  # a library is not installed
            print(f'| {format}, {title} | {error} | | | |')
            break
          print(
            f'| {format}, {title} | {examples:,} | {size:,.1f} | '
            f'{examples / cpu:,.0f} | {examples / wall:,.0f} |'
          )
          figures.add(f'{name}: {format}, {title}', examples / cpu, 'examples/CPU s')
  figures.write(options.json)


if __name__ == '__main__':
  main()
