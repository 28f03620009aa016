"""What fits: tries changes of a run that take less memory, then larger slices."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from flan_jax.config import training
from flan_jax.errors import InputError
from flan_jax.tpu.plan import plan as plan_lib
from flan_jax.tpu.plan.plan import GIB, Assumptions, Plan
from flan_jax.tpu.plan.topology import Topology


class Trial(NamedTuple):
  """One compilation: what was changed, and the plan."""

  words: str
  plan: Plan


def search(
  run: training.TrainConfig,
  topology: Topology,
  *,
  kind: str = 'train',
  assumptions: Assumptions | None = None,
  cache: str | None = None,
  progress: Callable[[str], None] = lambda line: None,
) -> list[Trial]:
  """Compiles until a step fits; the last trial is the one that does, or the largest.

  Changes come one upon the other, the cheapest in time first; then slices, each twice
  the one before, where the mesh's axis of batch and parameters takes what is added.
  A slice for which the mesh cannot be laid out is passed over with a line.
  """
  asked = {'kind': kind, 'assumptions': assumptions, 'cache': cache}
  trials: list[Trial] = []

  def attempt(words: str, run: training.TrainConfig, on: Topology) -> bool:
    progress(f'{on.name}: {words}')
    trials.append(Trial(words, plan_lib.plan(run, on, **asked)))
    return trials[-1].plan.fits

  if attempt('as it is', run, topology):
    return trials
  smallest = run
  for change in plan_lib.changes(run, topology, kind=kind):
    smallest = change.run
    if attempt(change.words, change.run, topology):
      return trials
  bigger = plan_lib.larger(topology)
  while bigger is not None and bigger.chips <= 16 * topology.chips:
    grown = spread(run, bigger)
    for words, tried in (('as it is', grown), ('as small as can be', smallest)):
      tried = spread(tried, bigger)
      try:
        if attempt(f'{words}, mesh {_mesh(tried)}', tried, bigger):
          return trials
      except InputError as error:
        progress(str(error))
    bigger = plan_lib.larger(bigger)
  return trials


def spread(run: training.TrainConfig, topology: Topology) -> training.TrainConfig:
  """The run with its mesh on a larger slice: parameters are cut over all of it.

  Rows of a batch can be cut no further than there are; the rest goes to `model`.
  """
  cores = topology.cores
  fsdp = max(1, run.mesh.fsdp)
  rows = run.batch_size // run.accumulation
  while (
    fsdp * 2 <= rows and rows % (fsdp * 2) == 0 and fsdp * 2 * run.mesh.model <= cores
  ):
    fsdp *= 2
  mesh = dataclasses.replace(
    run.mesh, data=1, fsdp=fsdp, model=max(1, cores // fsdp), along=None
  )
  return dataclasses.replace(run, mesh=mesh)


def _mesh(run: training.TrainConfig) -> str:
  return f'fsdp={run.mesh.fsdp} model={run.mesh.model}'


def text(trials: list[Trial]) -> str:
  """The trials as a table."""
  lines = ['tried']
  for words, plan in trials:
    if plan.fits:
      said = f'fits: {plan.memory.total / GIB:.2f} GiB'
      if plan.step is not None:
        said += f', {plan.step.most:.3f} s a step'
    elif plan.wanted:
      said = f'wants {plan.wanted / GIB:.2f} of {plan.limit / GIB:.2f} GiB'
    else:
      said = 'does not fit'
    lines.append(f'  {plan.topology.name}  {words}: {said}')
  return '\n'.join(lines) + '\n\n'
