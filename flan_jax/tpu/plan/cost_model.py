"""Step time, run time, energy and CO2 of a compiled step: modeled, not measured.

The time of a step is XLA's own estimate of every instruction, as often as it runs, plus
every transfer on its links, one after the other. On v3 nothing does overlap; on later
chips something may, and the sum is too long. Both halves are optimistic otherwise: they
know no stall, no latency, no straggler. Beside it stands a roofline by hand.
"""

import dataclasses

from flan_jax.config import decoder
from flan_jax.config.decoder import DecoderConfig
from flan_jax.tpu.plan.hlo import Module
from flan_jax.tpu.plan.interconnect import Links, Traffic
from flan_jax.tpu.plan.topology import Topology

MODELED = 'modeled, not measured'


@dataclasses.dataclass(frozen=True)
class Step:
  """Seconds of one step.

  Attributes:
    products: of instructions that multiply matrices, by XLA's estimate.
    others: of all other instructions, which wait for HBM.
    ring, torus: of transfers, by either reading of the links.
    traffic: what they are.
    uncounted: instructions that XLA gives no estimate for (kernels of our own).
  """

  products: float
  others: float
  ring: float
  torus: float
  traffic: tuple[Traffic, ...]
  uncounted: int

  @property
  def least(self) -> float:
    """With all links of each group."""
    return self.products + self.others + self.torus

  @property
  def most(self) -> float:
    """With those of one ring: the estimate that is planned with."""
    return self.products + self.others + self.ring


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Seconds that the step cannot do without, by hand: each part alone, at its peak."""

  compute: float
  hbm: float
  ici: float

  @property
  def sum(self) -> float:
    """One after the other."""
    return self.compute + self.hbm + self.ici


@dataclasses.dataclass(frozen=True)
class Footprint:
  """What a run takes; None where the draw of the chip is not known."""

  hours: float
  chip_hours: float
  mwh: float | None
  tco2e: float | None


def step(module: Module, *, links: Links) -> Step:
  """What the compiled program takes."""
  products = others = 0
  uncounted = 0
  for line, times in module.runs():
    if line.opcode in ('while', 'conditional', 'call'):
      continue  # their bodies are counted
    if line.opcode == 'custom-call' and 'tpu_custom_call' in line.text:
      uncounted += times
    if module.has_products(line):
      products += line.cycles * times
    else:
      others += line.cycles * times
  traffic = links.traffic(module.collectives())
  clock = links.topology.chip.clock_hz
  return Step(
    products=products / clock,
    others=others / clock,
    ring=sum(t.ring_s for t in traffic),
    torus=sum(t.torus_s for t in traffic),
    traffic=tuple(traffic),
    uncounted=uncounted,
  )


def roofline(
  config: DecoderConfig, *, links: Links, tokens: int, sequence_length: int, train: bool
) -> Roofline:
  """By hand, of a layout that gathers weights over `fsdp` and cuts the rest by `model`.

  Compute: model FLOPs, nothing recomputed. HBM, of a training step: each layer's
  bfloat16 weights are written and read forwards, backwards, and as gradients; master
  parameters and gradients, float32, are read and written by the optimizer (20 bytes a
  parameter). Interconnect: those weights over `fsdp` (twice gathered, once reduced) and
  ten transfers of activations a layer over `model` (six gathers, four reductions; a
  third of them without a backward pass).
  """
  chip = links.topology.chip
  cores = links.topology.cores
  flops = decoder.flops_per_token(config, sequence_length)
  params = decoder.parameter_count(config)
  sizes = dict(links.mesh.shape)
  rows = sizes['data'] * sizes['fsdp']
  passes = 3 if train else 1
  compute = tokens * (flops.train if train else flops.forward)
  weights = 2 * params / sizes['model']
  hbm = 2 * passes * weights + (20 * params / cores if train else 0)
  ici = 0.0
  if sizes['fsdp'] > 1:
    ici += links.seconds('all-gather', passes * weights, links.over('fsdp'))[2]
  if sizes['model'] > 1:
    transfers = (10 if train else 4) * config.num_layers
    activations = transfers * tokens / rows * config.d_model * 2
    ici += links.seconds('all-gather', activations, links.over('model'))[2]
  if train and sizes['data'] > 1:
    gradients = 2 * params / (sizes['model'] * sizes['fsdp'])
    ici += links.seconds('all-reduce', gradients, links.over('data'))[2]
  return Roofline(
    compute=compute / (cores * chip.core_flops),
    hbm=hbm / (chip.hbm_bytes_s / chip.cores),
    ici=ici,
  )


def mfu(
  config: DecoderConfig, *, topology: Topology, tokens: int, sequence_length: int,
  seconds: float, train: bool,
) -> float:  # fmt: skip
  """The share of the peak that goes into model FLOPs; recomputing earns none."""
  flops = decoder.flops_per_token(config, sequence_length)
  each = flops.train if train else flops.forward
  return tokens * each / (seconds * topology.chips * topology.chip.flops)


def footprint(
  *, topology: Topology, hours: float, watts: float | None, pue: float, grid: float
) -> Footprint:
  """Energy and CO2 of so many hours on the slice.

  Args:
    topology: the slice.
    hours: that it runs.
    watts: of one chip with its share of the host; None where that is not known.
    pue: energy of the building / energy of its computers.
    grid: kg of CO2e a kWh.
  """
  chip_hours = hours * topology.chips
  mwh = None if watts is None else chip_hours * watts * pue / 1e6
  tco2e = None if mwh is None else mwh * grid
  return Footprint(hours, chip_hours, mwh, tco2e)
