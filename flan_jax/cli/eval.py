"""`flan eval`: evaluates a checkpoint on held-out clusters."""

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
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
    return _evaluate(settings, parsed.text, progress)


def _evaluate(
  settings: 'EvalJobConfig', text: Callable[['EvalJobConfig'], str], progress: Progress
) -> int:
  from flan_jax.jobs import evaluate_checkpoint, model_source
  from flan_jax.report import terminal
  from flan_jax.runtime import compilation_cache, multihost, object_store, preemption

  compilation_cache.seal()
  given, resolved = settings.output_dir, text(settings)
  for warning in multihost.assert_same_on_all(multihost.facts(settings)):
    progress.line(f'warning: {warning}')
  with multihost.main_process_first():
    settings = dataclasses.replace(
      settings,
      checkpoint=model_source.here('CHECKPOINT', settings.checkpoint),
      checkpoints=tuple(
        str(model_source.here('CHECKPOINTS', path))
        for path in model_source.expanded(settings.checkpoints)
      ),
      store=object_store.here('STORE', settings.store),
    )
  with preemption.Stop() as stop, console.local_folder(given) as out:
    settings = dataclasses.replace(settings, output_dir=out)
    try:
      with stop.at_once():
        if settings.checkpoints:
          return _several(settings, text, given, progress, on_batch=stop.on_batch)
        found = evaluate_checkpoint.evaluate_checkpoint(
          settings, text=resolved, progress=progress, on_batch=stop.on_batch
        )
    except preemption.Stopped:
      progress.stage(
        f'Stopped by {stop.name}; answers are saved. Rerun the same command to resume'
      )
      return stop.exit_code
  if not progress.quiet:
    terminal.print_table(found)
  progress.stage(f'Done: {given.rstrip("/")}/report.html')
  return 0


def _several(
  settings: 'EvalJobConfig',
  text: Callable[['EvalJobConfig'], str],
  given: str,
  progress: Progress,
  *,
  on_batch: Callable[[], None],
) -> int:
  """Evaluates CHECKPOINTS; returns 1 if one of them failed."""
  from flan_jax.jobs import evaluate_checkpoints

  found = evaluate_checkpoints.evaluate_checkpoints(
    settings, text=text, progress=progress, on_batch=on_batch
  )
  _compare(found.finished, given, progress)
  for path, why in found.failed.items():
    progress.stage(f'failed: {path}: {why}')
  if found.failed:
    progress.stage(
      f'{len(found.failed)} of {len(found.failed) + len(found.finished)} checkpoints '
      'failed; rerun the same command to evaluate these alone'
    )
  return int(bool(found.failed))


def _compare(
  folders: Mapping[str, pathlib.Path], given: str, progress: Progress
) -> None:
  """Prints one table of several checkpoints and writes their common page."""
  from flan_jax.report import many, many_page, many_tables, runs
  from flan_jax.runtime import atomic_file

  for path, folder in folders.items():
    progress.stage(f'Done: {path}: {given.rstrip("/")}/{folder.name}/report.html')
  if len(folders) < 2 or progress.quiet:
    return
  content = many.build(runs.load(folders.values()))
  page = next(iter(folders.values())).parent / 'reports.html'
  atomic_file.write_text(page, many_page.render(content))
  many_tables.print_table(content)
  progress.stage(f'Done: {given.rstrip("/")}/reports.html')
