"""Mesh axes laid along the torus that the chips of a TPU slice form.

Which links carry a collective is decided here: an axis that lies along a whole
dimension of the torus has that dimension's links to itself.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flan_jax.errors import InputError

DIMENSIONS = 'xyzc'
"""Of a slice: three of chips, and the cores of a chip."""


class Factor(NamedTuple):
  """A dimension of the torus, or one of its two parts.

  Attributes:
    dimension: one of DIMENSIONS.
    size: of the part; None takes the whole dimension.
    inner: the part runs over neighbors; otherwise it strides over groups of them.
  """

  dimension: str
  size: int | None = None
  inner: bool = False

  def __str__(self):
    return f'{self.dimension}{self.size or ""}{"i" if self.inner else ""}'


def parse(text: str) -> dict[str, tuple[Factor, ...]]:
  """`fsdp=x2i.c model=x4.y`: mesh axis -> the factors that it runs over, slowest first.

  `x` is the whole dimension x; `x4` and `x2i` are its two parts where it is 8 long: 4
  groups of 2 neighbors, and the 2 in a group. `c` is the core on a chip.

  Raises:
    InputError: if the text is not of that form, or uses a part twice.
  """
  out: dict[str, tuple[Factor, ...]] = {}
  for word in text.split():
    axis, _, product = word.partition('=')
    factors = []
    for part in product.split('.'):
      found = re.fullmatch(r'([xyzc])(?:([1-9]\d*)(i?))?', part)
      if not found or not axis:
        raise InputError(
          f'Mesh.along: got {word!r}; must be AXIS=PART.PART of x, y, z, c (the core '
          'of a chip), whole (x) or cut into groups (x4) of neighbors (x2i), as in '
          "'fsdp=x2i.c model=x4.y'",
          field='Mesh.along',
        )
      factors.append(
        Factor(found[1], int(found[2]) if found[2] else None, bool(found[3]))
      )
    if axis in out:
      raise InputError(
        f'Mesh.along: {axis!r} stands twice; must stand once', field='Mesh.along'
      )
    out[axis] = tuple(factors)
  used = [str(factor) for factors in out.values() for factor in factors]
  for part in used:
    if used.count(part) > 1:
      raise InputError(
        f'Mesh.along: {part!r} stands twice; must stand once', field='Mesh.along'
      )
  return out


def grid(devices: Sequence[Any]) -> np.ndarray | None:
  """Devices by place, [x, y, z, c]; None where they have no place on a torus."""
  if not all(hasattr(device, 'coords') for device in devices):
    return None
  places = np.array([(*d.coords, d.core_on_chip) for d in devices])
  places -= places.min(axis=0)
  shape = tuple(places.max(axis=0) + 1)
  if np.prod(shape) != len(devices):
    return None
  out = np.empty(shape, object)
  for place, device in zip(places, devices, strict=True):
    out[tuple(place)] = device
  return out


def arrange(
  devices: Sequence[Any], *, along: str, sizes: Mapping[str, int]
) -> np.ndarray:
  """Devices as an array with one dimension per mesh axis.

  Args:
    devices: of a slice; those without a place on a torus (a simulated mesh) are taken
      in their own order.
    along: see `parse`.
    sizes: mesh axis -> devices along it, in the order of the mesh.

  Raises:
    InputError: if an axis of several devices is not laid, or a part does not fit.
  """
  axes = parse(along)
  for axis in axes:
    if axis not in sizes:
      raise InputError(
        f'Mesh.along: names axis {axis!r}; the mesh has {", ".join(sizes)}',
        field='Mesh.along',
      )
  places = grid(devices)
  if places is None:
    return np.asarray(devices).reshape(tuple(sizes.values()))
  lengths = dict(zip(DIMENSIONS, places.shape, strict=True))
  cut, parts = _cut(axes, lengths)
  spread = {
    axis: int(np.prod([parts[f] for f in axes.get(axis, ())], dtype=int))
    for axis in sizes
  }
  wrong = [axis for axis in sizes if spread[axis] != sizes[axis]]
  if wrong:
    told = ', '.join(f'{axis}={spread[axis]}' for axis in sizes)
    asked = ', '.join(f'{axis}={sizes[axis]}' for axis in sizes)
    raise InputError(
      f'Mesh.along: {along!r} over {describe(lengths)} makes {told}; the mesh is '
      f'{asked}; the nearest is the mesh {told}',
      field='Mesh.along',
    )
  order = [f for axis in sizes for f in axes.get(axis, ())]
  order += [f for f in parts if f not in order]  # of size 1
  places = places.reshape([parts[f] for f in cut])
  places = places.transpose([cut.index(f) for f in order])
  return places.reshape(tuple(sizes.values()))


def _cut(
  axes: Mapping[str, tuple[Factor, ...]], lengths: Mapping[str, int]
) -> tuple[list[Factor], dict[Factor, int]]:
  """(parts in the order of the grid, size of each)."""
  cut: list[Factor] = []
  for dimension, length in lengths.items():
    used = [f for fs in axes.values() for f in fs if f.dimension == dimension]
    used.sort(key=lambda f: f.inner)
    if not used:
      used = [Factor(dimension)]
      if length > 1:
        raise InputError(
          f'Mesh.along: no axis runs over {dimension}, which is {length} long; must be '
          'laid whole',
          field='Mesh.along',
        )
    product = int(np.prod([f.size or length for f in used]))
    if len(used) > 2 or [f.inner for f in used] not in ([False], [False, True]):
      raise InputError(
        f'Mesh.along: {dimension} is cut into {", ".join(map(str, used))}; must be '
        f'whole ({dimension}), or groups and what is in a group '
        f'({dimension}{max(1, length // 2)} and {dimension}2i)',
        field='Mesh.along',
      )
    if product != length:
      inner = used[-1].size or 1
      nearest = min(
        (n for n in range(1, length + 1) if length % n == 0),
        key=lambda n: abs(n - inner),
      )
      raise InputError(
        f'Mesh.along: {" and ".join(map(str, used))} make {product}, {dimension} is '
        f'{length} long; the nearest is {dimension}{length // nearest} and '
        f'{dimension}{nearest}i',
        field='Mesh.along',
      )
    cut += used
  return cut, {f: f.size or lengths[f.dimension] for f in cut}


def describe(lengths: Mapping[str, int]) -> str:
  """`a slice x=8, y=8, c=2`."""
  long = [f'{name}={length}' for name, length in lengths.items() if length > 1]
  return f'a slice {", ".join(long) or "of one core"}'
