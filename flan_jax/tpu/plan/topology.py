"""TPU slices by name: which ones exist, and the peak rates of their chips."""

import math
import os
import re
from typing import Any, NamedTuple

from flan_jax.errors import InputError


class Chip(NamedTuple):
  """One chip of a generation.

  Attributes:
    flops: peak bfloat16 operations per second.
    hbm_gib: GiB per chip available to a program, as stated in the compiler's message
      for a program that is too large.
    hbm_bytes_s: peak bytes per second between HBM and the chip.
    link_bytes_s: bytes per second of one torus link in one direction.
    cores: devices per chip: 2 if each core is a device with half of the chip.
    clock_hz: core clock, by which the compiler's cycles are divided.
    watts: mean power of one chip with its share of host, memory and network; None if no
      figure is published.
    wraps: minimum number of chips along a dimension that wraps around.
    asynchronous: the compiler may overlap transfers and computation.
    max_side: maximum number of chips along one dimension of a slice.
    dimensions: number of dimensions of the torus.
  """

  flops: float
  hbm_gib: float
  hbm_bytes_s: float
  link_bytes_s: float
  cores: int
  clock_hz: float
  watts: float | None
  wraps: int
  asynchronous: bool
  max_side: int
  dimensions: int

  @property
  def core_flops(self) -> float:
    """Peak operations per second of one device."""
    return self.flops / self.cores

  @property
  def core_hbm_gib(self) -> float:
    """GiB per device."""
    return self.hbm_gib / self.cores


# Peaks, HBM and its bandwidth: cloud.google.com/tpu/docs, the page of each version.
# HBM of a program: the compiler's own message for one that is too large. Links: the
# lower of the figures in use (jax-ml.github.io/scaling-book has 100 GB/s for v3, 45
# to 50 for v4 and v5e, 90 to 100 for v5p and v6e). Watts of v3: 451 MWh over 57.7 days
# of 1,024 chips at a PUE of 1.1 (Thoppilan et al. 2022, arXiv 2201.08239, section 10),
# as Patterson et al. 2021 (arXiv 2104.10350, table 4) have for Meena; of v4: the mean
# on its documentation page, chip alone.
CHIPS = {
  'v3': Chip(
    flops=123e12, hbm_gib=30.96, hbm_bytes_s=900e9, link_bytes_s=70e9, cores=2,
    clock_hz=940e6, watts=289.0, wraps=8, asynchronous=False, max_side=32,
    dimensions=2,
  ),
  'v4': Chip(
    flops=275e12, hbm_gib=30.75, hbm_bytes_s=1228e9, link_bytes_s=45e9, cores=1,
    clock_hz=1050e6, watts=170.0, wraps=4, asynchronous=True, max_side=16,
    dimensions=3,
  ),
  'v5e': Chip(
    flops=197e12, hbm_gib=15.75, hbm_bytes_s=819e9, link_bytes_s=45e9, cores=1,
    clock_hz=1500e6, watts=None, wraps=16, asynchronous=True, max_side=16,
    dimensions=2,
  ),
  'v5p': Chip(
    flops=459e12, hbm_gib=95.74, hbm_bytes_s=2765e9, link_bytes_s=90e9, cores=1,
    clock_hz=1750e6, watts=None, wraps=4, asynchronous=True, max_side=24,
    dimensions=3,
  ),
  'v6e': Chip(
    flops=918e12, hbm_gib=31.25, hbm_bytes_s=1638e9, link_bytes_s=90e9, cores=1,
    clock_hz=1750e6, watts=None, wraps=16, asynchronous=True, max_side=16,
    dimensions=2,
  ),
}  # fmt: skip


class Topology(NamedTuple):
  """A slice.

  Attributes:
    name: name, e.g. `v3:8x8`.
    generation: a key of CHIPS.
    sides: chips along each dimension of the torus.
  """

  name: str
  generation: str
  sides: tuple[int, ...]

  @property
  def chip(self) -> Chip:
    """Rates and sizes of a chip."""
    return CHIPS[self.generation]

  @property
  def chips(self) -> int:
    """Number of chips of the slice."""
    return math.prod(self.sides)

  @property
  def cores(self) -> int:
    """Number of devices of the slice."""
    return self.chips * self.chip.cores


def shapes(generation: str) -> list[tuple[int, ...]]:
  """Slices that exist: sides are powers of two, each at most twice the one before.

  Three-dimensional slices of 64 chips or more consist of cubes of 4 x 4 x 4.
  """
  chip = CHIPS[generation]
  if chip.dimensions == 2:
    powers = [2**i for i in range(6) if 2**i <= chip.max_side]
    return sorted(
      ((a, b) for a in powers for b in powers if b in (a, 2 * a) and (a, b) != (1, 2)),
      key=math.prod,
    )
  cubes = [4 * i for i in range(1, chip.max_side // 4 + 1)]
  small = [(1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4)]
  large = [(a, b, c) for a in cubes for b in cubes for c in cubes if a <= b <= c]
  return sorted([*small, *large], key=math.prod)


def name(generation: str, sides: tuple[int, ...]) -> str:
  """Name of a slice, e.g. `v3:8x8`."""
  return f'{generation}:{"x".join(map(str, sides))}'


def parse(text: str) -> Topology:
  """Parses a topology, `v3:8x8`, or a size in cores or chips, `v3-128`.

  Raises:
    InputError: if the slice does not exist; names the nearest.
  """
  by_sides = re.fullmatch(r'(\w+):(\d+(?:x\d+)*)', text)
  by_size = re.fullmatch(r'(\w+)-(\d+)', text)
  either = by_sides or by_size
  generation = either[1] if either else ''
  generation = {'v5litepod': 'v5e', 'v5lite': 'v5e', 'v5': 'v5p'}.get(
    generation, generation
  )
  if either is None or generation not in CHIPS:
    known = ', '.join(f'{name(g, shapes(g)[3])}' for g in CHIPS)
    raise InputError(
      f'--topology: got {text!r}; must be a generation and its sides, e.g. {known}'
    )
  chip = CHIPS[generation]
  legal = shapes(generation)
  if by_sides:
    sides = tuple(int(side) for side in by_sides[2].split('x'))
    if sides in legal:
      return Topology(name(generation, sides), generation, sides)
    chips = math.prod(sides)
  else:
    # Sizes of v3, v4 and v5p count two cores per chip; those of the others count chips.
    units = 2 if generation in ('v3', 'v4', 'v5p') else 1
    chips = int(either[2]) / units
    for sides in legal:
      if math.prod(sides) == chips:
        return Topology(name(generation, sides), generation, sides)
  closest = sorted(legal, key=lambda s: abs(math.log(math.prod(s) / max(chips, 0.5))))[
    :3
  ]
  nearest = ', '.join(f'{name(generation, s)} ({math.prod(s)} chips)' for s in closest)
  kind = f'{chip.dimensions}-dimensional'
  raise InputError(
    f'--topology: got {text!r}; there is no such slice of the {kind} {generation}; the '
    f'nearest are {nearest}'
  )


ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_STDERR_LOG_LEVEL': '3',
  'TPU_MIN_LOG_LEVEL': '3',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_WORKER_HOSTNAMES': 'localhost',
}
"""Environment that libtpu needs on a machine without a TPU, before its first use."""


def devices(topology: Topology) -> list[Any]:
  """Devices of the slice, usable for compilation only.

  Raises:
    InputError: if libtpu is not installed.
  """
  import jax
  from jax.experimental import topologies

  for variable, value in ENVIRONMENT.items():
    os.environ.setdefault(variable, value)
  options = {}
  if topology.chips == 1:
    options['chips_per_host_bounds'] = (1, 1, 1)
  elif topology.chips == 2:
    options['chips_per_host_bounds'] = (1, 2, 1)
  if topology.generation == 'v4':
    options['chip_config_name'] = 'megacore'
  try:
    description = topologies.get_topology_desc(topology.name, platform='tpu', **options)
  except (jax.errors.JaxRuntimeError, NotImplementedError, RuntimeError) as error:
    if 'libtpu' in str(error) or 'tpu' in str(error).lower().split():
      raise InputError(
        "--topology: the TPU compiler is not installed; pip install 'flan_jax[tpu]'"
      ) from None
    raise InputError(f'--topology {topology.name}: {error}') from None
  return list(description.devices)
