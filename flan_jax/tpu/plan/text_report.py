"""A plan as text for people and as JSON for programs."""

import dataclasses
from typing import Any

from flan_jax.tpu.plan.cost_model import MODELED
from flan_jax.tpu.plan.memory import NAMES
from flan_jax.tpu.plan.plan import GIB, PAPER_HOURS, PRETRAINING, Plan, Row

_WORDS = {
  'params': 'parameters',
  'optimizer': 'optimizer',
  'gradients': 'gradients',
  'weights': 'weights, cast',
  'activations': 'activations saved',
  'cache': 'keys and values',
  'logits': 'logits',
  'temporaries': 'temporaries',
  'total': 'peak',
}
_METHOD = (
  "XLA's estimated cycles of every instruction x how often it runs, plus the bytes of "
  'every transfer over the links of its axes, one after the other'
)


def text(plan: Plan, *, stable: bool = False) -> str:
  """The plan, one fact a line.

  Args:
    plan: what to tell.
    stable: leave out what differs from one compilation to the next: seconds.
  """
  chip, topology, run = plan.topology.chip, plan.topology, plan.run
  mesh = ', '.join(f'{name}={size}' for name, size in plan.mesh.items())
  model = run.model
  lines = [
    f'{plan.kind} step on {topology.name}: {topology.chips:,} chips, '
    f'{topology.cores:,} devices',
    f'  model        {plan.params:,} parameters, {model.num_layers} layers of '
    f'{model.d_model:,}; {model.param_dtype} parameters, {model.dtype} computation',
    f'  mesh         {mesh}' + (f', along {plan.along}' if plan.along else ''),
    f'  step         {plan.tokens:,} tokens, remat {model.remat!r}, '
    f'{run.accumulation} microbatches'
    if plan.kind == 'train'
    else f'  step         {plan.tokens:,} tokens',
    '',
    f'Memory of one device (the compiler gives {chip.core_hbm_gib:.2f} GiB)',
  ]
  if plan.memory is not None:
    unit, size = ('GiB', GIB) if plan.memory.total > GIB else ('MiB', 2**20)
    for name in (*NAMES, 'total'):
      value = getattr(plan.memory, name)
      if value:
        lines.append(f'  {_WORDS[name]:<20} {value / size:>8.2f} {unit}')
    free = (plan.limit - plan.memory.total) / GIB
    lines.append(
      f'  fits, with {free:.2f} GiB to spare' if plan.fits else '  too large'
    )
  else:
    wanted = f'{plan.wanted / GIB:.2f} GiB' if plan.wanted else 'more than there is'
    lines.append(f'  does not fit: the compiler wants {wanted}')
    if plan.advice:
      lines.append('  try, each upon the one before:')
      lines += [f'    {words}' for words in plan.advice]
      lines.append('  or let --search compile them')
  if plan.step is not None:
    lines += ['', *_time(plan)]
  elif plan.memory is not None:
    lines += ['', 'Time: this libtpu does not write the program as text']
  if not stable and plan.memory is not None:
    lines += ['', f'compiled in {plan.compile_s:.0f} s']
  return '\n'.join(lines) + '\n'


def _time(plan: Plan) -> list[str]:
  step, roof, topology = plan.step, plan.roofline, plan.topology
  unit, each = ('s', 1.0) if step.most > 0.1 else ('ms', 1e-3)

  def part(name: str, seconds: float, words: str = '') -> str:
    return f'  {name:<20} {seconds / each:>8.3f} {unit}  {words}'.rstrip()

  lines = [
    f'Time of a step ({MODELED})',
    part('matrix products', step.products),
    part('everything else', step.others, 'waits for HBM'),
    part(
      'interconnect',
      step.ring,
      f'by one ring of each group; {step.torus / each:.3f} with all of its links',
    ),
    part(
      'estimate',
      step.most,
      f'(from {step.least / each:.3f}) {plan.tokens / step.most:,.0f} tokens/s, MFU '
      f'{plan.mfu:.1%}',
    ),
    part(
      'roofline by hand',
      roof.sum,
      f'compute {roof.compute / each:.3f} + HBM {roof.hbm / each:.3f} + interconnect '
      f'{roof.ici / each:.3f}',
    ),
  ]
  if topology.chip.asynchronous:
    lines.append(f'  {topology.generation} overlaps some of it: the sum is too long')
  if step.uncounted:
    lines.append(
      f'  {step.uncounted:,} calls of kernels have no estimate: the sum is too short'
    )
  lines += ['', 'Transfers of a step']
  width = max([len(t.axes) for t in step.traffic] or [4])
  most = max([t.bytes for t in step.traffic] or [0.0])
  bytes_unit, size = ('GB', 1e9) if most > 1e9 else ('MB', 1e6)
  for t in step.traffic:
    lines.append(
      f'  {t.axes:<{width}}  {t.kind:<18} {t.count:>6,} of them {t.bytes / size:>8.2f} '
      f'{bytes_unit} a chip {t.ring_s / each:>7.3f} {unit}'
    )
  if not step.traffic:
    lines.append('  none')
  made = plan.footprint
  if made is not None:
    lines += [
      '',
      f'The run: {plan.run.train_steps:,} steps ({MODELED})',
      f'  {made.hours:.3g} hours (the paper: {PAPER_HOURS} on 128 cores of v3), '
      f'{made.chip_hours:,.0f} chip-hours',
    ]
    if made.mwh is None:
      lines.append(
        f'  energy: nobody has published what a {topology.generation} chip draws; '
        'give --chip-watts'
      )
    else:
      mwh, tco2e = PRETRAINING
      lines.append(
        f'  {made.mwh:.3g} MWh, {made.tco2e:.3g} t CO2e ({plan.watts:g} W a chip, PUE '
        f'{plan.pue:g}, {plan.grid:g} kg/kWh; pretraining: {mwh} MWh, {tco2e} t)'
      )
  return lines


def as_json(plan: Plan) -> dict[str, Any]:
  """The plan as plain data."""
  memory, step, made = plan.memory, plan.step, plan.footprint
  bytes_per_core = None
  if memory is not None:
    bytes_per_core = {name: getattr(memory, name) for name in NAMES}
    bytes_per_core['total'] = memory.total
  step_s = None
  if step is not None:
    step_s = {
      'compute': step.products,
      'hbm': step.others,
      'ici': step.ring,
      'ici_all_links': step.torus,
      'estimate': step.most,
      'least': step.least,
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
    'remat': plan.run.model.remat,
    'accumulation': plan.run.accumulation,
    'bytes_per_core': bytes_per_core,
    'bytes_wanted': plan.wanted,
    'hbm_per_core': plan.limit,
    'fits': plan.fits,
    'advice': list(plan.advice),
    'compile_s': round(plan.compile_s, 1),
    'step_s': step_s,
    'collectives': [t._asdict() for t in step.traffic] if step else None,
    'mfu_estimate': plan.mfu,
    'hours': made.hours if made else None,
    'chip_hours': made.chip_hours if made else None,
    'mwh': made.mwh if made else None,
    'tco2e': made.tco2e if made else None,
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


def table(rows: list[Row]) -> str:
  """The sharding of every parameter."""
  cells = [
    ('parameter', 'shape', 'axes', 'over', 'on a device', 'MiB'),
    *(
      (
        row.name,
        ' x '.join(f'{n:,}' for n in row.shape),
        ', '.join(axis or '-' for axis in row.axes),
        ', '.join(row.over),
        ' x '.join(f'{n:,}' for n in row.on_device),
        f'{row.bytes / 2**20:,.2f}',
      )
      for row in rows
    ),
  ]
  widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
  lines = [
    '  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths, strict=True))
    for row in cells
  ]
  return '\n'.join(line.rstrip() for line in lines) + '\n'
