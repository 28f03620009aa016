"""Contamination: evaluation examples that occur, in part, in a model's training text.

An example is contaminated if one of its word n-grams occurs in a suspect text (FLAN
appendix C, after GPT-3: 13 words; a shorter field of 8 words or more counts whole). The
examples are indexed and the suspects streamed, so memory depends on the evaluation, not
on the length of the texts. numpy only.
"""

import functools
import gzip
import hashlib
import io
import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from flan_jax.catalog.dataset import Example
from flan_jax.data.store import store as store_lib
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.runtime.metering import Meter
from flan_jax.runtime.progress import Progress

MIN_WORDS = 8
"""Minimum length of a phrase to look for: shorter ones occur by chance."""

TEXTS = ('.txt', '.md', '.jsonl')
"""Suffixes of text files; .gz may follow."""

_BUFFER = 1 << 20
"""Characters of a file read at once."""

_MB = 1 << 20

_BATCH = 1024
"""Examples of a store read at once."""

_WORD = re.compile(r'\w+')


class Overlap(NamedTuple):
  """Overlap of one dataset's N examples with the suspects.

  Attributes:
    contaminated: bool [N], True if an n-gram of the example occurs in a suspect.
    judged: bool [N], True if a field is long enough to look for.
    share: float64 [N], share of the example's n-grams that occur; 0 if not judged.
  """

  contaminated: np.ndarray
  judged: np.ndarray
  share: np.ndarray


class Found(NamedTuple):
  """Results of `find_overlaps`.

  Attributes:
    ngram: words of an n-gram.
    against: names of the suspects.
    words: words in the suspects.
    datasets: dataset -> overlap of its reported split.
  """

  ngram: int
  against: tuple[str, ...]
  words: int
  datasets: Mapping[str, Overlap]


class StoreTexts:
  """Texts of a store: its rendered examples, all epochs.

  Attributes:
    name: path of the store.
    size: amount of text to read, in units.
    unit: name of the unit.
    done: amount read so far.
  """

  unit = 'examples'

  def __init__(self, path: str):
    self.name = path
    self.done = 0
    self._store = Store.open(path)
    counts = map(self._store.num_examples, self._store.datasets)
    epochs = (self._store.rendered[dataset] for dataset in self._store.datasets)
    self.size = sum(n * each for n, each in zip(counts, epochs, strict=True))

  def __iter__(self) -> Iterator[str]:
    store = self._store
    tokenizer = store.tokenizer()
    for dataset in store.datasets:
      count = store.num_examples(dataset) * store.rendered[dataset]
      for start in range(0, count, _BATCH):
        entries = range(start, min(start + _BATCH, count))
        for example in store.examples(dataset, entries):
          yield tokenizer.decode(example.tokens.inputs)
          yield tokenizer.decode(example.tokens.targets)
          self.done += 1


class FolderTexts:
  """Texts below a folder: .txt, .md, .jsonl (every string in it), also gzipped.

  Attributes:
    name: path of the folder.
    size: amount of text to read, in units.
    unit: name of the unit.
    done: amount read so far.
  """

  unit = 'MB'

  def __init__(self, path: str):
    self.name = path
    self.done = 0.0
    self._files = sorted(
      file
      for file in pathlib.Path(path).rglob('*')
      if file.is_file() and file.name.removesuffix('.gz').endswith(TEXTS)
    )
    if not self._files:
      raise InputError(
        f'CONTAMINATION {path!r}: contains no text; files must end in '
        f'{", ".join(TEXTS)}, optionally with .gz after it',
        field='Evaluation.contamination',
      )
    self.size = -(-sum(file.stat().st_size for file in self._files) // _MB)

  def __iter__(self) -> Iterator[str]:
    before = 0
    for path in self._files:
      with path.open('rb') as raw:
        for text in self._texts(path, raw):
          yield text
          self.done = (before + raw.tell()) / _MB
      before += path.stat().st_size

  def _texts(self, path: pathlib.Path, raw: IO[bytes]) -> Iterator[str]:
    """Yields the texts of one open file."""
    plain = gzip.GzipFile(fileobj=raw) if path.suffix == '.gz' else raw
    with io.TextIOWrapper(plain, encoding='utf-8', errors='replace') as file:
      if path.name.removesuffix('.gz').endswith('.jsonl'):
        for number, line in enumerate(file, start=1):
          yield from _strings(path, number, line)
      else:
        yield from _chunks(file)


def suspects(names: str | Sequence[str]) -> tuple[StoreTexts | FolderTexts, ...]:
  """Opens the texts to search: stores, and folders of text files.

  Raises:
    InputError: if a name is neither.
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
  """Splits a text into words: lower case, no punctuation.

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
  """Hashes every `length` successive words, uint64 [n - length + 1]."""
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
  """N-grams of examples, and marks on those that occurred in a text.

  Attributes:
    ngram: words of an n-gram.
  """

  def __init__(self, examples: Iterable[Example], *, ngram: int):
    """Indexes every field of every example.

    A field of fewer than `ngram` words, but MIN_WORDS or more, is one n-gram of its own
    length.
    """
    self.ngram = ngram
    by_length: dict[int, list[np.ndarray]] = {}
    self._examples: list[list[tuple[int, np.ndarray]]] = []
    for example in examples:
      grams = []
      for text in example.values.values():
        numbers = _numbers(text)
        length = min(len(numbers), ngram)
        if length >= min(MIN_WORDS, ngram):
          found = np.unique(_grams(numbers, length))
          grams.append((length, found))
          by_length.setdefault(length, []).append(found)
      self._examples.append(grams)
    self._known = {n: np.unique(np.concatenate(g)) for n, g in by_length.items()}
    self._seen = {n: np.zeros(len(known), bool) for n, known in self._known.items()}

  def add(self, texts: Iterable[str]) -> int:
    """Marks n-grams that occur in `texts`; returns the number of words in them."""
    total = 0
    for text in texts:
      numbers = _numbers(text)
      total += len(numbers)
      for length, known in self._known.items():
        grams = _grams(numbers, length)
        at = np.searchsorted(known, grams)
        at[at == len(known)] = 0
        self._seen[length][at[known[at] == grams]] = True
    return total

  def overlap(self) -> Overlap:
    """Returns the overlap of each example with the texts added so far."""
    share = np.zeros(len(self._examples))
    for i, grams in enumerate(self._examples):
      seen = [self._seen[n][np.searchsorted(self._known[n], gs)] for n, gs in grams]
      if seen:
        share[i] = np.concatenate(seen).mean()
    judged = np.array([bool(grams) for grams in self._examples], bool)
    return Overlap(share > 0, judged, share)


def find_overlaps(
  results: Any,
  *,
  suspects: Sequence[StoreTexts | FolderTexts],
  ngram: int,
  progress: Progress,
) -> Found:
  """Looks for the reported examples of an evaluation in every suspect.

  Args:
    results: results of `evaluator.evaluate`.
    suspects: texts that the model may have been trained on.
    ngram: words of an n-gram.
    progress: progress output.
  """
  examples = {
    result.dataset.label: result.reported.examples for result in results.datasets
  }
  index = Index(itertools.chain(*examples.values()), ngram=ngram)
  total = 0
  for suspect in suspects:
    progress.stage(
      f'Looking for {ngram}-grams of the evaluated examples in {suspect.name}'
    )
    with progress.work('search', suspect.size, unit=suspect.unit) as meter:
      total += index.add(_counted(suspect, meter))
  whole = index.overlap()
  datasets = {}
  start = 0
  for name, some in examples.items():
    at = slice(start, start + len(some))
    datasets[name] = Overlap(*(values[at] for values in whole))
    start += len(some)
  return Found(ngram, tuple(s.name for s in suspects), total, datasets)


def _counted(suspect: StoreTexts | FolderTexts, meter: Meter) -> Iterator[str]:
  """Yields the texts of a suspect, and counts what has been read."""
  began = suspect.done
  for text in suspect:
    yield text
    meter.add(suspect.done - began - meter.done, 0)
  meter.reach(suspect.size)


def _strings(path: pathlib.Path, number: int, line: str) -> Iterator[str]:
  """Yields every string in a line of JSON."""
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


def _chunks(file) -> Iterator[str]:
  """Yields a file in chunks that overlap, so that no n-gram is cut in two."""
  kept = ''
  while data := file.read(_BUFFER):
    text = kept + data
    end = max(text.rfind(' '), text.rfind('\n')) + 1  # the last word may continue
    if end <= len(kept):  # no blanks
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
"""Words of a chunk repeated in the next one; an n-gram is at most one word longer."""

_TAIL = 4096
"""Characters at the end of a chunk that are searched for those words."""
