"""The mapping of one decoder parameter to a tensor of a model file and back.

Patterns are those of einops, the file's tensor on the left: `(h c) d -> d h c` is a
projection to heads that torch stores as [out, in]. The letters are: v vocabulary,
d d_model, f d_ff, h heads, k KV heads, c channels of a head (t = 2 halves of j), n
parts of a fused tensor.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError


class Tensor(NamedTuple):
  """One decoder parameter and the tensor that holds it.

  Attributes:
    param: path of the parameter; `layers/...` is one tensor per layer in the file.
    tensor: name of the tensor; `{}` stands for the layer number.
    pattern: einops pattern, tensor -> parameter; '' if they have the same layout.
    part: index along axis `n` if the tensor fuses several parameters; the pattern then
      puts `n` first.
    num_parts: size of axis `n`.
    add: number added on import.
  """

  param: str
  tensor: str
  pattern: str = ''
  part: int | None = None
  num_parts: int = 1
  add: float = 0.0

  @property
  def layered(self) -> bool:
    return self.param.startswith('layers/')

  def name(self, layer: int | None) -> str:
    """Name of the tensor in a layer."""
    return self.tensor if layer is None else self.tensor.format(layer)

  def tensor_shape(
    self, shape: tuple[int, ...], sizes: Mapping[str, int]
  ) -> tuple[int, ...]:
    """Shape of the tensor if the parameter (of one layer) has shape `shape`."""
    if not self.pattern:
      return shape
    left = self.pattern.partition('->')[0]
    groups = re.findall(r'\(([^)]*)\)|(\w+)', left)
    sizes = {**sizes, 'n': self.num_parts}
    return tuple(math.prod(sizes[a] for a in (g or one).split()) for g, one in groups)

  def to_param(self, array: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """Returns the parameter (of one layer) that the tensor holds."""
    out = self._rearrange(array, self.pattern, sizes)
    if self.part is not None:
      out = out[self.part]
    return out + np.asarray(self.add, out.dtype) if self.add else out

  def to_tensor(
    self, parts: Iterable[np.ndarray], sizes: Mapping[str, int]
  ) -> np.ndarray:
    """Returns the tensor that holds the parameters (of one layer)."""
    parts = list(parts)
    array = parts[0] if self.part is None else np.stack(parts)
    left, _, right = self.pattern.partition(' -> ')
    return self._rearrange(array, f'{right} -> {left}' if self.pattern else '', sizes)

  def _rearrange(
    self, array: np.ndarray, pattern: str, sizes: Mapping[str, int]
  ) -> np.ndarray:
    if not pattern:
      return array
    try:
      import einops
    except ModuleNotFoundError:
      raise InputError("einops: not installed; pip install 'flan_jax[hf]'") from None
    sizes = {**sizes, 'n': self.num_parts}
    axes = set(re.findall(r'\w+', pattern))
    return einops.rearrange(array, pattern, **{a: sizes[a] for a in sorted(axes)})


def sizes(config: DecoderConfig) -> dict[str, int]:
  """Letter of the patterns -> size."""
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
