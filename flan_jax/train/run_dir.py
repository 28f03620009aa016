"""MODEL_DIR: the files of a run, and whether a run may resume there."""

import dataclasses
import json
import pathlib
from typing import Any

from flan_jax.checkpoints import weights
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config import training
from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, renamed_keys
from flan_jax.runtime.object_store import Bucket
from flan_jax.runtime.renamed_keys import upgraded
from flan_jax.train import goodput

_MAY_CHANGE = (
  'train_steps',
  'eval_seed',
  'tfds_data_dir',
  'store',
  'log_period',
  'checkpoint_period',
  'keep',
  'bad_step',
  'loss_spike',
  'hang_s',
  'mesh',
  'evaluate',
)
"""Settings that do not change what a step computes: a run may resume with others."""


class RunDir:
  """Paths of MODEL_DIR.

  Attributes:
    path: MODEL_DIR itself, or its copy on this machine.
    name: name of the run.
    bucket: MODEL_DIR if it is gs://BUCKET/PATH, else None.
    store: the store, unless the run names another.
    model: the tuned model once the run is done: safetensors, config, tokenizer.
    report: the held-out evaluation.
    log: one JSON object per log period.
    goodput: time by purpose.
  """

  def __init__(self, model_dir: str):
    """Names the files; creates nothing.

    Raises:
      InputError: if MODEL_DIR is neither a folder nor gs://BUCKET/PATH.
    """
    self.bucket = Bucket('MODEL_DIR', model_dir) if '://' in model_dir else None
    self.path = self.bucket.local if self.bucket else pathlib.Path(model_dir)
    self.name = self.path.absolute().name
    self.store = self.path / 'store'
    self.model = self.path / 'model'
    self.report = self.path / 'report'
    self.log = self.path / 'log.jsonl'
    self.goodput = self.path / goodput.FILE
    self.tensorboard = self.path / 'tensorboard'
    self._settings = self.path / 'run.json'

  def pull(self) -> None:
    """Copies the files of earlier starts from the object store, if there is one."""
    if self.bucket:
      self.bucket.pull()

  def push(self) -> None:
    """Copies the files to the object store, if there is one."""
    if self.bucket:
      self.bucket.push()

  def claim(self, run: training.TrainConfig, *, text: str) -> bool:
    """Claims MODEL_DIR for this run, or resumes the run that is there.

    If an earlier start wrote its settings and nothing else, others may replace them.

    Args:
      run: settings of the run.
      text: resolved settings with origins, written as config.gin.

    Returns:
      Whether an earlier start of the same run left more than its settings.

    Raises:
      InputError: if MODEL_DIR belongs to another configuration (names what differs), or
        cannot be written to.
    """
    values = _values(run)
    resumes = self._settings.is_file() and self._begun()
    if resumes:
      before = _upgraded(self._saved())
      before, now = _scaled(before, run), _scaled(values, run)
      different = [
        f'{name} was {before.get(name)!r}, is {now.get(name)!r}'
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name) and name not in _MAY_CHANGE
      ]
      if different:
        raise InputError(
          f'MODEL_DIR {str(self.path)!r}: holds a run of another config: '
          f'{"; ".join(different)}; give another MODEL_DIR, or the same settings',
          field='Run.model_dir',
        )
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      atomic_file.write_json(self._settings, values)
      atomic_file.write_text(self.path / 'config.gin', text)
    except OSError as error:
      raise InputError(
        f'MODEL_DIR {str(self.path)!r}: cannot be written to ({error.strerror})',
        field='Run.model_dir',
      ) from None
    return resumes

  def _saved(self) -> dict[str, Any]:
    """Reads the settings of the earlier start.

    Raises:
      InputError: if run.json is not a whole JSON object.
    """
    try:
      return weights.read_object(self._settings)
    except InputError:
      raise InputError(
        f'{str(self._settings)!r}: is not the settings of a run; restore it, or give '
        'another MODEL_DIR',
        field='Run.model_dir',
      ) from None

  def _begun(self) -> bool:
    """Returns whether MODEL_DIR may hold more than settings (in a bucket: True)."""
    made = ('checkpoints', 'checkpoints.broken', 'store', 'model', 'report')
    return (
      self.bucket is not None
      or self.log.is_file()
      or any(any((self.path / name).glob('*')) for name in made)
    )


def _values(run: training.TrainConfig) -> dict[str, Any]:
  values = dataclasses.asdict(run)
  del values['model_dir']
  return json.loads(json.dumps(values))


def _scaled(values: dict[str, Any], run: training.TrainConfig) -> dict[str, Any]:
  """Resolves multiply_by_parameter_scale=None, which older versions wrote as True."""
  optimizer = dict(values['optimizer'])
  if optimizer['multiply_by_parameter_scale'] is None:
    optimizer['multiply_by_parameter_scale'] = (
      optimizer_config.OptimizerConfig().scales(run.lora)
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
  out = _defaults(training.TrainConfig) | values
  for field in dataclasses.fields(training.TrainConfig):
    kind = type(field.default) if field.name != 'model' else DecoderConfig
    if dataclasses.is_dataclass(kind) and isinstance(out[field.name], dict):
      out[field.name] = _defaults(kind) | out[field.name]
  return out


def _defaults(kind: type) -> dict[str, Any]:
  fields = dataclasses.fields(kind)
  given = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
  plain = {
    name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
    for name, value in given.items()
  }
  return json.loads(json.dumps(plain))
