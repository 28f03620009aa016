"""`flan show`: renders prompts."""

import argparse

from flan_jax.errors import InputError
from flan_jax.progress import Progress
from flan_jax.verbs import output


def run(options: argparse.Namespace) -> int:
  from flan_jax import catalogue
  from flan_jax import show as show_lib

  output.quiet_absl()
  if options.html is None:
    if options.task is None:
      raise InputError('show: give a TASK, as flan_rte, or --html FILE for all of them')
    return show_lib.show(
      options.task,
      count=options.n,
      template=options.template,
      split=options.split,
      tokenizer=options.tokenizer,
      data_dir=options.data_dir,
    )
  from flan_jax import catalogue_page
  from flan_jax.data import tokenizer as tokenizer_lib

  if options.task is None:
    datasets = list(catalogue.family('flan').values())
  else:
    datasets = [catalogue.task(options.task)]
  progress = Progress()
  progress.stage('Reading an example of every dataset')
  catalogue_page.write(
    options.html,
    datasets,
    tokenizer=tokenizer_lib.load(options.tokenizer),
    data_dir=options.data_dir,
    progress=progress,
  )
  progress.stage(f'Done: {options.html}')
  return 0
