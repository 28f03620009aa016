"""Hooks of a run, in the order in which they act."""

from collections.abc import Callable
from typing import Any

from flan_jax.jobs.run import Evaluations, Run
from flan_jax.runtime import multihost
from flan_jax.train import hooks, profiler
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train.checkpoint import Checkpoints
from flan_jax.train.hook import Hook
from flan_jax.train.metric_writer import MetricWriter


def make(
  run: Run,
  bar: Any,
  checkpoints: Checkpoints,
  metadata: dict[str, Any],
  evaluations: Evaluations,
  of_step: Callable[[int], dict[str, Any]],
) -> list[Hook]:
  """Makes the hooks of a start.

  Args:
    run: context of the start.
    bar: progress bar of the steps.
    checkpoints: checkpoints of the run.
    metadata: metadata of every checkpoint.
    evaluations: evaluations of the run.
    of_step: step -> further metadata of its checkpoint.
  """
  config, trainer = run.config, run.trainer
  main = multihost.is_main_process()
  trace = profiler.Profile(
    run.folder.path / 'profile',
    steps=run.profile if main else 0,
    start=run.done,
    end=config.train_steps,
  )
  writer = MetricWriter(
    run.folder,
    run.writers,
    start_step=run.done,
    batch_tokens=config.batch_tokens,
    flops_per_token=trainer.tuning.flops_per_token(
      trainer.config, config.sequence_length
    ),
    write=main,
    bad_step=config.bad_step,
  )
  checkpoint = hooks.Checkpoint(
    checkpoints,
    every=config.checkpoint_period,
    metadata=metadata,
    of_step=of_step,
    push=run.folder.push if main else lambda: None,
  )
  log = hooks.Log(
    writer,
    every=config.log_period,
    schedule=optimizer_lib.learning_rate(config.optimizer),
    bar=bar,
    ahead_of=(checkpoint,),
  )
  found: list[Hook] = [
    hooks.Watchdog(config.hang_s),
    hooks.Profile(trace, progress=run.progress),
    hooks.Preemption(run.stop),
    log,
    hooks.Goodput(run.goodput, every=config.log_period, ahead_of=(checkpoint,)),
    checkpoint,
  ]
  if config.evaluate.eval_period:
    found += [
      hooks.Evaluate(
        evaluation,
        every=config.evaluate.eval_period,
        merge=trainer.merge,
        stop=run.stop,
        write=run.writers.write,
      )
      for evaluation in evaluations
      if evaluation is not None
    ]
  return [*found, *run.hooks]
