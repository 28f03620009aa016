"""`make bench-report`: the last results beside those before."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

CHANGE = 0.1
"""A ratio that fell by more than this share is marked."""

Content = Mapping[str, Any]


def read_all(folder: pathlib.Path) -> list[Content]:
  """The results in a folder, oldest first; those of the smallest settings apart."""
  found = [
    json.loads(path.read_text(encoding='utf-8')) for path in folder.glob('*.json')
  ]
  return sorted(found, key=lambda content: content['date'])


def show(folder: pathlib.Path) -> int:
  """Prints the last results beside the ones before of the same kind."""
  found = read_all(folder)
  if not found:
    print(f'{folder}: no results; `make bench` writes them')
    return 1
  last = found[-1]
  before = [content for content in found[:-1] if content['small'] == last['small']]
  print('\n'.join(lines(last, before)))
  return 0


def lines(last: Content, before: Sequence[Content]) -> list[str]:
  """The table, as Markdown, with what was left out.

  Args:
    last: the results.
    before: earlier ones, oldest first; a figure is compared with the last that has it.
  """
  old: dict[Key, Mapping[str, Any]] = {}
  for content in before:
    old |= _figures(content)
  now = _figures(last)
  out = [_title('these', last), *(_title('before', content) for content in before[-1:])]
  out += [
    '',
    '| benchmark | figure | value | unit | peer | ratio | before | change |',
    '|---|---|--:|---|---|--:|--:|--:|',
    *(_row(key, figure, old.get(key)) for key, figure in now.items()),
    '',
  ]
  parts = last['benchmarks']
  out += [
    f'left out: {name}: {part["left_out"]}'
    for name, part in parts.items()
    if 'left_out' in part
  ]
  gone = dict.fromkeys(key[0] for key in old if key[0] not in parts)
  return [*out, *(f'not measured this time: {name}' for name in gone)]


Key = tuple[str, str, str, str]
"""Benchmark, figure, unit and peer."""


def _figures(content: Content) -> dict[Key, Mapping[str, Any]]:
  return {
    (name, figure['name'], figure['unit'], figure['peer']): figure
    for name, part in content['benchmarks'].items()
    for figure in part.get('figures', ())
  }


def _title(word: str, content: Content) -> str:
  loads = [one for part in content['benchmarks'].values() for one in part['load']]
  small = ', smallest settings' if content['small'] else ''
  host = content['machine']
  return (
    f'{word}: {content["date"]}, commit {content["commit"] or "?"}{small}, '
    f'{host["cores"]} cores of {host["processor"]}, '
    f'load {min(loads, default=0):.1f} to {max(loads, default=0):.1f}'
  )


def _row(key: Key, figure: Mapping[str, Any], old: Mapping[str, Any] | None) -> str:
  """A line: compared by the ratio, which a busy machine leaves; else by the value."""
  name, what, unit, peer = key
  ratio, value = figure['ratio'], figure['value']
  before, change = '', ''
  if old is not None:
    by_ratio = ratio is not None and old['ratio'] is not None
    one, two = (ratio, old['ratio']) if by_ratio else (value, old['value'])
    if one is not None and two:
      before = f'{two:.2f} x' if by_ratio else _number(two)
      better = one / two - 1
      if not by_ratio and figure['lower_is_better']:
        better = two / one - 1 if one else 0.0
      change = f'{better:+.0%}{" worse" if better < -CHANGE else ""}'
  shown = '' if ratio is None else f'{ratio:.2f} x'
  return (
    f'| {name} | {what} | {_number(value)} | {unit} | {peer} | {shown} | '
    f'{before} | {change} |'
  )


def _number(value: float | None) -> str:
  if value is None:
    return '?'
  return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'
