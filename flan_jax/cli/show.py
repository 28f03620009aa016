"""`flan show`: renders prompts."""

import argparse

from flan_jax.cli import console
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress


def run(options: argparse.Namespace) -> int:
  from flan_jax.catalog import names, registry
  from flan_jax.cli import show_prompts
  from flan_jax.data.sources import file_task

  console.quiet_absl()
  if options.task is not None:
    options.task = file_task.resolve(
      options.task,
      setting='TASK',
      inputs=options.inputs,
      targets=options.targets,
      messages=options.messages,
      columns=('--inputs', '--targets', '--messages'),
    )
  if options.html is None:
    if options.task is None:
      raise InputError('show: give a TASK, as flan_rte, or --html FILE for all of them')
    return show_prompts.show(
      options.task,
      count=options.n,
      template=options.template,
      split=options.split,
      tokenizer=options.tokenizer,
      data_dir=options.data_dir,
    )
  from flan_jax.data import tokenizers
  from flan_jax.report import catalog_page

  if options.task is None:
    datasets = list(registry.datasets('flan').values())
  else:
    datasets = [names.dataset(options.task)]
  progress = Progress()
  progress.stage('Reading an example of every dataset')
  catalog_page.write(
    options.html,
    datasets,
    tokenizer=tokenizers.load(options.tokenizer),
    data_dir=options.data_dir,
    progress=progress,
  )
  progress.stage(f'Done: {options.html}')
  return 0
