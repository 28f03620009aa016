"""The seam: where an option goes on from its prompt, in the tokens of one text.

A prompt and an option that are read as one text are tokenized as one. Tokenized apart,
an option may begin with tokens that never stand in the middle of a text: many
tokenizers put a blank before whatever they are given. numpy only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.data.tokenizers import Tokenizer


class Joined(NamedTuple):
  """A prompt and its options, tokenized as the texts that they make together.

  Attributes:
    prompt: int32 [n], the tokens that the prompt and all joined texts begin with.
    options: for each option int32 [m], the rest of its joined text: `prompt` and these
      are the tokens of that text, whole.
  """

  prompt: np.ndarray
  options: tuple[np.ndarray, ...]

  @property
  def longest(self) -> int:
    """Tokens of the longest joined text."""
    return len(self.prompt) + max((len(option) for option in self.options), default=0)


def join(
  work: Sequence[tuple[str, Sequence[str]]], tokenizer: Tokenizer
) -> list[Joined]:
  """Tokenizes each (prompt, options), every option as `prompt + option`.

  Where a joined text is not the prompt's tokens and more, because tokens merge at the
  seam, the prompt ends before the merged token for all of its options: so each score
  is the log-probability of a whole text after the same beginning, and options are
  compared on one footing.
  """
  texts = [
    text
    for prompt, options in work
    for text in (prompt, *(prompt + option for option in options))
  ]
  encoded = iter(tokenizer.encode_batch(texts))
  out = []
  for _, options in work:
    alone = next(encoded)
    whole = [next(encoded) for _ in options]
    shared = min((_in_common(alone, ids) for ids in whole), default=len(alone))
    out.append(Joined(alone[:shared], tuple(ids[shared:] for ids in whole)))
  return out


def _in_common(first: np.ndarray, second: np.ndarray) -> int:
  """How many tokens both begin with."""
  n = min(len(first), len(second))
  apart = np.flatnonzero(first[:n] != second[:n])
  return int(apart[0]) if len(apart) else n
