"""Mixtures and vocabularies for t5x, registered with seqio on first use."""

import functools
from collections.abc import Sequence

import seqio
from absl import logging

from flan_jax.catalog import registry
from flan_jax.catalog.dataset import Dataset
from flan_jax.data import raw_records, tokenizers
from flan_jax.errors import InputError, did_you_mean
from flan_jax.interop.seqio import tasks as tasks_lib
from flan_jax.interop.seqio import vocabulary as vocabulary_lib
from flan_jax.interop.t5x import recipe

_registered: list[tuple] = []
"""(tokenizer, seed, data_dir) of the registration; empty before it."""


@functools.cache
def vocabulary(tokenizer: str | None) -> seqio.Vocabulary:
  """The seqio vocabulary of a tokenizer, named as in `recipe.tokenizer_file`.

  Raises:
    InputError: if id 0, with which t5x pads, is not the padding id alone.
  """
  path = recipe.tokenizer_file(tokenizer)
  if path == tokenizers.BYTES:
    return seqio.ByteVocabulary()
  found = tokenizers.load(path)  # seqio's own reports pad_id 0 always
  if found.pad_id != 0 or found.eos_id == 0:
    zero = ' and UNK 0' if found.unk_id == 0 else ''
    raise InputError(
      f'TOKENIZER: got {tokenizer!r}, with padding {found.pad_id}, EOS '
      f'{found.eos_id}{zero}; t5x pads with id 0, so 0 must be the padding id alone',
      field='TOKENIZER',
    )
  if path.endswith('.json'):
    return vocabulary_lib.Vocabulary(found)
  return seqio.SentencePieceVocabulary(path)


def mixture(
  name: str,
  tokenizer: str,
  seed: int = 0,
  data_dir: str | None = None,
  missing: str = 'refuse',
) -> str:
  """Registers the dataset family of a mixture or task once; returns the name.

  Args:
    name: mixture or task, e.g. `flan_held_out_nli`, `microworld_mini_copa` or
      `microworld_mini_copa_template_0`.
    tokenizer: see `vocabulary`.
    seed: seed for the template drawn for each training example.
    data_dir: TFDS data directory; None for TFDS's default.
    missing: `refuse`, or `skip` datasets of the mixture that are not prepared.

  Returns:
    `name`; if datasets were skipped, the name of a mixture of the others at the same
    rates, e.g. `flan_held_out_nli_prepared`.

  Raises:
    InputError: if the name is unknown, a dataset is not prepared, or this process has
      registered the same tasks with other settings.
  """
  _check(missing)
  _register(tokenizer, seed, data_dir)
  known = {*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()}
  if name not in known:
    raise InputError(
      f'MIXTURE_OR_TASK_NAME: got {name!r}; must be a mixture or a task of `flan tasks`'
      + did_you_mean(name, known),
      field='Run.mixture',
    )
  if name not in registry.mixtures():
    return name
  declared = registry.mixture(name)
  kept = _prepared(declared.members, data_dir, missing, of=name)
  if len(kept) == len(declared.members):
    return name
  prepared = f'{name}_prepared'
  if prepared not in seqio.MixtureRegistry.names():
    names = [dataset.name for dataset in kept]
    seqio.MixtureRegistry.add(
      prepared,
      [
        (
          tasks_lib.task_name(member, declared),
          tasks_lib.mixing_rate(member, declared, names),
        )
        for member in names
      ],
    )
  return prepared


def evaluation(
  clusters: str | Sequence[str],
  tokenizer: str,
  family: str = 'flan',
  templates: int | None = None,
  data_dir: str | None = None,
  missing: str = 'refuse',
) -> str:
  """Registers a mixture of all evaluation tasks of some clusters; returns its name.

  Args:
    clusters: one or several clusters, e.g. `commonsense`.
    tokenizer: see `vocabulary`.
    family: dataset family, `flan` or `microworld`.
    templates: maximum number of templates per dataset; None for all that are not
      inverted.
    data_dir: TFDS data directory; None for TFDS's default.
    missing: `refuse`, or `skip` datasets that are not prepared.

  Raises:
    InputError: if a cluster is unknown, or a dataset is not prepared.
  """
  _check(missing)
  clusters = (clusters,) if isinstance(clusters, str) else tuple(clusters)
  _register(tokenizer, None, data_dir)
  datasets = registry.datasets(family).values()
  legal = sorted({dataset.cluster for dataset in datasets})
  for cluster in clusters:
    if cluster not in legal:
      raise InputError(
        f'CLUSTERS: got {cluster!r}; must be one of {", ".join(legal)}'
        + did_you_mean(cluster, legal),
        field='Evaluation.clusters',
      )
  wanted = [dataset for dataset in datasets if dataset.cluster in clusters]
  tasks = [
    f'{dataset.task}_template_{index}'
    for dataset in _prepared(wanted, data_dir, missing, of=', '.join(clusters))
    for direction in dataset.by_direction
    for index in direction.evaluated_templates[:templates]
  ]
  suffix = '' if templates is None else f'_{templates}_templates'
  name = f'{family}_evaluate_{"_".join(clusters)}{suffix}'
  if name not in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.add(name, tasks, default_rate=1.0)
  return name


def _check(missing: str) -> None:
  if missing not in ('refuse', 'skip'):
    raise InputError(
      f"MISSING: got {missing!r}; must be 'refuse' or 'skip'"
      + did_you_mean(missing, ('refuse', 'skip')),
      field='MISSING',
    )


def _prepared(
  datasets: Sequence[Dataset], data_dir: str | None, missing: str, *, of: str
) -> list[Dataset]:
  """Returns the datasets whose raw data are prepared; logs the others.

  Raises:
    InputError: if one is not prepared and `missing` is `refuse`, or if none is.
  """
  kept = []
  for dataset in datasets:
    try:
      raw_records.sizes(dataset, data_dir=data_dir)
    except InputError as error:
      if missing == 'refuse':
        raise InputError(f"{error}; or skip it: MISSING = 'skip'") from None
      logging.warning('%s: skipped (%s)', of, error)
    else:
      kept.append(dataset)
  if not kept:
    raise InputError(f'{of}: none of its {len(datasets)} datasets is prepared')
  return kept


def _register(tokenizer: str, seed: int | None, data_dir: str | None) -> None:
  """Registers every task and mixture once; a seed of None accepts any seed."""
  known = seqio.TaskRegistry.names()
  there = any(dataset.task in known for dataset in registry.datasets().values())
  have = _registered[0] if there and _registered else None
  if there and have is None:
    raise InputError(
      'tasks: already registered by another module; remove `import '
      'flan_jax.seqio_tasks`'
    )
  if have is None:
    tasks_lib.register(vocabulary(tokenizer), seed=seed or 0, data_dir=data_dir)
    _registered[:] = [(tokenizer, seed or 0, data_dir)]
    return
  wanted = (tokenizer, have[1] if seed is None else seed, data_dir)
  if wanted != have:
    raise InputError(
      f'TOKENIZER, seed, data_dir: got {wanted!r}; this process has registered the '
      f'tasks with {have!r}, and seqio allows one task per name: must be '
      'equal',
      field='TOKENIZER',
    )
