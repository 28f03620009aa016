"""A run from its settings to its report, stage by stage; `flan train`."""

import dataclasses
import functools
import time
from concurrent.futures import Future
from typing import Any

import jax

from flan_jax.catalog import leakage, names, registry, seqio_names
from flan_jax.catalog.leakage import LeakageReport
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import model_dir
from flan_jax.config import decoder
from flan_jax.config.training import TrainConfig
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics
from flan_jax.jobs import (
  claim,
  measure,
  metric_writers,
  provenance,
  run_end,
  run_evaluations,
  run_hooks,
  run_model,
  run_report,
  training_data,
)
from flan_jax.jobs.held_out import HeldOutEvaluation
from flan_jax.jobs.run import Data, Evaluations, Outcome, Restored, Run
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime import lock, multihost
from flan_jax.runtime.preemption import Stop, Stopped
from flan_jax.runtime.progress import Progress
from flan_jax.train import checkpoint as checkpoint_lib
from flan_jax.train import initial_model, own_hooks, profiler
from flan_jax.train.checkpoint import Checkpoints
from flan_jax.train.goodput import GoodputLog
from flan_jax.train.loop import Feed, Loop
from flan_jax.train.run_dir import RunDir
from flan_jax.train.state import TrainState
from flan_jax.train.trainer import Trainer


def train_and_evaluate(
  config: TrainConfig, *, text: str = '', profile: int = 0, progress: Progress
) -> Outcome:
  """Trains a model, then evaluates it on the held-out clusters.

  Args:
    config: settings of the run.
    text: resolved configuration, written to MODEL_DIR.
    profile: number of steps to trace into MODEL_DIR/profile.
    progress: progress output.

  Raises:
    InputError: before the first step, if settings, data and processes do not fit
      together or the disk is too small; later, on a bad step or a full disk, naming the
      last checkpoint.
  """
  run = _set_up(config, text=text, profile=profile, progress=progress)
  with lock.held_by_main('MODEL_DIR', run.folder.path, config.model_dir):
    return _stages(run)


def _stages(run: Run) -> Outcome:
  """Runs the stages that write to MODEL_DIR, whose lock is held."""
  data = _data(run)
  _model(run)
  evaluations = run_evaluations.make(run, data)
  checkpoints = Checkpoints(run.config.model_dir, keep=run.config.keep)
  unfinished = (checkpoints.latest() or 0) < run.config.train_steps
  compiling = run.trainer.compile() if unfinished else None
  metadata = _metadata(run, data)
  with run_end.ending(run, checkpoints):
    state, frozen = start = _restore(run, checkpoints, metadata, evaluations.held_out)
    metric_writers.start(run)
    if run.done < run.config.train_steps:
      compiling = compiling or run.trainer.compile()  # the newest was unreadable
      state = _train(run, data, start, compiling, checkpoints, metadata, evaluations)
    tuned, lineage = _save(run, data, state, frozen, metadata)
    report = _evaluate(run, data, evaluations, tuned, frozen, lineage)
    metric_writers.attach_report(run)
    return Outcome(state, run.done, False, report)
  return Outcome(None, run.done, True, None, run.stop.exit_code)


# Set up.


def _set_up(config: TrainConfig, *, text: str, profile: int, progress: Progress) -> Run:
  """Checks the settings, and lays out the model on the mesh."""
  since, began = time.time(), time.monotonic()
  progress.stage(f'Set up: {config.model_dir}')
  if profile:
    profiler.check()
  claim.expect_modules(RunDir(config.model_dir))
  measure.check_styles(config.evaluate)
  mixture = training_data.mixture(config)
  held_out = leakage.check(
    mixture, config.held_out, allow_overlap=config.allow_overlap
  ).held_out
  evaluated = registry.of_clusters(held_out, mixture.families)
  metrics.check_declared([*mixture.members, *evaluated])
  for line in names.families_taken(held_out, mixture.families):
    progress.line(line)
  training_data.check_length(config)
  training_data.check_eval_period(config, mixture, held_out)
  folder = RunDir(config.model_dir)
  given, config = config, training_data.local(config)
  model = config.model
  if config.initial_checkpoint is not None:
    model = model_dir.config(config.initial_checkpoint, requested=config.model)
    if line := model_dir.unchecked(config.initial_checkpoint):
      progress.line(line)
  if model is None:
    raise InputError(
      'Run.model: not set; include one of gin/models/*.gin, or give '
      '--gin.INITIAL_CHECKPOINT_PATH=FOLDER',
      field='Run.model',
    )
  for warning in multihost.assert_same_on_all(
    {**multihost.facts(given), 'Run.model': model}
  ):
    progress.line(f'warning: {warning}')
  run_evaluations.check_chat(config)
  run = Run(
    config=config,
    given=given,
    text=text,
    profile=profile,
    progress=progress,
    folder=folder,
    mixture=mixture,
    held_out=held_out,
    trainer=Trainer(model, config.step, mesh=mesh_lib.build(config.mesh)),
    lineage=initial_model.lineage(config.initial_checkpoint),
    stop=Stop(),
    writers=metric_writers.of(config, progress=progress),
    hooks=own_hooks.of(config.hooks),
    goodput=GoodputLog(folder.goodput, began=since, write=multihost.is_main_process()),
    began=began,
  )
  _check_leakage(run)
  run.trainer.try_optimizer()
  return run


def _check_leakage(run: Run, **more: Any) -> LeakageReport:
  """Checks that nothing held out is trained on, now or by the initial model."""
  return leakage.check(
    run.mixture,
    run.held_out,
    allow_overlap=run.config.allow_overlap,
    lineage=run.lineage,
    **more,
  )


# Data.


def _data(run: Run) -> Data:
  """Claims MODEL_DIR, opens or builds the store, and plans the sequences."""
  config, progress = run.config, run.progress
  progress.stage(f'Data: {run.mixture.name}')
  with multihost.main_process_first():  # process 0 builds the store first
    if multihost.is_main_process():
      run.folder.pull()
      metric_writers.check_installed(config)
      claim.check_steps(config)
      claim.check(run.folder, run.given)
    with claim.leaving_nothing(run.folder):
      store = training_data.open_store(
        config, run.mixture, run.held_out, run.folder, progress=progress
      )
    if multihost.is_main_process():
      claim.write(run.folder, run.given, text=run.text)
  initial = model_dir.digest(config.initial_checkpoint)
  multihost.assert_same_on_all({'the data': store.digest, 'the initial model': initial})
  training_data.check_store(config, run.mixture, run.held_out, store)
  for line in (
    *seqio_names.hidden(run.mixture),
    *training_data.store_warnings(store),
  ):
    progress.line(line)
  with multihost.main_process_first():
    plan = store.plan(
      seed=config.seed,
      sequences=config.sequences,
      sequence_length=config.sequence_length,
      pack=config.pack,
    )
  multihost.assert_same_on_all({'the plan': plan.stream})
  leakage_report = _check_leakage(run, datasets=store.datasets)
  for warning in leakage_report.warnings:
    progress.line(f'warning: {warning}')
  tokenizer = training_data.check_tokenizer(config, run.trainer.config, store)
  progress.line(
    f'{plan.examples:,} examples in {len(plan):,} sequences of '
    f'{config.sequence_length:,} tokens, {plan.fill:.1%} full'
  )
  return Data(store, plan, tokenizer, leakage_report)


# Model.


def _model(run: Run) -> None:
  """Says what is trained, and checks that its checkpoints fit on the disk."""
  config, trainer = run.config, run.trainer
  count = decoder.parameter_count(trainer.config)
  mesh = mesh_lib.describe(trainer.mesh)
  run.progress.stage(f'Model: {count:,} parameters on {mesh}')
  if trainer.tuning.freezes:
    run.progress.line(
      f'{trainer.trained_parameters:,} adapter parameters are trained, the model is '
      'frozen'
    )
  if config.loss is not None:
    run.progress.line(f'the loss is {config.loss.described}')
  checkpoint_lib.check_room(config.model_dir, trainer.layout, keep=config.keep)


def _metadata(run: Run, data: Data) -> dict[str, Any]:
  """Metadata of every checkpoint of the run."""
  config = run.config
  return {
    'plan': data.plan.stream,
    'store': data.store.digest,
    'seed': config.seed,
    'settings_digest': claim.digest(
      run.given, store=data.store.digest, initial=run.lineage
    ),
    'template_seed': config.template_seed,
    'mixture': run.mixture.name,
    'held_out': list(run.held_out),
    'trained_on': data.store.manifest['trained_on'],
    'leakage': data.leakage.as_json(),
    'lineage': run.lineage.as_json(),
    'loss_guard': run.trainer.settings.guarded,
    **provenance.of_modules(),
    **run.trainer.tuning.metadata(config.initial_checkpoint),
  }


# Restore.


def _restore(
  run: Run,
  checkpoints: Checkpoints,
  metadata: dict[str, Any],
  evaluation: HeldOutEvaluation | None,
) -> Restored:
  """The state of the newest checkpoint; else the initial one, after its evaluation."""
  trainer, progress = run.trainer, run.progress
  load = functools.partial(initial_model.params, run.config.initial_checkpoint, trainer)

  def restore(step: int) -> TrainState:
    saved = checkpoints.metadata(step)
    claim.check_same_data(saved, metadata)
    return trainer.restore(checkpoints, step, metadata=saved)

  found = checkpoints.restore_newest(restore, warn=progress.line)
  if found is not None:
    run.done, state = found
    progress.stage(f'Resuming at step {run.done:,}')
  else:
    progress.stage('Starting at step 0')
  run.goodput.start(run.done)
  run.goodput.add('init', time.monotonic() - run.began)
  if run.goodput.recomputed[0]:
    last = run.done + run.goodput.recomputed[0]
    progress.line(f'Steps {run.done + 1:,} to {last:,} are done again')
  if found is not None:
    return Restored(state, load() if trainer.tuning.freezes else None)
  params = load()
  if evaluation is not None and run.config.evaluate.base:
    with run.stop.at_once(), run.goodput.span('evaluation'):
      evaluation.before(params)
  return Restored(trainer.create(params), params if trainer.tuning.freezes else None)


# Train.


def _train(
  run: Run,
  data: Data,
  start: Restored,
  compiling: Future[jax.stages.Compiled],
  checkpoints: Checkpoints,
  metadata: dict[str, Any],
  evaluations: Evaluations,
) -> TrainState:
  """Runs the steps that are left; returns the last state.

  Raises:
    Stopped: if a signal ends the run before its last step.
  """
  progress, end = run.progress, run.config.train_steps
  feed = Feed(run.trainer, data.store, data.plan, start=run.done)
  with run.trainer.sharded():
    progress.stage('Compiling the train step')
    with run.goodput.span('data wait'):
      batch = feed.next()
    with run.goodput.span('compile'):
      step = compiling.result()
      multihost.barrier('compiled')
    progress.stage(f'Training steps {run.done + 1:,} to {end:,}')
    with progress.bar('train', end, unit='steps', start=run.done) as bar:
      loop = Loop(
        start.state,
        frozen=start.frozen,
        start=run.done,
        end=end,
        hooks=run_hooks.make(
          run,
          bar,
          checkpoints,
          metadata,
          evaluations,
          of_step=lambda step: {'model': run_model.described(run, data, step)},
        ),
        record=run.goodput.add,
        write=run.writers.write,
      )
      try:
        loop.run(step, feed, batch)
      finally:
        run.done = loop.done
  with run.goodput.span('save'):
    checkpoints.wait()
  if run.done < end:
    raise Stopped
  return loop.state


# Save.


def _save(
  run: Run,
  data: Data,
  state: TrainState,
  frozen: Any,
  metadata: dict[str, Any],
) -> tuple[Any, Lineage]:
  """Writes MODEL_DIR/model; returns the tuned parameters and their lineage."""
  run.progress.stage(f'Save: {run.folder.model}')
  described = run_model.described(run, data, run.done)
  del described['config']
  beside = described.pop('beside')
  provenance = {**metadata, **described, 'step': run.done}
  tuned = run.trainer.merge(state, frozen)
  with run.goodput.span('save'):
    checksum = model_dir.save(
      run.folder.model,
      tuned,
      config=run.trainer.config,
      tokenizer=data.tokenizer,
      provenance=provenance,
      beside=beside,
    )
  own = run_model.training(run, data, run.done)
  return tuned, run.lineage.then(dataclasses.replace(own, weights=checksum))


# Evaluate.


def _evaluate(
  run: Run,
  data: Data,
  evaluations: Evaluations,
  tuned: Any,
  frozen: Any,
  lineage: Lineage,
) -> dict[str, Any] | None:
  """Evaluates the tuned model, on the held-out clusters beside its base.

  Returns:
    Content of report.json; None if there is nothing to evaluate.
  """
  if evaluations == (None, None):
    return None
  with run.stop.at_once(), run.goodput.span('evaluation'):
    _last_step(run, evaluations, tuned)
    metadata = {
      'model': run.config.mixture,
      'checkpoint': str(run.folder.model),
      'training': provenance.training(run.folder.model, lineage),
      'leakage': data.leakage.as_json(),
      **lineage.summary(run.mixture.family),
    }
    if evaluations.validation is not None:
      metadata['validation'] = evaluations.validation.after(tuned, step=run.done)
    metadata['curves'] = run_report.curves(run.folder)
    if evaluations.held_out is None:
      return run_report.write(run, data, tuned, metadata)
    base = None
    if run.config.evaluate.base:
      base = frozen or initial_model.params(run.config.initial_checkpoint, run.trainer)
    return evaluations.held_out.after(tuned, base=base, metadata=metadata)


def _last_step(run: Run, evaluations: Evaluations, tuned: Any) -> None:
  """Runs the evaluation step after the last step, if an earlier start was stopped."""
  if not (run.config.evaluate.eval_period and run.done):
    return
  for evaluation in filter(None, evaluations):
    if not evaluation.has_evaluated(run.done):
      found = evaluation.during(tuned, step=run.done)
      run.writers.write(run.done, evaluation.values(found))
