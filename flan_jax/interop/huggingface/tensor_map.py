"""One tensor under two names: what it is called here and there, and how it is turned.

A turn is written as einops writes it, theirs on the left: `(h c) d -> d h c` is a
projection to heads that torch keeps as [out, in]. The letters stand for the same sizes
everywhere: V vocabulary, D d_model, F d_ff, H heads, K kv heads, C head dim, P learned
positions.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError


class Tensor(NamedTuple):
  """One of our parameters and where it is found.

  Attributes:
    ours: path of the parameter; `layers/...` are one tensor a layer elsewhere.
    theirs: its name there, `{}` standing for the number of the layer.
    turn: einops pattern, theirs -> ours; '' where they are alike.
    part: where one of their tensors holds several of ours, the turn gives an axis `n`
      first, and this is the place along it.
    of: how many they are.
    add: what is added on the way to ours.
  """

  ours: str
  theirs: str
  turn: str = ''
  part: int | None = None
  of: int = 1
  add: float = 0.0

  @property
  def layered(self) -> bool:
    return self.ours.startswith('layers/')

  def name(self, layer: int | None) -> str:
    """Their name of it in a layer."""
    return self.theirs if layer is None else self.theirs.format(layer)

  def their_shape(
    self, shape: tuple[int, ...], sizes: Mapping[str, int]
  ) -> tuple[int, ...]:
    """The shape it must have there, ours (of one layer) being `shape`."""
    if not self.turn:
      return shape
    left = self.turn.partition('->')[0]
    groups = re.findall(r'\(([^)]*)\)|(\w+)', left)
    sizes = {**sizes, 'n': self.of}
    return tuple(math.prod(sizes[a] for a in (g or one).split()) for g, one in groups)

  def to_ours(self, array: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """Our parameter (of one layer) from their tensor."""
    out = self._turned(array, self.turn, sizes)
    if self.part is not None:
      out = out[self.part]
    return out + np.asarray(self.add, out.dtype) if self.add else out

  def to_theirs(
    self, parts: Iterable[np.ndarray], sizes: Mapping[str, int]
  ) -> np.ndarray:
    """Their tensor from the parameters (of one layer) that it holds."""
    parts = list(parts)
    array = parts[0] if self.part is None else np.stack(parts)
    left, _, right = self.turn.partition(' -> ')
    return self._turned(array, f'{right} -> {left}' if self.turn else '', sizes)

  def _turned(
    self, array: np.ndarray, turn: str, sizes: Mapping[str, int]
  ) -> np.ndarray:
    if not turn:
      return array
    try:
      import einops
    except ModuleNotFoundError:
      raise InputError("einops: not installed; pip install 'flan_jax[hf]'") from None
    sizes = {**sizes, 'n': self.of}
    axes = set(re.findall(r'\w+', turn))
    return einops.rearrange(array, turn, **{a: sizes[a] for a in sorted(axes)})


def sizes(config: DecoderConfig) -> dict[str, int]:
  """The letters of turns -> their sizes."""
  return {
    'v': config.vocab_size,
    'd': config.d_model,
    'f': config.d_ff,
    'h': config.num_heads,
    'k': config.num_kv_heads,
    'c': config.head_dim,
    'j': config.head_dim // 2,
    't': 2,
  }
