"""Measured data: names and digests of the examples behind a report's figures."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flan_jax.catalog import registry, tfds_features
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.data.store.store import Store

if TYPE_CHECKING:
  from flan_jax.evaluate.evaluator import DatasetResult, Results
  from flan_jax.evaluate.task_metrics import TaskResult


def in_raw(datasets: Iterable[Dataset], data_dir: str | None) -> dict[str, Any]:
  """Describes the raw data of some datasets.

  Args:
    datasets: the datasets.
    data_dir: TFDS data directory; None for TFDS's own default.

  Returns:
    'directory', of TFDS, or None if all examples are generated; and 'sources', dataset
    -> source, of datasets that are read from other places.
  """
  known, found = registry.families(), {}
  datasets = list(datasets)
  own = {
    d.name: str(d.source)
    for d in datasets
    if not d.tfds and not (d.family in known and known[d.family].generated)
  }
  if any(dataset.tfds for dataset in datasets):
    found['directory'] = tfds_features.directory(data_dir)
  elif len(own) < len(datasets):
    found['directory'] = None
  return found | ({'sources': own} if own else {})


def in_store(store: Store, *, num_fewshot: int, data_dir: str | None) -> dict[str, Any]:
  """Describes the data of a store, and the raw data that exemplars are read from.

  Args:
    store: store with the evaluation examples.
    num_fewshot: exemplars before each prompt.
    data_dir: TFDS data directory of the exemplars.
  """
  measured = store.manifest['evaluation']
  return {
    'store': str(store.path),
    'store_digest': store.digest,
    'template_seed': store.manifest['seed'],
    **(in_raw(map(registry.get, measured), data_dir) if num_fewshot else {}),
  }


def of(results: 'Results', where: Mapping[str, Any] | None) -> dict[str, Any]:
  """Makes the `data` of report.json.

  Args:
    results: results of the evaluation.
    where: value of `in_raw` or `in_store`, or None.

  Returns:
    `where`, and 'family' (several are `one and other`), 'digest' (of all examples),
    'datasets': [{'dataset', 'direction', 'tfds' (name and version), 'digest', 'splits':
    {split: {'examples', 'declared'}}}]; beside a store 'tasks', seqio task -> source,
    if seqio read any.
  """
  measured = [*results.datasets, *results.own]
  parts = [_of_one(result) for result in measured]
  families = dict.fromkeys(result.dataset.family for result in measured)
  named = [
    (part['dataset'], part.get('direction', ''), part['digest']) for part in parts
  ]
  tasks = {result.dataset.name: str(result.dataset.source) for result in results.own}
  return {
    'family': ' and '.join(filter(None, families)) if families else None,
    **(where or {}),
    **({'tasks': tasks} if tasks and 'store' in (where or {}) else {}),
    'digest': hashlib.sha256(json.dumps(named).encode()).hexdigest(),
    'datasets': parts,
  }


def _of_one(result: 'DatasetResult | TaskResult') -> dict[str, Any]:
  dataset = result.dataset
  return {
    'dataset': dataset.name,
    **({'direction': dataset.direction} if dataset.direction else {}),
    'tfds': dataset.tfds,
    'digest': digest(result.splits[name].examples for name in sorted(result.splits)),
    'splits': {
      name: {
        'examples': len(part.examples),
        'declared': getattr(part, 'total', dataset.known_examples(name)) or None,
      }
      for name, part in result.splits.items()
    },
  }


def digest(splits: Iterable[Iterable[Example]]) -> str:
  """Hashes ids, texts and answers with SHA-256; equal for a store and its raw data."""
  found = hashlib.sha256()
  for examples in splits:
    for example in examples:
      answer = example.answer
      parts = (
        example.example_id, sorted(example.values.items()), answer.text,
        list(answer.options), list(answer.gold), list(answer.references),
      )  # fmt: skip
      found.update(json.dumps(parts).encode() + b'\n')
    found.update(b'\n')
  return found.hexdigest()
