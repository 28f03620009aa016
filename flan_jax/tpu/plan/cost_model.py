"""Step time, run time, energy and CO2 of a compiled step: modeled, not measured.

The time of a step is XLA's own estimate of every instruction times its executions, plus
every transfer on its links, with no overlap. On v3 nothing overlaps; later chips may
overlap some, so the sum is high. Otherwise both parts are optimistic: they ignore
stalls, latency and stragglers. A roofline is computed separately.
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
    matmuls: time of instructions that multiply matrices, by XLA's estimate.
    other: time of all other instructions, which are bound by HBM.
    ring, torus: time of transfers by either model of the links.
    traffic: the transfers.
    uncounted: number of instructions without an estimate (our own kernels).
  """

  matmuls: float
  other: float
  ring: float
  torus: float
  traffic: tuple[Traffic, ...]
  uncounted: int

  @property
  def lower_bound(self) -> float:
    """Time if a transfer uses all links of its group."""
    return self.matmuls + self.other + self.torus

  @property
  def estimate(self) -> float:
    """Time if a transfer uses one ring of its group; used for planning."""
    return self.matmuls + self.other + self.ring


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Minimum seconds of each part of a step alone, at peak rates."""

  compute: float
  hbm: float
  ici: float

  @property
  def sum(self) -> float:
    """Time without overlap."""
    return self.compute + self.hbm + self.ici


@dataclasses.dataclass(frozen=True)
class Footprint:
  """Resources of a run; None if the power of the chip is unknown."""

  hours: float
  chip_hours: float
  mwh: float | None
  tco2e: float | None


def step(module: Module, *, links: Links) -> Step:
  """Estimates the time of one step of a compiled program."""
  matmuls = other = 0
  uncounted = 0
  for line, times in module.runs():
    if line.opcode in ('while', 'conditional', 'call'):
      continue  # their bodies are counted
    if line.opcode == 'custom-call' and 'tpu_custom_call' in line.text:
      uncounted += times
    if module.has_products(line):
      matmuls += line.cycles * times
    else:
      other += line.cycles * times
  traffic = links.traffic(module.collectives())
  clock = links.topology.chip.clock_hz
  return Step(
    matmuls=matmuls / clock,
    other=other / clock,
    ring=sum(t.ring_s for t in traffic),
    torus=sum(t.torus_s for t in traffic),
    traffic=tuple(traffic),
    uncounted=uncounted,
  )


def roofline(
  config: DecoderConfig, *, links: Links, tokens: int, sequence_length: int, train: bool
) -> Roofline:
  """Roofline of a layout that gathers weights over `fsdp` and splits by `model`.

  Compute: model FLOPs without recomputation. HBM, for a training step: each layer's
  bfloat16 weights are written and read in the forward pass, in the backward pass and as
  gradients; the optimizer reads and writes float32 master parameters and gradients (20
  bytes per parameter). Interconnect: those weights over `fsdp` (gathered twice, reduced
  once), and ten transfers of activations per layer over `model` (six gathers, four
  reductions; four of them without a backward pass).
  """
  chip = links.topology.chip
  cores = links.topology.cores
  flops = decoder.flops_per_token(config, sequence_length)
  params = decoder.parameter_count(config)
  sizes = dict(links.mesh.shape)
  batch_parts = sizes['data'] * sizes['fsdp']
  num_passes = 3 if train else 1
  compute = tokens * (flops.train if train else flops.forward)
  weights = 2 * params / sizes['model']
  hbm = 2 * num_passes * weights + (20 * params / cores if train else 0)
  ici = 0.0
  if sizes['fsdp'] > 1:
    ici += links.seconds('all-gather', num_passes * weights, links.group_along('fsdp'))[
      2
    ]
  if sizes['model'] > 1:
    transfers = (10 if train else 4) * config.num_layers
    activations = transfers * tokens / batch_parts * config.d_model * 2
    ici += links.seconds('all-gather', activations, links.group_along('model'))[2]
  if train and sizes['data'] > 1:
    gradients = 2 * params / (sizes['model'] * sizes['fsdp'])
    ici += links.seconds('all-reduce', gradients, links.group_along('data'))[2]
  return Roofline(
    compute=compute / (cores * chip.core_flops),
    hbm=hbm / (chip.hbm_bytes_s / chip.cores),
    ici=ici,
  )


def mfu(
  config: DecoderConfig, *, topology: Topology, tokens: int, sequence_length: int,
  seconds: float, train: bool,
) -> float:  # fmt: skip
  """Model FLOPs utilization: share of peak FLOPs, recomputation not counted."""
  flops = decoder.flops_per_token(config, sequence_length)
  each = flops.train if train else flops.forward
  return tokens * each / (seconds * topology.chips * topology.chip.flops)


def footprint(
  *, topology: Topology, hours: float, watts: float | None, pue: float, grid: float
) -> Footprint:
  """Energy and CO2e of a run of some hours on the slice.

  Args:
    topology: the slice.
    hours: duration of the run.
    watts: power of one chip with its share of the host; None if unknown.
    pue: energy of the building / energy of its computers.
    grid: kg of CO2e per kWh.
  """
  chip_hours = hours * topology.chips
  mwh = None if watts is None else chip_hours * watts * pue / 1e6
  tco2e = None if mwh is None else mwh * grid
  return Footprint(hours, chip_hours, mwh, tco2e)
