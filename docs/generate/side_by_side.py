"""Markdown of several evaluations of the same rows side by side, for docs/results.

  python docs/generate/side_by_side.py chat=runs/chat 'plain prose=runs/prose' ...

prints the mean of each cluster, and then each result, of every report given.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from flan_jax.report import schema

Reports = Mapping[str, Mapping[str, Any]]
"""Heading -> content of report.json."""


def read(arguments: Sequence[str]) -> Reports:
  """Reads the reports of arguments of the form HEADING=DIR."""
  found = {}
  for argument in arguments:
    heading, _, folder = argument.partition('=')
    path = pathlib.Path(folder) / 'report.json'
    found[heading] = json.loads(path.read_text(encoding='utf-8'))
  return found


def render(reports: Reports) -> str:
  """Renders the two tables, over the results that every report has."""
  by_label = {
    heading: {schema.label(result): result for result in report['results']}
    for heading, report in reports.items()
  }
  first, *others = by_label.values()
  shared = [label for label in first if all(label in other for other in others)]
  return '\n'.join([*_clusters(by_label, shared), '', *_results(by_label, shared)])


def _clusters(
  by_label: Mapping[str, Mapping[str, Any]], shared: Sequence[str]
) -> list[str]:
  lines = _head(['means', 'results', 'chance', *by_label], left=1)
  first = next(iter(by_label.values()))
  for cluster in dict.fromkeys(first[label]['cluster'] for label in shared):
    labels = [label for label in shared if first[label]['cluster'] == cluster]
    chances = [first[label]['chance'] for label in labels]
    figures = [
      _mean([results[label]['mean'] for label in labels])
      for results in by_label.values()
    ]
    cells = [cluster.replace('_', ' '), str(len(labels)), _mean(chances), *figures]
    lines.append(_row(cells))
  return lines


def _results(
  by_label: Mapping[str, Mapping[str, Any]], shared: Sequence[str]
) -> list[str]:
  headings = [text for heading in by_label for text in (heading, '95 %')]
  lines = _head(['dataset', 'metric', 'n', 'chance', 'majority', *headings], left=2)
  first = next(iter(by_label.values()))
  for label in shared:
    one = first[label]
    cells = [f'`{label}`', one['metric'], str(one['n'])]
    cells += [_number(one['chance']), _number(one['majority'])]
    for results in by_label.values():
      low, high = results[label]['ci95']
      cells += [_number(results[label]['mean']), f'[{low:.1f}, {high:.1f}]']
    lines.append(_row(cells))
  return lines


def _head(headings: Sequence[str], *, left: int) -> list[str]:
  marks = ['---' if i < left else '--:' for i in range(len(headings))]
  return [_row(headings), f'|{"|".join(marks)}|']


def _row(cells: Sequence[str]) -> str:
  return f'| {" | ".join(cells)} |'


def _mean(values: Sequence[float | None]) -> str:
  known = [value for value in values if value is not None]
  return _number(sum(known) / len(known) if len(known) == len(values) else None)


def _number(value: float | None) -> str:
  return '' if value is None else f'{value:.1f}'


if __name__ == '__main__':
  print(render(read(sys.argv[1:])))
