"""Excerpts: the beginning of a long text, cut at the end of a sentence."""

import itertools
import re
from collections.abc import Sequence

from flan_jax.catalog.fields import Clean


def sentence_ends(text: str, *, words: int | None = None) -> list[int]:
  """Offsets at which sentences end among the first `words` words of `text`."""
  found = itertools.islice(re.finditer(r'\S+', text), words)
  # Four letters before the stop: `Sen.` and `St.` do not end a sentence.
  return [w.end() for w in found if re.search(r'\w{4}[.!?]["\'”’)]*$', w.group())]


def opening(max_words: int) -> Clean:
  """The beginning of a text: whole sentences of at most `max_words` words together.

  Keeps long documents, and the instruction that follows them, inside the 1024 input
  tokens. A first sentence that is longer is cut at a word.
  """

  def clean(text: str) -> str:
    words = list(re.finditer(r'\S+', text))
    if len(words) <= max_words:
      return text
    ends = sentence_ends(text, words=max_words)
    return text[: ends[-1] if ends else words[max_words - 1].end()]

  clean.max_words = max_words
  return clean


def sentences(max_words: int) -> Clean:
  """The beginning of a target text: whole sentences of at most `max_words` words.

  A text with a longer first sentence becomes empty; if the template has no other
  target, another template is drawn.
  """

  def clean(text: str) -> str:
    if len(text.split()) <= max_words:
      return text
    ends = sentence_ends(text, words=max_words)
    return text[: ends[-1]] if ends else ''

  clean.max_words = max_words
  clean.by_sentences = True
  return clean


def evenly(max_words: int) -> Clean:
  """Texts cut to equal shares of `max_words` words, each on one line."""

  def clean(texts: Sequence[str]) -> list[str]:
    cut_short = opening(max_words // max(1, len(texts)))
    return [' '.join(cut_short(text).split()) for text in texts]

  clean.max_words = max_words
  return clean
