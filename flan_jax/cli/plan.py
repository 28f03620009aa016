"""`flan plan`: compiles the step of a run for a TPU slice, without one."""

import argparse
import dataclasses
import pathlib
from typing import TYPE_CHECKING

from flan_jax.cli import console
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.config.training import TrainConfig
  from flan_jax.tpu.plan.request import PlanRequest
  from flan_jax.tpu.plan.topology import Topology


def run(options: argparse.Namespace) -> int:
  progress = Progress()
  from flan_jax.config import checks, gin
  from flan_jax.tpu.plan import topology as topology_lib

  if not options.gin_file:
    raise InputError('--gin_file: not given; try --gin_file=gin/runs/flan_137b.gin')
  if options.topology is None:
    raise InputError('--topology: not given; try --topology v3:8x8')
  for name, got, rule in (
    ('--chip-watts', options.chip_watts, checks.count(0, 1_000_000)),
    ('--pue', options.pue, checks.count(1, 1_000)),
    ('--grid', options.grid, checks.count(0, 1_000)),
  ):
    checks.check(name, got, checks.or_none(rule))
  if options.cache is not None and pathlib.Path(options.cache).is_file():
    raise InputError(f'--cache {options.cache!r}: a file; must be a folder')
  topology = topology_lib.parse(options.topology)
  parsed = gin.load(
    options.gin_file, options.gin, search_paths=options.gin_search_paths
  )
  # Settings that a run requires and a plan does not.
  parsed.give(
    {
      'MODEL_DIR': 'none', 'MIXTURE_OR_TASK_NAME': '', 'INITIAL_CHECKPOINT_PATH': None,
      'TRAIN_STEPS': 1,
    },
    origin='--topology',
  )  # fmt: skip
  from flan_jax.jobs import decoder_fields

  run, fields = parsed.build('Run'), parsed.bound('DecoderConfig')
  for warning in parsed.refuse_unused('plan'):
    progress.line(f'warning: {warning}')
  with parsed.located():
    run = decoder_fields.with_decoder_fields(run, fields)
    return _plan(run, topology, options, progress)


def plan_request(run: 'TrainConfig') -> 'PlanRequest':
  """Returns the settings that the plan of a run depends on.

  Raises:
    InputError: if the run has no model.
  """
  from flan_jax.tpu.plan.request import PlanRequest

  if run.model is None:
    raise InputError(
      'Run.model: not set; include one of gin/models/*.gin', field='Run.model'
    )
  return PlanRequest(
    model=run.model,
    step=run.step,
    train_steps=run.train_steps,
    eval_batch_size=run.evaluate.batch_size,
    eval_sequence_length=run.evaluate.sequence_length,
  )


def _plan(
  run: 'TrainConfig',
  topology: 'Topology',
  options: argparse.Namespace,
  progress: Progress,
) -> int:
  """Compiles a run for a topology and prints the plan; 1 if the step does not fit."""
  from flan_jax.tpu.plan import topology as topology_lib

  if run.model is None and run.initial_checkpoint is not None:
    from flan_jax.train import initial_model

    shape = initial_model.config(run.initial_checkpoint)
    run = dataclasses.replace(run, model=shape)
  progress.stage(f'Loading the TPU compiler for {topology.name}')
  from flan_jax.tpu.plan import plan as plan_lib
  from flan_jax.tpu.plan import search, text_report

  devices = topology_lib.devices(topology)
  requested = plan_request(run)
  if options.print_sharding:
    rows = plan_lib.sharding(requested, devices=devices)
    if options.json:
      console.print_json([row._asdict() for row in rows])
    else:
      print(text_report.table(rows), end='')
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
    found = search.search(requested, topology, progress=progress.line, **asked)
    plans = [trial.plan for trial in found]
    if not options.json:
      print(search.text(found), end='')
  else:
    plans = [plan_lib.plan(requested, topology, devices=devices, **asked)]
  last = plans[-1]
  if options.json:
    console.print_json(text_report.as_json(last))
  else:
    print(text_report.text(last), end='')
  return 0 if last.fits else 1
