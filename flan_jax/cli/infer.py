"""`flan infer`: runs a checkpoint over a file of prompts, a task or a mixture."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

from flan_jax.cli import console
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.config.inference import InferConfig


def run(options: argparse.Namespace) -> int:
  return console.run_process(
    options.multihost, lambda progress: _configured(options, progress)
  )


def _configured(options: argparse.Namespace, progress: Progress) -> int:
  console.quiet_absl()
  progress.stage('Configuration')
  from flan_jax.config import gin

  files = options.gin_file or ['gin/infer.gin']
  parsed = gin.load(files, options.gin, search_paths=options.gin_search_paths)
  settings = parsed.build('Infer')
  for warning in parsed.refuse_unused('infer'):
    progress.line(f'warning: {warning}')
  with parsed.located():
    return _infer(settings, progress)


def _infer(settings: 'InferConfig', progress: Progress) -> int:
  from flan_jax.jobs import infer, model_source
  from flan_jax.runtime import compilation_cache, multihost, preemption

  compilation_cache.seal()
  given = settings.output_dir
  for warning in multihost.assert_same_on_all(multihost.facts(settings)):
    progress.line(f'warning: {warning}')
  with multihost.main_process_first():
    checkpoint = model_source.here('CHECKPOINT', settings.checkpoint)
  assert checkpoint is not None
  with preemption.Stop() as stop, console.local_folder(given) as out:
    settings = dataclasses.replace(settings, checkpoint=checkpoint, output_dir=out)
    try:
      with stop.at_once():
        written = infer.infer(settings, progress=progress, on_batch=stop.on_batch)
    except preemption.Stopped:
      progress.stage(
        f'Stopped by {stop.name}; answers are saved. Rerun the same command to resume'
      )
      return stop.exit_code
  progress.stage(f'Done: {given.rstrip("/")}/{written.name}')
  return 0
