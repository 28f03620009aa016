"""Cost of transfers on the links of a slice, against figures computed by hand."""

from typing import NamedTuple

import numpy as np
import pytest

from flan_jax.partitioning import torus
from flan_jax.tpu.plan import topology
from flan_jax.tpu.plan.hlo import Collective
from flan_jax.tpu.plan.interconnect import Links


class Device(NamedTuple):
  id: int
  coords: tuple[int, int, int]
  core_on_chip: int


class Mesh(NamedTuple):
  """Stands in for jax.sharding.Mesh, with devices that no backend has."""

  devices: np.ndarray
  axis_names: tuple[str, ...] = ('data', 'fsdp', 'model')

  @property
  def shape(self):
    return dict(zip(self.axis_names, self.devices.shape, strict=True))

  @property
  def size(self):
    return self.devices.size


@pytest.fixture(scope='module')
def links():
  """fsdp: two neighbors in x and their cores; model: every second x, and all of y."""
  places = [(x, y, c) for y in range(8) for x in range(8) for c in range(2)]
  devices = [Device(n, (x, y, 0), c) for n, (x, y, c) in enumerate(places)]
  sizes = {'data': 1, 'fsdp': 4, 'model': 32}
  laid = torus.arrange(devices, along='fsdp=x2i.c model=x4.y', sizes=sizes)
  return Links(Mesh(laid), topology.parse('v3:8x8'))


GB = 1e9
LINK = 70 * GB


def test_a_group_of_two_chips_has_the_one_link_between_them(links):
  reach = links.reach(links.group_along('fsdp'))
  assert (reach.chips, reach.cores, reach.links, reach.ring) == (2, 2, 1, 1)
  moved, ring_s, torus_s = links.seconds('all-gather', GB, links.group_along('fsdp'))
  assert moved == GB / 2  # each chip receives the half of the other
  assert ring_s == torus_s == pytest.approx(GB / 2 / LINK)


def test_a_group_over_two_dimensions_shares_the_links_of_its_stride(links):
  reach = links.reach(links.group_along('model'))
  # Both directions of y; x's two are shared with the other half of the chips.
  assert (reach.chips, reach.cores, reach.links, reach.ring) == (32, 1, 3, 2)
  moved, ring_s, torus_s = links.seconds('all-gather', GB, links.group_along('model'))
  assert moved == pytest.approx(2 * GB * 31 / 32)  # both cores of a chip, in two groups
  assert ring_s == pytest.approx(moved / (2 * LINK))
  assert torus_s == pytest.approx(moved / (3 * LINK))


def test_an_all_reduce_moves_twice_the_bytes_of_a_reduce_scatter(links):
  group = links.group_along('model')
  whole = links.seconds('all-reduce', GB, group)
  parts = links.seconds('reduce-scatter', GB, group)
  np.testing.assert_allclose(whole, np.multiply(parts, 2))


def test_the_cores_of_a_chip_exchange_through_its_memory(links):
  moved, seconds, _ = links.seconds('all-gather', GB, np.array([0, 32]))
  assert links.reach(np.array([0, 32])).chips == 1
  assert moved == 0
  assert seconds == pytest.approx(GB / 2 / (900 * GB / 2))


def test_transfers_are_summed_by_axes_and_kind(links):
  whole = np.arange(128).reshape(4, 32)
  found = links.traffic(
    [
      Collective('all-gather', whole, 10, 64, 'a'),
      Collective('all-gather', whole, 10, 1, 'b'),
      Collective('all-reduce', whole.T, 10, 2, 'c'),
      Collective('all-reduce', np.arange(128)[None], 10, 1, 'd'),
    ]
  )
  counts = {(traffic.axes, traffic.kind): traffic.count for traffic in found}
  assert counts == {
    ('model', 'all-gather'): 65,
    ('fsdp', 'all-reduce'): 2,
    ('fsdp x model', 'all-reduce'): 1,
  }
