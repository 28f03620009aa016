"""The catalog as one static HTML page: every dataset, its templates, an example."""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
from markupsafe import Markup, escape

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.answers import Choice, Label
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.data import raw_records
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
  """Writes the page to the file `out`, with an example of each prepared dataset.

  Args:
    out: the HTML file; nothing else is written, and the page loads nothing else.
    datasets: datasets of the page, in this order within their clusters.
    tokenizer: counts the tokens of the examples.
    data_dir: TFDS data directory; None for TFDS's default.
    progress: shows the dataset being read.

  Raises:
    InputError: if `out` is a folder.
  """
  out = pathlib.Path(out)
  if out.is_dir():
    raise InputError(f'--html {str(out)!r}: a folder; give a file, as catalog.html')
  datasets = tuple(datasets)
  examples: dict[str, Example | None] = {}
  for number, dataset in enumerate(datasets, 1):
    progress.line(f'{number}/{len(datasets)} {dataset.name}')
    examples[dataset.name] = example(dataset, data_dir=data_dir)
  page = render(datasets, examples=examples, tokenizer=tokenizer)
  atomic_file.write_text(out, page)


def example(dataset: Dataset, *, data_dir: str | None) -> Example | None:
  """Returns the first example of train, or else of test; None if not prepared."""
  split = 'train' if 'train' in dataset.slices else 'test'
  try:
    raw_records.sizes(dataset, data_dir=data_dir)
  except InputError:
    return None
  found = raw_records.first_examples(dataset, split, 1, data_dir=data_dir)
  return next(iter(found), None)


def render(
  datasets: Iterable[Dataset],
  *,
  examples: Mapping[str, Example | None],
  tokenizer: Tokenizer,
) -> str:
  """Returns the page; `examples` holds an example per dataset, or None."""
  environment = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {'thousands': '{:,}'.format, 'fields': _fields}
  page = pathlib.Path(__file__).with_name('catalog_page.html')
  groups: dict[str, list[dict[str, Any]]] = {
    cluster: [] for cluster in registry.clusters()
  }
  for dataset in datasets:
    described = _describe(dataset, examples[dataset.name], tokenizer)
    groups.setdefault(dataset.cluster, []).append(described)
  groups = {cluster: group for cluster, group in groups.items() if group}
  return environment.from_string(page.read_text(encoding='utf-8')).render(
    clusters=groups,
    names={cluster: statements.cluster_name(cluster) for cluster in groups},
    total=sum(len(group) for group in groups.values()),
    templates=sum(len(d['templates']) for group in groups.values() for d in group),
    seen=sum(example is not None for example in examples.values()),
    tokenizer=tokenizer.name,
  )


def _fields(text: str, values: Mapping[str, str] | None = None) -> Markup:
  """Marks the fields of a template: by their names, or filled with `values`."""
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
  """Describes the answer of a dataset."""
  if isinstance(dataset.answer, Label):
    return 'one of: ' + ', '.join(dataset.answer.words)
  if isinstance(dataset.answer, Choice):
    return "one of the example's own options"
  ways = (way for way in dataset.by_direction if way.direction)
  return 'free text' + ''.join(
    f', {way.direction} by {len(way.evaluated_templates)} templates' for way in ways
  )


def _describe(dataset: Dataset, example: Example | None, tokenizer: Tokenizer) -> dict:
  """Returns the page's facts on one dataset."""
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
    'examples': {split: dataset.known_examples(split) for split in dataset_lib.SPLITS},
    'metric': facts['Metric'],
    'facts': {title: text for title, text in facts.items() if text},
    'templates': dataset.templates,
    'example': None if example is None else _rendered(dataset, example, tokenizer),
  }


def _rendered(
  dataset: Dataset, example: Example, tokenizer: Tokenizer
) -> dict[str, Any]:
  """Renders an example in the first template that asks for the answer."""
  index = dataset.evaluated_templates[0]
  template = dataset.templates[index]
  prompt = prompt_lib.render(dataset, index, example)
  answer = example.answer
  block = template_lib.options_block(answer.options)
  values = {**example.values, template_lib.OPTIONS: block}
  inputs, targets = tokenizer.encode_batch([prompt.inputs, prompt.targets])
  return {
    'example_id': example.example_id,
    'template': index,
    'inputs': _fields(template.inputs, values),
    'targets': _fields(template.targets, values),
    'tokens': (len(inputs), len(targets)),
    'right': [answer.options[i] for i in answer.gold],
  }
