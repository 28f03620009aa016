"""`flan train`: trains, then measures what was held out."""

import argparse

from flan_jax.errors import InputError
from flan_jax.progress import Progress
from flan_jax.verbs import output


def run(options: argparse.Namespace) -> int:
  return output.on_hosts(options.multihost, lambda progress: _train(options, progress))


def _train(options: argparse.Namespace, progress: Progress) -> int:
  output.quiet_absl()
  progress.stage('Configuration')
  from flan_jax import config

  if not options.gin_file:
    raise InputError('--gin_file: not given; try --gin_file=gin/runs/demo.gin')
  if options.profile < 0:
    raise InputError(f'--profile: got {options.profile}; must be 0 or more steps')
  parsed = config.load(options.gin_file, options.gin)
  run = parsed.build('Run')
  from flan_jax.train import start

  fields = parsed.bound('DecoderConfig')
  for warning in parsed.refuse_unused('train'):
    progress.line(f'warning: {warning}')
  with parsed.located('DecoderConfig'):
    run = start.shaped(run, fields)
  progress.line(
    f'MODEL_DIR {run.model_dir}, seed {run.seed}, template seed {run.template_seed}, '
    f'evaluation seed {run.eval_seed}'
  )
  from flan_jax.train import loop

  outcome = loop.train(
    run, text=parsed.text(run), profile=options.profile, progress=progress
  )
  if outcome.interrupted:
    return loop.INTERRUPTED
  if outcome.report is not None:
    from flan_jax.evaluate import tables

    if not progress.quiet:
      tables.print_table(outcome.report)
    progress.stage(f'Done: {run.model_dir}/report/report.html')
  else:
    progress.stage(f'Done: {run.model_dir}/model')
  return 0
