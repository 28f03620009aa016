"""The mixtures and their vocabulary, registered with seqio when t5x asks for them."""

import functools
from collections.abc import Sequence

import seqio

from flan_jax import catalogue, registry
from flan_jax.data import tokenizer as tokenizer_lib
from flan_jax.errors import InputError, did_you_mean
from flan_jax.interop import seqio_vocabulary
from flan_jax.interop.t5x import recipe

_registered: dict[str, tuple] = {}
"""Family -> tokenizer, seed and data_dir that it was registered with."""


@functools.cache
def vocabulary(tokenizer: str | None) -> seqio.Vocabulary:
  """The vocabulary of a tokenizer, named as for `recipe.tokenizer_file`.

  Raises:
    InputError: t5x could not tell its padding from its text.
  """
  path = recipe.tokenizer_file(tokenizer)
  if path == tokenizer_lib.BYTES:
    return seqio.ByteVocabulary()
  found = tokenizer_lib.load(path)  # seqio's own says 0 whatever the padding is
  if found.pad_id != 0 or found.eos_id == 0:
    raise InputError(
      f'TOKENIZER: got {tokenizer!r}, with padding {found.pad_id} and EOS '
      f'{found.eos_id}; t5x pads with id 0, so 0 must be its padding and nothing else'
    )
  if path.endswith('.json'):
    return seqio_vocabulary.Vocabulary(found)
  return seqio.SentencePieceVocabulary(path)


def mixture(
  name: str, tokenizer: str, seed: int = 0, data_dir: str | None = None
) -> str:
  """Registers the world of a mixture or task, once, and returns its name.

  Args:
    name: as `flan_held_out_nli`, `microworld_mini_copa` or
      `microworld_mini_copa_template_0`.
    tokenizer: see `vocabulary`.
    seed: of the template drawn for a training example.
    data_dir: TFDS data directory; None for TFDS's default.

  Raises:
    InputError: nothing is named so, or this process has registered the same tasks
      otherwise.
  """
  family = 'microworld' if name.startswith('microworld') else 'flan'
  _register(family, tokenizer, seed, data_dir)
  known = {*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()}
  if name not in known:
    raise InputError(
      f'MIXTURE_OR_TASK_NAME: got {name!r}; must be a mixture or a task of `flan tasks`'
      + did_you_mean(name, known)
    )
  return name


def evaluation(
  clusters: str | Sequence[str],
  tokenizer: str,
  family: str = 'flan',
  templates: int | None = None,
  data_dir: str | None = None,
) -> str:
  """Registers one mixture of every evaluation task of some clusters; its name.

  Args:
    clusters: one or several, as `commonsense`.
    tokenizer: see `vocabulary`.
    family: `flan` or `microworld`.
    templates: most templates of each dataset; None for all that are not turned around.
    data_dir: TFDS data directory; None for TFDS's default.

  Raises:
    InputError: a cluster has no datasets.
  """
  clusters = (clusters,) if isinstance(clusters, str) else tuple(clusters)
  _register(family, tokenizer, None, data_dir)
  datasets = catalogue.family(family).values()
  legal = sorted({dataset.cluster for dataset in datasets})
  for cluster in clusters:
    if cluster not in legal:
      raise InputError(
        f'CLUSTERS: got {cluster!r}; must be of {", ".join(legal)}'
        + did_you_mean(cluster, legal)
      )
  tasks = [
    f'{dataset.task}_template_{index}'
    for dataset in datasets
    if dataset.cluster in clusters
    for index in dataset.evaluated_templates[:templates]
  ]
  some = '' if templates is None else f'_{templates}_templates'
  name = f'{family}_evaluate_{"_".join(clusters)}{some}'
  if name not in seqio.MixtureRegistry.names():
    seqio.MixtureRegistry.add(name, tasks, default_rate=1.0)
  return name


def _register(
  family: str, tokenizer: str, seed: int | None, data_dir: str | None
) -> None:
  """Registers a family unless it is; a seed of None is any seed."""
  known = seqio.TaskRegistry.names()
  there = any(dataset.task in known for dataset in catalogue.family(family).values())
  have = _registered.get(family) if there else None
  if there and have is None:
    raise InputError(
      f'{family} tasks: registered already, and not by the bridge; leave out `import '
      'flan_jax.seqio_tasks`'
    )
  if have is None:
    registry.register(
      vocabulary(tokenizer), family=family, seed=seed or 0, data_dir=data_dir
    )
    _registered[family] = (tokenizer, seed or 0, data_dir)
    return
  wanted = (tokenizer, have[1] if seed is None else seed, data_dir)
  if wanted != have:
    raise InputError(
      f'TOKENIZER, seed, data_dir: got {wanted!r}; this process has registered the '
      f'{family} tasks with {have!r}, and seqio keeps one of a name'
    )
