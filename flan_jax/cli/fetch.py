"""`flan fetch`: prepares raw datasets."""

import argparse

from flan_jax.cli import console
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress


def run(options: argparse.Namespace) -> int:
  from flan_jax.catalog import names, registry
  from flan_jax.evaluate import metrics

  if options.all == bool(options.datasets):
    raise InputError('fetch: give the names of datasets, or --all')
  metrics.check_declared()
  if options.all:
    datasets = list(registry.datasets('flan').values())
  else:
    datasets = [names.dataset(name) for name in options.datasets]
  progress = Progress()
  progress.stage('Loading TensorFlow Datasets')
  console.quiet_absl()
  try:
    from flan_jax.data import fetch as fetch_lib
  except ModuleNotFoundError as error:
    raise InputError(
      f"module {error.name!r}: not installed; pip install 'flan_jax[data]'"
    ) from None
  done = fetch_lib.fetch(
    datasets,
    data_dir=options.data_dir,
    folder=options.folder,
    workers=1 if options.folder else min(options.workers, len(datasets)),
    progress=progress,
  )
  if options.json:
    console.print_json([item._asdict() for item in done])
  else:
    rows = [
      (d.standing, ', '.join(d.datasets), d.tfds, d.cause or d.state,
       ', '.join(f'{split} {n:,}' for split, n in d.examples.items()), d.note)
      for d in done
    ]  # fmt: skip
    headings = ('', 'datasets', 'TFDS', 'outcome', 'examples', 'note')
    console.table('fetched', dict.fromkeys(headings, 'left'), rows)
    standings = [item.standing for item in done]
    counts = (f'{standings.count(s)} {s}' for s in ('ready', 'partial', 'missing'))
    print(', '.join(counts))
  # With --from, a dataset missing from the folder is no failure; a failed download is.
  return 1 if any(item.state == 'failed' for item in done) else 0
