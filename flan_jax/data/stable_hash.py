"""Seeded draws that are the same on every machine and in every library version.

Nothing here depends on position, process or numpy's generators: a draw is a hash of
its names and can be repeated from the names alone.
"""

import hashlib
import math

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def key(*names: int | str | None, size: int = 8) -> int:
  """Hashes `names` (blake2b) to an integer of `size` bytes."""
  text = '\x1f'.join(str(name) for name in names)
  digest = hashlib.blake2b(text.encode('utf-8'), digest_size=size).digest()
  return int.from_bytes(digest, 'little')


def template_order(
  seed: int, example_id: str, count: int, *, cycle: int = 0
) -> tuple[int, ...]:
  """Order in which an example uses the `count` templates: a seeded permutation.

  Args:
    seed: template seed.
    example_id: stable id of the example.
    count: number of templates.
    cycle: number of earlier passes over all templates; each has its own order.
  """
  # 128 bits against count! (10! < 2**22): the bias of the remainder is below 2**-100.
  number = key(seed, example_id, cycle, size=16) % math.factorial(count)
  left = list(range(count))
  order = []
  for remaining in range(count, 0, -1):
    number, choice = divmod(number, remaining)
    order.append(left.pop(choice))
  return tuple(order)


def template(seed: int, example_id: str, epoch: int, count: int) -> int:
  """Index of the template that an example is rendered with in `epoch`.

  It is uniform over the templates in every epoch. Any `count` successive epochs that
  start at a multiple of `count` use each template once.
  """
  cycle, step = divmod(epoch, count)
  return template_order(seed, example_id, count, cycle=cycle)[step]


def permutation(size: int, *names: int | str) -> np.ndarray:
  """Draws a permutation of `range(size)` from `names`, int64 [size].

  Sorts splitmix64 hashes of the indices. The hash is a bijection, so there are no
  ties, and the order does not depend on numpy's generator streams, which may change
  between versions.
  """
  with np.errstate(over='ignore'):
    hashed = np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN + np.uint64(key(*names))
    hashed = (hashed ^ (hashed >> np.uint64(30))) * _MIX_1
    hashed = (hashed ^ (hashed >> np.uint64(27))) * _MIX_2
    hashed ^= hashed >> np.uint64(31)
  return np.argsort(hashed, kind='stable')
