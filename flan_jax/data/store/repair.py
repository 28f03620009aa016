"""Repair: finds the damaged files of a store and rebuilds them, byte for byte.

The manifest records the recipe and the digest of every file, so a file is rebuilt from
the raw data, compared, and only then put in its place.
"""

import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from flan_jax.catalog import registry
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data import plan_files, raw_records, tokenizers
from flan_jax.data.preprocess import Limits
from flan_jax.data.sources import file_task
from flan_jax.data.store import parts, store_files
from flan_jax.data.store import shard as shard_lib
from flan_jax.data.store.parts import WORK, Job
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, checksums, lock, worker_pool


class Damage(NamedTuple):
  """One damaged part of a store.

  Attributes:
    dataset: name of the dataset; '' of a plan.
    part: `epoch 3` of a training dataset, a split of an evaluation dataset, or a plan.
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
  """Finds every part of `store` that differs from its manifest or its checksums.

  Raises:
    InputError: if the tokenizer or the chat template is damaged: it cannot be rebuilt.
  """
  parts = [*_shards(store), *_evaluated(store), *_validated(store)]
  known = {name for damage, _ in parts for name in damage.files}
  for name in store.manifest['files']:
    if name not in known and not store.files.is_whole(name):
      raise store.files.error(name, f'{name} is missing or damaged')
  store.tokenizer()
  out = [
    damage
    for damage, whole in parts
    if not (whole and all(map(store.files.is_whole, damage.files)))
  ]
  return out + _plans(store)


_Part = tuple[Damage, bool]
"""A part of a store as if it were damaged, and whether its content has its digest."""


def _shards(store: Store) -> Iterator[_Part]:
  folder = store.path / 'train'
  for name, entry in store.manifest['datasets'].items():
    for epoch, want in enumerate(entry['shards']):
      whole = shard_lib.digest(folder, name, epoch) == want
      lost = 0
      if not whole:
        lost = len(shard_lib.lost(folder, name, epoch, entry['examples']))
      files = tuple(f'train/{file}' for file in shard_lib.files(name, epoch))
      yield Damage(name, f'epoch {epoch}', entry['examples'], lost, files), whole


def _evaluated(store: Store) -> Iterator[_Part]:
  for name, entry in store.manifest['evaluation'].items():
    for split, want in entry['digest'].items():
      file, examples = f'evaluation/{name}.{split}.jsonl', entry['examples'][split]
      lost, whole = _fields(store, file, examples, want)
      yield Damage(name, split, examples, lost, (file,)), whole


def _validated(store: Store) -> Iterator[_Part]:
  for name, entry in (store.validation or {}).items():
    files = _validation_files(name)
    lost, whole = _fields(store, files[0], entry['examples'], entry['digest'])
    got = shard_lib.digest(store.path / parts.VALIDATION, name, 0)
    damage = Damage(name, _VALIDATION, entry['examples'], lost, files)
    yield damage, whole and got == entry['shard']


def _fields(store: Store, file: str, examples: int, want: str) -> tuple[int, bool]:
  """(examples that a file of fields has lost, whether it has its digest)."""
  path = store.path / file
  data = path.read_bytes() if path.is_file() else b''
  lost = max(0, examples - data.count(b'\n'))
  return lost, hashlib.sha256(data).hexdigest() == want


def _plans(store: Store) -> list[Damage]:
  """The plans that cannot be used; a plan without checksums is built again anyway."""
  out = []
  folder = store.path / 'plans'
  for path in sorted(folder.iterdir()) if folder.is_dir() else ():
    if not atomic_file.is_temporary(path) and not plan_files.is_whole(path):
      out.append(Damage('', _PLAN, 0, 0, (f'plans/{path.name}',)))
  return out


_VALIDATION = 'dev of training'
_PLAN = 'plan'


def _validation_files(name: str) -> tuple[str, ...]:
  """Files of the dev examples of a training dataset."""
  return tuple(
    f'validation/{file}' for file in (f'{name}.dev.jsonl', *shard_lib.files(name, 0))
  )


def repair(
  path: str | os.PathLike,
  *,
  data_dir: str | None = None,
  progress: Callable[[str, str, int, int], None] | None = None,
) -> list[Damage]:
  """Rebuilds every damaged part of the store at `path`, and its checksums.

  A damaged plan is removed: the next run makes it again.

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
  with lock.held('store', path, beside=True):
    return _repair(pathlib.Path(path), data_dir, progress)


def _repair(
  path: pathlib.Path,
  data_dir: str | None,
  progress: Callable[[str, str, int, int], None] | None,
) -> list[Damage]:
  """Rebuilds the damaged parts of a store, whose lock is held."""
  store_files.drop_damaged_list(path)
  store = Store.open(path, check_files=False)
  found = damages(store)
  for damage in found:
    if damage.part == _PLAN:
      shutil.rmtree(store.path / damage.files[0])
  if rebuilt := [damage for damage in found if damage.part != _PLAN]:
    _rebuild_parts(store, rebuilt, data_dir=data_dir, progress=progress)
  if checksums.of(store.path) is None:
    store_files.record(store.path, list(store.manifest['files']))
  return found


def _rebuild_parts(
  store: Store,
  found: list[Damage],
  *,
  data_dir: str | None,
  progress: Callable[[str, str, int, int], None] | None,
) -> None:
  """Rebuilds parts beside the store, compares them, and puts them in their place."""
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
        _check_rebuilt(store, name, scratch)
    for damage in found:
      for name in damage.files:
        atomic_file.move(scratch / name, store.path / name)


def _check_rebuilt(store: Store, name: str, scratch: pathlib.Path) -> None:
  """Checks that a rebuilt file has the bytes of the one that was lost.

  Raises:
    InputError: if not, as another version of array_record may write the same records.
  """
  if not store.files.is_whole(name, scratch):
    raise InputError(
      f'store {str(store.path)!r}: {name} is rebuilt with other bytes than it had: '
      'another version of a library wrote it; materialize the whole mixture into a new '
      'directory'
    )


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
