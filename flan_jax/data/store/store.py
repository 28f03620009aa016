"""Store: a mixture, rendered and tokenized once, on disk.

  STORE/manifest.json                       its content and digests
  STORE/tokenizer.model or tokenizer.json   absent if the tokenizer is bytes
  STORE/chat_template.jinja                 of a store with conversations
  STORE/train/DATASET.EPOCH.array_record    a shard: one record per example
  STORE/train/DATASET.EPOCH.index.npy       int32 [n, 2 or 3], `counts` of tokens
  STORE/evaluation/DATASET.SPLIT.jsonl      one evaluation example a line, as fields
  STORE/validation/DATASET.dev.jsonl        dev examples of a training dataset
  STORE/validation/DATASET.00.*             the same, rendered: a shard
  STORE/plans/DIGEST/                       packing plans, made on request

Entry `e * n + i` of a dataset of n examples is example i in epoch e. Nothing here needs
TensorFlow.
"""

import json
import os
import pathlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.data import batch, chat_template, plan_files, tokenizers
from flan_jax.data.batch import Batch, TokenizedExample
from flan_jax.data.packing import PackingPlan
from flan_jax.data.store import shard as shard_lib
from flan_jax.data.store import store_files
from flan_jax.data.store.shard import ShardReader, StoredExample
from flan_jax.errors import InputError, did_you_mean, said
from flan_jax.runtime import checksums, renamed_keys
from flan_jax.runtime.renamed_keys import upgraded

VERSION = 4
"""Version of the format and of the rules by which examples are rendered and cut."""
CHAT_VERSION = 5
"""Version of a store with conversations; any other has VERSION."""
MANIFEST = store_files.MANIFEST

READERS = 128
"""Maximum number of open shards; a process may usually open 1,024 files."""


def evaluation_line(example: Example) -> str:
  """Formats an evaluation example as a line of JSON: fields, not prompts.

  The bytes of the lines are inside the digest of a store, so their keys never change.
  """
  fields = {
    'row_id': example.example_id,
    'values': example.values,
    'options': example.answer.options,
    'gold': example.answer.gold,
    'references': example.answer.references,
    'span': example.answer.span,
  }
  if example.tokens is not None:
    fields['tokens'] = [ids.tolist() for ids in example.tokens]
  return json.dumps(fields, ensure_ascii=False) + '\n'


_ENTRIES: Mapping[str, Mapping[str, Any]] = {
  'datasets': {'rate': int, 'cluster': str, 'examples': int, 'epochs': int},
  'evaluation': {'cluster': str, 'examples': dict},
}
"""Entry of a manifest -> what it says of each dataset."""

_VALUES: Mapping[str, Mapping[str, Any]] = {
  'tokenizer': {
    'bos_id': int | None, 'eos_id': int, 'file': str | None, 'name': str,
  },
  'digests': {'tokenizer': str, 'templates': str},
}  # fmt: skip


def _check_manifest(path: pathlib.Path, manifest: Mapping[str, Any]) -> None:
  """Checks that a manifest has the entries that every store needs.

  Raises:
    InputError: names the first that it lacks, or that is of another type.
  """
  wanted: list[tuple[str, Any, str, Any]] = [('', manifest, 'digest', str)]
  wanted += [('', manifest, name, dict) for name in (*_ENTRIES, *_VALUES, 'files')]
  for name, types in _ENTRIES.items():
    for dataset, entry in _items(manifest.get(name)):
      wanted += [(f'{name}/{dataset}/', entry, key, types[key]) for key in types]
  for name, types in _VALUES.items():
    wanted += [(f'{name}/', manifest.get(name), key, types[key]) for key in types]
  wanted += [('files/', manifest['files'], name, int) for name, _ in
             _items(manifest.get('files'))]  # fmt: skip
  for where, parent, key, kind in wanted:
    there = isinstance(parent, Mapping) and key in parent
    if not there or not isinstance(parent[key], kind):
      got = f'is {parent[key]!r:.40}' if there else 'is missing'
      raise InputError(
        f'store {str(path)!r}: manifest.json: {where + key!r} {got}; it is damaged, or '
        'was not written by `flan materialize`'
      )


def _items(value: Any) -> Iterable[tuple[str, Any]]:
  return value.items() if isinstance(value, Mapping) else ()


class Store:
  """A finished store, open for reading. Safe to read from several threads.

  Attributes:
    path: directory of the store.
    manifest: content of manifest.json.
    digest: digest of the whole content.
    datasets: names of the training datasets (those with a rate).
    clusters: dataset -> cluster.
    bos_id, eos_id: ids of the tokenizer.
    files: its files, checked when they are read.
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
    self.files = store_files.StoreFiles(path, manifest)
    self._readers: dict[tuple[str, int], ShardReader] = {}
    self._lock = threading.Lock()

  @classmethod
  def open(cls, path: str | os.PathLike, *, check_files: bool = True) -> 'Store':
    """Opens a store.

    Args:
      path: directory of the store.
      check_files: False to skip the check of file sizes, for a repair.

    Raises:
      InputError: if `path` is not a store, or a file of it is missing or truncated.
    """
    path = pathlib.Path(path)
    manifest = path / MANIFEST
    if not manifest.is_file():
      why = 'no manifest.json in it' if path.is_dir() else 'no such directory'
      raise InputError(
        f'store {str(path)!r}: {why}; `flan materialize --out {path}` makes one'
      )
    try:
      found = store_files.read_manifest(path)
      found = upgraded(found, renamed_keys.MANIFEST)
      version = found['version']
    except checksums.Damaged:
      raise
    except (InputError, ValueError, KeyError, TypeError, AttributeError) as error:
      raise InputError(
        f'store {str(path)!r}: manifest.json is truncated ({said(error):.200})'
      ) from None
    if version not in (VERSION, CHAT_VERSION):
      raise InputError(
        f'store {str(path)!r}: format {version}; this version reads {VERSION} and '
        f'{CHAT_VERSION}: '
        'materialize again, into a new directory or after deleting this one'
      )
    _check_manifest(path, found)
    store = cls(path, found)
    if check_files:
      for name in found['files']:
        store.files.check_size(name)
    return store

  def _named(self, dataset: str) -> Mapping[str, Any]:
    datasets = self.manifest['datasets']
    if dataset not in datasets:
      raise InputError(
        f'dataset {dataset!r}: not in the store; it holds {", ".join(datasets)}'
        + did_you_mean(dataset, datasets)
      )
    return datasets[dataset]

  def num_examples(self, dataset: str) -> int:
    """The number of training examples per epoch."""
    return self._named(dataset)['examples']

  @property
  def unchecked(self) -> str | None:
    """A line for a store without checksums; None if it has them."""
    if checksums.of(self.path) is not None:
      return None
    return (
      f'store {str(self.path)!r}: has no checksums (an older version wrote it); '
      f'`flan materialize --repair --out {self.path}` adds them'
    )

  @property
  def rates(self) -> dict[str, int]:
    """Training dataset -> mixing rate."""
    return {name: self.manifest['datasets'][name]['rate'] for name in self.datasets}

  @property
  def rendered(self) -> dict[str, int]:
    """Training dataset -> number of epochs rendered."""
    return {name: self.manifest['datasets'][name]['epochs'] for name in self.datasets}

  def lengths(self, dataset: str) -> np.ndarray:
    """Packed length of every entry in tokens, int32 [epochs * n], epoch-major."""
    self._named(dataset)
    epochs = range(self.manifest['datasets'][dataset]['epochs'])
    parts = [self.files.index(dataset, epoch) for epoch in epochs]
    index = np.concatenate(parts)
    tokens = self._named(dataset).get('tokens')  # a store without checksums has them
    got = index[:, :2].sum(0).tolist()
    if tokens is not None and got != [tokens['inputs'], tokens['targets']]:
      name = f'train/{dataset}.*.index.npy'
      raise self.files.error(name, f'{name} have other lengths than the manifest')
    return batch.lengths(index, self.bos_id)

  def examples(self, dataset: str, entries: Sequence[int]) -> list[StoredExample]:
    """The examples of `entries`, in their order; one read for all of them.

    Raises:
      InputError: if an entry does not exist, or the shard is corrupt.
    """
    found = self._named(dataset)
    count = found['examples'] * found['epochs']
    by_epoch: dict[int, list[int]] = {}
    for at, entry in enumerate(entries):
      if not 0 <= entry < count:
        raise InputError(f'entry {entry} of {dataset!r}: must be 0 to {count - 1}')
      by_epoch.setdefault(int(entry) // found['examples'], []).append(at)
    out: dict[int, StoredExample] = {}
    for epoch, places in by_epoch.items():
      wanted = [int(entries[at]) % found['examples'] for at in places]
      try:
        read = self._reader(dataset, epoch).examples(wanted)
      except shard_lib.DAMAGE as error:
        raise self._corrupt(dataset, epoch, wanted, error) from None
      out |= zip(places, read, strict=True)
    return [out[at] for at in range(len(entries))]

  def _reader(self, dataset: str, epoch: int) -> ShardReader:
    """Returns the open shard; closes the oldest one if too many are open."""
    with self._lock:
      if (dataset, epoch) not in self._readers:
        if len(self._readers) >= READERS:
          self._readers.pop(next(iter(self._readers)))
        reader = ShardReader(self.path / 'train', dataset, epoch)
        self._readers[dataset, epoch] = reader
      return self._readers[dataset, epoch]

  def _corrupt(
    self, dataset: str, epoch: int, wanted: Sequence[int], error: Exception
  ) -> InputError:
    examples = self.num_examples(dataset)
    lost = shard_lib.lost(self.path / 'train', dataset, epoch, examples)
    return InputError(
      f'store {str(self.path)!r}: train/{shard_lib.records_file(dataset, epoch)} is '
      f'corrupt at examples {shard_lib.spans(wanted)} ({str(error).splitlines()[0]}); '
      f'{len(lost):,} of its {examples:,} examples are lost ({shard_lib.spans(lost)}); '
      f'{self.files.cure}'
    )

  def example(self, dataset: str, entry: int) -> StoredExample:
    """One example with its tokens, template, example id, epoch and options."""
    return self.examples(dataset, [entry])[0]

  def evaluation_examples(self, dataset: str, split: str) -> list[Example]:
    """Evaluation examples of a split (`dev`, `test`), as `Dataset.read` gave them.

    Raises:
      InputError: if the store does not hold that dataset and split, or the file is
        damaged.
    """
    held = self.manifest['evaluation']
    if split not in held.get(dataset, {'examples': {}})['examples']:
      names = [f'{name}.{s}' for name, found in held.items() for s in found['examples']]
      if dataset in held:
        advice = did_you_mean(f'{dataset}.{split}', names)
      else:  # a similar name is another dataset, and no help
        advice = '; materialize it with that cluster held out'
      raise InputError(
        f'evaluation examples {dataset}.{split}: not in the store, which holds those '
        f'of {len(held):,} datasets{advice}'
      )
    name, want = f'evaluation/{dataset}.{split}.jsonl', held[dataset]['digest'][split]
    return parse_fields(self.files.read(name, digest=want))

  @property
  def validation(self) -> dict[str, Any] | None:
    """Training dataset -> manifest entry of its dev examples.

    None if the store was made by a version that kept none.
    """
    return self.manifest.get('validation')

  def validation_examples(self, dataset: str) -> list[Example]:
    """The dev examples of a training dataset, as `Dataset.read` gave them.

    Raises:
      InputError: if the file is damaged.
    """
    want = self.manifest['validation'][dataset]['digest']
    data = self.files.read(f'validation/{dataset}.dev.jsonl', digest=want)
    return parse_fields(data)

  def rendered_validation(self, dataset: str) -> list[StoredExample]:
    """The dev examples of a training dataset, each in its template of epoch 0.

    Raises:
      InputError: if the shard is corrupt.
    """
    try:
      reader = ShardReader(self.path / 'validation', dataset, 0)
      return reader.examples(range(len(reader)))
    except shard_lib.DAMAGE as error:
      raise InputError(
        f'store {str(self.path)!r}: validation/{shard_lib.records_file(dataset, 0)} is '
        f'corrupt ({str(error).splitlines()[0]}); {self.files.cure}'
      ) from None

  @property
  def chat_template(self) -> str | None:
    """The chat template of its conversations; None if it has none."""
    if not (self.path / chat_template.FILE).is_file():
      return None
    return self.files.read(chat_template.FILE).decode('utf-8')

  def tokenizer(self) -> tokenizers.Tokenizer:
    """The tokenizer that the store was written with.

    Raises:
      InputError: if it is damaged.
    """
    file = self.manifest['tokenizer']['file']
    if file:
      self.files.read(file)
    found = tokenizers.load(self.path / file if file else tokenizers.BYTES)
    got, want = found.digest, self.manifest['digests']['tokenizer']
    if got != want:
      raise self.files.error(
        file or '',
        f'{file or tokenizers.BYTES} has digest {got[:12]}, the manifest says '
        f'{want[:12]}',
      )
    found.name = self.manifest['tokenizer']['name']
    return found

  def require(self, digests: Mapping[str, str], *, of: str) -> None:
    """Checks that the store has the tokenizer and templates of a checkpoint.

    Args:
      digests: `tokenizer`, `templates` or both -> the expected digest.
      of: name of the owner of the digests, for the message.

    Raises:
      InputError: if a digest differs; names both.
    """
    for name, want in digests.items():
      got = self.manifest['digests'][name]
      if got != want:
        raise InputError(
          f'store {str(self.path)!r}: {name} of digest {got[:12]}, {of} has '
          f'{want[:12]}; they must be the same: materialize with its {name}'
        )

  def plan(
    self, *, seed: int, sequences: int, sequence_length: int, pack: bool = True
  ) -> PackingPlan:
    """Opens the packing plan of a run over this store, or builds it.

    The plan is saved in STORE/plans. A read-only store gives the same plan without
    saving it. A plan of an older version, which has no checksums, is built again,
    compared, and gets them.

    Raises:
      InputError: if the plan there is damaged.
    """
    names = {
      'seed': seed,
      'sequences': sequences,
      'sequence_length': sequence_length,
      'pack': pack,
    }
    folder = self.path / 'plans' / PackingPlan.key(self.digest, self.rates, **names)
    there = (folder / plan_files.ABOUT).is_file()
    if there and plan_files.is_checked(folder):
      return PackingPlan.open(folder)
    lengths = {name: self.lengths(name) for name in self.datasets}
    made = PackingPlan.build(
      lengths, self.rates, self.rendered, digest=self.digest, **names
    )
    try:
      if there:
        made.vouch_for(folder)
      else:
        made.save(folder)
    except OSError:
      return made
    return PackingPlan.open(folder)

  def sequence(self, plan: PackingPlan, k: int) -> Batch:
    """Sequence `k` of a run, a Batch of arrays [L]."""
    return self.sequences(plan, range(k, k + 1))[0]

  def sequences(self, plan: PackingPlan, ks: Iterable[int]) -> list[Batch]:
    """Sequences `ks` of a run, each a Batch of arrays [L]; one read per dataset."""
    planned = [plan.sequence(k) for k in ks]
    wanted: dict[str, list[int]] = {}
    for sequence in planned:
      for dataset, entry in sequence:
        wanted.setdefault(dataset, []).append(entry)
    found = {
      dataset: iter(self.examples(dataset, entries))
      for dataset, entries in wanted.items()
    }
    return [
      batch.assemble(
        [next(found[dataset]).tokens for dataset, _ in sequence],
        sequence_length=plan.sequence_length,
        bos_id=self.bos_id,
        eos_id=self.eos_id,
      )
      for sequence in planned
    ]


def parse_fields(data: bytes) -> list[Example]:
  """Parses the examples of a file of `evaluation_line`s."""
  out = []
  for line in data.splitlines():
    fields = json.loads(line)
    lists = (tuple(fields[key]) for key in ('options', 'gold', 'references', 'span'))
    answer = Answer(fields['values']['answer'], *lists)
    tokens = fields.get('tokens')
    if tokens is not None:
      tokens = TokenizedExample(*(np.array(ids, np.int32) for ids in tokens))
    out.append(Example(fields['row_id'], fields['values'], answer, tokens))
  return out


def describe(store: Store, plan: PackingPlan, k: int) -> dict[str, Any]:
  """Describes sequence `k` of a run: one JSON object of `flan rows --json`.

  Returns:
    {"sequence", "length", "segments": [{"dataset", "cluster", "template",
    "example_id", "start", "length"}]}; starts and lengths count tokens. A few-shot
    segment has "exemplars", the ids of the examples that it shows.
  """
  segments = []
  start = 0
  for dataset, entry in plan.sequence(k):
    example = store.example(dataset, entry)
    size = batch.packed_length(example.tokens, store.bos_id)
    segments.append(
      {
        'dataset': dataset,
        'cluster': store.clusters[dataset],
        'template': example.template,
        'example_id': example.example_id,
        'start': start,
        'length': size,
        **({'exemplars': example.exemplars} if example.exemplars else {}),
      }
    )
    start += size
  return {'sequence': k, 'length': start, 'segments': segments}
