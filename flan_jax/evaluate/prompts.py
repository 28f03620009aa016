"""Prompts: evaluation rows in words and tokens, fitted to the limits.

A prompt that is too long keeps its instruction and its OPTIONS whole: its fields are
cut from their far ends, the longest first, and the row is rendered again. numpy only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax import catalogue
from flan_jax.catalogue import Dataset, Row
from flan_jax.data import rendering
from flan_jax.data.exemplars import TOKENS, Pool, Shown
from flan_jax.data.tokenizer import Tokenizer

_EPOCH = 0
"""Evaluation reads every row once: the exemplars of the first epoch."""

_WORD = 32
"""A cut goes back to the last blank if it is this near, in characters."""


class Fitted(NamedTuple):
  """A prompt as it is tokenised.

  Attributes:
    text: the string.
    ids: its tokens, int32 [n], without BOS and EOS.
    cut: whether a field was cut to fit.
    exemplars: ids of the rows shown before it, in their order.
  """

  text: str
  ids: np.ndarray
  cut: bool
  exemplars: tuple[str, ...] = ()


def fit(
  dataset: Dataset,
  work: Sequence[tuple[Row, int]],
  *,
  tokenizer: Tokenizer,
  rooms: Sequence[int],
  pool: Pool | None = None,
) -> list[Fitted | None]:
  """Renders and tokenises each (row, template).

  Args:
    dataset: the declaration.
    work: rows, each with the index of a template.
    tokenizer: of the prompts.
    rooms: for each, the most tokens it may have (without BOS and EOS).
    pool: shows exemplars before each prompt, as many as fit in its room and in
      exemplars.TOKENS (FLAN section 4.4); the same ones whoever asks. None: none.

  Returns:
    None for a prompt that is blank, or that no cut makes short enough.
  """
  if pool is None:
    shown = [
      Shown(catalogue.render(dataset, template, row), ()) for row, template in work
    ]
  else:
    shown = [
      pool.prompt(row, template, _EPOCH, most=min(TOKENS, room))
      for (row, template), room in zip(work, rooms, strict=True)
    ]
  texts = [each.prompt.inputs for each in shown]
  encoded = tokenizer.encode_batch(texts)
  out: list[Fitted | None] = []
  for (row, template), each, ids, room in zip(work, shown, encoded, rooms, strict=True):
    text = each.prompt.inputs
    if not text.strip():
      out.append(None)
    elif len(ids) <= room:
      out.append(Fitted(text, ids, False, each.exemplars))
    else:
      out.append(_cut(dataset, template, row, tokenizer=tokenizer, room=room))
  return out


def _cut(
  dataset: Dataset, template: int, row: Row, *, tokenizer: Tokenizer, room: int
) -> Fitted | None:
  """The prompt with its fields capped at the most characters that fit; or None."""
  fields = rendering.cuttable(dataset, template)

  def capped(cap: int) -> Fitted:
    values = {name: _head(row.values[name], cap) for name in fields}
    shorter = row._replace(values={**row.values, **values})
    text = catalogue.render(dataset, template, shorter).inputs
    return Fitted(text, tokenizer.encode_batch([text])[0], True)

  best = None
  low, high = 1, max((len(row.values[name]) for name in fields), default=0) - 1
  while low <= high:
    middle = (low + high) // 2
    found = capped(middle)
    if len(found.ids) <= room:
      best, low = found, middle + 1
    else:
      high = middle - 1
  return best


def _head(text: str, cap: int) -> str:
  """The first `cap` characters, back to the end of a word if one is near."""
  if len(text) <= cap:
    return text
  head = text[:cap]
  if not text[cap].isspace():
    blank = max(head.rfind(' '), head.rfind('\n'))
    if blank > cap - _WORD:
      head = head[: max(blank, 0)]
  return head.rstrip()
