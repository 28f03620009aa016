"""Claims MODEL_DIR: it is empty, or holds the same run on the same data."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import weights
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config import training
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.recipe import Recipe
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, modules, renamed_keys
from flan_jax.runtime.renamed_keys import upgraded
from flan_jax.train import checkpoint as checkpoint_lib
from flan_jax.train.run_dir import RunDir

_MODULES = 'modules'
"""Entry of run.json about the user's modules, which is no setting."""


def check(folder: RunDir, run: training.TrainConfig) -> bool:
  """Checks that MODEL_DIR is free, or holds this run.

  If an earlier start wrote its settings and nothing else, others may replace them.

  Args:
    folder: MODEL_DIR.
    run: settings of the run.

  Returns:
    Whether an earlier start of the same run left more than its settings.

  Raises:
    InputError: if MODEL_DIR belongs to another configuration (names what differs), or
      cannot be made.
  """
  values = _values(run)
  resumes = folder.settings.is_file() and folder.begun()
  if resumes:
    before, now = _saved(folder, run), _scaled(values, run)
    different = [
      f'{name} was {before.get(name)!r}, is {now.get(name)!r}'
      for name in dict.fromkeys([*before, *now])
      if before.get(name) != now.get(name)
      and name not in (*training.CHANGES_NO_STEP, _MODULES)
    ]
    if different:
      raise InputError(
        f'MODEL_DIR {str(folder.path)!r}: holds a run of another config: '
        f'{"; ".join(different)}; give another MODEL_DIR, or the same settings',
        field='Run.model_dir',
      )
  try:
    folder.path.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise _not_writable(folder, error) from None
  return resumes


def digest(run: training.TrainConfig, *, store: str, initial: Lineage) -> str:
  """Returns a digest of all that the steps of a run depend on, but SEED.

  Two runs with one digest differ in their seed alone, wherever their files are.

  Args:
    run: settings of the run.
    store: digest of the store.
    initial: lineage of the initial model.
  """
  elsewhere = ('seed', 'store', 'initial_checkpoint', *training.CHANGES_NO_STEP)
  kept = {n: value for n, value in _values(run).items() if n not in elsewhere}
  if not run.shuffle_targets:
    del kept['shuffle_targets']  # older versions had no such setting: one digest
  weights_of = [each.weights for each in initial.trainings]
  text = json.dumps([kept, store, weights_of], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextlib.contextmanager
def leaving_nothing(folder: RunDir) -> Iterator[None]:
  """Context of work on bad input: after an error, an empty MODEL_DIR is removed."""
  try:
    yield
  except InputError:
    with contextlib.suppress(OSError):  # it holds something
      folder.path.rmdir()
    raise


def write(folder: RunDir, run: training.TrainConfig, *, text: str) -> None:
  """Writes the settings of a run to its MODEL_DIR.

  Args:
    folder: MODEL_DIR, which `check` has made.
    run: settings of the run.
    text: resolved settings with origins, written as config.gin.

  Raises:
    InputError: if MODEL_DIR cannot be written to.
  """
  try:
    own = modules.provenance()
    made_with = {_MODULES: own} if own else {}
    atomic_file.write_json(folder.settings, _values(run) | made_with)
    atomic_file.write_text(folder.path / 'config.gin', text)
  except OSError as error:
    raise _not_writable(folder, error) from None


def _not_writable(folder: RunDir, error: OSError) -> InputError:
  return InputError(
    f'MODEL_DIR {str(folder.path)!r}: cannot be written to ({error.strerror})',
    field='Run.model_dir',
  )


def expect_modules(folder: RunDir) -> None:
  """Notes the modules that an earlier start of the run had, for messages."""
  try:
    found = weights.read_object(folder.settings).get(_MODULES, ())
    names = [entry['module'] for entry in found]
  except (InputError, OSError, KeyError, TypeError):
    return
  modules.expect(names, of=f'the run in {str(folder.path)!r}')


def _saved(folder: RunDir, run: training.TrainConfig) -> dict[str, Any]:
  """Reads the settings of the earlier start, as today's version would write them.

  Raises:
    InputError: if run.json does not hold the settings of a run.
  """
  try:
    return _scaled(_upgraded(weights.read_object(folder.settings)), run)
  except (InputError, KeyError, TypeError, AttributeError):
    raise InputError(
      f'{str(folder.settings)!r}: is not the settings of a run; restore it, or give '
      'another MODEL_DIR',
      field='Run.model_dir',
    ) from None


def _values(run: training.TrainConfig) -> dict[str, Any]:
  values = dataclasses.asdict(run)
  del values['model_dir']
  return json.loads(json.dumps(values))


def _scaled(values: dict[str, Any], run: training.TrainConfig) -> dict[str, Any]:
  """Resolves multiply_by_parameter_scale=None, which older versions wrote as True."""
  optimizer = dict(values['optimizer'])
  if _is_recipe(optimizer):
    return values
  if optimizer['multiply_by_parameter_scale'] is None:
    optimizer['multiply_by_parameter_scale'] = (
      optimizer_config.OptimizerConfig().scales(adapters=bool(run.lora.rank))
    )
  return {**values, 'optimizer': optimizer}


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
  """Upgrades settings of an older version: new settings get their defaults.

  The default of a new setting changes nothing, so a run resumes with a new version. The
  former `data_seed` is now the seed of the store and of the evaluation; if the order of
  examples differs, the checkpoint's plan does too.
  """
  values = upgraded(values, renamed_keys.RUN)
  if 'data_seed' in values:
    seed = values.pop('data_seed')
    values = {'template_seed': seed, 'eval_seed': seed} | values
  return _filled(values, training.TrainConfig)


def _filled(values: dict[str, Any], kind: type) -> dict[str, Any]:
  """Adds the defaults of settings that are new, also of settings within settings."""
  out = _defaults(kind) | values
  for field in dataclasses.fields(kind):
    within = DecoderConfig if field.name == 'model' else type(field.default)
    value = out.get(field.name)
    if not dataclasses.is_dataclass(within) or not isinstance(value, dict):
      continue
    if not _is_recipe(value):
      out[field.name] = _filled(value, within)
  return out


def _is_recipe(values: dict[str, Any]) -> bool:
  return set(values) == {field.name for field in dataclasses.fields(Recipe)}


def _defaults(kind: type) -> dict[str, Any]:
  fields = dataclasses.fields(kind)
  given = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
  plain = {
    name: dataclasses.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type)
    else value
    for name, value in given.items()
  }
  return json.loads(json.dumps(plain))


def check_steps(config: training.TrainConfig) -> None:
  """Checks that the run does not end before its newest checkpoint.

  Raises:
    InputError: if it does.
  """
  done = checkpoint_lib.newest_step(config.model_dir)
  if done is not None and config.train_steps < done:
    raise InputError(
      f'TRAIN_STEPS: got {config.train_steps:,}; MODEL_DIR {config.model_dir!r} has a '
      f'checkpoint of step {done:,}; must be {done:,} or more, or another MODEL_DIR',
      field='Run.train_steps',
    )


def check_same_data(saved: dict[str, Any], now: dict[str, Any]) -> None:
  """Checks that a checkpoint was trained from the data and the model of this run.

  Args:
    saved: metadata of the checkpoint.
    now: metadata of the run.

  Raises:
    InputError: if it was not.
  """
  before, after = (x.get('lora', {}).get('base_digest') for x in (saved, now))
  if before != after:
    raise InputError(
      'INITIAL_CHECKPOINT_PATH: the adapters of the checkpoint belong to weights of '
      f'digest {before}, the run has {after}; give that model, or another MODEL_DIR',
      field='Run.initial_checkpoint',
    )
  trainings = (x.get('lineage', now['lineage']) for x in (saved, now))
  before, after = ([training['digest'] for training in each] for each in trainings)
  if before != after:
    raise InputError(
      'INITIAL_CHECKPOINT_PATH: is not the initial model of this run (weights of '
      f'digest {before[-1:]}, now {after[-1:]}); give that model, or another MODEL_DIR',
      field='Run.initial_checkpoint',
    )
  for name in ('store', 'plan'):
    if saved[name] != now[name]:
      raise InputError(
        f'MODEL_DIR: the checkpoint was trained from {name} {saved[name]}, the run has '
        f'{now[name]}; restore that {name} or give another MODEL_DIR',
        field='Run.model_dir',
      )
