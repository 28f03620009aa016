"""Prepares raw datasets with TFDS, from their sources or from a folder (`flan fetch`).

A folder holds JSON Lines as `<builder>/<config>/<split>.jsonl` (config `default` for a
builder without configs), one record a line in the builder's own shape. It becomes a
prepared TFDS dataset of the same name, config and version, readable with TFDS alone.
Every record is checked against the builder's features before anything is written.
"""

import contextlib
import errno
import functools
import io
import itertools
import json
import logging
import os
import pathlib
import re
import shutil
import socket
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging as absl_logging
from tensorflow_datasets.core.download import downloader

from flan_jax.catalog import registry
from flan_jax.catalog import splits as splits_lib
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Record
from flan_jax.data.fetched import Fetched, place
from flan_jax.data.sources.files import Json
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import lock, network, worker_pool
from flan_jax.runtime.progress import Progress

CAUSES = {
  'version': 'the installed TFDS lacks it: install a tensorflow-datasets that has '
  'that version, or pass a copy with --from DIR',
  'manual': 'download it by hand, then rerun',
  'checksum': 'the file is not the one that TFDS expects: rerun in case the download '
  'was truncated; if the error stays, the source has changed: pass a copy with '
  '--from DIR',
  'dead link': 'the source is gone: pass a copy with --from DIR',
  'network': 'no answer: rerun when the network is up; finished downloads are kept',
  'disk': 'free some space, then rerun; finished downloads are kept',
  'not in the folder': 'add it there, or download it without --from',
  'failed': 'pass a copy with --from DIR if you have one',
}
"""Cause of a missing dataset -> remedy."""


_DOWNLOADING = 'downloading'

_CONNECTS = 2
"""Retries of a connection that is refused or not answered."""


def _missing(names: tuple[str, ...], tfds_name: str, cause: str, why: str) -> Fetched:
  state = 'absent' if cause == 'not in the folder' else 'failed'
  note = f'{why}; {CAUSES[cause]}'
  return Fetched(names, tfds_name, 'missing', state, {}, cause, note)


def fetch(
  datasets: Sequence[Dataset],
  *,
  data_dir: str | None = None,
  folder: str | None = None,
  workers: int = 1,
  progress: Progress,
) -> list[Fetched]:
  """Prepares the TFDS datasets behind `datasets`.

  TFDS does not fetch again what it has downloaded or prepared before.

  Args:
    datasets: declarations; a TFDS dataset that several share is prepared once.
    data_dir: TFDS data directory; None for TFDS's default.
    folder: folder of JSON Lines, read in place of the datasets' own sources.
    workers: number of datasets fetched at a time, one process each.
    progress: receives one line per dataset.

  Returns:
    One entry per TFDS dataset; a failed download does not stop the others.

  Raises:
    InputError: if a record does not fit (names file, line and field). Datasets prepared
      before it stay; nothing half-written does.
  """
  if folder is not None and not pathlib.Path(folder).is_dir():
    raise InputError(f'--from {folder!r}: no such folder')
  groups: dict[str, list[Dataset]] = {}
  for dataset in datasets:
    if dataset.tfds:
      groups.setdefault(dataset.tfds, []).append(dataset)
  done = itertools.count(1)

  downloading: dict[str, None] = {}

  def report(state: str, name: str, _: int) -> None:
    if state == _DOWNLOADING:
      downloading[name] = None
      progress.line(f'{name}: {state}')
    else:
      downloading.pop(name, None)
      progress.line(f'{next(done)}/{len(groups)} {name}: {state}')

  with tempfile.TemporaryDirectory(prefix='flan-fetch-') as results:
    files = [pathlib.Path(results, f'{number}.json') for number in range(len(groups))]
    calls = [
      functools.partial(
        _fetch_to, str(file), name, [d.name for d in members], data_dir,
        folder,
      )
      for file, (name, members) in zip(files, groups.items(), strict=True)
    ]  # fmt: skip
    with network.waiting(lambda: ', '.join(list(downloading))):
      worker_pool.run(calls, workers=workers, report=report)
    out = [Fetched(**json.loads(file.read_text(encoding='utf-8'))) for file in files]
  return [one._replace(datasets=tuple(one.datasets)) for one in out]


def _fetch_to(
  file: str,
  name: str,
  members: list[str],
  data_dir: str | None,
  folder: str | None,
  report: worker_pool.Report,
) -> None:
  """Prepares one TFDS dataset and writes the result to `file`."""
  datasets = [registry.get(short) for short in members]
  # TFDS logs every file that it opens, urllib3 every retry.
  absl_logging.set_verbosity(absl_logging.ERROR)
  logging.getLogger('urllib3').setLevel(logging.ERROR)
  begin = functools.partial(report, _DOWNLOADING, name, 0)
  found = _fetch_one(name, datasets, data_dir, folder, begin)
  pathlib.Path(file).write_text(json.dumps(found._asdict()), encoding='utf-8')
  report(found.cause or found.state, name, 1)


def _fetch_one(name, members, data_dir, folder, begin=lambda: None) -> Fetched:
  names = tuple(dataset.name for dataset in members)
  try:
    builder = tfds.builder(name, data_dir=data_dir)
  except (AssertionError, ValueError, tfds.core.DatasetNotFoundError) as error:
    return _missing(names, name, 'version', _first_line(error))
  state = 'ready'
  if folder is not None and builder.is_prepared():
    _check_prepared(builder, split_files(name, pathlib.Path(folder)))
  lock.sweep(builder.data_path)
  if not builder.is_prepared():
    state = 'prepared'
    files = None
    if folder is not None:
      files = split_files(name, pathlib.Path(folder))
      if not files:
        where = pathlib.Path(folder) / place(name)
        why = f'no {where}/<split>.jsonl'
        return _missing(names, name, 'not in the folder', why)
      check_names(name, members, files)
    with lock.held(name, builder.data_path, beside=True):
      _clear_interrupted(builder)
      if files is None:
        try:
          begin()
          with _quiet(), _impatient():
            builder.download_and_prepare()
        except Exception as error:  # a builder's own code may raise anything
          return _missing(names, name, *_why(builder, error))
      else:
        prepare(builder, files)
        builder = tfds.builder(name, data_dir=data_dir)
  examples = {key: split.num_examples for key, split in builder.info.splits.items()}
  short = '; '.join(clamped(members, examples))
  standing = 'partial' if short else 'ready'
  return Fetched(names, name, standing, state, examples, '', short)


def _check_prepared(builder: tfds.core.DatasetBuilder, files: Collection[str]) -> None:
  """Refuses a prepared dataset that lacks a split which the folder has.

  Raises:
    InputError: names the folder to delete.
  """
  lacking = sorted(set(files) - set(builder.info.splits or files))
  if lacking:
    raise InputError(
      f'{builder.info.full_name}: was prepared before, from other files, without '
      f'{", ".join(lacking)}; delete {str(builder.data_path)!r}, then rerun'
    )


def clamped(members: Iterable[Dataset], examples: dict[str, int]) -> Iterator[str]:
  """Describes each declared split that the data is too small for."""
  for dataset in members:
    for split, part in dataset.resolve_splits(examples).items():
      declared, real = (
        dataset.num_examples(split),
        dataset.num_examples(split, examples),
      )
      if real < declared:
        yield f'{dataset.name} {split}: {real:,} of {declared:,} examples ({part})'


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Silences TFDS, which prints to the standard output of the verb."""
  tfds.disable_progress_bar()
  with contextlib.redirect_stdout(io.StringIO()):
    yield


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
  """Ends downloads from a server that does not answer; TFDS would wait forever."""
  limit = network.limit_s()
  adapter: Any = type(downloader.requests.Session().get_adapter('https://'))
  send, usual = adapter.send, socket.getdefaulttimeout()

  def limited(self, request, *args, timeout=None, **kwargs):
    if timeout is None:
      timeout = (limit / (1 + _CONNECTS), limit)
      # The limit is that of all tries together; TFDS tries ten times.
      self.max_retries = self.max_retries.new(connect=_CONNECTS, read=0)
    return send(self, request, *args, timeout=timeout, **kwargs)

  adapter.send = limited
  socket.setdefaulttimeout(limit)  # of FTP
  try:
    yield
  finally:
    adapter.send = send
    socket.setdefaulttimeout(usual)


def _first_line(error: BaseException) -> str:
  return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.:;')


def _why(builder: tfds.core.DatasetBuilder, error: BaseException) -> tuple[str, str]:
  """Returns (one of CAUSES, reason) for a failed preparation."""
  text = str(error)
  kinds = {kind.__name__ for kind in type(error).__mro__}
  manual = getattr(builder, 'MANUAL_DOWNLOAD_INSTRUCTIONS', None)
  if manual and kinds & {'AssertionError', 'FileNotFoundError', 'NotFoundError'}:
    return 'manual', 'manual download: ' + ' '.join(str(manual).split())
  if 'NonMatchingChecksumError' in kinds:
    return 'checksum', 'checksum mismatch: ' + ' '.join(text.split())[:300]
  code = re.search(r'HTTP code: (\d+)|HTTP Error (\d+)', text)
  if code:
    number = int(code[1] or code[2])
    # 408, 429 and 5xx are temporary; with other codes the file cannot be had.
    passing = number >= 500 or number in (408, 429)
    return 'network' if passing else 'dead link', _first_line(error)
  if kinds & {'ConnectionError', 'Timeout', 'URLError', 'TimeoutError', 'SSLError'}:
    return 'network', _first_line(error)
  if getattr(error, 'errno', None) == errno.ENOSPC or 'Not enough disk space' in text:
    return 'disk', _first_line(error)
  if manual:
    return 'manual', 'manual download: ' + ' '.join(str(manual).split())
  return 'failed', f'{type(error).__name__}: {_first_line(error)}'


def _clear_interrupted(builder: tfds.core.DatasetBuilder) -> None:
  """Removes what a killed preparation of this dataset left behind."""
  final = pathlib.Path(builder.data_path)
  for left in final.parent.glob(f'incomplete.*_{final.name}'):
    shutil.rmtree(left)


def split_files(name: str, folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """TFDS split -> its JSON Lines file under `folder`."""
  return {f.stem: f for f in sorted((folder / place(name)).glob('*.jsonl'))}


def check_names(name: str, members: Iterable[Dataset], files: Collection[str]) -> None:
  """Refuses a file that no declaration reads, where one that it reads is absent.

  Args:
    name: the TFDS dataset.
    members: declarations that read it.
    files: names of the splits that have a file.

  Raises:
    InputError: names the nearest split.
  """
  needed = {
    splits_lib.parse(text).split for one in members for text in one.slices.values()
  }
  absent = sorted(needed - set(files))
  if absent and (unread := sorted(set(files) - needed)):
    raise InputError(
      f'{place(name)}/{unread[0]}.jsonl: no dataset reads a split {unread[0]!r} of '
      f'{name}, and {", ".join(absent)} is absent; must be one of '
      f'{", ".join(sorted(needed))}{did_you_mean(unread[0], absent)}'
    )


def _lines(path: pathlib.Path) -> Iterator[tuple[int, Record]]:
  """Yields (line number, record); skips blank lines."""
  return Json(str(path), folder=os.getcwd()).read(str(path))


def _keys(spec: Any, value: Any, path: str = '') -> Iterator[str]:
  """Yields a message for each missing or unknown field of `value`."""
  if isinstance(spec, tfds.features.Sequence):
    spec = spec.feature
  if not isinstance(spec, tfds.features.FeaturesDict):
    yield from _wrong_values(spec, value, path.rstrip('/'))
    return
  if isinstance(value, list):
    for item in value:
      yield from _keys(spec, item, path)
    return
  if not isinstance(value, dict):
    yield f'field {path or "record"!r} is {type(value).__name__}; must be an object'
    return
  for key in spec:
    if key not in value:
      yield f'field {path + key!r} is missing'
    else:
      yield from _keys(spec[key], value[key], f'{path}{key}/')
  for key in value:
    if key not in spec:
      yield f'field {path + key!r} is not in the builder; it has {", ".join(spec)}'


def _wrong_values(spec: Any, value: Any, path: str) -> Iterator[str]:
  """Yields a message for each value that TFDS would round or convert."""
  if isinstance(value, list):
    for item in value:
      yield from _wrong_values(spec, item, path)
    return
  if isinstance(spec, tfds.features.ClassLabel):
    names = spec.names or []
    if type(value) is not int and value not in names:
      near = did_you_mean(str(value), names)
      yield (
        f'field {path!r} is {value!r:.40}; must be a whole number below '
        f'{spec.num_classes}, or one of {", ".join(names)}{near}'
      )
  elif isinstance(spec, tfds.features.Tensor):
    dtype: Any = spec.np_dtype
    kinds = _KINDS.get(np.dtype(dtype).kind)
    if kinds is not None and type(value) not in kinds[1]:
      yield f'field {path!r} is {value!r:.40}; must be {kinds[0]}'


_KINDS = {
  'i': ('a whole number', (int,)),
  'u': ('a whole number', (int,)),
  'b': ('true or false', (bool,)),
  'f': ('a number', (int, float)),
}
"""Kind of a numpy dtype -> (its name, types of its values in JSON)."""


def check(features: Any, record: Record, where: str) -> None:
  """Checks one record against the builder's features.

  Raises:
    InputError: if the record does not fit; names file, line and field.
  """
  for complaint in _keys(features, record):
    raise InputError(f'{where}: {complaint}')
  try:
    features.serialize_example(features.encode_example(record))
  except Exception as error:
    message = ' '.join(str(error).split())[:300]
    raise InputError(f'{where}: {message}') from None


def prepare(builder: tfds.core.DatasetBuilder, files: dict[str, pathlib.Path]) -> None:
  """Writes a prepared TFDS dataset from JSON Lines, after checking every record."""
  features = builder.info.features
  assert features is not None  # a builder declares them
  for path in files.values():
    count = 0
    for number, record in _lines(path):
      check(features, record, f'{path}:{number}')
      count += 1
    if not count:
      raise InputError(f'{path}: no records; must have at least 1')
  config = builder.builder_config.name if builder.builder_config else None
  with _quiet():
    tfds.dataset_builders.store_as_tfds_dataset(
      name=builder.name,
      config=config,
      version=builder.version,
      features=features,
      split_datasets={
        split: ((str(number), record) for number, record in _lines(path))
        for split, path in files.items()
      },
      data_dir=builder.data_dir_root,
      description=f'Prepared from JSON Lines by flan_jax, as {builder.name} has them.',
    )
