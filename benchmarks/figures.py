"""Figures of a benchmark: a program prints them and, with --json FILE, writes them.

  figures.add_flag(parser)
  figures.add('packing', 211_188, 'examples/s', peer='seqio', peer_value=846)
  figures.write(options.json)

`make bench` collects the files.
"""

import argparse
import json
import math
import pathlib
from typing import Any, NamedTuple


class Figure(NamedTuple):
  """One measured number, and that of the peer beside it.

  Attributes:
    name: name of the quantity, the same from day to day.
    value: ours.
    unit: its unit.
    peer: name of the peer; '' without one.
    peer_value: the peer's number, in the same unit.
    lower_is_better: whether less is faster, as of seconds.
  """

  name: str
  value: float
  unit: str
  peer: str = ''
  peer_value: float | None = None
  lower_is_better: bool = False

  @property
  def ratio(self) -> float | None:
    """Ratio of ours to the peer, above 1 if ours is better; None without a peer."""
    if not self.peer_value or not self.value:
      return None
    ratio = self.value / self.peer_value
    return 1 / ratio if self.lower_is_better else ratio

  def as_json(self) -> dict[str, Any]:
    """Plain values; a number that is none is null."""
    plain = {**self._asdict(), 'ratio': self.ratio}
    return {key: _finite(value) for key, value in plain.items()}


def _finite(value: Any) -> Any:
  return None if isinstance(value, float) and not math.isfinite(value) else value


_found: list[Figure] = []


def add(
  name: str,
  value: float,
  unit: str,
  *,
  peer: str = '',
  peer_value: float | None = None,
  lower_is_better: bool = False,
) -> None:
  """Keeps a figure; see Figure."""
  other = None if peer_value is None else float(peer_value)
  _found.append(Figure(name, float(value), unit, peer, other, lower_is_better))


def add_flag(parser: argparse.ArgumentParser) -> None:
  """Adds --json."""
  parser.add_argument('--json', metavar='FILE', help='also write the figures there')


def write(path: str | None) -> None:
  """Writes the figures kept so far, if a path is given; forgets them."""
  if path:
    content = {'figures': [figure.as_json() for figure in _found]}
    pathlib.Path(path).write_text(
      json.dumps(content, indent=1) + '\n', encoding='utf-8'
    )
  _found.clear()
