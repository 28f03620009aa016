"""Tables of `flan tasks`: datasets, one mixture, all mixtures; as data and as text."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import flan_jax.mixtures as mixtures
from flan_jax.catalog import leakage, mixing_rates, registry, seqio_names, splits
from flan_jax.catalog.dataset import CLUSTERS, SPLITS, Dataset
from flan_jax.catalog.registry import Mixture
from flan_jax.catalog.source import UNKNOWN_SIZE
from flan_jax.errors import InputError


class Listing(NamedTuple):
  """A table to print.

  Attributes:
    data: JSON value for `--json`.
    title: title of the table.
    columns: heading -> 'left' or 'right'.
    rows: cells of the table.
    lines: lines below the table.
  """

  data: Any
  title: str
  columns: dict[str, str]
  rows: list[tuple]
  lines: list[str]


def datasets() -> Listing:
  """Every FLAN dataset, and the user's own, whose rates are those of them alone.

  The rate of one of FLAN's is that in the reference's view, 0 outside it.
  """
  family = registry.datasets('flan').values()
  rate = mixing_rates.rates(registry.mixture('flan_all'))
  rows = [
    (d.name, d.cluster, d.paper_name or '-', d.tfds, d.num_examples('train'),
     d.num_examples('dev'), d.num_examples('test'), rate.get(d.name, 0), d.metric,
     len(d.templates))
    for d in family
  ]  # fmt: skip
  right = dict.fromkeys(('train', 'dev', 'test', 'rate'), 'right')
  left = dict.fromkeys(('dataset', 'cluster', 'in the paper', 'source'), 'left')
  paper = [d for d in family if d.in_paper]
  lines = [
    f"the paper's view: {len({d.paper_name for d in paper})} datasets in "
    f'{len({d.cluster for d in paper})} clusters ({len(paper)} tasks)',
    f"the reference's view: {sum(d.in_reference for d in family)} tasks, total rate "
    f'{sum(rate.values()):,}',
  ]
  data = [registry.as_json(d, rate=rate.get(d.name, 0)) for d in family]
  for dataset in registry.datasets().values():
    if not registry.is_shipped(dataset):
      row, entry, line = _own(dataset)
      rows.append(row)
      data.append(entry)
      lines += line
  theirs = seqio_names.every()
  if theirs:
    more = f' and {len(theirs) - _NAMED:,} more' if len(theirs) > _NAMED else ''
    lines.append(f'of seqio: {", ".join(theirs[:_NAMED])}{more}')
  return Listing(
    data,
    f'{len(rows)} datasets',
    {**left, **right, 'metric': 'left', 'templates': 'right'},
    rows,
    lines,
  )


def _own(dataset: Dataset) -> tuple[tuple, dict[str, Any], list[str]]:
  """Row, JSON entry and further lines of a dataset of the user's own."""
  try:
    counts = [_shown(dataset.known_examples(name)) for name in SPLITS]
    rate = mixing_rates.rates(registry.mixture(dataset.name)).get(dataset.name)
    entry, lines = registry.as_json(dataset, rate=rate), []
  except InputError as error:
    declared = dataclasses.replace(dataset, train='', dev='', test='')
    counts, rate = [_UNKNOWN] * len(SPLITS), None
    entry = registry.as_json(declared, rate=None) | {'missing': str(error)}
    lines = [f'{dataset.name}: {error}']
  source = dataset.tfds or str(dataset.source)
  row = (dataset.name, dataset.cluster, '-', source, *counts, _shown(rate),
         dataset.metric, len(dataset.templates))  # fmt: skip
  return row, entry, lines


def mixture(found: Mixture) -> Listing:
  """One mixture: examples, caps, rates, shares, clusters left out and why, totals."""
  members = found.members
  rate = mixing_rates.rates(found)
  total = _sum(rate.get(d.name) for d in members)
  whole = total is not None
  share = {name: value / total for name, value in rate.items()} if total else {}
  left_out = reasons_left_out(found)
  report = leakage.check(found)
  style = found.style
  data = {
    'mixture': found.name,
    'note': found.note,
    'held_out': found.held_out,
    'excluded': found.excluded,
    'left_out': left_out,
    'allowed_overlap': [shared._asdict() for shared in report.allowed_overlap],
    'cap': mixtures.CAP,
    'maximum_rate': mixtures.MAXIMUM_RATE,
    'shared_cap': found.shared_cap,
    'prompt_style': style.prompt_style,
    'num_fewshot': style.num_fewshot,
    **({'options_style': style.options} if style.options else {}),
    'total_rate': total,
    'datasets': [
      {'dataset': d.name, 'cluster': d.cluster, 'paper_name': d.paper_name,
       'split_examples': split_examples(d), 'examples': d.known_examples('train'),
       'rate': rate.get(d.name), 'share': share.get(d.name),
       'templates': len(d.templates)}
      for d in members
    ],
  }  # fmt: skip
  rows = [
    (d.name, d.cluster, _shown(split_examples(d)), _shown(d.known_examples('train')),
     _shown(rate.get(d.name)), f'{share.get(d.name, 0):.3%}' if whole else _UNKNOWN,
     len(d.templates))
    for d in members
  ]  # fmt: skip
  of_paper = {d.paper_name for d in members if d.in_paper}
  counted = f" ({len(of_paper)} of the paper's 62 datasets)" if of_paper else ''
  rows.append(
    (f'total: {len(members)}', f'{len(found.trained_on)} clusters',
     _shown(_sum(split_examples(d) for d in members)),
     _shown(_sum(d.known_examples('train') for d in members)),
     _shown(total), f'{min(total, 1):.3%}' if whole else _UNKNOWN,
     sum(len(d.templates) for d in members))
  )  # fmt: skip
  per = 'for all tasks of a paper dataset' if found.shared_cap else 'a task'
  lines = [
    *([found.note] if found.note else []),
    f'{len(members)} tasks{counted}; '
    + (
      'rates of its own'
      if found.rate_function is not None
      else f'at most {mixtures.CAP:,} examples a task, maximum rate '
      f'{mixtures.MAXIMUM_RATE:,} {per}'
    ),
    *([] if total != 0 else ['every rate is 0: no example is ever drawn']),
    *([] if whole else [f'{_UNKNOWN}: known once the examples are read']),
    *(f'{cluster}: {why}' for cluster, why in left_out.items()),
    *report.warnings,
  ]
  right = dict.fromkeys(
    ('split examples', 'examples', 'rate', 'share', 'templates'), 'right'
  )
  return Listing(
    data,
    f'{found.name}: {len(members)} tasks'
    + (f', total rate {total:,}' if whole else ''),
    {'dataset': 'left', 'cluster': 'left', **right},
    rows,
    lines,
  )


_NAMED = 20
"""Maximum number of names in a line."""

_UNKNOWN = '?'
"""Stands for a number that is known once the examples are read."""


def _sum(values: Iterable[int | None]) -> int | None:
  found = list(values)
  return None if None in found else sum(filter(None, found))


def _shown(value: int | None) -> int | str:
  return _UNKNOWN if value is None else value


def split_examples(dataset: Dataset) -> int | None:
  """Examples of the split that a dataset trains on, before cap and carve-outs.

  None if only reading them tells.
  """
  found = dataset.full_sizes[splits.parse(dataset.slices['train']).split]
  return found if found < UNKNOWN_SIZE else None


def reasons_left_out(found: Mixture) -> dict[str, str]:
  """Cluster that does not train -> the reason."""
  out = {}
  for cluster in CLUSTERS if found.family else found.trained_on:
    near = [c for c in found.held_out if cluster in registry.too_near(c)]
    if cluster in found.held_out:
      out[cluster] = 'held out: measured, never trained on'
    elif cluster in found.excluded:
      out[cluster] = f'left out: related to {" and ".join(near)} (FLAN footnote 1)'
    elif cluster not in found.trained_on:
      out[cluster] = 'left out: not part of this mixture'
  return out


def all_mixtures() -> Listing:
  """Lists every mixture, one per line."""
  names = ('mixture', 'tasks', 'total rate', 'held out', 'num_fewshot', 'prompt_style',
           'templates', 'shared cap')  # fmt: skip
  rows = [
    (found.name, len(found.datasets), sum(mixing_rates.rates(found).values()),
     ', '.join(found.held_out) or '-', found.style.num_fewshot,
     found.style.prompt_style, found.style.templates or 'all',
     'yes' if found.shared_cap else 'no')
    for found in registry.mixtures().values()
  ]  # fmt: skip

  right = ('tasks', 'total rate', 'num_fewshot', 'templates')
  return Listing(
    [dict(zip((name.replace(' ', '_') for name in names), row, strict=True))
     for row in rows],
    f'{len(rows)} mixtures',
    {name: 'right' if name in right else 'left' for name in names},
    rows,
    [],
  )  # fmt: skip
