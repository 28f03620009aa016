"""Converts model folders and runs to t5x's Orbax checkpoints, and back.

A t5x checkpoint is one tree: `target` (the parameters), `state/step` and
`state/param_states` (Adafactor's `m`, `v`, `v_row`, `v_col`, as in our Adafactor).
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog import names
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import model_dir as model_dir_lib
from flan_jax.checkpoints import weights
from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.interop.t5x import recipe
from flan_jax.model import params as params_lib
from flan_jax.train import adafactor
from gin import config_parser

_PREFIX = 'checkpoint_'
_MODULE = 'decoder'
"""Name of the decoder inside `network.Network`."""


def train_state(source: str) -> dict[str, Any]:
  """Returns the t5x train state of a flan_jax model or run, as numpy arrays.

  Args:
    source: a model folder (or `microworld`), which gives step 0 and a fresh optimizer;
      or the MODEL_DIR of a finished run, which gives its newest checkpoint with
      Adafactor's state.

  Raises:
    InputError: if the model does not exist, or the run's optimizer is not Adafactor.
  """
  config = model_dir_lib.config(source)
  shapes, axes = params_lib.abstract_params(config)
  run = pathlib.Path(source) / 'checkpoints'
  if run.is_dir():
    step, params, moments = _read_run(run, shapes)
  else:
    step = 0
    params = model_dir_lib.load(source, config=config, shapes=shapes)
    optimizer = adafactor.adafactor(1.0, logical_axes=axes)
    moments = jax.device_get(optimizer.init(params)).moments
  return {
    'target': {_MODULE: params},
    'state': {
      'step': np.asarray(step, np.int32),
      'param_states': {_MODULE: _to_dicts(moments)},
    },
  }


def export_checkpoint(source: str, destination: str) -> pathlib.Path:
  """Writes DESTINATION/checkpoint_<step>, for `t5x.eval`, `t5x.infer` and others.

  Args:
    source: see `train_state`.
    destination: a folder; created if it does not exist.

  Returns:
    The path of the checkpoint.

  Raises:
    InputError: see `train_state`; also if the checkpoint exists already.
  """
  tree = train_state(source)
  step = int(tree['state']['step'])
  folder = pathlib.Path(destination).absolute()
  done = folder / f'{_PREFIX}{step}'
  if done.exists():
    raise InputError(f'{done}: exists; the destination must not have this checkpoint')
  options = ocp.CheckpointManagerOptions(
    step_prefix=_PREFIX.removesuffix('_'), enable_async_checkpointing=False
  )
  handlers = {'state': ocp.PyTreeCheckpointHandler(use_ocdbt=True)}
  with ocp.CheckpointManager(
    folder, options=options, item_handlers=handlers
  ) as manager:
    manager.save(step, args=ocp.args.Composite(state=ocp.args.PyTreeSave(tree)))
  return done


def import_checkpoint(
  source: str,
  destination: str,
  *,
  model: str | None = None,
  mixture: str | None = None,
) -> pathlib.Path:
  """Creates a model folder from a t5x checkpoint.

  Args:
    source: `.../checkpoint_<step>`, or a t5x MODEL_DIR, which gives its newest one.
    destination: the model folder; its parent is created if it does not exist.
    model: model folder with the same shape and tokenizer (`DECODER`). None reads both
      from the `config.gin` that t5x writes to MODEL_DIR: from DECODER, or, if DECODER
      is None, from `recipe.decoder.gin_files` and TOKENIZER.
    mixture: mixture that trained the model, for the leakage check of evaluations; None
      reads it from `config.gin`.

  Raises:
    InputError: if the checkpoint does not exist or is of another model (names the
      tensors that are missing, unexpected or of another shape), or if the destination
      exists.
  """
  checkpoint = _find(pathlib.Path(source).absolute())
  settings = _settings(checkpoint.parent)
  mixture = mixture or settings.get('MIXTURE_OR_TASK_NAME')
  model = model or settings.get('DECODER')
  gin_files = settings.get('recipe.decoder.gin_files', ())
  if model is None and not gin_files:
    raise InputError(
      f'{source}: no config.gin that names DECODER or the gin files of the shape; '
      'pass --model FOLDER, a model folder of the same shape'
    )
  folder = pathlib.Path(destination)
  if folder.exists():
    raise InputError(f'{folder}: exists; must be a folder that does not exist yet')
  if model is not None:
    config = model_dir_lib.config(model)
    tokenizer = model
  else:
    flags = settings.get('recipe.decoder.flags', ())
    config = recipe.decoder(None, tuple(gin_files), tuple(flags))
    tokenizer = settings.get('TOKENIZER')
  shapes, _ = params_lib.abstract_params(config)
  found = _metadata(checkpoint)
  weights.check(found.get(_MODULE, found), shapes, where=str(checkpoint))
  params = _read(checkpoint, {_MODULE: shapes})[_MODULE]
  provenance: dict[str, Any] = {
    'by': 't5x',
    'step': int(checkpoint.name.removeprefix(_PREFIX)),
    'lineage': _lineage(settings, mixture, model=folder.name).as_json(),
  }
  if mixture is not None:
    provenance['mixture'] = mixture
  model_dir_lib.save(
    folder,
    params,
    config=config,
    tokenizer=tokenizers.load(recipe.tokenizer_file(tokenizer)),
    provenance=provenance,
  )
  return folder


def _to_dicts(moments: Any) -> Any:
  """Converts every `Moments` of a tree to a dict, which t5x reads by name.

  A restored checkpoint has dicts already.
  """
  if isinstance(moments, adafactor.Moments):
    return moments._asdict()
  if isinstance(moments, Mapping):
    return {name: _to_dicts(part) for name, part in moments.items()}
  return moments


def _read_run(folder: pathlib.Path, shapes: Any) -> tuple[int, Any, Any]:
  """Returns (step, parameters, moments) of the newest checkpoint of a flan_jax run."""
  with ocp.CheckpointManager(folder.absolute(), item_names=('state', 'about')) as found:
    step = found.latest_step()
    if step is None:
      raise InputError(f'{folder}: no finished checkpoint')
  tree = _restore_numpy(folder.absolute() / str(step) / 'state')
  params = tree['params']
  leaves = traverse_util.flatten_dict(params, sep='/')
  if all(name.endswith(('_a', '_b')) for name in leaves):
    raise InputError(
      f'{folder}: holds LoRA adapters; export {folder.parent / "model"}, where they '
      'are merged'
    )
  weights.check(params, shapes, where=str(folder))
  moments = _moments(tree['optimizer'])
  if moments is None:
    raise InputError(
      f'{folder / str(step)}: its optimizer is not Adafactor; export MODEL_DIR/model, '
      'which has no optimizer state'
    )
  return step, params, jax.device_get(moments)


def _restore_numpy(path: pathlib.Path) -> Any:
  """Restores a checkpoint tree as numpy arrays, whatever devices it was saved on."""
  shapes = ocp.PyTreeCheckpointHandler().metadata(epath.Path(path)).tree
  restore_args = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes
  )
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    return checkpointer.restore(
      path, args=ocp.args.PyTreeRestore(restore_args=restore_args)
    )


def _moments(tree: Any) -> Any:
  """Finds Adafactor's moments inside optax's wrappers; None if there are no moments."""
  if isinstance(tree, Mapping):
    if set(tree) == set(adafactor.AdafactorState._fields):
      return tree['moments']
    tree = list(tree.values())
  if isinstance(tree, (list, tuple)):
    found = (_moments(item) for item in tree)
    return next((moments for moments in found if moments is not None), None)
  return None


def _find(path: pathlib.Path) -> pathlib.Path:
  """Returns `path` if it is a checkpoint, else the newest one in that MODEL_DIR."""
  if not path.name.startswith(_PREFIX):
    steps = [
      int(child.name.removeprefix(_PREFIX))
      for child in path.glob(f'{_PREFIX}*')
      if child.name.removeprefix(_PREFIX).isdigit()
    ]
    if not steps:
      raise InputError(f'{path}: has no checkpoint_<step> of t5x')
    path = path / f'{_PREFIX}{max(steps)}'
  if (path / 'checkpoint').is_file():
    raise InputError(
      f"{path}: in t5x's old format; must be an Orbax checkpoint: restore and save it "
      'once with t5x.train, which writes Orbax by default'
    )
  if not (path / 'state').is_dir():
    raise InputError(f'{path}: not a t5x checkpoint; must be a folder with state/')
  return path


class _ValueReader(config_parser.ParserDelegate):
  """Parses a gin file without calling anything: macro names, references as None."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    del scoped_configurable_name, evaluate

  def macro(self, macro_name):
    return _Macro(macro_name)


class _Macro(str):
  """The name of a macro that a value refers to."""


def _settings(model_dir: pathlib.Path) -> dict[str, Any]:
  """Macros and bindings of MODEL_DIR/config.gin by name; {} if the file is missing."""
  path = model_dir / 'config.gin'
  if not path.is_file():
    return {}
  found = {}
  text = path.read_text(encoding='utf-8')
  for statement in config_parser.ConfigParser(text, _ValueReader()):
    if isinstance(statement, config_parser.BindingStatement):
      name = '.'.join(filter(None, (statement.selector, statement.arg_name)))
      found[name] = statement.value
  for name, value in found.items():
    while isinstance(value, _Macro):
      value = found.get(value)
    found[name] = value
  return found


def _lineage(
  settings: Mapping[str, Any], mixture: str | None, *, model: str
) -> Lineage:
  """Lineage of the model, as far as t5x's config.gin states it."""
  start = settings.get('INITIAL_CHECKPOINT_PATH', '')
  if start is None:
    parent = lineage_lib.RANDOM
  elif start and (model_dir_lib.find(start) / 'config.json').is_file():
    parent = model_dir_lib.lineage(start)
  else:
    parent = Lineage((lineage_lib.unknown(f'what {model} started from'),))
  declared = None if mixture is None else names.trained(mixture)
  if declared is not None:
    return parent.then(lineage_lib.of_mixture(declared, model=model))
  note = '' if mixture is None else f'mixture {mixture} is not declared here'
  return parent.then(lineage_lib.unknown(model, note))


def _metadata(checkpoint: pathlib.Path) -> dict[str, Any]:
  """Shapes of the parameters, from metadata alone."""
  handler = ocp.PyTreeCheckpointHandler()
  tree = handler.metadata(epath.Path(checkpoint) / 'state').tree
  if 'target' not in tree:
    raise InputError(f'{checkpoint}: has no target; must be a t5x train state')
  return tree['target']


def _read(checkpoint: pathlib.Path, shapes: Any) -> Any:
  """Restores the parameters alone, as numpy; optimizer state is not read."""
  restore = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    tree = checkpointer.restore(
      checkpoint / 'state',
      args=ocp.args.PyTreeRestore(
        {'target': shapes}, restore_args={'target': restore}, partial_restore=True
      ),
    )
  return jax.tree.map(
    lambda value, shape: np.asarray(value, jnp.dtype(shape.dtype)),
    tree['target'],
    shapes,
  )
