"""Build: one dataset on its way into a store.

A dataset is read once, into a spool of its rows, so that every epoch is rendered
without reading the raw data again and memory does not grow with the data.
"""

import collections
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgpack
import numpy as np
from array_record.python import array_record_module

from flan_jax import catalogue, sources
from flan_jax.catalogue import Dataset, Row
from flan_jax.data import draw, rendering
from flan_jax.data.exemplars import Pool
from flan_jax.data.rendering import Limits, Renderer
from flan_jax.data.store import Record, ShardWriter
from flan_jax.data.tokenizer import Tokenizer
from flan_jax.errors import InputError
from flan_jax.fields import Answer, Unlabelled

Progress = Callable[[str, str, int, int], None]
"""progress(stage, dataset, rows done, rows in all).

Stages are read, render (what is known to be needed), extend (the epochs that a run of
`steps` needs beyond the first) and evaluate.
"""

_CHUNK = 1024


def read(
  dataset: Dataset,
  split: str,
  *,
  sizes: Mapping[str, int],
  data_dir: str | None,
  filters: collections.Counter,
) -> Iterator[Row]:
  """Rows of a canonical split; counts all, and the unlabelled ones, into `filters`.

  Raises:
    InputError: on a bad row; names the dataset and the row.
  """
  if not dataset.rows(split, sizes):
    return  # a split that is not there cannot be asked for
  for row_id, record in sources.records(dataset, split, data_dir=data_dir):
    filters['read'] += 1
    try:
      row = dataset.read(record, row_id)
    except Unlabelled:
      filters['unlabelled'] += 1
      continue
    except (ValueError, TypeError, AttributeError, LookupError) as error:
      raise InputError(f'dataset {dataset.name!r}, row {row_id!r}: {error}') from None
    yield row


def is_example(dataset: Dataset, row: Row, seed: int) -> bool:
  """Whether a training row has something to read and to write.

  What its first template leaves blank is no example, in a store as in a seqio Task.
  """
  first = draw.template(seed, row.row_id, 0, len(dataset.templates))
  return not rendering.is_blank(catalogue.render(dataset, first, row))


def clamped(dataset: Dataset, sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
  """Splits with fewer rows than declared (design decision 8)."""
  out = {}
  for split in dataset.slices:
    declared, real = dataset.rows(split), dataset.rows(split, sizes)
    if real < declared:
      out[split] = {'declared': declared, 'real': real}
  return out


class Build:
  """One dataset on its way into a store.

  Attributes:
    dataset: the declaration.
    templates: how many it has.
    epochs: how many are in the shard so far.
    filters: rows read, and rows dropped by reason.
    shots: entries by the number of exemplars that they show.
    truncated: entries cut, and entries whose template was drawn again.
    index: int32 [epochs * rows, 2], tokens of each entry.
    digest: of the shard's content.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    dataset: Dataset,
    sizes: Mapping[str, int],
    data_dir: str | None,
  ):
    self.dataset = dataset
    self.templates = len(dataset.templates)
    self.epochs = 0
    self.filters: collections.Counter[str] = collections.Counter()
    self.truncated: collections.Counter[str] = collections.Counter()
    self.shots: collections.Counter[int] = collections.Counter()
    self.index = np.zeros((0, 2), np.int32)
    self.digest = ''
    self._sizes = sizes
    self._data_dir = data_dir
    self._folder = folder
    self._spool = folder / 'spool' / f'{dataset.name}.msgpack'
    self._kept = 0
    self._render: Renderer | None = None

  def read(self, seed: int, report: Progress) -> None:
    """Reads the training rows into the spool."""
    name = self.dataset.name
    total = self.dataset.rows('train', self._sizes)
    rows = read(
      self.dataset, 'train', sizes=self._sizes, data_dir=self._data_dir,
      filters=self.filters,
    )  # fmt: skip
    with self._spool.open('wb') as file:
      for row in rows:
        if not is_example(self.dataset, row, seed):
          self.filters['empty'] += 1
          continue
        answer = row.answer
        parts = (answer.text, answer.options, answer.gold, answer.references)
        file.write(msgpack.packb((row.row_id, row.values, parts)))
        self._kept += 1
        if self._kept % _CHUNK == 0:
          report('read', name, self.filters['read'], total)
    report('read', name, self.filters['read'], total)

  def rows(self) -> Iterator[Row]:
    """The rows of the spool."""
    with self._spool.open('rb') as file:
      for row_id, values, (text, *more) in msgpack.Unpacker(file):
        yield Row(row_id, values, Answer(text, *map(tuple, more)))

  def start(
    self,
    tokenizer: Tokenizer,
    *,
    seed: int,
    limits: Limits,
    row_length: int | None,
    shots: int = 0,
  ) -> None:
    """Says how the rows are to be rendered, and after how many exemplars."""
    pool = None
    if shots and self._kept:
      pool = Pool(
        self.dataset,
        self.rows(),
        shots=shots,
        seed=seed,
        count=lambda texts: [len(ids) for ids in tokenizer.encode_batch(texts)],
      )
    self._render = Renderer(
      self.dataset,
      tokenizer=tokenizer,
      seed=seed,
      limits=limits,
      row_length=row_length,
      pool=pool,
    )

  def render(self, epochs: int, report: Progress) -> None:
    """Brings the shard to `epochs` epochs; those already in it are copied.

    `start` comes first.
    """
    if epochs <= self.epochs:
      return
    scratch = self._folder / 'spool' / 'shard'
    scratch.mkdir(exist_ok=True)
    writer = ShardWriter(scratch, self.dataset.name)
    try:
      self._copy(writer)
      stage = 'extend' if self.epochs else 'render'
      total = self._kept * (epochs - self.epochs)
      done = 0
      for epoch in range(self.epochs, epochs):
        for rows in self._epoch(writer, epoch):
          done += rows
          report(stage, self.dataset.name, done, total)
      self.digest = writer.close()
    finally:
      writer.abandon()
    for path in scratch.iterdir():
      path.replace(self._folder / 'train' / path.name)
    self.index = np.array(writer.index, np.int32).reshape(-1, 2)
    self.epochs = epochs

  def _copy(self, writer: ShardWriter) -> None:
    if not len(self.index):
      return
    path = self._folder / 'train' / f'{self.dataset.name}.array_record'
    reader = array_record_module.ArrayRecordReader(str(path))
    for start in range(0, len(self.index), _CHUNK):
      sizes = self.index[start : start + _CHUNK].tolist()
      found = reader.read(start, start + len(sizes))
      for data, size in zip(found, sizes, strict=True):
        writer.write_packed(data, size)
    reader.close()

  def _epoch(self, writer: ShardWriter, epoch: int) -> Iterator[int]:
    """Writes one epoch; yields the number of rows of each chunk."""
    rows = self.rows()
    while batch := list(itertools.islice(rows, _CHUNK)):
      for row, found in zip(batch, self._render(batch, epoch), strict=True):
        if found is None:
          self.filters['too_long'] += epoch == 0
          continue
        self.truncated['inputs'] += found.cut_inputs
        self.truncated['targets'] += found.cut_targets
        self.truncated['redrawn'] += found.redrawn
        self.shots[len(found.exemplars)] += 1
        about = (found.template, row.row_id, epoch, row.answer.options)
        writer.write(Record(found.example, *about, found.exemplars))
      yield len(batch)

  @property
  def examples(self) -> int:
    """Rows that train, per epoch."""
    return len(self.index) // self.epochs

  def entry(self, needed: int, *, rate: int) -> dict[str, Any]:
    """What the manifest says of the dataset."""
    shots = {str(n): self.shots[n] for n in sorted(self.shots)}
    return {
      'cluster': self.dataset.cluster,
      'tfds': self.dataset.tfds,
      'rows_read': self.filters['read'],
      'rows': self.examples,
      'rate': rate,
      'epochs': self.epochs,
      'epochs_needed': needed,
      'wraps': needed > self.epochs,
      'filters': {
        key: self.filters[key] for key in ('unlabelled', 'empty', 'too_long')
      },
      'truncated': {
        key: self.truncated[key] for key in ('inputs', 'targets', 'redrawn')
      },
      **({'shots': shots} if any(self.shots) else {}),
      'clamped': clamped(self.dataset, self._sizes),
      'tokens': dict(
        zip(('inputs', 'targets'), self.index.sum(0).tolist(), strict=True)
      ),
      'digest': self.digest,
    }
