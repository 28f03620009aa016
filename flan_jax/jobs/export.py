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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from flan_jax import __version__
from flan_jax.catalog import names
from flan_jax.catalog.registry import Mixture
from flan_jax.data import (
  export_files,
  exported,
  exported_evaluation,
  packing,
)
from flan_jax.data.exported import Block, Labels, Order
from flan_jax.data.sources import file_task
from flan_jax.data.store import fingerprint, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.jobs import export_card, export_settings
from flan_jax.jobs.export_settings import Draw, ExportConfig
from flan_jax.report import dataset_card
from flan_jax.runtime import (
  atomic_file,
  lock,
  object_store,
  renamed_keys,
  worker_pool,
)
from flan_jax.runtime.progress import Progress
from flan_jax.runtime.worker_pool import Report
from flan_jax.train.run_dir import RunDir

SUMMARY = 'export.json'


def export(config: ExportConfig, *, progress: Progress) -> dict[str, Any]:
  """Writes an export.

  Returns:
    The content of export.json.

  Raises:
    InputError: on bad settings, or if OUT holds something.
  """
  out = pathlib.Path(config.out)
  _check_out(config.out)
  export_files.FORMATS[config.format].check()
  with lock.held('--out', config.out, beside=True):
    return _export(config, out, progress)


def _export(
  config: ExportConfig, out: pathlib.Path, progress: Progress
) -> dict[str, Any]:
  """Writes an export to `out`, whose lock is held."""
  run: dict[str, Any] = {}
  if config.store is None:
    path = _render(config, out, progress)
  else:
    run, path = _find_store(config.store)
  store = Store.open(path)
  _check_mixture(config, store)
  try:
    with atomic_file.Draft(out, folder=True) as draft:
      summary = _write(config, store, run, draft.path, progress)
      draft.keep()
  except OSError as error:
    raise InputError(f'--out {config.out!r}: {error}; nothing is written') from None
  if config.store is None:
    shutil.rmtree(path)
  return summary


def _check_out(out: str) -> None:
  if '://' in out:
    raise InputError(f'--out {out!r}: must be a folder of this machine')
  path = pathlib.Path(out)
  if path.exists() and not (path.is_dir() and not any(path.iterdir())):
    raise InputError(f'--out {out!r}: exists; must be a new folder')


def _find_store(given: str) -> tuple[dict[str, Any], str]:
  """(settings of the run, local path of its store), or ({}, path) of a store alone."""
  settings = epath.Path(given) / RunDir('.').settings.name
  run: dict[str, Any] = {}
  if settings.exists():
    try:
      run = renamed_keys.upgraded(json.loads(settings.read_text()), renamed_keys.RUN)
    except ValueError:
      raise InputError(f'--store {given!r}: run.json is truncated') from None
    given = run.get('store') or f'{given}/{RunDir(".").store.name}'
  return run, str(object_store.here('--store', given))


def _check_mixture(config: ExportConfig, store: Store) -> None:
  if store.chat_template is not None:
    raise _conversations(store.manifest['mixture'])
  if config.store is None or config.mixture is None:
    return
  held, name = store.manifest['mixture'], _mixture(config).name
  if name != held:
    raise InputError(
      f'--store {config.store!r}: holds mixture {held!r}, --mixture is '
      f'{config.mixture!r}; they must be the same'
    )


def _conversations(name: str) -> InputError:
  return InputError(
    f'--mixture {name!r}: has conversations, which are messages already; must be '
    'prompts with answers'
  )


# Rendering afresh.


def _mixture(config: ExportConfig) -> Mixture:
  assert config.mixture is not None
  name = config.mixture
  if file_task.is_file(name):
    name = file_task.declare(name, inputs=config.inputs, targets=config.targets).name
  mixture = names.mixture(name)
  if any(dataset.messages for dataset in mixture.members):
    raise _conversations(config.mixture)
  return mixture


def _render(
  config: ExportConfig, out: pathlib.Path, progress: Progress
) -> pathlib.Path:
  """Builds a store beside OUT; a killed export resumes from it."""
  mixture = _mixture(config)
  draws = config.sampled if config.epochs is None else None
  if draws is not None and not config.unpacked:
    draws = packing.drawn(draws)  # the first sequences hold draws of whole windows
  evaluate = ()
  if set(config.splits) - {'train'}:
    evaluate = mixture.held_out or mixture.trained_on
  path = out.parent / f'.{out.name}.store'
  progress.stage(f'Rendering {mixture.name}')
  with progress.counter() as count:
    build = functools.partial(
      materialize.materialize,
      mixture,
      dataclasses.replace(
        config.fresh, epochs=config.epochs, draws=draws, evaluate=evaluate
      ),
      out=path,
      data_dir=config.data_dir,
      workers=config.workers,
      progress=count,
    )
    try:
      build()
    except InputError:
      if not path.exists():
        raise
      shutil.rmtree(path)  # left by a killed export with other settings
      build()
  return path


# Writing.


def _write(
  config: ExportConfig,
  store: Store,
  run: Mapping[str, Any],
  folder: pathlib.Path,
  progress: Progress,
) -> dict[str, Any]:
  """Writes every file of an export; returns the content of export.json."""
  draw = export_settings.draw(config, run)
  order = _order(config, store, draw) if 'train' in config.splits else None
  evaluated = _evaluated(config, store)
  progress.stage(f'Writing {config.format} from {store.path}')
  (folder / 'data').mkdir()
  with progress.counter() as count:
    tally = worker_pool.Tally(count)
    examples = {}
    if order is not None:
      examples['train'] = _write_train(config, store, order, folder, tally)
    for split, sizes in evaluated.items():
      tally.expect('export', split, sum(sizes.values()))
      examples[split] = _write_evaluation(config, store, split, folder, tally)
  card = export_card.make(
    config, store, run, draw, examples, repeated=order.repeated if order else 0
  )
  for note in card.notes:
    progress.line(note)
  content = {
    'flan_jax': __version__,
    'mixture': store.manifest['mixture'],
    'store': store.digest,
    'format': config.format,
    'chat': config.chat,
    'shard_size': config.shard_size,
    **({'epochs': config.epochs or 1} if draw is None else draw._asdict()),
    'examples': examples,
  }
  export_files.FORMATS[config.format].finish(
    folder, store.manifest['mixture'], fingerprint.digest(content)
  )
  atomic_file.write_text(folder / 'README.md', dataset_card.render(card))
  files = sorted(path for path in folder.rglob('*') if path.is_file())
  summary = {
    **content,
    'notes': card.notes,
    'leakage': card.leakage,
    'files': {path.relative_to(folder).as_posix(): _digest(path) for path in files},
  }
  atomic_file.write_json(folder / SUMMARY, summary, ensure_ascii=False)
  return summary


def _evaluated(config: ExportConfig, store: Store) -> dict[str, dict[str, int]]:
  """Evaluation split -> dataset -> number of its examples.

  Rendered afresh, a split that no dataset has is left out if another one is exported.

  Raises:
    InputError: if the store lacks a split.
  """
  found = {}
  for split in config.splits:
    if split == 'train':
      continue
    found[split] = exported_evaluation.sizes(store, split)
    if not found[split] and (config.store is not None or config.splits == (split,)):
      clusters = ', '.join(store.manifest['evaluate']) or 'none'
      raise InputError(
        f'--splits {split!r}: the store has no {split} examples; the clusters that it '
        f'evaluates: {clusters}'
      )
  return {split: sizes for split, sizes in found.items() if sizes}


def _digest(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _order(config: ExportConfig, store: Store, draw: Draw | None) -> Order:
  if draw is None:
    return exported.all_examples(store, epochs=config.epochs or 1)
  return exported.drawn_examples(
    store,
    draw.sampled,
    seed=draw.seed,
    sequence_length=draw.sequence_length,
    pack=not draw.unpacked,
  )


def _write_train(
  config: ExportConfig,
  store: Store,
  order: Order,
  folder: pathlib.Path,
  tally: worker_pool.Tally,
) -> dict[str, int]:
  """Writes the files of the training examples; returns dataset -> their number."""
  total = len(order.dataset)
  tally.expect('export', 'train', total)
  shared = [exported.labels(store, name) for name in order.datasets]
  format = export_files.FORMATS[config.format]
  files = max(1, math.ceil(total / config.shard_size))
  calls = []
  for number in range(files):
    name = export_files.file_name('train', number, files, format.suffix)
    start = number * config.shard_size
    calls.append(
      functools.partial(
        _write_part,
        str(store.path),
        order.part(start, start + config.shard_size),
        shared,
        config.format,
        config.chat,
        str(folder / 'data' / name),
      )
    )
  worker_pool.run(calls, workers=config.workers, report=tally)
  counts = np.bincount(order.dataset, minlength=len(order.datasets)).tolist()
  named = zip(order.datasets, counts, strict=True)
  return {name: count for name, count in named if count}


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

  export_files.FORMATS[format].write(pathlib.Path(path), blocks(), chat)


def _write_evaluation(
  config: ExportConfig,
  store: Store,
  split: str,
  folder: pathlib.Path,
  tally: worker_pool.Tally,
) -> dict[str, int]:
  """Writes the files of an evaluation split; returns dataset -> examples."""
  counts: collections.Counter[str] = collections.Counter()

  def blocks() -> Iterator[Block]:
    for name, block in exported_evaluation.blocks(
      store, split, tokenizer=store.tokenizer(), data_dir=config.data_dir
    ):
      counts[name] += len(block['inputs'])
      yield exported.with_messages(block) if config.chat else block
      tally('export', split, len(block['inputs']))

  export_files.write_shards(
    folder / 'data', split, blocks(), size=config.shard_size, chat=config.chat,
    format=export_files.FORMATS[config.format],
  )  # fmt: skip
  return dict(counts)
