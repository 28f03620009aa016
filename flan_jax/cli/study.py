"""`flan study`: runs a grid of trainings and evaluations, and writes one page."""

import argparse
import fnmatch
import pathlib
from typing import TYPE_CHECKING

from flan_jax.cli import console
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime.preemption import INTERRUPTED
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.jobs.study import Study


def run(options: argparse.Namespace) -> int:
  progress = Progress()
  console.quiet_absl()
  from flan_jax.config import gin
  from flan_jax.config import study as study_config

  parsed = gin.load(
    options.gin_file, options.gin, search_paths=options.gin_search_paths
  )
  config = parsed.build('Study')
  parsed.refuse_unused('study')
  from flan_jax.jobs import study as study_lib

  with parsed.located():
    study = study_lib.Study(
      config, search_paths=options.gin_search_paths, modules=options.module
    )
  only = _only(study, options.only)
  if not options.render_only:
    study.check_inputs(only)
  if options.dry_run:
    for job in study.left(only):
      print(study_config.command(job.arguments))
    return 0
  ended = None
  if not options.render_only:
    cells = [job for job in study.left(only) if not job.is_store]
    progress.stage(
      f'Study: {len(study.checked)} cells, {len(cells)} to run, {config.processes} at '
      'a time'
    )
    ended = study.run(only=only, progress=progress)
  _page(study, progress)
  if ended is None:
    return 0
  for name, why in ended.failed.items():
    progress.stage(f'failed: {name}: {why}')
  if ended.stopped:
    progress.stage('Stopped; rerun the same command to go on')
    return INTERRUPTED
  return int(bool(ended.failed))


def _only(study: 'Study', pattern: str | None) -> list[str] | None:
  """Names of the cells of --only.

  Raises:
    InputError: if no cell has such a name.
  """
  if pattern is None:
    return None
  names = [each.cell.name for each in study.checked]
  found = fnmatch.filter(names, pattern)
  if not found:
    raise InputError(
      f'--only {pattern!r}: no such cell{did_you_mean(pattern, names) or ";"} they are '
      + ', '.join(names)
    )
  return found


def _page(study: 'Study', progress: Progress) -> None:
  """Writes the page, and prints its table."""
  from flan_jax.report import many_tables
  from flan_jax.report import study as report_lib

  entries = study.entries()
  if not any(entry.folder for entry in entries):
    progress.stage('No page: no cell is finished')
    return
  content = report_lib.build(
    pathlib.Path(study.config.study_dir).name, entries, compared=study.config.compare
  )
  page = report_lib.write(study.folder, content, entries, kept=study.config.reports_dir)
  many_tables.print_table(content)
  for line in many_tables.counts(content['differences']):
    progress.line(line)
  progress.stage(f'Done: {page}')
