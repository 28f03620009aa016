"""Repair: finds the damaged files of a store and rebuilds them, byte for byte.

The manifest records the recipe and the digest of every file, so a file is rebuilt from
the raw data, compared, and only then put in its place.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flan_jax.catalog import registry
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data import raw_records, tokenizers
from flan_jax.data.preprocess import Limits
from flan_jax.data.sources import file_task
from flan_jax.data.store import parts
from flan_jax.data.store import shard as shard_lib
from flan_jax.data.store.parts import WORK, Job
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, worker_pool


class Damage(NamedTuple):
  """One damaged part of a store.

  Attributes:
    dataset: name of the dataset.
    part: `epoch 3` of a training dataset, or a split of an evaluation dataset.
    examples: number of examples of that part.
    lost: number of examples that cannot be read.
    files: names of its files in the store.
  """

  dataset: str
  part: str
  examples: int
  lost: int
  files: tuple[str, ...]


def damages(store: Store) -> list[Damage]:
  """Finds every part of `store` that differs from its manifest.

  Raises:
    InputError: if the tokenizer is damaged: it cannot be rebuilt.
  """
  file = store.manifest['tokenizer']['file']
  if file:
    path = store.path / file
    want = store.manifest['tokenizer']['digest']
    if not path.is_file() or store.tokenizer().digest != want:
      raise InputError(
        f'store {str(store.path)!r}: {file} is missing or damaged; must be the '
        f'tokenizer of digest {want[:12]}; copy it there'
      )
  out = []
  folder = store.path / 'train'
  for name, entry in store.manifest['datasets'].items():
    for epoch, want in enumerate(entry['shards']):
      if shard_lib.digest(folder, name, epoch) != want:
        files = shard_lib.records_file(name, epoch), shard_lib.index_file(name, epoch)
        lost = len(shard_lib.lost(folder, name, epoch, entry['examples']))
        out.append(
          Damage(name, f'epoch {epoch}', entry['examples'], lost,
                 tuple(f'train/{file}' for file in files))
        )  # fmt: skip
  for name, entry in store.manifest['evaluation'].items():
    for split, want in entry['digest'].items():
      file = f'evaluation/{name}.{split}.jsonl'
      path = store.path / file
      data = path.read_bytes() if path.is_file() else b''
      if hashlib.sha256(data).hexdigest() != want:
        examples = entry['examples'][split]
        lost = max(0, examples - data.count(b'\n'))
        out.append(Damage(name, split, examples, lost, (file,)))
  for name, entry in (store.validation or {}).items():
    files = _validation_files(name)
    path = store.path / files[0]
    data = path.read_bytes() if path.is_file() else b''
    whole = hashlib.sha256(data).hexdigest() == entry['digest']
    if not whole or shard_lib.digest(path.parent, name, 0) != entry['shard']:
      lost = max(0, entry['examples'] - data.count(b'\n'))
      out.append(Damage(name, _VALIDATION, entry['examples'], lost, files))
  return out


_VALIDATION = 'dev of training'


def _validation_files(name: str) -> tuple[str, ...]:
  """Files of the dev examples of a training dataset."""
  shard = shard_lib.records_file(name, 0), shard_lib.index_file(name, 0)
  return tuple(f'validation/{file}' for file in (f'{name}.dev.jsonl', *shard))


def repair(
  path: str | os.PathLike,
  *,
  data_dir: str | None = None,
  progress: Callable[[str, str, int, int], None] | None = None,
) -> list[Damage]:
  """Rebuilds every damaged part of the store at `path`.

  Args:
    path: directory of the store.
    data_dir: TFDS data directory.
    progress: see `materialize`.

  Returns:
    The repaired parts.

  Raises:
    InputError: if it is not a store, or if a rebuilt part differs because raw data,
      declarations or code have changed; the store is then unchanged.
  """
  store = Store.open(path, check_files=False)
  found = damages(store)
  if not found:
    return found
  manifest = store.manifest
  names = list(dict.fromkeys(damage.dataset for damage in found))
  file_task.restore(manifest)
  datasets = {n: registry.get(n) for n in names}
  file = manifest['tokenizer']['file']
  limits = manifest['limits']
  with atomic_file.Draft(store.path, folder=True) as draft:
    scratch = draft.path
    for name in ('train', 'evaluation', WORK):
      (scratch / name).mkdir()
    if file:
      store.tokenizer().save(scratch / file)
    job = Job(
      folder=str(scratch),
      style=PromptStyle(**manifest['style']),
      styles={n: PromptStyle(**s) for n, s in manifest.get('styles', {}).items()},
      seed=manifest['seed'],
      shuffle_targets=manifest.get('shuffle_targets', False),
      limits=Limits(limits['inputs'], limits['targets'], limits.get('text')),
      sequence_length=manifest['request']['sequence_length'],
      data_dir=data_dir,
      sizes={
        n: dict(raw_records.sizes(d, data_dir=data_dir)) for n, d in datasets.items()
      },
      stamps=dict.fromkeys(names, ''),
      tokenizer=file or tokenizers.BYTES,
      tokenizer_digest=manifest['tokenizer']['digest'],
      chat_template=store.chat_template or '',
    )
    _rebuild(job, found, manifest, worker_pool.Tally(progress or (lambda *_: None)))
    for damage in found:
      for name in damage.files:
        atomic_file.move(scratch / name, store.path / name)
  return found


def _rebuild(
  job: Job, found: list[Damage], manifest: Mapping[str, Any], tally: worker_pool.Tally
) -> None:
  """Rebuilds the damaged parts in the job's folder and compares their digests."""
  for damage in found:
    name = damage.dataset
    if damage.part.startswith('epoch'):
      epoch = int(damage.part.split()[1])
      want = manifest['datasets'][name]['shards'][epoch]
      parts.read(job, name, tally)
      parts.render(job, name, epoch, 'render', tally)
      got = parts.render_metadata(job, name, epoch)['digest']
    elif damage.part == _VALIDATION:
      want = manifest['validation'][name]['shard']
      parts.read(job, name, tally)
      parts.validate(job, name, tally)
      parts.render_dev(job, name, tally)
      got = parts.finished(job, *parts.dev_part(job, name))['digest']
    else:
      want = manifest['evaluation'][name]['digest'][damage.part]
      parts.evaluate(job, name, tally)
      metadata = parts.finished(job, f'evaluate.{name}', job.stamps[name])
      got = metadata['digest'].get(damage.part)
    if got != want:
      raise InputError(
        f'{name!r}, {damage.part}: rebuilt with digest {str(got)[:12]}, the store had '
        f'{want[:12]}: raw data or templates have changed since; materialize the whole '
        'mixture into a new directory'
      )
