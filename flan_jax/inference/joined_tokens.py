"""Joined tokens: a prompt and its options, tokenized as one text. numpy only.

If an option continues its prompt, both are tokenized together. Tokenized apart, an
option may begin with tokens that never occur inside a text: many tokenizers put a
blank before any text.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.data.tokenizers import Tokenizer


class Joined(NamedTuple):
  """A prompt and its options, as tokens of the joined texts.

  Attributes:
    prompt: int32 [n], tokens that the prompt and all joined texts begin with.
    options: for each option int32 [m], the rest of its joined text; `prompt` and these
      are all of its tokens.
  """

  prompt: np.ndarray
  options: tuple[np.ndarray, ...]

  @property
  def max_length(self) -> int:
    """Tokens of the longest joined text."""
    return len(self.prompt) + max((len(option) for option in self.options), default=0)


def join(
  requests: Sequence[tuple[str, Sequence[str]]], tokenizer: Tokenizer
) -> list[Joined]:
  """Tokenizes each (prompt, options), every option as `prompt + option`.

  If tokens merge where prompt and option meet, the prompt ends before the merged token
  for all of its options. Each score is then the log-probability of a whole text after
  the same beginning, so options are comparable.
  """
  texts = [
    text
    for prompt, options in requests
    for text in (prompt, *(prompt + option for option in options))
  ]
  encoded = iter(tokenizer.encode_batch(texts))
  out = []
  for _, options in requests:
    alone = next(encoded)
    out.append(of_tokens(alone, [next(encoded) for _ in options]))
  return out


def of_tokens(alone: np.ndarray, whole: Sequence[np.ndarray]) -> Joined:
  """Cuts the tokens of joined texts where the prompt, tokenized alone, ends."""
  shared = min((_common_prefix(alone, ids) for ids in whole), default=len(alone))
  return Joined(alone[:shared], tuple(ids[shared:] for ids in whole))


def _common_prefix(first: np.ndarray, second: np.ndarray) -> int:
  """Number of leading tokens that both share."""
  n = min(len(first), len(second))
  apart = np.flatnonzero(first[:n] != second[:n])
  return int(apart[0]) if len(apart) else n
