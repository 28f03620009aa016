"""`flan eval`: evaluates a checkpoint on held-out clusters."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

from flan_jax.cli import console
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.config.evaluation import EvalJobConfig


def run(options: argparse.Namespace) -> int:
  return console.run_process(
    options.multihost, lambda progress: _eval(options, progress)
  )


def _eval(options: argparse.Namespace, progress: Progress) -> int:
  console.quiet_absl()
  progress.stage('Configuration')
  from flan_jax.config import gin

  files = options.gin_file or ['gin/evaluate/zero_shot.gin']
  parsed = gin.load(files, options.gin, search_paths=options.gin_search_paths)
  settings = parsed.build('Evaluation')
  for warning in parsed.refuse_unused('eval'):
    progress.line(f'warning: {warning}')
  with parsed.located():
    return _evaluate(settings, parsed.text(settings), progress)


def _evaluate(settings: 'EvalJobConfig', text: str, progress: Progress) -> int:
  from flan_jax.jobs import evaluate_checkpoint
  from flan_jax.report import terminal
  from flan_jax.runtime import multihost, object_store, preemption

  given = settings.output_dir
  for warning in multihost.assert_same_on_all(multihost.facts(settings)):
    progress.line(f'warning: {warning}')
  with multihost.main_process_first():
    settings = dataclasses.replace(
      settings,
      checkpoint=object_store.here('CHECKPOINT', settings.checkpoint),
      store=object_store.here('STORE', settings.store),
    )
  with preemption.Stop() as stop, console.local_folder(given) as out:
    settings = dataclasses.replace(settings, output_dir=out)
    try:
      with stop.at_once():
        found = evaluate_checkpoint.evaluate_checkpoint(
          settings, text=text, progress=progress, on_batch=stop.on_batch
        )
    except preemption.Stopped:
      progress.stage(
        'Stopped by SIGTERM; answers are saved. Rerun the same command to resume'
      )
      return preemption.INTERRUPTED
  if not progress.quiet:
    terminal.print_table(found)
  progress.stage(f'Done: {given.rstrip("/")}/report.html')
  return 0
