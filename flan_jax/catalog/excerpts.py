"""Excerpts: the beginning of a long text, as a declaration cuts it, by sentences."""

import itertools
import re
from collections.abc import Sequence

from flan_jax.catalog.fields import Clean


def sentence_ends(text: str, *, words: int | None = None) -> list[int]:
  """Where sentences of `text` end, as offsets, among its first `words` words."""
  found = itertools.islice(re.finditer(r'\S+', text), words)
  # Four letters before the stop: `Sen.` and `St.` do not end a sentence.
  return [w.end() for w in found if re.search(r'\w{4}[.!?]["\'”’)]*$', w.group())]


def opening(most: int) -> Clean:
  """The beginning of a text: whole sentences of at most `most` words together.

  Keeps long documents, and the instruction that follows them, inside the 1024 input
  tokens. Where the first sentence is longer than that it is cut at a word.
  """

  def clean(text: str) -> str:
    words = list(re.finditer(r'\S+', text))
    if len(words) <= most:
      return text
    ends = sentence_ends(text, words=most)
    return text[: ends[-1] if ends else words[most - 1].end()]

  clean.most_words = most
  return clean


def sentences(most: int) -> Clean:
  """The beginning of a text that is to be written: whole sentences, no part of one.

  At most `most` words together. A text whose first sentence is longer becomes empty:
  a template that has nothing else to write gives way to another.
  """

  def clean(text: str) -> str:
    if len(text.split()) <= most:
      return text
    ends = sentence_ends(text, words=most)
    return text[: ends[-1]] if ends else ''

  clean.most_words = most
  clean.by_sentences = True
  return clean


def evenly(most: int) -> Clean:
  """Texts cut to equal shares of `most` words, each on one line."""

  def clean(texts: Sequence[str]) -> list[str]:
    cut_short = opening(most // max(1, len(texts)))
    return [' '.join(cut_short(text).split()) for text in texts]

  clean.most_words = most
  return clean
