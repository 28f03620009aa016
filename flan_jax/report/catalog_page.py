"""The catalog as one static page: every dataset, every template, an example each."""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
from markupsafe import Markup, escape

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.answers import Choice, Label
from flan_jax.catalog.dataset import CLUSTERS, Dataset, Example
from flan_jax.data import raw_records
from flan_jax.data import raw_records as raw_records_lib
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.report import statements
from flan_jax.runtime import atomic_file
from flan_jax.runtime.progress import Progress


def write(
  out: str | os.PathLike,
  datasets: Iterable[Dataset],
  *,
  tokenizer: Tokenizer,
  data_dir: str | None,
  progress: Progress,
) -> None:
  """Writes the page to the file `out`, with an example wherever rows are prepared.

  Args:
    out: the HTML file; nothing else is written, and the page loads nothing else.
    datasets: what it shows, in this order within their clusters.
    tokenizer: counts the tokens of the examples.
    data_dir: TFDS data directory; None for TFDS's default.
    progress: where to say which dataset is being read.

  Raises:
    InputError: if `out` is a folder.
  """
  out = pathlib.Path(out)
  if out.is_dir():
    raise InputError(f'--html {str(out)!r}: a folder; give a file, as catalog.html')
  datasets = tuple(datasets)
  rows: dict[str, Example | None] = {}
  for number, dataset in enumerate(datasets, 1):
    progress.line(f'{number}/{len(datasets)} {dataset.name}')
    rows[dataset.name] = example(dataset, data_dir=data_dir)
  atomic_file.write_text(out, render(datasets, rows=rows, tokenizer=tokenizer))


def example(dataset: Dataset, *, data_dir: str | None) -> Example | None:
  """The first row of a dataset's training (or else test) split; None: not prepared."""
  split = 'train' if 'train' in dataset.slices else 'test'
  try:
    raw_records.sizes(dataset, data_dir=data_dir)
  except InputError:
    return None
  return next(
    iter(raw_records_lib.first_examples(dataset, split, 1, data_dir=data_dir)), None
  )


def render(
  datasets: Iterable[Dataset],
  *,
  rows: Mapping[str, Example | None],
  tokenizer: Tokenizer,
) -> str:
  """The page, as a string; `rows` holds an example per dataset, or None."""
  environment = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {'thousands': '{:,}'.format, 'fields': _fields}
  page = pathlib.Path(__file__).with_name('catalog_page.html')
  groups: dict[str, list[dict[str, Any]]] = {cluster: [] for cluster in CLUSTERS}
  for dataset in datasets:
    described = _describe(dataset, rows[dataset.name], tokenizer)
    groups[dataset.cluster].append(described)
  groups = {cluster: group for cluster, group in groups.items() if group}
  return environment.from_string(page.read_text(encoding='utf-8')).render(
    clusters=groups,
    names=statements.CLUSTER_NAMES,
    total=sum(len(group) for group in groups.values()),
    templates=sum(len(d['templates']) for group in groups.values() for d in group),
    seen=sum(row is not None for row in rows.values()),
    tokenizer=tokenizer.name,
  )


def _fields(text: str, values: Mapping[str, str] | None = None) -> Markup:
  """A template with its fields marked: by their names, or filled with `values`."""
  parts = []
  for literal, name in template_lib.parse(text):
    parts.append(escape(literal))
    if name is None:
      continue
    kind = 'options' if name == template_lib.OPTIONS else 'field'
    shown = f'{{{name}}}' if values is None else values[name]
    parts.append(
      Markup('<mark class="{}" title="{}">{}</mark>').format(kind, name, shown)
    )
  return Markup('').join(parts)


def _answer(dataset: Dataset) -> str:
  """What a prediction is."""
  if isinstance(dataset.answer, Label):
    return 'one of: ' + ', '.join(dataset.answer.words)
  if isinstance(dataset.answer, Choice):
    return "one of the row's own options"
  ways = (way for way in dataset.by_direction if way.direction)
  return 'free text' + ''.join(
    f', {way.direction} by {len(way.evaluated_templates)} templates' for way in ways
  )


def _describe(dataset: Dataset, row: Example | None, tokenizer: Tokenizer) -> dict:
  """What the page says of one dataset."""
  facts = {
    'TFDS': dataset.tfds or 'made by a generator',
    'Splits': '; '.join(f'{name}: {part}' for name, part in dataset.slices.items()),
    'Metric': dataset.metric.replace('_', ' '),
    'Answer': _answer(dataset),
    'License': dataset.license,
    'Citation': dataset.citation,
    'Note': dataset.note,
  }
  return {
    'name': dataset.name,
    'task': dataset.task,
    'rows': {split: dataset.num_examples(split) for split in dataset_lib.SPLITS},
    'metric': facts['Metric'],
    'facts': {title: text for title, text in facts.items() if text},
    'templates': dataset.templates,
    'example': None if row is None else _rendered(dataset, row, tokenizer),
  }


def _rendered(dataset: Dataset, row: Example, tokenizer: Tokenizer) -> dict[str, Any]:
  """A row in the first template that asks for the answer."""
  index = dataset.evaluated_templates[0]
  template, prompt = dataset.templates[index], prompt_lib.render(dataset, index, row)
  block = template_lib.options_block(row.answer.options)
  values = {**row.values, template_lib.OPTIONS: block}
  inputs, targets = tokenizer.encode_batch([prompt.inputs, prompt.targets])
  return {
    'example_id': row.example_id,
    'template': index,
    'inputs': _fields(template.inputs, values),
    'targets': _fields(template.targets, values),
    'tokens': (len(inputs), len(targets)),
    'right': [row.answer.options[i] for i in row.answer.gold],
  }
