"""Rows to evaluate: which datasets were asked for, and where their examples are read."""

from collections.abc import Callable, Iterable, Sequence

from flan_jax.catalog import leakage, registry
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.fields import Unlabeled
from flan_jax.config import evaluation as evaluation_config
from flan_jax.data import raw_records
from flan_jax.data.few_shot import POOL_SIZE
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress

Examples = Callable[[str, str], Iterable[Example]]
"""(dataset, split) -> its examples."""


def asked(evaluation: evaluation_config.EvalJobConfig) -> list[Dataset]:
  """The datasets of CLUSTERS and DATASETS, each once.

  Raises:
    InputError: at a name that is none; names the nearest.
  """
  family = registry.datasets(evaluation.family)
  clusters = leakage.clusters(evaluation.clusters, setting='CLUSTERS')
  named = evaluation.datasets
  named = (named,) if isinstance(named, str) else named
  names = [name for name, d in family.items() if d.cluster in clusters]
  names += [registry.get(name, family=evaluation.family).name for name in named]
  return [family[name] for name in dict.fromkeys(names)]


def prepared(
  dataset: Dataset, *, data_dir: str | None, missing: str, progress: Progress
) -> bool:
  """Whether the raw data of a dataset is there; says so where it is not.

  Raises:
    InputError: if it is not, and `missing` is 'refuse'.
  """
  try:
    raw_records.sizes(dataset, data_dir=data_dir)
  except InputError as error:
    if missing == 'refuse':
      raise
    progress.line(f'skipped: {error}')
    return False
  return True


def in_store(
  datasets: Sequence[Dataset], store: Store, *, missing: str, progress: Progress
) -> list[Dataset]:
  """Those of `datasets` whose evaluation examples a store holds; says which it lacks.

  Raises:
    InputError: if it lacks one, and `missing` is 'refuse'.
  """
  absent = [d.name for d in datasets if d.name not in store.manifest['evaluation']]
  if absent and missing == 'refuse':
    raise InputError(
      f'STORE {str(store.path)!r}: has no evaluation examples of {", ".join(absent)}; give '
      'another, or --gin.MISSING=skip',
      field='STORE',
    )
  if absent:
    progress.line(f'skipped, not in the store: {", ".join(absent)}')
  return [d for d in datasets if d.name not in absent]


def stored(store: Store, *, data_dir: str | None, progress: Progress) -> Examples:
  """Rows of a store; exemplars, which it does not keep as fields, are read raw.

  A dataset without a dev split has none there.
  """
  from_raw = raw(store.manifest['family'], data_dir=data_dir, progress=progress)

  def examples(dataset: str, split: str) -> Iterable[Example]:
    if split == 'train':
      return from_raw(dataset, split)
    if split not in store.manifest['evaluation'][dataset]['examples']:
      return []
    return store.evaluation_examples(dataset, split)

  return examples


def raw(family: str, *, data_dir: str | None, progress: Progress) -> Examples:
  """Rows read from the raw data; unlabeled ones are left out and counted.

  Of train, only as many as exemplars are drawn from.
  """

  def examples(name: str, split: str) -> list[Example]:
    dataset = registry.get(name, family=family)
    out, dropped = [], 0
    for example_id, record in raw_records.records(dataset, split, data_dir=data_dir):
      try:
        example = dataset.read(record, example_id)
      except Unlabeled:
        dropped += 1
      except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise InputError(f'dataset {name!r}, example {example_id!r}: {error}') from None
      else:
        if split != 'train' or not example.answer.is_blank:
          out.append(example)
      if split == 'train' and len(out) == POOL_SIZE:
        break
    if dropped:
      progress.line(
        f'{name} {split}: {dropped:,} examples left out: no label, or none among the '
        'options'
      )
    return out

  return examples
