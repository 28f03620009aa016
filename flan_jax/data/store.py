"""Store: a mixture, rendered and tokenised once, on disk.

  STORE/manifest.json                       what is in it, and its digests
  STORE/tokenizer.model or tokenizer.json   none where the tokenizer is bytes
  STORE/train/DATASET.array_record          one record per (epoch, row)
  STORE/train/DATASET.index.npy             int32 [epochs * rows, 2], tokens of each
  STORE/evaluation/DATASET.SPLIT.jsonl      one evaluation row a line, as fields
  STORE/plans/DIGEST/                       plans over it, as they are asked for

Entry `e * rows + i` of a dataset is row i in epoch e. Nothing here needs TensorFlow.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgpack
import numpy as np
from array_record.python import array_record_module

from flan_jax.catalogue import Row
from flan_jax.data import rows as rows_lib
from flan_jax.data import tokenizer as tokenizer_lib
from flan_jax.data.plan import Plan
from flan_jax.data.rows import Batch, Example
from flan_jax.errors import InputError, did_you_mean
from flan_jax.fields import Answer

VERSION = 1
MANIFEST = 'manifest.json'

_WRITER = 'group_size:1'
"""One record a group: any of them is read without its neighbours."""
_READER = 'readahead_buffer_size:0,max_parallelism:0'


class Record(NamedTuple):
  """One rendered example.

  Attributes:
    example: its token ids.
    template: index of the template that put it into words.
    row_id: names the row of the raw data.
    epoch: which epoch it was rendered for.
    options: what a classification chooses from; empty for free text.
    exemplars: row ids of what is shown before it; empty for zero-shot.
  """

  example: Example
  template: int
  row_id: str
  epoch: int
  options: tuple[str, ...]
  exemplars: tuple[str, ...] = ()


def pack_record(record: Record) -> bytes:
  """A record as it stands in the shard: msgpack, token ids as little-endian int32."""
  inputs, targets = (np.asarray(ids, '<i4').tobytes() for ids in record.example)
  fields = (inputs, targets, record.template, record.row_id, record.epoch)
  shown = (record.exemplars,) if record.exemplars else ()
  return msgpack.packb((*fields, record.options, *shown))


def unpack_record(data: bytes) -> Record:
  inputs, targets, *fields = msgpack.unpackb(data)
  template, row_id, epoch, options, *shown = fields
  example = Example(np.frombuffer(inputs, '<i4'), np.frombuffer(targets, '<i4'))
  return Record(example, template, row_id, epoch, tuple(options), tuple(*shown))


class ShardWriter:
  """Writes one dataset's shard and index; deterministic to the byte.

  Attributes:
    index: (input tokens, target tokens) of each record so far.
  """

  def __init__(self, folder: pathlib.Path, dataset: str):
    self._path = folder / f'{dataset}.array_record'
    self._index_path = folder / f'{dataset}.index.npy'
    self._writer = array_record_module.ArrayRecordWriter(str(self._path), _WRITER)
    self._digest = hashlib.sha256()
    self.index: list[tuple[int, int]] = []

  def write(self, record: Record) -> None:
    self.write_packed(pack_record(record), map(len, record.example))

  def write_packed(self, data: bytes, sizes: Iterable[int]) -> None:
    self._writer.write(data)
    self._digest.update(data)
    self.index.append(tuple(sizes))

  def close(self) -> str:
    """Finishes both files; returns the digest (hex) of what they hold."""
    self._writer.close()
    np.save(self._index_path, np.array(self.index, np.int32).reshape(-1, 2))
    return self._digest.hexdigest()

  def abandon(self) -> None:
    """Lets go of the file after a failure."""
    if self._writer.is_open():
      self._writer.close()


def evaluation_line(row: Row) -> str:
  """An evaluation row as a line of JSON: fields, not prompts."""
  fields = {
    'row_id': row.row_id,
    'values': row.values,
    'options': row.answer.options,
    'gold': row.answer.gold,
    'references': row.answer.references,
  }
  return json.dumps(fields, ensure_ascii=False) + '\n'


class Store:
  """A finished store, open for reading. Safe to read from several threads.

  Attributes:
    path: its directory.
    manifest: what the manifest says.
    digest: of its whole content.
    datasets: names of the datasets that train (those with a rate).
    clusters: dataset -> cluster.
    bos_id, eos_id: of its tokenizer.
  """

  def __init__(self, path: pathlib.Path, manifest: Mapping[str, Any]):
    self.path = path
    self.manifest = manifest
    self.digest: str = manifest['digest']
    trained = {n: d for n, d in manifest['datasets'].items() if d['rate']}
    self.datasets = tuple(trained)
    self.clusters = {
      name: found['cluster']
      for name, found in (manifest['datasets'] | manifest['evaluation']).items()
    }
    self.bos_id: int | None = manifest['tokenizer']['bos_id']
    self.eos_id: int = manifest['tokenizer']['eos_id']
    self._readers: dict[str, array_record_module.ArrayRecordReader] = {}

  @classmethod
  def open(cls, path: str | os.PathLike) -> 'Store':
    """Opens a store.

    Raises:
      InputError: if `path` is not a store, or a file of it is missing or truncated.
    """
    path = pathlib.Path(path)
    manifest = path / MANIFEST
    if not manifest.is_file():
      what = 'no manifest.json in it' if path.is_dir() else 'no such directory'
      raise InputError(
        f'store {str(path)!r}: {what}; `flan materialize --out {path}` makes one'
      )
    try:
      found = json.loads(manifest.read_text(encoding='utf-8'))
      version = found['version']
    except (ValueError, KeyError, TypeError):
      raise InputError(f'store {str(path)!r}: manifest.json is truncated') from None
    if version != VERSION:
      raise InputError(
        f'store {str(path)!r}: format {version}; this version reads {VERSION}: '
        'materialize it again'
      )
    for name, size in found['files'].items():
      file = path / name
      got = file.stat().st_size if file.is_file() else 'no'
      if got != size:
        raise InputError(
          f'store {str(path)!r}: {name} has {got} bytes, the manifest says {size}; '
          'truncated: materialize it again'
        )
    return cls(path, found)

  def _named(self, dataset: str) -> Mapping[str, Any]:
    datasets = self.manifest['datasets']
    if dataset not in datasets:
      raise InputError(
        f'dataset {dataset!r}: not in the store; it holds {", ".join(datasets)}'
        + did_you_mean(dataset, datasets)
      )
    return datasets[dataset]

  def rows(self, dataset: str) -> int:
    """Rows that train, per epoch."""
    return self._named(dataset)['rows']

  @property
  def rates(self) -> dict[str, int]:
    """Dataset that trains -> mixing rate."""
    return {name: self.manifest['datasets'][name]['rate'] for name in self.datasets}

  @property
  def rendered(self) -> dict[str, int]:
    """Dataset that trains -> epochs rendered."""
    return {name: self.manifest['datasets'][name]['epochs'] for name in self.datasets}

  def lengths(self, dataset: str) -> np.ndarray:
    """Positions of every entry in a row, int32 [epochs * rows], epoch-major."""
    self._named(dataset)
    index = np.load(self.path / 'train' / f'{dataset}.index.npy')
    return rows_lib.length(index[:, 0], index[:, 1], self.bos_id)

  def records(self, dataset: str, entries: Sequence[int]) -> list[Record]:
    """The records of `entries`, in their order; one read for all of them.

    Raises:
      InputError: if an entry does not exist, or the shard is corrupt.
    """
    found = self._named(dataset)
    count = found['rows'] * found['epochs']
    for entry in entries:
      if not 0 <= entry < count:
        raise InputError(f'entry {entry} of {dataset!r}: must be 0 to {count - 1}')
    try:
      if dataset not in self._readers:
        path = self.path / 'train' / f'{dataset}.array_record'
        self._readers[dataset] = array_record_module.ArrayRecordReader(
          str(path), _READER
        )
      read = self._readers[dataset].read([int(entry) for entry in entries])
      return [unpack_record(data) for data in read]
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
      raise InputError(
        f'store {str(self.path)!r}: train/{dataset}.array_record is corrupt at entries '
        f'{list(entries)} ({str(error).splitlines()[0]}); materialize it again'
      ) from None

  def record(self, dataset: str, entry: int) -> Record:
    """One example with its template, row id, epoch and options."""
    return self.records(dataset, [entry])[0]

  def example(self, dataset: str, entry: int) -> Example:
    """Token ids of one example."""
    return self.record(dataset, entry).example

  def evaluation_rows(self, dataset: str, split: str) -> list[Row]:
    """Evaluation rows of a split (`dev`, `test`), as `Dataset.read` gave them.

    Raises:
      InputError: if the store holds none for that dataset and split.
    """
    held = self.manifest['evaluation']
    if split not in held.get(dataset, {'rows': {}})['rows']:
      names = [f'{name}.{s}' for name, found in held.items() for s in found['rows']]
      raise InputError(
        f'evaluation rows {dataset}.{split}: not in the store; it holds '
        f'{", ".join(names) or "none"}' + did_you_mean(f'{dataset}.{split}', names)
      )
    out = []
    path = self.path / 'evaluation' / f'{dataset}.{split}.jsonl'
    with path.open(encoding='utf-8') as file:
      for line in file:
        row = json.loads(line)
        sequences = (tuple(row[key]) for key in ('options', 'gold', 'references'))
        answer = Answer(row['values']['answer'], *sequences)
        out.append(Row(row['row_id'], row['values'], answer))
    return out

  def tokenizer(self) -> tokenizer_lib.Tokenizer:
    """The tokenizer that the store was written with."""
    file = self.manifest['tokenizer']['file']
    found = tokenizer_lib.load(self.path / file if file else tokenizer_lib.BYTES)
    found.name = self.manifest['tokenizer']['name']
    return found

  def plan(self, *, seed: int, rows: int, row_length: int, pack: bool = True) -> Plan:
    """The plan of a run over this store: opened if it was made before, else made.

    It is kept in STORE/plans; a store that cannot be written to gives the same plan
    without keeping it.
    """
    names = {'seed': seed, 'rows': rows, 'row_length': row_length, 'pack': pack}
    folder = self.path / 'plans' / Plan.key(self.digest, self.rates, **names)
    if (folder / 'plan.json').is_file():
      return Plan.open(folder)
    lengths = {name: self.lengths(name) for name in self.datasets}
    made = Plan.build(lengths, self.rates, self.rendered, digest=self.digest, **names)
    try:
      made.save(folder)
    except OSError:
      return made
    return Plan.open(folder)

  def row(self, plan: Plan, k: int) -> Batch:
    """Row `k` of a run, a Batch of arrays [L]."""
    return self.assembled(plan, range(k, k + 1))[0]

  def assembled(self, plan: Plan, ks: Iterable[int]) -> list[Batch]:
    """Rows `ks` of a run, each a Batch of arrays [L]; one read per dataset."""
    planned = [plan.row(k) for k in ks]
    wanted: dict[str, list[int]] = {}
    for row in planned:
      for dataset, entry in row:
        wanted.setdefault(dataset, []).append(entry)
    found = {
      dataset: iter(self.records(dataset, entries))
      for dataset, entries in wanted.items()
    }
    return [
      rows_lib.assemble(
        [next(found[dataset]).example for dataset, _ in row],
        row_length=plan.row_length,
        bos_id=self.bos_id,
        eos_id=self.eos_id,
      )
      for row in planned
    ]


def describe(store: Store, plan: Plan, k: int) -> dict[str, Any]:
  """What stands in row `k` of a run: one JSON object of `flan rows`.

  Returns:
    {"row", "length" (positions used), "segments": [{"dataset", "cluster", "template",
    "row_id", "start", "length"}]}; starts and lengths are positions. A few-shot
    segment has "exemplars", the row ids of what it shows.
  """
  segments = []
  start = 0
  for dataset, entry in plan.row(k):
    record = store.record(dataset, entry)
    n_inputs, n_targets = map(len, record.example)
    size = rows_lib.length(n_inputs, n_targets, store.bos_id)
    segments.append(
      {
        'dataset': dataset,
        'cluster': store.clusters[dataset],
        'template': record.template,
        'row_id': record.row_id,
        'start': start,
        'length': size,
        **({'exemplars': record.exemplars} if record.exemplars else {}),
      }
    )
    start += size
  return {'row': k, 'length': start, 'segments': segments}
