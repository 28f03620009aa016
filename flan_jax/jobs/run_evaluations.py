"""Evaluations of a run: validation on its training datasets, held-out clusters."""

from flan_jax.catalog import leakage, prompt_style
from flan_jax.checkpoints import model_dir
from flan_jax.config import setting
from flan_jax.config.training import TrainConfig
from flan_jax.data.sources import file_task
from flan_jax.jobs import validation
from flan_jax.jobs.held_out import HeldOut, HeldOutEvaluation
from flan_jax.jobs.run import Data, Evaluations, Run
from flan_jax.jobs.validation import Validation
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train.eval_log import EvalLog


def make(run: Run, data: Data) -> Evaluations:
  """Makes the evaluations of a run; warns of an EVAL_PERIOD without effect."""
  found = Evaluations(_validation(run, data), _held_out(run, data))
  if run.config.evaluate.eval_period and found == (None, None):
    run.progress.line(
      'warning: EVAL_PERIOD has no effect: no cluster is held out, and no training '
      'dataset has dev examples (of a file, VALIDATION=0.05 sets some aside)'
    )
  return found


def _validation(run: Run, data: Data) -> Validation | None:
  """The validation on the training datasets, or None if it has no effect."""
  config = run.config
  wanted = config.evaluate.eval_period or file_task.is_file(config.mixture)
  if not wanted:
    return None
  if data.store.validation is None:
    run.progress.line(
      f'no validation: store {str(data.store.path)!r} is of an older version, without '
      'dev examples of its training datasets; materialize it again for them'
    )
  if not validation.datasets(data.store):
    return None
  return Validation(
    run.trainer,
    store=data.store,
    evaluate=config.evaluate,
    seed=config.eval_seed,
    chat_template=data.store.chat_template or chat_template(config),
    log=EvalLog(run.folder.validation),
    progress=run.progress,
    on_batch=run.stop.on_batch,
  )


def check_chat(config: TrainConfig) -> None:
  """Checks that there is a chat template if a prompt style needs one.

  Raises:
    InputError: if the model that the run starts from has none.
  """
  for name in ('prompt_style', 'base_prompt_style'):
    style = getattr(config.evaluate, name)
    if not style or not prompt_style.is_chat(style):
      continue
    if config.chat_template is None and chat_template(config) is None:
      raise setting.refusal(
        config.evaluate,
        name,
        'must be another: the model at INITIAL_CHECKPOINT_PATH keeps no chat template',
      )


def chat_template(config: TrainConfig) -> str | None:
  """Chat template of the model that a run starts from; None if it has none."""
  initial = config.initial_checkpoint
  return None if initial is None else model_dir.chat_template(initial)


def _held_out(run: Run, data: Data) -> HeldOutEvaluation | None:
  """The held-out evaluation, or None without held-out clusters."""
  if not run.held_out:
    return None
  config, trainer = run.config, run.trainer
  held_out = HeldOut(
    clusters=tuple(run.held_out),
    evaluate=config.evaluate,
    seed=config.eval_seed,
    data_dir=config.tfds_data_dir,
    text=run.text,
    untrained=leakage.check_checkpoint(
      run.lineage,
      run.held_out,
      family=run.mixture.family,
      allow_overlap=config.allow_overlap,
      setting='HELD_OUT',
    ),
    chat_template=data.store.chat_template or chat_template(config),
    base_responses=config.base_responses,
  )
  return HeldOutEvaluation(
    held_out,
    store=data.store,
    config=trainer.config,
    out=run.folder.report,
    progress=run.progress,
    log=EvalLog(run.folder.evaluations),
    sharding=mesh_lib.batch_sharding(trainer.mesh, config.mesh.rules),
    on_batch=run.stop.on_batch,
  )
