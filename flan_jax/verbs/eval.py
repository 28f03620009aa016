"""`flan eval`: measures a checkpoint."""

import argparse
import dataclasses
import pathlib

from flan_jax.progress import Progress
from flan_jax.verbs import output


def run(options: argparse.Namespace) -> int:
  progress = Progress()
  output.quiet_absl()
  progress.stage('Configuration')
  from flan_jax import config

  files = options.gin_file or ['gin/evaluate/zero_shot.gin']
  parsed = config.load(files, options.gin)
  settings = parsed.build('Evaluation')
  text = parsed.text(settings)
  from flan_jax.evaluate import held_out, tables
  from flan_jax.train import bucket

  settings = dataclasses.replace(
    settings,
    checkpoint=bucket.here('CHECKPOINT', settings.checkpoint),
    store=bucket.here('STORE', settings.store),
  )

  found = held_out.evaluate_checkpoint(settings, text=text, progress=progress)
  tables.print_table(found)
  progress.stage(f'Done: {pathlib.Path(settings.output_dir) / "report.html"}')
  return 0
