"""Formats a plan as text and as JSON."""

import dataclasses
from typing import Any

from flan_jax.tpu.plan.cost_model import MODELED, Step
from flan_jax.tpu.plan.memory import NAMES
from flan_jax.tpu.plan.plan import (
  GIB,
  PAPER_HOURS,
  PRETRAINING,
  ParameterSharding,
  Plan,
)

_LABELS = {
  'params': 'parameters',
  'optimizer': 'optimizer',
  'gradients': 'gradients',
  'weights': 'cast weights',
  'activations': 'saved activations',
  'cache': 'KV cache',
  'logits': 'logits',
  'temporaries': 'temporaries',
  'total': 'peak',
}
_METHOD = (
  "XLA's estimated cycles of every instruction x number of executions, plus the bytes "
  'of every transfer over the links of its mesh axes, without overlap'
)


def text(plan: Plan, *, stable: bool = False) -> str:
  """The plan as text, one fact per line.

  Args:
    plan: the plan.
    stable: omit the compile time, which differs between compilations.
  """
  chip, topology, request = plan.topology.chip, plan.topology, plan.request
  mesh = ', '.join(f'{name}={size}' for name, size in plan.mesh.items())
  model = request.model
  lines = [
    f'{plan.kind} step on {topology.name}: {topology.chips:,} chips, '
    f'{topology.cores:,} devices',
    f'  model        {plan.params:,} parameters, {model.num_layers} layers of '
    f'{model.d_model:,}; {model.param_dtype} parameters, {model.dtype} computation',
    f'  mesh         {mesh}' + (f', along {plan.along}' if plan.along else ''),
    f'  step         {plan.tokens:,} tokens, remat {model.remat!r}, '
    f'{request.step.accumulation} microbatches'
    if plan.kind == 'train'
    else f'  step         {plan.tokens:,} tokens',
    '',
    f'Memory per device ({chip.core_hbm_gib:.2f} GiB available to a program)',
  ]
  if plan.memory is not None:
    unit, size = ('GiB', GIB) if plan.memory.total > GIB else ('MiB', 2**20)
    for name in (*NAMES, 'total'):
      value = getattr(plan.memory, name)
      if value:
        lines.append(f'  {_LABELS[name]:<20} {value / size:>8.2f} {unit}')
    free = (plan.limit - plan.memory.total) / GIB
    lines.append(f'  fits: {free:.2f} GiB free' if plan.fits else '  does not fit')
  else:
    needed = f'{plan.wanted / GIB:.2f} GiB' if plan.wanted else 'more than there is'
    lines.append(f'  does not fit: the compiler needs {needed}')
    if plan.advice:
      lines.append('  try these changes, cumulatively:')
      lines += [f'    {change}' for change in plan.advice]
      lines.append('  or compile them with --search')
  if plan.step is not None:
    lines += ['', *_time(plan, plan.step)]
  elif plan.memory is not None:
    lines += ['', 'Time: unknown, because this libtpu cannot print the program']
  if not stable and plan.memory is not None:
    lines += ['', f'compiled in {plan.compile_s:.0f} s']
  return '\n'.join(lines) + '\n'


def _time(plan: Plan, step: Step) -> list[str]:
  roof, topology = plan.roofline, plan.topology
  unit, each = ('s', 1.0) if step.estimate > 0.1 else ('ms', 1e-3)

  def part(name: str, seconds: float, note: str = '') -> str:
    return f'  {name:<20} {seconds / each:>8.3f} {unit}  {note}'.rstrip()

  lines = [
    f'Time per step ({MODELED})',
    part('matrix products', step.matmuls),
    part('everything else', step.other, 'HBM-bound'),
    part(
      'interconnect',
      step.ring,
      f'one ring per group; {step.torus / each:.3f} with all links',
    ),
    part(
      'estimate',
      step.estimate,
      f'(lower bound {step.lower_bound / each:.3f}) '
      f'{plan.tokens / step.estimate:,.0f} tokens/s, MFU {plan.mfu:.1%}',
    ),
    part(
      'roofline',
      roof.sum,
      f'compute {roof.compute / each:.3f} + HBM {roof.hbm / each:.3f} + interconnect '
      f'{roof.ici / each:.3f}',
    ),
  ]
  if topology.chip.asynchronous:
    lines.append(f'  {topology.generation} overlaps some of it: the estimate is high')
  if step.uncounted:
    lines.append(
      f'  {step.uncounted:,} kernel calls are not estimated: the estimate is low'
    )
  lines += ['', 'Transfers per step']
  width = max([len(t.axes) for t in step.traffic] or [4])
  largest = max([t.bytes for t in step.traffic] or [0.0])
  bytes_unit, size = ('GB', 1e9) if largest > 1e9 else ('MB', 1e6)
  for t in step.traffic:
    lines.append(
      f'  {t.axes:<{width}}  {t.kind:<18} {t.count:>6,} calls {t.bytes / size:>8.2f} '
      f'{bytes_unit} per chip {t.ring_s / each:>7.3f} {unit}'
    )
  if not step.traffic:
    lines.append('  none')
  footprint = plan.footprint
  if footprint is not None:
    lines += [
      '',
      f'Run: {plan.request.train_steps:,} steps ({MODELED})',
      f'  {footprint.hours:.3g} hours (paper: {PAPER_HOURS} on 128 cores of v3), '
      f'{footprint.chip_hours:,.0f} chip-hours',
    ]
    if footprint.mwh is None:
      lines.append(
        f'  energy: no published power of a {topology.generation} chip; pass '
        '--chip-watts'
      )
    else:
      mwh, tco2e = PRETRAINING
      lines.append(
        f'  {footprint.mwh:.3g} MWh, {footprint.tco2e:.3g} t CO2e ({plan.watts:g} W '
        f'per chip, PUE {plan.pue:g}, {plan.grid:g} kg/kWh; pretraining: {mwh} MWh, '
        f'{tco2e} t)'
      )
  return lines


def as_json(plan: Plan) -> dict[str, Any]:
  """The plan as JSON-serializable data."""
  memory, step, footprint = plan.memory, plan.step, plan.footprint
  bytes_per_core = None
  if memory is not None:
    bytes_per_core = {name: getattr(memory, name) for name in NAMES}
    bytes_per_core['total'] = memory.total
  step_s = None
  if step is not None:
    step_s = {
      'compute': step.matmuls,
      'hbm': step.other,
      'ici': step.ring,
      'ici_all_links': step.torus,
      'estimate': step.estimate,
      'least': step.lower_bound,
      'roofline': dataclasses.asdict(plan.roofline),
    }
  return {
    'topology': plan.topology.name,
    'step': plan.kind,
    'chips': plan.topology.chips,
    'cores': plan.topology.cores,
    'params': plan.params,
    'mesh': plan.mesh,
    'along': plan.along,
    'tokens': plan.tokens,
    'remat': plan.request.model.remat,
    'accumulation': plan.request.step.accumulation,
    'bytes_per_core': bytes_per_core,
    'bytes_wanted': plan.wanted,
    'hbm_per_core': plan.limit,
    'fits': plan.fits,
    'advice': list(plan.advice),
    'compile_s': round(plan.compile_s, 1),
    'step_s': step_s,
    'collectives': [t._asdict() for t in step.traffic] if step else None,
    'mfu_estimate': plan.mfu,
    'hours': footprint.hours if footprint else None,
    'chip_hours': footprint.chip_hours if footprint else None,
    'mwh': footprint.mwh if footprint else None,
    'tco2e': footprint.tco2e if footprint else None,
    'assumptions': {
      'times': MODELED,
      'method': _METHOD,
      'overlap': 'none',
      'link_bytes_s': plan.topology.chip.link_bytes_s,
      'chip_watts': plan.watts,
      'pue': plan.pue,
      'kg_co2e_per_kwh': plan.grid,
      'paper_hours': PAPER_HOURS,
      'pretraining_mwh_tco2e': list(PRETRAINING),
    },
  }


def table(shardings: list[ParameterSharding]) -> str:
  """The shardings of all parameters as a table."""
  cells = [
    ('parameter', 'shape', 'axes', 'over', 'per device', 'MiB'),
    *(
      (
        s.name,
        ' x '.join(f'{n:,}' for n in s.shape),
        ', '.join(axis or '-' for axis in s.axes),
        ', '.join(s.over),
        ' x '.join(f'{n:,}' for n in s.on_device),
        f'{s.bytes / 2**20:,.2f}',
      )
      for s in shardings
    ),
  ]
  widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
  lines = [
    '  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths, strict=True))
    for row in cells
  ]
  return '\n'.join(line.rstrip() for line in lines) + '\n'
