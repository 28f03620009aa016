"""Mesh axes along the torus: which devices are neighbors."""

from typing import NamedTuple

import numpy as np
import pytest

from flan_jax.errors import InputError
from flan_jax.partitioning import torus

SIZES = {'data': 1, 'fsdp': 4, 'model': 32}
ALONG = 'fsdp=x2i.c model=x4.y'


class Device(NamedTuple):
  """A core of a chip, as libtpu describes it."""

  id: int
  coords: tuple[int, int, int]
  core_on_chip: int


def v3(x: int, y: int) -> list[Device]:
  """The cores of x by y chips."""
  places = [(i, j, c) for j in range(y) for i in range(x) for c in range(2)]
  return [Device(n, (i, j, 0), c) for n, (i, j, c) in enumerate(places)]


def test_an_axis_runs_over_the_parts_that_it_names():
  mesh = torus.arrange(v3(8, 8), along=ALONG, sizes=SIZES)
  assert mesh.shape == (1, 4, 32)
  gather = mesh[0, :, 0]  # two neighbors in x, both cores of each
  assert [(d.coords[0], d.core_on_chip) for d in gather] == [
    (0, 0), (0, 1), (1, 0), (1, 1),
  ]  # fmt: skip
  assert {d.coords[1] for d in gather} == {0}
  hold = mesh[0, 0]  # every second chip of x, and all of y
  assert sorted({d.coords[0] for d in hold}) == [0, 2, 4, 6]
  assert sorted({d.coords[1] for d in hold}) == list(range(8))
  assert {d.core_on_chip for d in hold} == {0}


def test_every_device_appears_once():
  mesh = torus.arrange(v3(8, 8), along=ALONG, sizes=SIZES)
  assert sorted(device.id for device in mesh.flat) == list(range(128))


def test_devices_without_coordinates_keep_their_order():
  """In a simulated mesh the axes have the same sizes, and there are no links."""
  mesh = torus.arrange(list(range(128)), along=ALONG, sizes=SIZES)
  np.testing.assert_array_equal(mesh.ravel(), np.arange(128))


@pytest.mark.parametrize(
  ('along', 'message'),
  [
    ('fsdp=x2i.c model=x4.z4', r'y, which has size 8; one must, as AXIS=y'),
    ('fsdp=x2i.c model=x2.y', r'x2 and x2i make 4, x has size 8; .* x4 and x2i'),
    ('fsdp=x2i model=x4.y', r'c, which has size 2'),
    ('fsdp=x.c model=y', r'makes data=1, fsdp=16, model=8; .* mesh data=1, fsdp=16'),
    ('rows=x2i.c model=x4.y', r"names axis 'rows'; the mesh has data, fsdp, model"),
    ('fsdp=x2i.c model=x2i.y', r"got 'x2i' twice"),
    ('fsdp=w', r"got 'fsdp=w'; must be AXIS=PART"),
  ],
)
def test_bad_placements_are_refused(along, message):
  with pytest.raises(InputError, match=message):
    torus.arrange(v3(8, 8), along=along, sizes=SIZES)
