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
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax import __version__
from flan_jax.catalog import leakage, mixing_rates, registry
from flan_jax.catalog.registry import Mixture
from flan_jax.data import (
  export_files,
  exported,
  exported_evaluation,
  raw_records,
  tokenizer_coverage,
)
from flan_jax.data.exported import Block, Labels, Order
from flan_jax.data.sources import file_task
from flan_jax.data.store import materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError, did_you_mean
from flan_jax.report import dataset_card
from flan_jax.runtime import (
  atomic_file,
  modules,
  object_store,
  renamed_keys,
  worker_pool,
)
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
  export_files.FORMATS[config.format].check()
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
  run: Mapping[str, Any],
  folder: pathlib.Path,
  progress: Progress,
) -> dict[str, Any]:
  """Writes every file of an export; returns the content of export.json."""
  draw = _draw(config, run)
  order = _order(config, store, draw) if 'train' in config.splits else None
  evaluated = {
    split: exported_evaluation.sizes(store, split)
    for split in config.splits
    if split != 'train'
  }
  leakage_lines = _leakage(store, run)
  progress.stage(f'Writing {config.format} of {store.path}')
  (folder / 'data').mkdir()
  with progress.counter() as count:
    tally = worker_pool.Tally(count)
    examples = {}
    if order is not None:
      examples['train'] = _write_train(config, store, order, folder, tally)
    for split, sizes in evaluated.items():
      tally.expect('export', split, sum(sizes.values()))
      examples[split] = _write_evaluation(config, store, split, folder, tally)
  lossless = tokenizer_coverage.is_lossless(store.tokenizer())
  card = dataset_card.Card(
    manifest=store.manifest,
    format=config.format,
    chat=config.chat,
    examples=examples,
    order=_which(config, draw),
    texts=_texts(store, lossless=lossless),
    leakage=leakage_lines,
    commands=_commands(config, store, draw),
    version=__version__,
  )
  settings = {
    'mixture': store.manifest['mixture'],
    'store': store.digest,
    'format': config.format,
    'chat': config.chat,
    'shard_size': config.shard_size,
    **(draw or {'epochs': config.epochs or 1}),
  }
  content = {**settings, 'examples': examples}
  fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
  found = export_files.FORMATS[config.format]
  found.finish(folder, store.manifest['mixture'], fingerprint.hexdigest())
  atomic_file.write_text(folder / 'README.md', dataset_card.render(card))
  files = sorted(path for path in folder.rglob('*') if path.is_file())
  summary = {
    'flan_jax': __version__,
    **settings,
    'lossless': lossless,
    'leakage': leakage_lines,
    'examples': examples,
    'files': {path.relative_to(folder).as_posix(): _digest(path) for path in files},
  }
  atomic_file.write_json(folder / SUMMARY, summary, ensure_ascii=False)
  return summary


def _digest(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _draw(config: ExportConfig, run: Mapping[str, Any]) -> dict[str, Any]:
  """Settings of the draw of a run; empty for all examples."""
  if config.sampled is None:
    return {}
  length = config.sequence_length or run.get('sequence_length', SEQUENCE_LENGTH)
  seed = run.get('seed', 0) if config.seed is None else config.seed
  return {
    'sampled': config.sampled,
    'seed': seed,
    'sequence_length': length,
    'unpacked': config.unpacked or not run.get('pack', True),
  }


def _order(config: ExportConfig, store: Store, draw: Mapping[str, Any]) -> Order:
  if not draw:
    return exported.all_examples(store, epochs=config.epochs or 1)
  return exported.drawn_examples(
    store, draw['sampled'], seed=draw['seed'],
    sequence_length=draw['sequence_length'], pack=not draw['unpacked'],
  )  # fmt: skip


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


# The card.


def _which(config: ExportConfig, draw: Mapping[str, Any]) -> str:
  """One sentence on which training examples an export has, and their order."""
  if 'train' not in config.splits:
    return 'No training examples.'
  if not draw:
    epochs = config.epochs or 1
    more = f', in {epochs} epochs with other templates' if epochs > 1 else ''
    return (
      f'Training examples: all of them up to the cap of each dataset{more}, dataset by '
      'dataset: shuffle them, and draw by `rate`.'
    )
  kind = 'one example' if draw['unpacked'] else 'packed examples'
  return (
    f'Training examples: the first {draw["sampled"]:,} that a run draws by the rates, '
    f'in its order: seed {draw["seed"]}, sequences of {draw["sequence_length"]:,} '
    f'tokens with {kind}.'
  )


def _texts(store: Store, *, lossless: bool) -> str:
  """One sentence on how exact the texts of the training examples are."""
  name = store.manifest['tokenizer']['name']
  losses = tokenizer_coverage.total(
    entry['losses'] for entry in store.manifest['datasets'].values()
  )
  unknown = sum(losses['unknown'].values())
  if lossless and not unknown and not losses['changed']:
    return f'Texts: as rendered; tokenizer `{name}` gives every text back.'
  return (
    f'Texts: decoded from tokens of `{name}`, which does not give every text back: '
    f'{unknown:,} tokens are unknown, and {losses["changed"]:,} of '
    f'{losses["checked"]:,} checked examples changed; blanks and compatibility forms '
    'of letters may differ in all.'
  )


def _leakage(store: Store, run: Mapping[str, Any]) -> list[str]:
  """Lines of the leakage report of the training examples."""
  manifest = store.manifest
  held_out = run.get('held_out') or tuple(manifest['held_out'])
  if not held_out:
    return ['Leakage: not checked, since no cluster is held out.']
  try:
    mixture = registry.mixture(manifest['mixture'])
    report = leakage.check(
      mixture,
      held_out,
      allow_overlap=run.get('allow_overlap'),
      datasets=[name for name in mixture.datasets if name in store.datasets],
    )
  except InputError as error:
    return [f'Leakage: not checked ({error}).']
  claims = [f'Leakage: `{name}`: {claim}.' for name, claim in report.seen.items()]
  return [*claims, *(f'{warning}.' for warning in report.warnings)]


def _commands(config: ExportConfig, store: Store, draw: Mapping[str, Any]) -> list[str]:
  """Commands that make the same export: of the store, if one is kept, and of this."""
  manifest = store.manifest
  request = manifest['request']
  own = [f'--module {name}' for name in modules.named()]
  size = str(request['tokenizer']).removeprefix(f'{materialize.TRAIN}:')
  trained = size != request['tokenizer']
  tokenizer = materialize.TRAIN if trained else manifest['tokenizer']['name']
  made = {
    '--mixture': config.mixture or manifest['mixture'],
    '--tokenizer': tokenizer,
    '--vocab-size': size if trained else None,
    '--template-seed': manifest['seed'],
    '--missing': 'skip' if manifest['missing'] else None,
  }
  flags = {
    '--format': config.format,
    '--splits': ','.join(config.splits),
    '--epochs': request['epochs'] if config.store is None else config.epochs,
    **{f'--{name.replace("_", "-")}': value for name, value in draw.items()},
    '--chat': config.chat,
    '--shard-size': config.shard_size,
  }
  if config.store is None:
    columns = {}
    if file_task.is_file(str(config.mixture)):
      columns = {'--inputs': config.inputs, '--targets': config.targets}
    return [_command('flan export', {**made, **columns, **flags}, own)]
  asked = {
    '--epochs': request['epochs'],
    '--steps': request['steps'],
    '--batch-tokens': request['batch_tokens'],
    '--sequence-length': request['sequence_length'],
    '--out': 'STORE',
  }
  return [
    _command('flan materialize', {**made, **asked}, own),
    _command('flan export', {'--store': 'STORE', **flags}, own),
  ]


def _command(verb: str, flags: Mapping[str, Any], own: Sequence[str]) -> str:
  """Formats a command; flags without a value are True, those left out None or False."""
  parts = [verb]
  for name, value in flags.items():
    if value is True:
      parts.append(name)
    elif value is not None and value is not False:
      parts.append(f'{name} {shlex.quote(str(value))}')
  if verb == 'flan export':
    parts.append('--out DIR')
  return ' '.join([*parts, *own])
