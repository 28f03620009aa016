"""Prompts: examples in words and tokens, fitted to a length. numpy only.

One function for all who ask: the store, the seqio Tasks, few-shot prompts and the
evaluator get the same tokens for the same example, template and length.
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
"""Rounds in which a cut that took off too much is made anew."""

_SLACK = 1 / 32
"""Part of the length that may stay empty after a cut, beside some letters of a word."""

_WORD = 32
"""A cut moves to the nearest blank if there is one so near, in characters."""


class Fitted(NamedTuple):
  """A prompt as it is tokenized.

  Attributes:
    text: the string.
    ids: its tokens, int32 [n], without BOS and EOS.
    cut: whether a field was cut to fit.
    exemplars: ids of the examples shown before it, in their order.
  """

  text: str
  ids: np.ndarray
  cut: bool
  exemplars: tuple[str, ...] = ()


def cuttable(dataset: Dataset, template: int) -> dict[str, int]:
  """Fields of a template's inputs that may be cut -> how often each occurs.

  Where the dataset declares its evidence and the template shows it, that field alone:
  the question beside it stays whole. Otherwise all but the answer and the parts of
  OPTIONS of a classification.
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
  field is cut from its far end; the field that holds the answer is cut around it.

  Args:
    dataset: the declaration.
    work: examples, each with the index of a template.
    tokenizer: of the prompts.
    max_tokens: for each, the most tokens it may have (without BOS and EOS).
    pool: shows exemplars before each prompt, as many as fit in its room and in
      few_shot.MAX_TOKENS (FLAN section 4.4); the same ones whoever asks. None: none.
    epoch: another epoch shows other exemplars.
    rendered: what `catalog.render` makes of each, where that is at hand.

  Returns:
    None for a prompt that is blank, or that no cut makes short enough without taking
    the answer away.
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
      # A pool shows nothing before a prompt that is too long by itself.
      long[i] = _Cut(dataset, *work[i], room=max_tokens[i], tokens=len(ids))
  if long:
    _cut(dataset, list(long.values()), tokenizer)
  for i, found in long.items():
    out[i] = found.best
  return out


class _Cut:
  """A prompt on its way to being short enough.

  Attributes:
    example, template: what is cut.
    room: most tokens of the prompt.
    counts: fields that may be cut -> how often each occurs.
    tokens: of each of these fields, in their order.
    excess: tokens to take off.
    best: the longest that fits so far.
    values: the fields as they are tried.
  """

  def __init__(
    self, dataset: Dataset, example: Example, template: int, *, room, tokens
  ):
    self.example, self.template, self.room = example, template, room
    self.counts = cuttable(dataset, template)
    self.tokens: list[int] = []
    self.excess: int = tokens - room
    self.best: Fitted | None = None
    self.values: dict[str, str] = {}

  def shorten(self, evidence: str | None) -> bool:
    """Takes `excess` tokens off the fields; False where that cannot be done."""
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
    """Looks at what came of `shorten`; whether another round is worth it."""
    over = len(ids) - self.room
    if over > 0:
      # Tokens are not spread evenly over a field: each round takes off more.
      self.excess += over + 2**attempt - 1
      return self.best is None
    if self.best is None or len(ids) > len(self.best.ids):
      self.best = Fitted(text, ids, True)
    spare = -over - int(self.room * _SLACK)
    self.excess -= spare
    return spare > _WORD // 4 and attempt < _REFINED


def _cut(dataset: Dataset, work: list[_Cut], tokenizer: Tokenizer) -> None:
  """Cuts fields until each prompt fits; all of a round are tokenized together."""
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
  """Tokens left of every field once `excess` are taken off the longest; None: too many.

  Fields longer than the largest sufficient cap are cut to it, but for those that can
  stay whole all the same.
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
  """The part of a text of about `keep` characters that holds the example's evidence.

  It is the beginning if that holds it. Otherwise its place is drawn by the example's
  name among all that hold it, so that the place does not tell where the answer is. An
  example without known evidence (an unanswerable question, a sum) is cut as if it had
  some, in a place drawn by its name: so a cut does not tell that there is an answer.

  Returns:
    '' where the evidence does not fit.
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
  """text[start:stop] without words cut at its ends, where a blank is near.

  text[first:last] is kept in any case.
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
