"""A step of a run as a model: MODEL_DIR@STEP, as `runs/x@200`.

The parameters of an Orbax checkpoint are written once, as a model folder in a cache:
every verb then reads a step as it reads any model.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from flax import traverse_util

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import model_dir, weights
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data import chat_template as chat_template_lib
from flan_jax.data import tokenizers
from flan_jax.data.store.store import Store
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.model import params as params_lib
from flan_jax.runtime import atomic_file, renamed_keys
from flan_jax.runtime.object_store import Bucket
from flan_jax.runtime.progress import Progress
from flan_jax.runtime.renamed_keys import upgraded
from flan_jax.train import lora, metadata_seal, tuning
from flan_jax.train.run_dir import RunDir

_FORM = re.compile(r'(.+)@([^@/]*)')
_STEP = re.compile('0|[1-9][0-9]*')
"""A step as it is written: without leading zeros, so that it has one name."""

_MAX_NAMED = 8
"""Maximum number of steps that a message names one by one."""


class RunStep(NamedTuple):
  """A step that a run has saved.

  Attributes:
    path: MODEL_DIR@STEP, as it was given.
    folder: MODEL_DIR.
    step: the step.
  """

  path: str
  folder: str
  step: int

  @property
  def name(self) -> str:
    """Name of the model, as `x@200`."""
    return f'{RunDir(self.folder).name}@{self.step}'

  @property
  def checkpoint(self) -> epath.Path:
    """Folder of the Orbax checkpoint."""
    root = epath.Path(self.folder)
    root = root if '://' in self.folder else root.resolve()
    return root / 'checkpoints' / str(self.step)


def find(path: str | os.PathLike) -> RunStep | None:
  """The step that `path` names; None for a path of any other form.

  A folder whose own name has the form is that folder.

  Raises:
    InputError: if the run has not saved the step; names the nearest ones.
  """
  path, folder = os.fspath(path), run_of(path)
  if folder is None:
    return None
  step = path.rstrip('/').removeprefix(f'{folder}@')
  RunDir(folder).pull()
  if not epath.Path(folder).is_dir():
    if not _STEP.fullmatch(step):
      return None
    raise InputError(
      f'checkpoint {path!r}: no such folder {folder!r}; must be MODEL_DIR@STEP of a run'
    )
  saved = steps(folder)
  if not saved:
    raise InputError(
      f'checkpoint {path!r}: {folder!r} has saved no step; must be MODEL_DIR@STEP of a '
      'run that has'
    )
  if not _STEP.fullmatch(step) or int(step) not in saved:
    got = f'step {step}' if step else 'no step after the @ of MODEL_DIR@STEP'
    raise InputError(
      f'checkpoint {path!r}: got {got}; {_rule(step, saved)}; to keep the N newest, '
      'train with --gin.Run.keep=N'
    )
  return RunStep(path, folder, int(step))


def run_of(path: str | os.PathLike) -> str | None:
  """MODEL_DIR of a path of the form MODEL_DIR@STEP; None for any other path."""
  match = _FORM.fullmatch(os.fspath(path).rstrip('/'))
  return None if match is None or epath.Path(path).exists() else match[1]


def expand(path: str) -> list[str]:
  """Every step that a run keeps, for MODEL_DIR@*; else the path alone.

  Raises:
    InputError: if the run has saved none.
  """
  folder, star, _ = path.rpartition('@*')
  if not star or not path.endswith(star) or epath.Path(path).exists():
    return [path]
  RunDir(folder).pull()
  found = steps(folder)
  if not found:
    raise InputError(
      f'checkpoint {path!r}: {folder!r} has saved no step; must be the MODEL_DIR of a '
      'run that has'
    )
  return [f'{folder}@{step}' for step in found]


def steps(folder: str) -> list[int]:
  """The steps of a run that can be loaded: its checkpoints, and its tuned model."""
  import orbax.checkpoint as ocp  # takes a while, which most models need not wait for

  place = epath.Path(folder) / 'checkpoints'
  found = set(ocp.utils.checkpoint_steps(place)) if place.exists() else set()
  last = _last_step(RunDir(folder))
  return sorted(found | (set() if last is None else {last}))


def _last_step(run: RunDir) -> int | None:
  """The step of MODEL_DIR/model; None if not found."""
  path = run.model / model_dir.PROVENANCE
  if not path.is_file() or not (run.model / 'config.json').is_file():
    return None
  return weights.read_object(path).get('step')


def _rule(step: str, saved: list[int]) -> str:
  """The rule for a step, with the nearest ones that are there."""
  kept = ', '.join(map(str, saved))
  if len(saved) > _MAX_NAMED:
    kept = f'{len(saved)} from {saved[0]} to {saved[-1]}'
  rule = f'must be one that the run keeps ({kept})'
  if not step.isdecimal():
    return rule
  below = [each for each in saved if each <= int(step)][-1:]
  near = below + [each for each in saved if each > int(step)][:1]
  verb = 'nearest are' if len(near) > 1 else 'nearest is'
  return f'{rule}; the {verb} {" and ".join(map(str, near))}'


def lineage(found: RunStep) -> Lineage:
  """The lineage of the model at a step."""
  if _is_last(found):
    return model_dir.lineage(RunDir(found.folder).model)
  return lineage_lib.of_json(_provenance(found)['lineage'], where=found.path)


def modules(found: RunStep) -> list[str]:
  """Names of the user's modules that the run was trained with."""
  return [entry['module'] for entry in _metadata(found).get('modules', ())]


def model_folder(
  path: str, *, progress: Progress, private: pathlib.Path | None = None
) -> str:
  """Returns a model folder for `path`: of a step, its copy; else `path` itself.

  Args:
    path: a step, or a model folder.
    progress: receiver of status lines.
    private: folder for a copy that the caller discards; None for the cache, whose
      copies every process shares. A copy that the cache has is used.

  Raises:
    InputError: if the run has not saved the step, or its parameters cannot be read.
  """
  found = find(path)
  if found is None:
    return path
  if _is_last(found):
    return str(RunDir(found.folder).model)
  folder = _copy(found)
  if private is not None and not (folder / 'config.json').is_file():
    folder = _private(found, private)
  if not (folder / 'config.json').is_file():
    progress.stage(f'Reading step {found.step:,} of {found.folder}')
    _write(found, folder, progress=progress)
  return str(folder)


def identity(found: RunStep) -> str:
  """Digest of the weights of a step, or of what the run recorded of them."""
  if _is_last(found):
    return str(model_dir.digest(str(RunDir(found.folder).model)))
  return _copy(found).parent.name


def discard(found: RunStep, private: pathlib.Path) -> None:
  """Removes the private copy of a step; one in the cache may be in use, and stays."""
  if not _is_last(found):
    shutil.rmtree(_private(found, private).parent, ignore_errors=True)
    with contextlib.suppress(OSError):  # absent, or holds other models
      private.rmdir()


def _is_last(found: RunStep) -> bool:
  return _last_step(RunDir(found.folder)) == found.step


def _copy(found: RunStep) -> pathlib.Path:
  """Path of the model folder of a step, named by the checkpoint's own bits."""
  cache = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  identity = json.dumps([str(found.checkpoint), _metadata(found)], sort_keys=True)
  key = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
  return pathlib.Path(cache, 'flan_jax', 'steps', key, found.name)


def _private(found: RunStep, folder: pathlib.Path) -> pathlib.Path:
  """Path of a copy that other processes do not use."""
  return folder.joinpath(*_copy(found).parts[-2:])


# Metadata.


def _metadata(found: RunStep) -> dict[str, Any]:
  """Metadata that the run saved with the step.

  Raises:
    InputError: if it cannot be read.
  """
  try:
    text = (found.checkpoint / 'about' / 'metadata').read_text()
    return upgraded(metadata_seal.unsealed(json.loads(text)), renamed_keys.TRAINING)
  except (OSError, ValueError, metadata_seal.Corrupt) as error:
    raise _unreadable(found, f'metadata: {error}') from None


def _provenance(found: RunStep) -> dict[str, Any]:
  """Content of training.json: the run's metadata, as of the step."""
  saved = _metadata(found)
  model = saved.pop('model', {})
  saved.pop('checksums', None)
  if 'lineage' in model:
    before, own = model['lineage'][:-1], model['lineage'][-1]
    trainings = [*before, {**own, 'model': found.name}]
  else:  # an older version, which counted no examples
    parent = lineage_lib.of_json(saved['lineage'], where=found.path)
    trainings = lineage_lib.of_record(saved, parent=parent, model=found.name).as_json()
  apart = ('config', 'beside')
  kept = {name: value for name, value in model.items() if name not in apart}
  return {**saved, **kept, 'step': found.step, 'lineage': trainings}


def config(found: RunStep) -> DecoderConfig:
  """The decoder config of the run."""
  saved = _metadata(found).get('model', {}).get('config')
  if saved is None:  # an older version
    return model_dir.config(found.folder)
  return DecoderConfig(**saved)


def tokenizer(found: RunStep) -> Tokenizer:
  """The tokenizer of the run: that of its model, or of its store.

  Raises:
    InputError: if both are gone.
  """
  run = RunDir(found.folder)
  for model in (run.model, _copy(found)):
    if (model / 'config.json').is_file():
      return tokenizers.load(model_dir.tokenizer_file(str(model)))
  store = weights.read_object(run.settings).get('store') or str(run.store)
  if run.bucket and store == str(run.store):
    Bucket('STORE', f'{found.folder}/store').pull()
  return Store.open(store).tokenizer()


def chat_template(found: RunStep) -> str | None:
  """The chat template that the model at a step keeps; None if it keeps none."""
  if _is_last(found):
    return model_dir.chat_template(RunDir(found.folder).model)
  return _metadata(found).get('model', {}).get('beside', {}).get(chat_template_lib.FILE)


# Weights.


def _write(found: RunStep, folder: pathlib.Path, *, progress: Progress) -> None:
  """Writes the model folder of a step, whole or not at all."""
  decoder, provenance = config(found), _provenance(found)
  params = _params(found, decoder, provenance, progress=progress)
  shapes, _ = params_lib.abstract_params(decoder)
  words = tokenizer(found)
  weights.check(params, shapes, where=found.path)
  try:
    with atomic_file.Draft(folder, folder=True) as draft:
      model_dir.write(
        draft.path,
        params,
        config=decoder,
        tokenizer=words,
        provenance=provenance,
        beside=_metadata(found).get('model', {}).get('beside', {}),
      )
      draft.keep()
  except OSError as error:
    if not (folder / 'config.json').is_file():  # written by another process meanwhile
      raise InputError(
        f'{folder}: the copy of {found.path!r} cannot be written ({error.strerror}); '
        'must be on a disk with room: set XDG_CACHE_HOME, or OUTPUT_DIR'
      ) from None


def _params(
  found: RunStep,
  config: DecoderConfig,
  provenance: Mapping[str, Any],
  *,
  progress: Progress,
) -> Any:
  """Parameters of the model at a step; adapters are merged into the run's base."""
  stored = _Arrays(found)
  params = traverse_util.unflatten_dict(stored.leaves, sep='/')
  strategy = tuning.of_metadata(provenance)
  if not strategy.freezes:
    return params
  base = _base(found, provenance, progress=progress)
  shapes, _ = params_lib.abstract_params(config)
  frozen = jax.device_put(model_dir.load(base, config=config, shapes=shapes))
  return strategy.merge(jax.tree.map(np.asarray, params), frozen)


def _base(found: RunStep, provenance: Mapping[str, Any], *, progress: Progress) -> str:
  """Model folder of the frozen weights beside which a run trained.

  Raises:
    InputError: if it is gone, or holds other weights now.
  """
  entry = next(
    value
    for value in provenance.values()
    if isinstance(value, Mapping) and 'base_digest' in value
  )
  given = provenance.get('initial_checkpoint') or entry['base']
  try:
    folder = model_folder(given, progress=progress)
    digest = lora.base_digest(folder)
  except InputError as error:
    raise InputError(f'checkpoint {found.path!r}: its base: {error}') from None
  if digest != entry['base_digest']:
    raise InputError(
      f'checkpoint {found.path!r}: its adapters belong to other weights than those of '
      f'{given!r} now; restore them'
    )
  return folder


class _Array:
  """A parameter of a checkpoint, read when it is asked for."""

  def __init__(
    self, shape: tuple[int, ...], dtype: Any, read: Callable[[], np.ndarray]
  ):
    self.shape, self.dtype, self._read = shape, np.dtype(dtype), read

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    found = self._read()
    return found if dtype is None else found.astype(dtype, copy=False)


class _Arrays:
  """The parameters of a checkpoint, one at a time and verified.

  This process reads by itself: Orbax waits for no other one.
  """

  def __init__(self, found: RunStep):
    import orbax.checkpoint as ocp

    index = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
      primary_host=index,
      active_processes={index},
      barrier_sync_key_prefix=f'step_of_process_{index}',
    )
    self._found = found
    self._folder = found.checkpoint / 'state'
    self._checkpointer = ocp.Checkpointer(
      ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
      multiprocessing_options=alone,
    )
    self._sums = _metadata(found).get('checksums', {})

  @property
  def leaves(self) -> dict[str, _Array]:
    """Path -> parameter."""
    try:
      saved = self._checkpointer.metadata(self._folder).item_metadata
      tree = saved.tree['params']  # pyright: ignore[reportOptionalMemberAccess]
    except Exception as error:
      raise _unreadable(self._found, f'description: {error}') from None
    flat: dict[str, Any] = traverse_util.flatten_dict(tree, sep='/')
    return {
      name: _Array(leaf.shape, leaf.dtype, functools.partial(self._read, name))
      for name, leaf in flat.items()
    }

  def _read(self, name: str) -> np.ndarray:
    """Reads a parameter.

    Raises:
      InputError: if it cannot be read, or holds other bits than were saved.
    """
    import orbax.checkpoint as ocp

    from flan_jax.train import checkpoint as checkpoint_lib

    path = ('params', *name.split('/'))
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    item, how = (traverse_util.unflatten_dict({path: x}) for x in (0, as_numpy))
    args = ocp.args.PyTreeRestore(item=item, restore_args=how, partial_restore=True)
    try:
      tree = self._checkpointer.restore(self._folder, args=args)
    except Exception as error:
      raise _unreadable(self._found, f'{name}: {error}') from None
    array = np.asarray(traverse_util.flatten_dict(tree)[path])
    expected = self._sums.get('/'.join(path))
    if expected is not None and checkpoint_lib.bit_sum(array) != expected:
      raise _unreadable(self._found, f'{name} has other bits than were saved')
    return array


def _unreadable(found: RunStep, why: str) -> InputError:
  why = ' '.join(why.split())[:160]
  return InputError(
    f'checkpoint {found.path!r}: cannot be read ({why}); must be a whole checkpoint: '
    'give another step'
  )
