"""MODEL_DIR: the files of a run, and whether a run may go on in it."""

import dataclasses
import json
import pathlib
from typing import Any

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
"""Settings that do not change what a step computes: a run may go on with others."""


class Folder:
  """Paths of MODEL_DIR.

  Attributes:
    path: MODEL_DIR itself, or its copy on this machine.
    name: what to call the run.
    bucket: MODEL_DIR where it is gs://BUCKET/PATH, else None.
    store: rendered examples, unless the run names others.
    model: the tuned model once the run is done: safetensors, config, tokenizer.
    report: the held-out evaluation.
    log: one JSON object per log period.
    goodput: where the time went.
  """

  def __init__(self, model_dir: str):
    """Names the files; nothing is made.

    Raises:
      InputError: if it is neither a folder nor gs://BUCKET/PATH.
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

  def bring(self) -> None:
    """Brings in what an earlier start left in an object store."""
    if self.bucket:
      self.bucket.pull()

  def send(self) -> None:
    """Sends out what there is now to an object store."""
    if self.bucket:
      self.bucket.push()

  def claim(self, run: training.TrainConfig, *, text: str) -> bool:
    """Takes MODEL_DIR for this run, or goes on with the run that is there.

    Args:
      run: the settings.
      text: their resolved text with origins, kept as config.gin.

    Settings that a start left behind which ended before it had made anything are no
    run: others take their place.

    Returns:
      True where an earlier start of the same run left its settings and more.

    Raises:
      InputError: if MODEL_DIR belongs to another configuration (names what differs), or
        cannot be written to.
    """
    values = _values(run)
    known = self._settings.is_file() and self._begun()
    if known:
      before = _as_of_now(json.loads(self._settings.read_text(encoding='utf-8')))
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
    return known

  def _begun(self) -> bool:
    """Whether MODEL_DIR holds more than settings; of an object store: it may."""
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
  """With what the optimizer's None stands for, which once was True."""
  optimizer = dict(values['optimizer'])
  if optimizer['multiply_by_parameter_scale'] is None:
    optimizer['multiply_by_parameter_scale'] = (
      optimizer_config.OptimizerConfig().scales(run.lora)
    )
  return {**values, 'optimizer': optimizer}


def _as_of_now(values: dict[str, Any]) -> dict[str, Any]:
  """Settings that an older version wrote: those it did not have are at their defaults.

  A new setting's default changes nothing, so a run goes on over a new version. What was
  once the one seed of all data is now that of the store and of the evaluation; where
  the order of examples is another one now, the checkpoint says so.
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
