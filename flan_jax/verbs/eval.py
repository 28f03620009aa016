"""`flan eval`: measures a checkpoint."""

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator

from flan_jax.progress import Progress
from flan_jax.verbs import output


def run(options: argparse.Namespace) -> int:
  return output.on_hosts(options.multihost, lambda progress: _eval(options, progress))


def _eval(options: argparse.Namespace, progress: Progress) -> int:
  output.quiet_absl()
  progress.stage('Configuration')
  from flan_jax import config

  files = options.gin_file or ['gin/evaluate/zero_shot.gin']
  parsed = config.load(files, options.gin)
  settings = parsed.build('Evaluation')
  for warning in parsed.refuse_unused('eval'):
    progress.line(f'warning: {warning}')
  text = parsed.text(settings)
  from flan_jax import hosts
  from flan_jax import stop as stop_lib
  from flan_jax.evaluate import held_out, tables
  from flan_jax.train import bucket

  given = settings.output_dir
  for warning in hosts.agree(hosts.facts(settings)):
    progress.line(f'warning: {warning}')
  with hosts.first_first():
    settings = dataclasses.replace(
      settings,
      checkpoint=bucket.here('CHECKPOINT', settings.checkpoint),
      store=bucket.here('STORE', settings.store),
    )
  with stop_lib.Stop() as stop, _kept(given) as out:
    settings = dataclasses.replace(settings, output_dir=out)
    try:
      with stop.at_once():
        found = held_out.evaluate_checkpoint(
          settings, text=text, progress=progress, between=stop.between
        )
    except stop_lib.Stopped:
      progress.stage('Stopped by SIGTERM; its answers are kept. Start again to go on')
      return stop_lib.INTERRUPTED
  if not progress.quiet:
    tables.print_table(found)
  progress.stage(f'Done: {given.rstrip("/")}/report.html')
  return 0


@contextlib.contextmanager
def _kept(output_dir: str) -> Iterator[str]:
  """A folder of this machine for OUTPUT_DIR; that of host 0 is sent to gs://."""
  from flan_jax import hosts
  from flan_jax.train.bucket import Bucket

  if '://' not in output_dir:
    yield output_dir
    return
  bucket = Bucket('OUTPUT_DIR', output_dir)
  with hosts.first_first():
    if hosts.first():
      bucket.pull()
  try:
    yield str(bucket.local)
  finally:
    if hosts.first():
      bucket.push()
