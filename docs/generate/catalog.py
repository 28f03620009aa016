"""Writes docs/reference/catalog.md from the declarations; `make docs` runs it.

`python docs/generate/catalog.py --look` first reads prepared examples of every dataset
through TFDS, renders them in every template, and records the counts in
examples_seen.json beside it. It reads $TFDS_DATA_DIR, or the folder of --data-dir.
"""

import argparse
import itertools
import json
import pathlib
from typing import Any

import jinja2

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import prompt, registry
from flan_jax.catalog.answers import Choice, Label
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Unlabeled
from flan_jax.data import raw_records
from flan_jax.errors import InputError
from flan_jax.evaluate import metric as metric_lib
from flan_jax.evaluate import metrics
from flan_jax.report import statements

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parent / 'reference' / 'catalog.md'
SEEN = HERE / 'examples_seen.json'
MAX_EXAMPLES = 100
"""Maximum number of examples read of a split."""


def look(data_dir: str | None) -> dict[str, dict[str, Any]]:
  """Dataset -> versions of its builder, and counts of its prepared examples.

  `name` is the pinned name, by which `merged` finds outdated entries; `versions` are
  those that the installed TFDS can still build, the newest first; `prepared` counts the
  examples of every TFDS split; `read` counts the examples read and rendered in every
  template, and `dropped` those of them without a label.
  """
  seen = {}
  for dataset in registry.datasets('flan').values():
    seen[dataset.name] = entry = _builder(dataset)
    try:
      entry['prepared'] = dict(raw_records.sizes(dataset, data_dir=data_dir))
    except InputError:
      continue
    entry['read'] = entry['dropped'] = 0
    for split in dataset.slices:
      if not dataset.num_examples(split, entry['prepared']):
        continue
      examples = raw_records.records(dataset, split, data_dir=data_dir)
      for example_id, record in itertools.islice(examples, MAX_EXAMPLES):
        entry['read'] += 1
        try:
          example = dataset.read(record, example_id)
        except Unlabeled:
          entry['dropped'] += 1
          continue
        for index in range(len(dataset.templates)):
          prompt.render(dataset, index, example)
    print(dataset.name, entry, flush=True)
  return seen


def _builder(dataset: Dataset) -> dict[str, Any]:
  import tensorflow_datasets as tfds

  name, _, config = dataset.tfds.partition(':')[0].partition('/')
  builder = tfds.builder_cls(name)
  newest, older = builder.VERSION, builder.SUPPORTED_VERSIONS
  for other in builder.BUILDER_CONFIGS:
    if other.name == config and other.version:
      newest, older = other.version, other.supported_versions
  versions = dict.fromkeys(str(version) for version in (newest, *older))
  return {
    'name': dataset.tfds,
    'tfds': tfds.__version__,
    'versions': list(versions),
  }


def merged(old: dict[str, dict], new: dict[str, dict]) -> dict[str, dict]:
  """Returns the new entries, and the old ones of data that is not prepared now."""
  kept = {
    name: old[name]
    for name, entry in new.items()
    if 'read' not in entry and old.get(name, {}).get('name') == entry['name']
  }
  return {**new, **kept}


def _answer(dataset: Dataset) -> str:
  if isinstance(dataset.answer, Label):
    return ' / '.join(dataset.answer.words)
  if isinstance(dataset.answer, Choice):
    return "one of the example's options"
  ways = (f'{way.direction} by {len(way.evaluated_templates)} templates'
          for way in dataset.by_direction if way.direction)  # fmt: skip
  return 'text' + ''.join(f', {way}' for way in ways)


def _splits(dataset: Dataset) -> dict[str, str]:
  """Canonical split -> its slice and number of examples, for a cell of the table."""
  return {
    split: f'`{part}` {dataset.num_examples(split):,}'
    for split, part in dataset.slices.items()
  }


def _metrics() -> dict[str, metric_lib.Metric]:
  """The metrics that the catalog uses, by name."""
  used = {dataset.metric for dataset in registry.datasets('flan').values()}
  return {name: metric for name, metric in metrics.METRICS.items() if name in used}


def render(seen: dict[str, dict[str, Any]]) -> str:
  """Renders the page from the declarations and the entries of `look`."""
  datasets = [
    {
      'declared': dataset,
      'splits': _splits(dataset),
      'answer': _answer(dataset),
      'seen': seen.get(dataset.name, {}),
    }
    for dataset in registry.datasets('flan').values()
  ]
  environment = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  page = (HERE / 'catalog.md.jinja').read_text(encoding='utf-8')
  return environment.from_string(page).render(
    clusters=dataset_lib.CLUSTERS,
    names=statements.CLUSTER_NAMES,
    metrics=_metrics(),
    datasets=datasets,
    max_examples=MAX_EXAMPLES,
    tfds=sorted({entry['tfds'] for entry in seen.values()}),
    prepared=sum('read' in entry for entry in seen.values()),
    read=sum(entry.get('read', 0) for entry in seen.values()),
    templates=sum(len(d['declared'].templates) for d in datasets),
  )


def load() -> dict[str, dict[str, Any]]:
  return json.loads(SEEN.read_text(encoding='utf-8'))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    '--look', action='store_true', help='read prepared examples again'
  )
  parser.add_argument('--data-dir', metavar='DIR')
  options = parser.parse_args()
  if options.look:
    seen = merged(load(), look(options.data_dir))
    text = json.dumps(seen, indent=1, ensure_ascii=False)
    SEEN.write_text(text + '\n', encoding='utf-8')
  PAGE.write_text(render(load()), encoding='utf-8')


if __name__ == '__main__':
  main()
