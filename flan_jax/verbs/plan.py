"""`flan plan`: compiles for a slice that is not here."""

import argparse
import dataclasses
import math
import pathlib

from flan_jax.errors import InputError
from flan_jax.progress import Progress
from flan_jax.verbs import output


def run(options: argparse.Namespace) -> int:

  progress = Progress()
  from flan_jax import config
  from flan_jax.pod import topology as topology_lib

  if not options.gin_file:
    raise InputError('--gin_file: not given; try --gin_file=gin/runs/flan_137b.gin')
  if options.topology is None:
    raise InputError('--topology: not given; try --topology v3:8x8')
  for name, got, least in (
    ('--chip-watts', options.chip_watts, 0),
    ('--pue', options.pue, 1),
    ('--grid', options.grid, 0),
  ):
    if got is not None and not least <= got < math.inf:
      raise InputError(f'{name}: got {got:g}; must be {least} or more')
  if options.cache is not None and pathlib.Path(options.cache).is_file():
    raise InputError(f'--cache {options.cache!r}: a file; must be a folder')
  topology = topology_lib.parse(options.topology)
  parsed = config.load(options.gin_file, options.gin)
  # What a run needs to start, and a plan does not.
  parsed.give(
    {
      'MODEL_DIR': 'none', 'MIXTURE_OR_TASK_NAME': '', 'INITIAL_CHECKPOINT_PATH': None,
      'TRAIN_STEPS': 1,
    },
    origin='--topology',
  )  # fmt: skip
  from flan_jax.train import start

  run, fields = parsed.build('Run'), parsed.bound('DecoderConfig')
  for warning in parsed.refuse_unused('plan'):
    progress.line(f'warning: {warning}')
  with parsed.located('DecoderConfig'):
    run = start.shaped(run, fields)
  if run.model is None and run.initial_checkpoint is not None:
    from flan_jax.train import model_folder

    shape = model_folder.config(run.initial_checkpoint, asked=None)
    run = dataclasses.replace(run, model=shape)
  progress.stage(f'Loading the TPU compiler for {topology.name}')
  from flan_jax.pod import page, search
  from flan_jax.pod import plan as plan_lib

  devices = topology_lib.devices(topology)
  if options.print_sharding:
    rows = plan_lib.sharding(run, devices=devices)
    if options.json:
      output.print_json([row._asdict() for row in rows])
    else:
      print(page.table(rows), end='')
    return 0
  given = {'watts': options.chip_watts, 'pue': options.pue, 'grid': options.grid}
  asked = {
    'kind': options.step,
    'assumptions': plan_lib.Assumptions(
      **{name: value for name, value in given.items() if value is not None}
    ),
    'cache': options.cache,
  }
  progress.stage(f'Compiling the {options.step} step of {topology.cores:,} devices')
  if options.search:
    found = search.search(run, topology, progress=progress.line, **asked)
    plans = [trial.plan for trial in found]
    if not options.json:
      print(search.text(found), end='')
  else:
    plans = [plan_lib.plan(run, topology, devices=devices, **asked)]
  last = plans[-1]
  if options.json:
    output.print_json(page.as_json(last))
  else:
    print(page.text(last), end='')
  return 0 if last.fits else 1
