"""Prompts shared by evaluations of several models on the same examples."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from flan_jax.data.prompts import Fitted
from flan_jax.evaluate.prompt_spec import PromptSpec

LIMIT = 2**30
"""Bytes of prompts that are kept."""

Prompts = tuple[list[Fitted | None], Any]
"""Prompts of a block, and the warnings about them."""


@dataclasses.dataclass
class PromptCache:
  """Prompts that were made once, for models of equal tokenizer and lengths.

  All evaluations that share it must have the same protocol, datasets and examples.

  Attributes:
    limit: bytes of prompts to keep; later ones are made again.
    made: blocks of prompts that were made rather than found.
  """

  limit: int = LIMIT
  made: int = 0
  _specs: dict[Hashable, PromptSpec] = dataclasses.field(default_factory=dict)
  _blocks: dict[Hashable, Prompts] = dataclasses.field(default_factory=dict)
  _bytes: int = 0

  def spec(self, key: Hashable, make: Callable[[], PromptSpec]) -> PromptSpec:
    """Returns the spec of a key, made once."""
    if key not in self._specs:
      self._specs[key] = make()
    return self._specs[key]

  def block(self, key: Hashable, make: Callable[[], Prompts]) -> Prompts:
    """Returns the prompts of a key; makes those that are not kept."""
    found = self._blocks.get(key)
    if found is None:
      found = make()
      self.made += 1
      if (size := _bytes(found[0])) + self._bytes <= self.limit:
        self._blocks[key] = found
        self._bytes += size
    return found


def _bytes(prompts: Sequence[Fitted | None]) -> int:
  return sum(len(p.text) + p.ids.nbytes for p in prompts if p is not None)
