"""Sources of a store: the datasets of a mixture, as they are prepared here."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flan_jax.catalog import leakage, mixing_rates, registry
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.registry import Mixture
from flan_jax.catalog.source import SeqioTask
from flan_jax.data import raw_records
from flan_jax.data.store import fingerprint
from flan_jax.data.store.manifest import Sized
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError, did_you_mean

Counts = Mapping[str, int]
"""Reason -> number of examples."""

_NAMED = 5
"""Maximum number of datasets in a line."""

_OF_CHATS = {
  'unlabeled': 'without a turn of the assistant',
  'empty': 'with an empty turn of the assistant',
  'too_long': 'whose first answer does not fit',
}
"""Reasons to drop an example, in the words of conversations."""


class Sources(NamedTuple):
  """The datasets of a mixture, as they are prepared on this machine.

  Attributes:
    mixture: the mixture.
    clusters: clusters whose dev and test examples are kept.
    training: training datasets, with their sizes.
    evaluated: datasets of `clusters`, with their sizes.
    missing: dataset -> why it is not prepared.
  """

  mixture: Mixture
  clusters: tuple[str, ...]
  training: list[Sized]
  evaluated: list[Sized]
  missing: dict[str, str]

  @property
  def chats(self) -> list[Dataset]:
    """Training datasets of conversations."""
    return [dataset for dataset, _ in self.training if dataset.messages]

  @property
  def tokenized(self) -> list[SeqioTask]:
    """Sources whose examples are tokens."""
    found = [dataset.source for dataset, _ in self.training + self.evaluated]
    return [one for one in found if isinstance(one, SeqioTask) and one.tokenized]


def check(mixture: Mixture, clusters: tuple[str, ...]) -> None:
  """Checks that a mixture can be trained on, and evaluated on these clusters.

  Raises:
    InputError: if it has no training data, leaks, or a cluster is unknown.
  """
  if not mixture.datasets:
    raise InputError(f'mixture {mixture.name!r}: no datasets; must have at least one')
  for cluster in clusters:
    if not registry.is_cluster(cluster):
      known = registry.clusters()
      raise InputError(
        f'cluster {cluster!r}: must be one of {", ".join(known)}'
        + did_you_mean(cluster, known),
        field='Run.held_out',
      )
  leakage.check(mixture)
  for dataset in mixture.members:
    style = mixture.style_of(dataset.name)
    if dataset.is_tokenized and style.suffix:
      raise InputError(
        f'mixture {mixture.name!r}: prompt style {style.suffix.strip("_")!r} of '
        f'{dataset.name!r}, whose prompts are its own; must be the plain '
        f'one: styles={{{dataset.name!r}: PromptStyle()}}'
      )
    if 'train' not in dataset.slices:
      raise InputError(
        f'mixture {mixture.name!r}: {dataset.name!r} has no training split'
      )


def find(
  mixture: Mixture, clusters: tuple[str, ...], *, data_dir: str | None, missing: str
) -> Sources:
  """Finds the datasets of a mixture and of clusters, with their sizes.

  Raises:
    InputError: if one is not prepared, unless `missing` is `skip`; if none is; or if
      every rate is 0.
  """
  evaluated = registry.of_clusters(clusters, mixture.families)
  found = Sources(mixture, clusters, [], [], {})
  for here, datasets in (
    (found.training, mixture.members),
    (found.evaluated, evaluated),
  ):
    for dataset in datasets:
      try:
        here.append((dataset, dict(raw_records.sizes(dataset, data_dir=data_dir))))
      except InputError as error:
        if missing == 'refuse':
          raise
        found.missing[dataset.name] = str(error)
  if not found.training:
    raise InputError(
      f'mixture {mixture.name!r}: none of its {len(mixture.datasets)} datasets is '
      'prepared'
    )
  examples = {d.name: d.num_examples('train', sizes) for d, sizes in found.training}
  rates = mixing_rates.rates(mixture, examples)
  known = rates.keys() == examples.keys()
  if known and any(examples.values()) and not any(rates.values()):
    raise InputError(
      f'mixture {mixture.name!r}: every rate is 0; must have one above 0, or nothing '
      'is ever drawn',
      field='Run.mixture',
    )
  return found


def dropped(name: str, counts: Counts) -> list[str]:
  """Describes the examples that were dropped from a dataset: `2 unlabeled`."""
  words = _OF_CHATS if is_chats(name) else {'empty': 'with an empty answer or prompt'}
  return [f'{n:,} {words.get(why, why)}' for why, n in counts.items() if n]


def is_chats(name: str) -> bool:
  """True for a registered dataset of conversations."""
  dataset = registry.find(name)
  return dataset is not None and bool(dataset.messages)


def nothing_left(mixture: Mixture, counts: Mapping[str, Counts]) -> InputError:
  """The refusal of a mixture of whose examples none is left to train on.

  Args:
    mixture: the mixture.
    counts: dataset -> number of examples read, and of those dropped by their reason.
  """
  lines = []
  for name, found in list(counts.items())[:_NAMED]:
    gone = dropped(name, {why: n for why, n in found.items() if why != 'read'})
    lines.append(f'{name}: {found["read"]:,} read, dropped {", ".join(gone) or 0}')
  more = f'; {len(counts) - _NAMED:,} more' if len(counts) > _NAMED else ''
  return InputError(
    f'mixture {mixture.name!r}: no training examples are left to draw from: '
    f'{"; ".join(lines)}{more}',
    field='Run.mixture',
  )


def own_settings(mixture: Mixture) -> dict[str, Any]:
  """The manifest's entries of a mixture with rates or styles of its own."""
  parts = {name: list(part.datasets) for name, part in mixture.parts.items()}
  styles = {name: one.as_json() for name, one in mixture.styles.items()}
  functions = {
    one.name: fingerprint.data(one.rate_function)
    for one in (mixture, *mixture.parts.values())
    if one.rate_function is not None
  }
  own_prompts = {
    name: fingerprint.prompts(mixture.style_of(name).apply(registry.get(name)))
    for name in mixture.datasets
    if mixture.style_of(name).is_own
  }
  own = {
    'rates': dict(mixture.rates),
    'parts': parts,
    'styles': styles,
    'rate_functions': functions,
    'prompts': own_prompts,
  }
  return {name: value for name, value in own.items() if value}


def checked_tokenizer(sources: Sources, given: Tokenizer | None) -> Tokenizer | None:
  """Returns the tokenizer of a store: that of the seqio Tasks whose tokens it holds.

  Args:
    sources: datasets of the store.
    given: tokenizer that the store was asked for; None to take theirs, or train one.

  Raises:
    InputError: if two of them, or the given one, differ; names both digests.
  """
  holder = 'the tokenizer of the model or of TOKENIZER'
  for source in sources.tokenized:
    own, name = source.tokenizer(), f'seqio task {source.name!r}'
    if given is None:
      given, holder = own, name
    elif own.digest != given.digest:
      raise InputError(
        f'{name}: vocabulary of digest {own.digest[:12]}, {holder} has '
        f'{given.digest[:12]}; they must be the same'
      )
  return given
