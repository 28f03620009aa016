"""`flan train`: trains, then evaluates the held-out clusters."""

import argparse

from flan_jax.cli import console
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress


def run(options: argparse.Namespace) -> int:
  return console.run_process(
    options.multihost, lambda progress: _train(options, progress)
  )


def _train(options: argparse.Namespace, progress: Progress) -> int:
  console.quiet_absl()
  progress.stage('Configuration')
  from flan_jax.config import checks, gin

  if not options.gin_file:
    raise InputError('--gin_file: not given; try --gin_file=gin/runs/demo.gin')
  checks.check('--profile', options.profile, checks.count(0))
  parsed = gin.load(
    options.gin_file, options.gin, search_paths=options.gin_search_paths
  )
  run = parsed.build('Run')
  from flan_jax.jobs import decoder_fields

  fields = parsed.bound('DecoderConfig')
  for warning in parsed.refuse_unused('train'):
    progress.line(f'warning: {warning}')
  from flan_jax.jobs import train_and_evaluate
  from flan_jax.runtime import compilation_cache

  compilation_cache.seal()
  with parsed.located():
    run = decoder_fields.with_decoder_fields(run, fields)
    progress.line(
      f'MODEL_DIR {run.model_dir}, seed {run.seed}, template seed {run.template_seed}, '
      f'evaluation seed {run.eval_seed}'
    )
    outcome = train_and_evaluate.train_and_evaluate(
      run, text=parsed.text(run), profile=options.profile, progress=progress
    )
  if outcome.interrupted:
    return outcome.exit_code
  if outcome.report is not None:
    from flan_jax.report import terminal

    if not progress.quiet:
      terminal.print_table(outcome.report)
    progress.stage(f'Done: {run.model_dir}/report/report.html')
  else:
    progress.stage(f'Done: {run.model_dir}/model')
  return 0
