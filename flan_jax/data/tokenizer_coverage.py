"""CoverageCounter: what a tokenizer cannot give back of the text that it is given.

A vocabulary may lack letters, which become unknown tokens, and may erase newlines or
braces without a trace. Unknown tokens are counted in all examples; every CHECKED-th
example is decoded again and compared with its text.
"""

import collections
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flan_jax.data.preprocess import RenderedExample
from flan_jax.data.tokenizers import Tokenizer

CHECKED = 8
"""One example in so many is decoded: all would slow materialization by about half."""

_NAMED = 3


class CoverageCounter:
  """Counts the losses of one dataset.

  Attributes:
    tokenizer: of the examples.
  """

  def __init__(self, tokenizer: Tokenizer):
    self.tokenizer = tokenizer
    self._counts = collections.Counter(inputs=0, targets=0, checked=0, changed=0)
    self._seen = 0

  def add(self, rendered: RenderedExample) -> None:
    """Counts one example."""
    example, prompt = rendered.tokens, rendered.prompt
    unk_id = self.tokenizer.unk_id
    if unk_id is not None:
      self._counts['inputs'] += int(np.count_nonzero(example.inputs == unk_id))
      self._counts['targets'] += int(np.count_nonzero(example.targets == unk_id))
    if self._seen % CHECKED == 0:
      kept = self.tokenizer.keeps(prompt.inputs, example.inputs.tolist())
      if kept and not rendered.cut_targets:
        kept = self.tokenizer.keeps(prompt.targets, example.targets.tolist())
      self._counts['checked'] += 1
      self._counts['changed'] += not kept
    self._seen += 1

  def as_json(self) -> dict[str, Any]:
    """{"unknown": {"inputs", "targets"}, "checked", "changed"}.

    Unknown tokens of inputs and targets; examples decoded again, and those of them
    that came back as another text.
    """
    unknown = {side: self._counts[side] for side in ('inputs', 'targets')}
    return {
      'unknown': unknown,
      'checked': self._counts['checked'],
      'changed': self._counts['changed'],
    }


def total(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  """The sum of several `CoverageCounter.as_json`."""
  parts = list(parts)
  return {
    'unknown': {
      side: sum(part['unknown'][side] for part in parts)
      for side in ('inputs', 'targets')
    },
    'checked': sum(part['checked'] for part in parts),
    'changed': sum(part['changed'] for part in parts),
  }


def shares(entry: Mapping[str, Any]) -> tuple[float, float]:
  """(unknown tokens of all tokens, changed examples of those checked) of a dataset.

  Args:
    entry: what a manifest says of the dataset.
  """
  lost = entry['losses']
  unknown = sum(lost['unknown'].values()) / max(1, sum(entry['tokens'].values()))
  return unknown, lost['changed'] / max(1, lost['checked'])


def warning(manifest: Mapping[str, Any]) -> str | None:
  """One line that names the datasets of a store that lose most; None if none does."""
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
  rest = f'; and {more} more, all in manifest.json' if more > 0 else ''
  return (
    f'warning: tokenizer {manifest["tokenizer"]["name"]} loses text of {len(lossy)} of '
    f'{len(found)} datasets: {named}{rest}'
  )
