"""Tokenizer coverage: counts the text of a dataset that a tokenizer cannot represent.

A vocabulary may lack letters, which become unknown tokens, and may erase newlines or
braces without a trace. Unknown tokens are counted in all examples; one example in
CHECKED is decoded and compared with its text.
"""

import collections
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flan_jax.data.preprocess import RenderedExample
from flan_jax.data.tokenizers import Tokenizer

CHECKED = 8
"""One example in CHECKED is decoded: all would slow materialization by about half."""

_NAMED = 3


class CoverageCounter:
  """Counts unknown tokens and changed examples of one dataset.

  Attributes:
    tokenizer: tokenizer of the examples.
  """

  def __init__(self, tokenizer: Tokenizer):
    self.tokenizer = tokenizer
    self._counts = collections.Counter(inputs=0, targets=0, checked=0, changed=0)
    self._seen = 0

  def add(self, rendered: RenderedExample, *, texts: bool = True) -> None:
    """Counts one example; with `texts`, its tokens should decode to its prompt."""
    example, prompt = rendered.tokens, rendered.prompt
    unk_id = self.tokenizer.unk_id
    if unk_id is not None:
      self._counts['inputs'] += int(np.count_nonzero(example.inputs == unk_id))
      self._counts['targets'] += int(np.count_nonzero(example.targets == unk_id))
    if texts and self._seen % CHECKED == 0:
      kept = self.tokenizer.keeps(prompt.inputs, example.inputs.tolist())
      if kept and not rendered.cut_targets:
        kept = self.tokenizer.keeps(prompt.targets, example.targets.tolist())
      self._counts['checked'] += 1
      self._counts['changed'] += not kept
    self._seen += 1

  def as_json(self) -> dict[str, Any]:
    """{"unknown": {"inputs", "targets"}, "checked", "changed"}.

    Unknown tokens of inputs and targets; examples that were decoded, and those of them
    that decoded to another text.
    """
    unknown = {side: self._counts[side] for side in ('inputs', 'targets')}
    return {
      'unknown': unknown,
      'checked': self._counts['checked'],
      'changed': self._counts['changed'],
    }


def total(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  """Sums several `CoverageCounter.as_json`."""
  parts = list(parts)
  return {
    'unknown': {
      side: sum(part['unknown'][side] for part in parts)
      for side in ('inputs', 'targets')
    },
    'checked': sum(part['checked'] for part in parts),
    'changed': sum(part['changed'] for part in parts),
  }


_PROBE = ' \tTwo  blanks,\n\na tab; é ﬁ ½ 漢字 🙂 \u200b\u2581 {a} <b> </s> ~\\ '
"""Text with what vocabularies lack, normalize, or erase."""


def is_lossless(tokenizer: Tokenizer) -> bool:
  """Tells if a tokenizer gives back any text as it was, blanks at its ends included."""
  return tokenizer.decode(tokenizer.encode(_PROBE)) == _PROBE


def shares(entry: Mapping[str, Any]) -> tuple[float, float]:
  """Shares (unknown of all tokens, changed of checked examples) of a dataset.

  Args:
    entry: entry of the dataset in a manifest.
  """
  lost = entry['losses']
  unknown = sum(lost['unknown'].values()) / max(1, sum(entry['tokens'].values()))
  return unknown, lost['changed'] / max(1, lost['checked'])


def warning(manifest: Mapping[str, Any]) -> str | None:
  """One line that names the datasets that lose most text; None if none loses any."""
  found = {name: shares(entry) for name, entry in manifest['datasets'].items()}
  lossy = [name for name, share in found.items() if any(share)]
  if not lossy:
    return None
  lossy.sort(key=found.__getitem__, reverse=True)
  named = '; '.join(
    f'{name} ({found[name][0]:.1%} of tokens unknown, {found[name][1]:.1%} of examples '
    'changed by a round trip)'
    for name in lossy[:_NAMED]
  )
  more = len(lossy) - _NAMED
  rest = f'; and {more} more, listed in manifest.json' if more > 0 else ''
  return (
    f'warning: tokenizer {manifest["tokenizer"]["name"]} loses text of {len(lossy)} of '
    f'{len(found)} datasets: {named}{rest}'
  )
