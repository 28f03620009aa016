"""Contamination: evaluation examples that stand, in part, in a text that a model has read.

A row is dirty where one of its n-grams of words occurs in a suspect text (FLAN appendix
C, after GPT-3's: 13 words; a shorter field of 8 words or more counts as a whole). The
examples are indexed and the suspects streamed past them, so that memory is bounded by what
is evaluated, however long the texts. numpy only.
"""

import functools
import gzip
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flan_jax.catalog.dataset import Example
from flan_jax.data.store import store as store_lib
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress

SHORTEST = 8
"""Fewest words that are looked for: shorter phrases occur by chance."""

TEXTS = ('.txt', '.md', '.jsonl')
"""Names of text files end so, or in .gz after that."""

_BUFFER = 1 << 20
"""Characters of a file read at once."""

_RECORDS = 1024
"""Examples of a store read at once."""

_WORD = re.compile(r'\w+')


class Overlap(NamedTuple):
  """What was found of one dataset.

  Attributes:
    contaminated: bool [N], examples of which an n-gram occurs in a suspect.
    judged: bool [N], examples with a field long enough to look for.
    share: float64 [N], the part of a row's n-grams that occur; 0 where none is judged.
  """

  contaminated: np.ndarray
  judged: np.ndarray
  share: np.ndarray


class Found(NamedTuple):
  """What `look_up` returns.

  Attributes:
    ngram: words of an n-gram.
    against: the suspects, by name.
    words: words read of them.
    datasets: dataset -> what was found of its reported split.
  """

  ngram: int
  against: tuple[str, ...]
  words: int
  datasets: Mapping[str, Overlap]


class StoreTexts:
  """The rendered examples of a store, every epoch of them."""

  def __init__(self, path: str):
    self.name = path
    self._store = Store.open(path)

  def __iter__(self) -> Iterator[str]:
    store = self._store
    tokenizer = store.tokenizer()
    for dataset in store.datasets:
      count = store.num_examples(dataset) * store.rendered[dataset]
      for start in range(0, count, _RECORDS):
        entries = range(start, min(start + _RECORDS, count))
        for example in store.examples(dataset, entries):
          yield tokenizer.decode(example.tokens.inputs)
          yield tokenizer.decode(example.tokens.targets)


class FolderTexts:
  """The texts below a folder: .txt, .md, .jsonl (every string in it), also gzipped."""

  def __init__(self, path: str):
    self.name = path
    self._files = sorted(
      file
      for file in pathlib.Path(path).rglob('*')
      if file.is_file() and file.name.removesuffix('.gz').endswith(TEXTS)
    )
    if not self._files:
      raise InputError(
        f'CONTAMINATION {path!r}: no text in it; files must end in '
        f'{", ".join(TEXTS)}, or in .gz after that',
        field='Evaluation.contamination',
      )

  def __iter__(self) -> Iterator[str]:
    for path in self._files:
      opened = gzip.open if path.suffix == '.gz' else open
      with opened(path, 'rt', encoding='utf-8', errors='replace') as file:
        if path.name.removesuffix('.gz').endswith('.jsonl'):
          for number, line in enumerate(file, start=1):
            yield from _strings(path, number, line)
        else:
          yield from _pieces(file)


def suspects(names: str | Sequence[str]) -> tuple[StoreTexts | FolderTexts, ...]:
  """The texts to look in: stores of ours, and folders of text files.

  Raises:
    InputError: if one is neither.
  """
  names = (names,) if isinstance(names, str) else tuple(names)
  found = []
  for name in filter(None, names):
    if (pathlib.Path(name) / store_lib.MANIFEST).is_file():
      found.append(StoreTexts(name))
    elif pathlib.Path(name).is_dir():
      found.append(FolderTexts(name))
    else:
      raise InputError(
        f'CONTAMINATION {name!r}: no such folder; must be a store or a folder of text',
        field='Evaluation.contamination',
      )
  return tuple(found)


def words(text: str) -> list[str]:
  """The words of a text: lower case, without punctuation.

  >>> words("It's 3 o'clock!")
  ['it', 's', '3', 'o', 'clock']
  """
  return _WORD.findall(text.lower())


@functools.lru_cache(maxsize=1 << 18)
def _number(word: str) -> int:
  return int.from_bytes(
    hashlib.blake2b(word.encode(), digest_size=8).digest(), 'little'
  )


_BASE = np.uint64(0x9E3779B97F4A7C15)


def _grams(numbers: np.ndarray, length: int) -> np.ndarray:
  """A 64-bit name of every `length` successive words, uint64 [n - length + 1]."""
  count = len(numbers) - length + 1
  if count < 1:
    return np.zeros(0, np.uint64)
  out = np.zeros(count, np.uint64)
  with np.errstate(over='ignore'):
    for offset in range(length):
      out = out * _BASE + numbers[offset : offset + count]
  return out


def _numbers(text: str) -> np.ndarray:
  return np.array([_number(word) for word in words(text)], np.uint64)


class Index:
  """The n-grams of some examples, and which of them have been met.

  Attributes:
    ngram: words of an n-gram.
  """

  def __init__(self, examples: Iterable[Example], *, ngram: int):
    """Indexes every field of every row.

    A field of fewer than `ngram` words, and of SHORTEST or more, is one n-gram of its
    own length.
    """
    self.ngram = ngram
    by_length: dict[int, list[np.ndarray]] = {}
    self._rows: list[list[tuple[int, np.ndarray]]] = []
    for row in examples:
      grams = []
      for text in row.values.values():
        numbers = _numbers(text)
        length = min(len(numbers), ngram)
        if length >= min(SHORTEST, ngram):
          found = np.unique(_grams(numbers, length))
          grams.append((length, found))
          by_length.setdefault(length, []).append(found)
      self._rows.append(grams)
    self._known = {n: np.unique(np.concatenate(g)) for n, g in by_length.items()}
    self._met = {n: np.zeros(len(known), bool) for n, known in self._known.items()}

  def read(self, texts: Iterable[str]) -> int:
    """Marks what occurs in any of `texts`; returns how many words they have."""
    total = 0
    for text in texts:
      numbers = _numbers(text)
      total += len(numbers)
      for length, known in self._known.items():
        grams = _grams(numbers, length)
        at = np.searchsorted(known, grams)
        at[at == len(known)] = 0
        self._met[length][at[known[at] == grams]] = True
    return total

  def overlap(self) -> Overlap:
    """What was met, row by row."""
    share = np.zeros(len(self._rows))
    for i, grams in enumerate(self._rows):
      met = [self._met[n][np.searchsorted(self._known[n], found)] for n, found in grams]
      if met:
        share[i] = np.concatenate(met).mean()
    judged = np.array([bool(grams) for grams in self._rows], bool)
    return Overlap(share > 0, judged, share)


def look_up(
  results: Any,
  *,
  suspects: Sequence[StoreTexts | FolderTexts],
  ngram: int,
  progress: Progress,
) -> Found:
  """Looks for the reported examples of an evaluation in every suspect.

  Args:
    results: what `protocol.evaluate` returned.
    suspects: what the model may have read.
    ngram: words of an n-gram.
    progress: where to say what is happening.
  """
  examples = {
    result.dataset.label: result.reported.examples for result in results.datasets
  }
  index = Index([row for some in examples.values() for row in some], ngram=ngram)
  total = 0
  for suspect in suspects:
    progress.stage(
      f'Looking for {ngram}-grams of the measured examples in {suspect.name}'
    )
    total += index.read(suspect)
  whole = index.overlap()
  datasets = {}
  start = 0
  for name, some in examples.items():
    at = slice(start, start + len(some))
    datasets[name] = Overlap(*(values[at] for values in whole))
    start += len(some)
  return Found(ngram, tuple(s.name for s in suspects), total, datasets)


def _strings(path: pathlib.Path, number: int, line: str) -> Iterator[str]:
  """Every string in a line of JSON."""
  if not line.strip():
    return
  try:
    left = [json.loads(line)]
  except json.JSONDecodeError as error:
    raise InputError(f'{str(path)!r}, line {number}: not JSON ({error.msg})') from None
  while left:
    value = left.pop()
    if isinstance(value, str):
      yield value
    elif isinstance(value, dict):
      left += value.values()
    elif isinstance(value, list):
      left += value


def _pieces(file) -> Iterator[str]:
  """A file in pieces that overlap, so that no n-gram falls between two of them."""
  kept = ''
  while data := file.read(_BUFFER):
    text = kept + data
    end = max(text.rfind(' '), text.rfind('\n')) + 1  # the last word may go on
    if end <= len(kept):  # a text without blanks
      yield text
      kept = ''
      continue
    yield text[:end]
    start = max(0, end - _TAIL)
    words_ = [match.start() for match in _WORD.finditer(text, start, end)]
    kept = text[words_[-_KEPT] if len(words_) >= _KEPT else start :]
  if kept:
    yield kept


_KEPT = 63
"""Words of a piece that the next one begins with; n-grams are at most one longer."""

_TAIL = 4096
"""Characters in which to look for them."""
