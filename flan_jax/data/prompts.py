"""Prompts: examples as text and tokens, cut to a length. numpy only.

The store, the seqio Tasks, few-shot prompts and the evaluator all use `fit`, so the
same example, template and length give the same tokens everywhere.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.answers import Choice
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.prompt import Prompt
from flan_jax.data import stable_hash
from flan_jax.data.few_shot import MAX_TOKENS, FewShotPool
from flan_jax.data.tokenizers import Tokenizer

_ROUNDS = 16
_REFINED = 3
"""Rounds in which a cut that took off too much is repeated."""

_SLACK = 1 / 32
"""Share of the length that may stay empty after a cut, beside some letters."""

_WORD = 32
"""Maximum distance, in characters, that a cut moves to the nearest blank."""


class Fitted(NamedTuple):
  """A prompt and its tokens.

  Attributes:
    text: the prompt, exemplars included.
    ids: token ids of the text, int32 [n], without BOS and EOS.
    cut: whether a field was cut to fit.
    exemplars: ids of the few-shot exemplars before it, in order.
  """

  text: str
  ids: np.ndarray
  cut: bool
  exemplars: tuple[str, ...] = ()


def cuttable(dataset: Dataset, template: int) -> dict[str, int]:
  """Fields of a template's inputs that may be cut -> number of occurrences.

  If the dataset declares an evidence field and the template shows it, only that field:
  the question beside it stays whole. Otherwise all fields but the answer and, for a
  classification, those in OPTIONS.
  """
  text = dataset.templates[template].inputs
  kept = {template_lib.OPTIONS}
  if dataset.has_options:
    kept.add('answer')
  if isinstance(dataset.answer, Choice) and not isinstance(dataset.answer.options, str):
    kept.update(
      n for option in dataset.answer.options for n in template_lib.names(option)
    )
  found = [name for _, name in template_lib.parse(text) if name is not None]
  if dataset.evidence is not None and dataset.evidence.field in found:
    return {dataset.evidence.field: found.count(dataset.evidence.field)}
  return {name: found.count(name) for name in found if name not in kept}


def fit(
  dataset: Dataset,
  work: Sequence[tuple[Example, int]],
  *,
  tokenizer: Tokenizer,
  max_tokens: Sequence[int],
  pool: FewShotPool | None = None,
  epoch: int = 0,
  rendered: Sequence[Prompt] | None = None,
) -> list[Fitted | None]:
  """Renders and tokenizes each (example, template).

  A prompt that is too long keeps its instruction and its OPTIONS whole. Its longest
  field is cut from the end; the field that holds the answer is cut around it.

  Args:
    dataset: the declaration.
    work: examples, each with the index of a template.
    tokenizer: tokenizer of the prompts.
    max_tokens: maximum tokens of each prompt, without BOS and EOS.
    pool: pool of few-shot exemplars; each prompt shows as many as fit in its limit and
      in few_shot.MAX_TOKENS (FLAN section 4.4). None for zero-shot.
    epoch: number of the epoch; each shows other exemplars.
    rendered: zero-shot prompts, if they are rendered already.

  Returns:
    The prompts; None for one that is blank, or that no cut makes short enough without
    losing the answer.
  """
  exemplars: Sequence[tuple[str, ...]] = [()] * len(work)
  if pool is not None:
    shown = [
      pool.prompt(example, template, epoch, max_tokens=min(MAX_TOKENS, limit))
      for (example, template), limit in zip(work, max_tokens, strict=True)
    ]
    rendered = [each.prompt for each in shown]
    exemplars = [each.exemplars for each in shown]
  elif rendered is None:
    rendered = [
      prompt_lib.render(dataset, template, example) for example, template in work
    ]
  texts = [prompt.inputs for prompt in rendered]
  encoded = tokenizer.encode_batch(texts)
  out: list[Fitted | None] = [None] * len(work)
  long: dict[int, _Cut] = {}
  for i, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
    if not text.strip():
      continue
    if len(ids) <= max_tokens[i]:
      out[i] = Fitted(text, ids, False, exemplars[i])
    else:
      # A pool shows no exemplar before a prompt that is too long by itself.
      long[i] = _Cut(dataset, *work[i], max_tokens=max_tokens[i], tokens=len(ids))
  if long:
    _cut(dataset, list(long.values()), tokenizer)
  for i, found in long.items():
    out[i] = found.best
  return out


class _Cut:
  """A search for the longest cut of a prompt that fits.

  Attributes:
    example, template: example and template of the prompt.
    max_tokens: maximum tokens of the prompt.
    counts: fields that may be cut -> number of occurrences.
    tokens: tokens of each of these fields, in order.
    excess: number of tokens to remove.
    best: the longest prompt that fits so far.
    values: cut fields of this round.
  """

  def __init__(
    self, dataset: Dataset, example: Example, template: int, *, max_tokens, tokens
  ):
    self.example, self.template, self.max_tokens = example, template, max_tokens
    self.counts = cuttable(dataset, template)
    self.tokens: list[int] = []
    self.excess: int = tokens - max_tokens
    self.best: Fitted | None = None
    self.values: dict[str, str] = {}

  def shorten(self, evidence: str | None) -> bool:
    """Removes `excess` tokens from the fields; returns False if it cannot."""
    caps = _caps(self.tokens, list(self.counts.values()), self.excess)
    if caps is None:
      return False
    self.values = {}
    for name, n, cap in zip(self.counts, self.tokens, caps, strict=True):
      text = self.example.values[name]
      if n > cap:
        keep = min(len(text) - 1, len(text) * cap // n)
        if name == evidence:
          text = around(text, keep, self.example)
        else:
          text = _part(text, 0, keep)
        if not text:
          return False
      self.values[name] = text
    return True

  def take(self, text: str, ids: np.ndarray, attempt: int) -> bool:
    """Takes the tokens of a cut prompt; tells if another round is worthwhile."""
    over = len(ids) - self.max_tokens
    if over > 0:
      # Tokens are not spread evenly over a field: each round removes more.
      self.excess += over + 2**attempt - 1
      return self.best is None
    if self.best is None or len(ids) > len(self.best.ids):
      self.best = Fitted(text, ids, True)
    spare = -over - int(self.max_tokens * _SLACK)
    self.excess -= spare
    return spare > _WORD // 4 and attempt < _REFINED


def _cut(dataset: Dataset, work: list[_Cut], tokenizer: Tokenizer) -> None:
  """Cuts fields until each prompt fits; tokenizes the prompts of a round together."""
  evidence = None if dataset.evidence is None else dataset.evidence.field
  names = [(each, name) for each in work for name in each.counts]
  encoded = tokenizer.encode_batch([each.example.values[name] for each, name in names])
  for (each, _), ids in zip(names, encoded, strict=True):
    each.tokens.append(len(ids))
  for attempt in range(_ROUNDS):
    work = [each for each in work if each.shorten(evidence)]
    if not work:
      return
    texts = [_text(dataset, each.template, each.example, each.values) for each in work]
    encoded = tokenizer.encode_batch(texts)
    work = [
      each
      for each, text, ids in zip(work, texts, encoded, strict=True)
      if each.take(text, ids, attempt)
    ]


def _text(
  dataset: Dataset, template: int, example: Example, values: Mapping[str, str]
) -> str:
  changed = example._replace(values={**example.values, **values})
  return prompt_lib.render(dataset, template, changed).inputs


def _caps(
  lengths: Sequence[int], counts: Sequence[int], excess: int
) -> list[int] | None:
  """Tokens to keep of each field to remove `excess` in all; None if impossible.

  Fields longer than the largest sufficient cap are cut to it, except those that can
  stay whole nevertheless.
  """
  lo, hi = 0, max(lengths, default=0)
  while lo < hi:
    cap = (lo + hi + 1) // 2
    off = sum(c * max(0, n - cap) for n, c in zip(lengths, counts, strict=True))
    lo, hi = (cap, hi) if off >= excess else (lo, cap - 1)
  if lo < 1:
    return None
  off = [c * max(0, n - lo) for n, c in zip(lengths, counts, strict=True)]
  spare = sum(off) - excess
  caps = [min(n, lo) for n in lengths]
  for i in sorted(range(len(off)), key=off.__getitem__):
    if off[i] <= spare:
      spare -= off[i]
      caps[i] = lengths[i]
  return caps


def around(text: str, keep: int, example: Example) -> str:
  """Cuts a text to about `keep` characters that contain the example's evidence.

  The cut keeps the beginning if that contains the evidence. Otherwise a hash of the
  example's id draws the window, so that its place does not reveal the answer's. An
  example without known evidence (an unanswerable question, a sum) is cut as if it had
  some at a drawn place, so that a cut does not reveal whether there is an answer.

  Returns:
    The part; '' if the evidence does not fit.
  """
  place = stable_hash.key('evidence', example.example_id) % len(text)
  first, last = example.answer.span or (place, place)
  if last - first > keep:
    return ''
  if last <= keep:
    return _part(text, 0, keep, last=last)
  low, high = max(0, last - keep), min(first, len(text) - keep)
  start = low + stable_hash.key('window', example.example_id) % (high - low + 1)
  return _part(text, start, start + keep, first=first, last=last)


def _part(
  text: str, start: int, stop: int, *, first: int | None = None, last: int = 0
) -> str:
  """text[start:stop], without cut words at its ends if a blank is near.

  It always contains text[first:last].
  """
  if start and not text[start - 1].isspace():
    limit = min(start + _WORD, stop if first is None else first)
    start = min(
      (at + 1 for at in (text.find(b, start, limit) for b in ' \n') if at >= 0),
      default=start,
    )
  if stop < len(text) and not text[stop].isspace():
    blank = max(text.rfind(' ', start, stop), text.rfind('\n', start, stop))
    if blank > stop - _WORD and blank >= last:
      stop = blank
  return text[start:stop].strip() if start else text[start:stop].rstrip()
