"""Split arithmetic: TFDS slices, fitted to data smaller than declared.

A declaration names slices of TFDS splits at their full size (`train[:30000]`,
`train[-200:]`). If the prepared data has fewer examples (a subset, a mirror, a test
folder), caps become `min(n, cap)` and slices of one split shrink in proportion: they
keep their order, stay disjoint, and none is empty while examples last.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flan_jax.errors import InputError

_SLICE = re.compile(r'^(?P<split>\w+)(\[(?P<lo>-?\d*):(?P<hi>-?\d*)\])?$')


class Slice(NamedTuple):
  """Examples `[lo, hi)` of a TFDS split; a negative bound counts from the end."""

  split: str
  lo: int | None
  hi: int | None

  def bounds(self, size: int) -> tuple[int, int]:
    """(start, stop) in a split of `size` examples."""
    start, stop, _ = slice(self.lo, self.hi).indices(size)
    return start, max(start, stop)

  def __str__(self) -> str:
    if self.lo is None and self.hi is None:
      return self.split
    lo = '' if self.lo is None else self.lo
    hi = '' if self.hi is None else self.hi
    return f'{self.split}[{lo}:{hi}]'


def parse(text: str) -> Slice:
  """Parses `train`, `train[:30000]`, `train[-200:]`, `train[30000:30200]`."""
  match = _SLICE.match(text)
  if not match:
    raise InputError(f'split {text!r}: must be a TFDS slice, as in train[:-200]')
  number = lambda s: int(s) if s else None  # noqa: E731
  return Slice(match['split'], number(match['lo']), number(match['hi']))


_NAMES = {
  'train': ('train',),
  'dev': ('dev', 'validation', 'valid', 'val'),
  'test': ('test',),
}


def named(splits: Iterable[str]) -> dict[str, str]:
  """Canonical split -> the one of these splits that has its name, or a usual one.

  >>> named(['train', 'valid'])
  {'train': 'train', 'dev': 'valid'}
  """
  given = list(splits)
  found = {
    canonical: [name for name in names if name in given]
    for canonical, names in _NAMES.items()
  }
  return {canonical: names[0] for canonical, names in found.items() if names}


def shares(sizes: list[int], total: int) -> list[int]:
  """Splits `total` in proportion to `sizes`, with at least one each if possible."""
  if total <= len(sizes):
    return [1] * total + [0] * (len(sizes) - total)
  exact = [size * total / sum(sizes) for size in sizes]
  found = [max(1, int(share)) for share in exact]
  by_rest = sorted(range(len(sizes)), key=lambda i: int(exact[i]) - exact[i])
  for i in by_rest:
    if sum(found) < total:
      found[i] += 1
  while sum(found) > total:
    found[found.index(max(found))] -= 1
  return found


def resolve(
  slices: Mapping[str, str], declared: Mapping[str, int], real: Mapping[str, int]
) -> dict[str, Slice]:
  """Fits declared slices to the examples that are present.

  Args:
    slices: canonical split (`train`, `dev`, `test`) -> TFDS slice as declared.
    declared: TFDS split -> its full number of examples.
    real: TFDS split -> number of prepared examples.

  Returns:
    Canonical split -> slice with explicit bounds. Slices that fit are unchanged in
    meaning; a TFDS split that is absent gives an empty slice.

  >>> real = {'train': 300}
  >>> out = resolve({'train': 'train[:30000]', 'dev': 'train[-200:]'},
  ...               {'train': 100_000}, real)
  >>> {name: str(part) for name, part in out.items()}
  {'train': 'train[0:298]', 'dev': 'train[298:300]'}
  """
  out: dict[str, Slice] = {}
  by_split: dict[str, list[str]] = {}
  for name, text in slices.items():
    by_split.setdefault(parse(text).split, []).append(name)
  for split, members in by_split.items():
    size = real.get(split, 0)
    full = max(declared.get(split, size), size)
    parts = {name: parse(slices[name]) for name in members}
    if len(members) == 1:
      start, stop = parts[members[0]].bounds(full)
      examples = min(stop - start, size)
      start, stop = parts[members[0]].bounds(size)
      if stop - start != examples:
        start, stop = 0, examples
      out[members[0]] = Slice(split, start, stop)
      continue
    spans = {name: part.bounds(size) for name, part in parts.items()}
    full_spans = {name: part.bounds(full) for name, part in parts.items()}
    lengths = {name: hi - lo for name, (lo, hi) in full_spans.items()}
    fits = size >= full or (
      all(hi - lo == lengths[name] for name, (lo, hi) in spans.items())
      and not _overlap(spans.values())
    )
    if fits:
      out |= {name: Slice(split, *span) for name, span in spans.items()}
      continue
    order = sorted(members, key=lambda name: full_spans[name])
    start = 0
    total = min(size, sum(lengths.values()))
    for name, share in zip(
      order, shares([lengths[name] for name in order], total), strict=True
    ):
      out[name] = Slice(split, start, start + share)
      start += share
  return {name: out[name] for name in slices}


def _overlap(spans) -> bool:
  ordered = sorted(span for span in spans if span[0] < span[1])
  pairs = zip(ordered, ordered[1:], strict=False)
  return any(left[1] > right[0] for left, right in pairs)
