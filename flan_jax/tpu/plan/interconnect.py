"""Cost of a program's transfers on the links of a slice: modeled, not measured.

A group of devices uses the links of the dimensions that it spans:

  * a whole dimension: two, one per direction, or one if it does not wrap around;
  * every n-th chip of a dimension: the same links, shared by n groups;
  * some neighbors of a dimension: one.

Two models bound the true time: in `torus_s` a transfer uses all of these links at once,
in `ring_s` only the two of a ring through the group, after which the compiler names its
transfers. Latency and further contention are ignored.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from flan_jax.partitioning import torus
from flan_jax.tpu.plan.hlo import Collective
from flan_jax.tpu.plan.topology import Topology


class Reach(NamedTuple):
  """Position of one group of devices on the slice.

  Attributes:
    chips: number of chips in the group.
    cores: cores of the group per chip.
    links: torus links that each chip of the group can use.
    ring: number of these links in a ring through the group.
    distance: mean number of links between two chips of the group.
  """

  chips: int
  cores: int
  links: float
  ring: float
  distance: float


class Traffic(NamedTuple):
  """All transfers of one kind over the same mesh axes, in a step.

  Attributes:
    axes: mesh axes, e.g. 'fsdp' or 'fsdp x model'.
    kind: kind of collective.
    count: number of transfers.
    bytes: bytes that a chip receives over its links (twice in an all-reduce).
    ring_s, torus_s: seconds by either model.
  """

  axes: str
  kind: str
  count: int
  bytes: float
  ring_s: float
  torus_s: float


class Links:
  """The links of a slice, as used by the axes of a mesh."""

  def __init__(self, mesh: Mesh, topology: Topology):
    self.mesh = mesh
    self.topology = topology
    devices = list(mesh.devices.flat)
    laid = torus.grid(devices)
    if laid is None:
      raise ValueError('the mesh does not fill the slice')
    self._lengths = laid.shape[:3]
    places = np.array([(*d.coords, d.core_on_chip) for d in devices])
    self._places = places - places.min(axis=0)

  def reach(self, group: np.ndarray) -> Reach:
    """Reach of the devices at these flat indices of the mesh."""
    places = self._places[group]
    chips = np.unique(places[:, :3], axis=0)
    links, dimensions = 0.0, 0
    for dimension, length in enumerate(self._lengths):
      values = np.unique(chips[:, dimension])
      if len(values) == 1:
        continue
      dimensions += 1
      num_directions = 2.0 if length >= self.topology.chip.wraps else 1.0
      stride = int(np.diff(values).min())
      if stride > 1:
        links += num_directions / stride
      else:
        links += num_directions if len(values) == length else 1.0
    ring = links if dimensions < 2 else min(links, 2.0)
    return Reach(
      len(chips), len(places) // len(chips), links, ring, self._distance(chips)
    )

  def _distance(self, chips: np.ndarray) -> float:
    apart = np.abs(chips[:, None] - chips[None])
    for dimension, length in enumerate(self._lengths):
      if length >= self.topology.chip.wraps:
        hops = apart[..., dimension]
        apart[..., dimension] = np.minimum(hops, length - hops)
    pairs = len(chips) * (len(chips) - 1)
    return float(apart.sum() / pairs) if pairs else 0.0

  def axes(self, group: np.ndarray) -> str:
    """The mesh axes along which the members of a group differ."""
    places = np.array(np.unravel_index(group, self.mesh.devices.shape)).T
    vary = [
      name
      for name, column in zip(self.mesh.axis_names, places.T, strict=True)
      if len(np.unique(column)) > 1
    ]
    return ' x '.join(vary)

  def group_along(self, axis: str) -> np.ndarray:
    """The first group of devices along one mesh axis."""
    index = tuple(slice(None) if n == axis else 0 for n in self.mesh.axis_names)
    return np.arange(self.mesh.size).reshape(self.mesh.devices.shape)[index]

  def seconds(
    self, kind: str, size: float, group: np.ndarray
  ) -> tuple[float, float, float]:
    """Returns (bytes received per chip, ring seconds, torus seconds) of a transfer.

    Args:
      kind: one of hlo.COLLECTIVES.
      size: bytes of one member, see hlo.Collective.
      group: device indices of one group.
    """
    chip = self.topology.chip
    reach = self.reach(group)
    if reach.chips == 1:
      members = max(1, len(group))
      share = (members - 1) / members if kind != 'collective-permute' else 1.0
      inside = size * share / (chip.hbm_bytes_s / 2)  # through the HBM of the chip
      return 0.0, inside, inside
    share = (reach.chips - 1) / reach.chips
    moved = size * share * chip.cores / reach.cores
    links = reach.ring, reach.links
    if kind == 'all-reduce':
      moved *= 2
    elif kind == 'collective-permute':
      moved, links = size * chip.cores * reach.distance, (1.0, 1.0)
    elif kind in ('all-to-all', 'ragged-all-to-all'):
      moved *= reach.distance
    ring_s, torus_s = (moved / (n * chip.link_bytes_s) for n in links)
    return moved, ring_s, torus_s

  def traffic(self, collectives: Iterable[Collective]) -> list[Traffic]:
    """Sums transfers by axes and kind, the longest first."""
    sums: dict[tuple[str, str], list[float]] = {}
    for transfer in collectives:
      group = transfer.groups[0]
      if transfer.kind == 'collective-permute':
        # The pair that is furthest apart determines the time.
        pairs = [pair for pair in transfer.groups if pair[0] != pair[1]]
        if not pairs:
          continue
        group = max(pairs, key=lambda pair: self.reach(np.asarray(pair)).distance)
      if len(group) < 2:
        continue
      axes = self.axes(group)
      cost = self.seconds(transfer.kind, transfer.bytes, group)
      total = sums.setdefault((axes, transfer.kind), [0, 0.0, 0.0, 0.0])
      total[0] += transfer.times
      for i, value in enumerate(cost, 1):
        total[i] += value * transfer.times
    found = [Traffic(*key, int(t[0]), *t[1:]) for key, t in sums.items()]
    return sorted(found, key=lambda t: -t.ring_s)
