"""Takes rendered data out: a mixture as files that other stacks read; `flan export`.

The examples are those of a store, or of one that is built beside OUT and removed at the
end. OUT appears whole or not at all, and the same command gives the same bytes:

  OUT/README.md                          dataset card, as `datasets` and the hub read it
  OUT/data/SPLIT-NNNNN-of-NNNNN.jsonl    or .parquet
  OUT/export.json                        settings, counts, and digests of the files
"""

import collections
import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from flan_jax import __version__
from flan_jax.catalog import mixing_rates, registry
from flan_jax.catalog.registry import Mixture
from flan_jax.data import export_files, exported, raw_records, tokenizer_coverage
from flan_jax.data.exported import Block, Labels, Order
from flan_jax.data.sources import file_task
from flan_jax.data.store import materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError, did_you_mean
from flan_jax.report import dataset_card
from flan_jax.runtime import atomic_file, object_store, renamed_keys, worker_pool
from flan_jax.runtime.progress import Progress
from flan_jax.runtime.worker_pool import Report
from flan_jax.train.run_dir import RunDir

SPLITS = ('train', 'dev', 'test')
SUMMARY = 'export.json'
SEQUENCE_LENGTH = 2048
"""Sequence length of a run whose settings are not known, as in `flan rows`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
  """Settings of an export.

  Attributes:
    out: new folder.
    mixture: mixture, task or file; None for that of the store.
    store: a store, or the MODEL_DIR of a run; None to render afresh.
    format: one of `export_files.FORMATS`.
    splits: splits to export.
    sampled: number of training examples, drawn as a run draws them; None for all.
    epochs: epochs of all examples, each with other templates.
    seed: SEED of the run; None for the run's own, or 0.
    sequence_length: that of the run; None for the run's own, or SEQUENCE_LENGTH.
    unpacked: whether the run has one example a sequence.
    chat: whether to add the column of chats.
    shard_size: maximum number of examples of a file.
    inputs, targets: columns of a file.
    fresh: settings of the store when there is none.
    data_dir: TFDS data directory.
    workers: number of processes.
  """

  out: str
  mixture: str | None = None
  store: str | None = None
  format: str = 'jsonl'
  splits: tuple[str, ...] = ('train',)
  sampled: int | None = None
  epochs: int | None = None
  seed: int | None = None
  sequence_length: int | None = None
  unpacked: bool = False
  chat: bool = False
  shard_size: int = 100_000
  inputs: str = 'inputs'
  targets: str = 'targets'
  fresh: materialize.StoreConfig = materialize.StoreConfig(vocab_size=32_000)
  data_dir: str | None = None
  workers: int = 1

  def __post_init__(self):
    if self.format not in export_files.FORMATS:
      raise InputError(
        f'--format {self.format!r}: must be one of {", ".join(export_files.FORMATS)}'
        + did_you_mean(self.format, export_files.FORMATS)
      )
    for split in self.splits:
      if split not in SPLITS:
        raise InputError(
          f'--splits {split!r}: must be of {", ".join(SPLITS)}'
          + did_you_mean(split, SPLITS)
        )
    if self.mixture is None and self.store is None:
      raise InputError(
        '--mixture: not given, nor --store; `flan tasks --mixture` lists mixtures'
      )
    if self.sampled is not None and self.epochs is not None and self.store:
      raise InputError(
        f'--epochs {self.epochs}: with --sampled, the draw takes the epochs that the '
        'store has'
      )


def export(config: ExportConfig, *, progress: Progress) -> dict[str, Any]:
  """Writes an export.

  Returns:
    The content of export.json.

  Raises:
    InputError: on bad settings, or if OUT holds something.
  """
  out = pathlib.Path(config.out)
  _check_out(out)
  if config.store is None:
    store_path = _render(config, out, progress)
  else:
    store_path = pathlib.Path(str(object_store.here('--store', config.store)))
  run = _run_settings(store_path)
  if run is not None:
    store_path = pathlib.Path(run['store'] or store_path / 'store')
  store = Store.open(store_path)
  _check_mixture(config, store)
  with atomic_file.Draft(out, folder=True) as draft:
    summary = _write(config, store, run or {}, draft.path, progress)
    draft.keep()
  if config.store is None:
    shutil.rmtree(store_path)
  return summary


def _check_out(out: pathlib.Path) -> None:
  if out.exists() and not (out.is_dir() and not any(out.iterdir())):
    raise InputError(f'--out {str(out)!r}: exists; must be a new folder')


def _run_settings(path: pathlib.Path) -> dict[str, Any] | None:
  """Settings of the run in a MODEL_DIR; None if the folder is none."""
  settings = RunDir(str(path)).settings
  if not settings.is_file():
    return None
  try:
    found = json.loads(settings.read_text(encoding='utf-8'))
    return renamed_keys.upgraded(found, renamed_keys.RUN)
  except ValueError:
    raise InputError(f'--store {str(path)!r}: run.json is truncated') from None


def _check_mixture(config: ExportConfig, store: Store) -> None:
  if config.store is None or config.mixture is None:
    return
  held = store.manifest['mixture']
  found = registry.mixtures().get(config.mixture)
  name = registry.mixture(config.mixture).name if found is None else found.name
  if name != held:
    raise InputError(
      f'--store {config.store!r}: holds mixture {held!r}, --mixture is '
      f'{config.mixture!r}; they must be the same'
    )


# Rendering afresh.


def _mixture(config: ExportConfig) -> Mixture:
  assert config.mixture is not None
  if not file_task.is_file(config.mixture):
    return registry.mixture(config.mixture)
  dataset = file_task.declare(
    config.mixture, inputs=config.inputs, targets=config.targets
  )
  return registry.mixture(dataset.name)


def _render(
  config: ExportConfig, out: pathlib.Path, progress: Progress
) -> pathlib.Path:
  """Builds a store beside OUT; a killed export resumes from it."""
  mixture = _mixture(config)
  epochs = config.epochs
  if epochs is None and config.sampled is not None:
    epochs = _epochs_drawn(mixture, config.sampled, data_dir=config.data_dir)
  evaluate = ()
  if set(config.splits) - {'train'}:
    evaluate = mixture.held_out or mixture.trained_on
  path = out.parent / f'.{out.name}.store'
  progress.stage(f'Rendering {mixture.name}')
  with progress.counter() as count:
    materialize.materialize(
      mixture,
      dataclasses.replace(config.fresh, epochs=epochs, evaluate=evaluate),
      out=path,
      data_dir=config.data_dir,
      workers=config.workers,
      progress=count,
    )
  return path


def _epochs_drawn(mixture: Mixture, count: int, *, data_dir: str | None) -> int:
  """Number of epochs that `count` draws of a mixture take of its smallest datasets."""
  sizes = {}
  for dataset in mixture.members:
    try:
      sizes[dataset.name] = dataset.num_examples(
        'train', raw_records.sizes(dataset, data_dir=data_dir)
      )
    except InputError:
      continue  # materialize refuses or skips it
  sizes = {name: size for name, size in sizes.items() if size}
  rates = mixing_rates.rates(mixture, sizes)
  total = sum(rates.values())
  needs = (count * rates[name] / total / size for name, size in sizes.items())
  return max(1, math.ceil(max(needs, default=1)))


# Writing.


def _write(
  config: ExportConfig,
  store: Store,
  run: dict[str, Any],
  folder: pathlib.Path,
  progress: Progress,
) -> dict[str, Any]:
  """Writes every file of an export; returns the content of export.json."""
  order = _order(config, store, run)
  progress.stage(f'Exporting {len(order.dataset):,} examples of {store.path}')
  (folder / 'data').mkdir()
  shared = [exported.labels(store, name) for name in order.datasets]
  with progress.counter() as count:
    tally = worker_pool.Tally(count)
    tally.expect('export', 'train', len(order.dataset))
    calls = []
    total = max(1, math.ceil(len(order.dataset) / config.shard_size))
    suffix, _ = export_files.FORMATS[config.format]
    for number in range(total):
      name = export_files.shard_name('train', number, total, suffix)
      start = number * config.shard_size
      part = order.part(start, start + config.shard_size)
      calls.append(
        functools.partial(
          _write_part, str(store.path), part, shared, config.format, config.chat,
          str(folder / 'data' / name),
        )
      )  # fmt: skip
    worker_pool.run(calls, workers=config.workers, report=tally)
  counts = collections.Counter(order.dataset.tolist())
  files = sorted((folder / 'data').iterdir())
  summary = {
    'flan_jax': __version__,
    'mixture': store.manifest['mixture'],
    'store': store.digest,
    'format': config.format,
    'examples': {
      'train': {name: counts[i] for i, name in enumerate(order.datasets) if counts[i]}
    },
    'files': {
      f'data/{path.name}': hashlib.sha256(path.read_bytes()).hexdigest()
      for path in files
    },
  }
  atomic_file.write_json(folder / SUMMARY, summary, ensure_ascii=False)
  return summary


def _order(config: ExportConfig, store: Store, run: dict[str, Any]) -> Order:
  if config.sampled is None:
    return exported.all_examples(store, epochs=config.epochs or 1)
  length = config.sequence_length or run.get('sequence_length', SEQUENCE_LENGTH)
  seed = run.get('seed', 0) if config.seed is None else config.seed
  pack = run.get('pack', True) and not config.unpacked
  return exported.drawn_examples(
    store, config.sampled, seed=seed, sequence_length=length, pack=pack
  )


def _write_part(
  store_path: str,
  order: Order,
  shared: Sequence[Labels],
  format: str,
  chat: bool,
  path: str,
  report: Report,
) -> None:
  """Writes one file of training examples, in any process."""
  store = Store.open(store_path)
  tokenizer = store.tokenizer()
  tokenizer.threads = 1

  def blocks() -> Iterator[Block]:
    for block in exported.blocks(store, order, shared, tokenizer=tokenizer):
      yield exported.with_messages(block) if chat else block
      report('export', 'train', len(block['inputs']))

  _, write = export_files.FORMATS[format]
  write(pathlib.Path(path), blocks(), chat)
