"""TPU slices by name."""

import math

import pytest

from flan_jax.errors import InputError
from flan_jax.tpu.plan import topology


@pytest.mark.parametrize(
  ('text', 'name', 'chips', 'cores'),
  [
    ('v3:8x8', 'v3:8x8', 64, 128),
    ('v3-128', 'v3:8x8', 64, 128),
    ('v4:4x4x4', 'v4:4x4x4', 64, 64),
    ('v5e:1x1', 'v5e:1x1', 1, 1),
    ('v5litepod-16', 'v5e:4x4', 16, 16),
    ('v5p-128', 'v5p:4x4x4', 64, 64),
    ('v6e-256', 'v6e:16x16', 256, 256),
  ],
)
def test_a_slice_is_named_by_its_sides_or_its_size(text, name, chips, cores):
  found = topology.parse(text)
  assert (found.name, found.chips, found.cores) == (name, chips, cores)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('v3:8x9', r'no such slice of the 2-dimensional v3; the nearest are v3:8x8'),
    ('v3-130', r'the nearest are v3:8x8 \(64 chips\), v3:8x16'),
    ('v4:4x4', r'3-dimensional v4; the nearest are v4:2x2x4 \(16 chips\)'),
    ('v9:2x2', r'must be a generation and its sides, e.g. v3:'),
    ('here', r'must be a generation and its sides'),
  ],
)
def test_an_error_names_the_nearest_slices(text, message):
  with pytest.raises(InputError, match=message):
    topology.parse(text)


@pytest.mark.parametrize('generation', topology.CHIPS)
def test_slices_are_sorted_by_size(generation):
  chips = [math.prod(sides) for sides in topology.shapes(generation)]
  assert chips == sorted(chips)
  assert chips[0] == 1
