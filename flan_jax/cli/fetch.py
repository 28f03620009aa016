"""`flan fetch`: prepares raw datasets."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flan_jax.cli import console
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.catalog.dataset import Dataset
  from flan_jax.data.fetched import Fetched


def run(options: argparse.Namespace) -> int:
  from flan_jax.catalog import registry
  from flan_jax.config import checks
  from flan_jax.evaluate import metrics
  from flan_jax.runtime import worker_pool

  most = worker_pool.MAX_WORKERS
  checks.check('--workers', options.workers, checks.count(1, most))
  if options.all == bool(options.datasets):
    raise InputError('fetch: give the names of datasets, or --all')
  if options.all:
    datasets = list(registry.datasets('flan').values())
  else:
    datasets = _named(options.datasets, options.folder)
  metrics.check_declared(datasets)
  progress = Progress()
  console.quiet_absl()
  prepared = [dataset for dataset in datasets if dataset.tfds]
  done = _prepare(prepared, options, progress) if prepared else []
  done += [_in_place(dataset) for dataset in datasets if not dataset.tfds]
  if options.json:
    console.print_json([item._asdict() for item in done])
  else:
    rows = [
      (d.standing, ', '.join(d.datasets), d.tfds or '-', d.cause or d.state,
       ', '.join(f'{split} {n:,}' for split, n in d.examples.items()), d.note)
      for d in done
    ]  # fmt: skip
    headings = ('', 'datasets', 'TFDS', 'outcome', 'examples', 'note')
    console.table('fetched', dict.fromkeys(headings, 'left'), rows)
    standings = [item.standing for item in done]
    counts = (f'{standings.count(s)} {s}' for s in ('ready', 'partial', 'missing'))
    print(', '.join(counts))
    for line in _not_served(options.folder):
      print(line)
  return 1 if any(item.standing == 'missing' for item in done) else 0


def _named(given: Sequence[str], folder: str | None) -> 'list[Dataset]':
  """The named datasets; with --from, all of them must be of TFDS."""
  from flan_jax.catalog import names

  served = (
    f'--from {folder!r} serves datasets of TFDS, each as BUILDER/CONFIG/SPLIT.jsonl in '
    "the builder's own shape (`flan tasks` lists them); declare other files with "
    'source=Json(...), Csv(...) or Parquet(...), which are read where they are'
  )
  try:
    found = [names.dataset(name) for name in given]
  except InputError as error:
    raise InputError(f'{error}; {served}' if folder else str(error)) from None
  own = [dataset for dataset in found if not dataset.tfds]
  if folder and own:
    source = own[0].source
    raise InputError(f'dataset {own[0].name!r}: its source is {source}; {served}')
  return found


def _not_served(folder: str | None) -> list[str]:
  """One line for each folder under --from that no declared dataset reads."""
  from flan_jax.catalog import registry
  from flan_jax.data.fetched import place

  if folder is None:
    return []
  served = {place(d.tfds) for d in registry.datasets().values() if d.tfds}
  root = pathlib.Path(folder)
  given = {file.parent.relative_to(root) for file in root.glob('*/*/*.jsonl')}
  return [
    f'{root / path}: no declared dataset reads the TFDS builder {path.parent}, config '
    f'{path.name}; declare it with source=Json({str(root / path / "{split}.jsonl")!r})'
    for path in sorted(given - served)
  ]


def _prepare(
  datasets: 'Sequence[Dataset]', options: argparse.Namespace, progress: Progress
) -> 'list[Fetched]':
  progress.stage('Loading TensorFlow Datasets')
  try:
    from flan_jax.data import fetch as fetch_lib
  except ModuleNotFoundError as error:
    raise InputError(
      f"module {error.name!r}: not installed; pip install 'flan_jax[data]'"
    ) from None
  return fetch_lib.fetch(
    datasets,
    data_dir=options.data_dir,
    folder=options.folder,
    workers=1 if options.folder else min(options.workers, len(datasets)),
    progress=progress,
  )


def _in_place(dataset: 'Dataset') -> 'Fetched':
  """Counts the records of a source that is not TFDS; the hub's are downloaded."""
  from flan_jax.catalog.source import UNKNOWN_SIZE
  from flan_jax.data import raw_records
  from flan_jax.data.fetched import Fetched

  names = (dataset.name,)
  try:
    examples = dict(raw_records.sizes(dataset))
  except InputError as error:
    return Fetched(names, '', 'missing', 'failed', {}, 'failed', str(error))
  note = f'read from {dataset.source}'
  known = {split: n for split, n in examples.items() if n < UNKNOWN_SIZE}
  if len(known) < len(examples):
    note += ', counted as it is read'
  return Fetched(names, '', 'ready', 'ready', known, '', note)
