"""Searches for settings that fit: changes that reduce memory, then larger slices."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from flan_jax.errors import InputError
from flan_jax.tpu.plan import plan as plan_lib
from flan_jax.tpu.plan.plan import GIB, Assumptions, Plan
from flan_jax.tpu.plan.request import PlanRequest
from flan_jax.tpu.plan.topology import Topology


class Trial(NamedTuple):
  """One compilation: the change, and the plan."""

  description: str
  plan: Plan


def search(
  request: PlanRequest,
  topology: Topology,
  *,
  kind: str = 'train',
  assumptions: Assumptions | None = None,
  cache: str | None = None,
  progress: Callable[[str], None] = lambda line: None,
) -> list[Trial]:
  """Compiles until a step fits; the last trial is the one that fits, or the largest.

  Changes are cumulative, the cheapest in time first. Then slices are doubled, and the
  `fsdp` axis of the mesh grows with them. A slice for which the mesh cannot be built is
  skipped with a status line.
  """
  options = {'kind': kind, 'assumptions': assumptions, 'cache': cache}
  trials: list[Trial] = []

  def attempt(description: str, tried: PlanRequest, on: Topology) -> bool:
    progress(f'{on.name}: {description}')
    trials.append(Trial(description, plan_lib.plan(tried, on, **options)))
    return trials[-1].plan.fits

  if attempt('unchanged', request, topology):
    return trials
  smallest = request
  for change in plan_lib.changes(request, topology, kind=kind):
    smallest = change.request
    if attempt(change.description, change.request, topology):
      return trials
  larger = plan_lib.larger(topology)
  while larger is not None and larger.chips <= 16 * topology.chips:
    grown = spread(request, larger)
    for description, tried in (('unchanged', grown), ('with all changes', smallest)):
      tried = spread(tried, larger)
      try:
        if attempt(f'{description}, mesh {_mesh(tried)}', tried, larger):
          return trials
      except InputError as error:
        progress(str(error))
    larger = plan_lib.larger(larger)
  return trials


def spread(request: PlanRequest, topology: Topology) -> PlanRequest:
  """The request with its mesh on a larger slice, parameters split over all of it.

  `fsdp` cannot exceed the number of sequences of a batch; the rest goes to `model`.
  """
  cores = topology.cores
  step = request.step
  fsdp = max(1, step.mesh.fsdp)
  batch_size = step.batch_size // step.accumulation
  while (
    fsdp * 2 <= batch_size
    and batch_size % (fsdp * 2) == 0
    and fsdp * 2 * step.mesh.model <= cores
  ):
    fsdp *= 2
  mesh = dataclasses.replace(
    step.mesh, data=1, fsdp=fsdp, model=max(1, cores // fsdp), along=None
  )
  return dataclasses.replace(request, step=dataclasses.replace(step, mesh=mesh))


def _mesh(request: PlanRequest) -> str:
  return f'fsdp={request.step.mesh.fsdp} model={request.step.mesh.model}'


def text(trials: list[Trial]) -> str:
  """The trials as text, one per line."""
  lines = ['tried']
  for description, plan in trials:
    if plan.fits and plan.memory is not None:
      outcome = f'fits: {plan.memory.total / GIB:.2f} GiB'
      if plan.step is not None:
        outcome += f', {plan.step.estimate:.3f} s per step'
    elif plan.wanted:
      outcome = f'needs {plan.wanted / GIB:.2f} of {plan.limit / GIB:.2f} GiB'
    else:
      outcome = 'does not fit'
    lines.append(f'  {plan.topology.name}  {description}: {outcome}')
  return '\n'.join(lines) + '\n\n'
