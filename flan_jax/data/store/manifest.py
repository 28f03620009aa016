"""Manifest: describes a store, assembled from the metadata of its parts."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax import __version__
from flan_jax.catalog import mixing_rates, registry
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.registry import Mixture
from flan_jax.data import batch, tokenizer_coverage
from flan_jax.data.packing import PackingPlan, drawn_lengths
from flan_jax.data.sources import file_task
from flan_jax.data.store import fingerprint
from flan_jax.data.store import parts as parts_lib
from flan_jax.data.store import shard as shard_lib
from flan_jax.data.store.parts import Job
from flan_jax.data.tokenizers import Tokenizer

SEQUENCE_LENGTH = 2048
"""Default sequence length in tokens."""

_BAR = 64

Sized = tuple[Dataset, Mapping[str, int]]
"""A dataset, and the number of examples in each prepared TFDS split."""


def clamped(dataset: Dataset, sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
  """Splits with fewer examples than declared, with both numbers."""
  out = {}
  for split in dataset.slices:
    declared, real = dataset.num_examples(split), dataset.num_examples(split, sizes)
    if real < declared:
      out[split] = {'declared': declared, 'real': real}
  return out


class RenderedDataset:
  """A training dataset of the store, rendered for some epochs.

  Attributes:
    dataset: the declaration.
    epochs: number of epochs rendered.
    index: int32 [epochs * n, 2 or 3], the `counts` of each entry.
    examples: number of training examples per epoch, n.
    rate: mixing rate; it may depend on the other datasets of the mixture.
  """

  rate = 0

  def __init__(self, job: Job, dataset: Dataset, epochs: int):
    self.dataset = dataset
    self.epochs = epochs
    self._job = job
    self._metadata = [
      parts_lib.render_metadata(job, dataset.name, e) for e in range(epochs)
    ]
    parts = [
      shard_lib.read_index(job.path('train'), dataset.name, e) for e in range(epochs)
    ]
    self.index = np.concatenate(parts)
    self.examples = len(self.index) // epochs

  def lengths(self, bos_id: int | None) -> np.ndarray:
    """Packed length of every entry in tokens, int32 [epochs * n]."""
    return batch.lengths(self.index, bos_id)

  def entry(self, needed: int) -> dict[str, Any]:
    """Entry of the dataset in the manifest; `needed` is the number of epochs wanted."""
    name = self.dataset.name
    sizes = self._job.sizes[name]
    read = parts_lib.finished(self._job, f'read.{name}', self._job.stamps[name])
    digests = [found['digest'] for found in self._metadata]
    num_fewshot: collections.Counter[int] = collections.Counter()
    for found in self._metadata:
      num_fewshot.update(
        {int(n): entries for n, entries in found['num_fewshot'].items()}
      )
    return {
      'cluster': self.dataset.cluster,
      'tfds': self.dataset.tfds,
      'examples_read': read['filters']['read'],
      'examples': self.examples,
      'rate': self.rate,
      'epochs': self.epochs,
      'epochs_needed': needed,
      'wraps': needed > self.epochs,
      'filters': {
        'unlabeled': read['filters']['unlabeled'],
        'empty': read['filters']['empty'],
        'too_long': self._metadata[0]['too_long'],
      },
      'truncated': {
        why: sum(found['truncated'][why] for found in self._metadata)
        for why in ('inputs', 'targets', 'redrawn')
      },
      **(
        {'num_fewshot': {str(n): num_fewshot[n] for n in sorted(num_fewshot)}}
        if any(num_fewshot)
        else {}
      ),
      'clamped': clamped(self.dataset, sizes),
      'tokens': dict(
        zip(('inputs', 'targets'), self.index[:, :2].sum(0).tolist(), strict=True)
      ),
      'losses': tokenizer_coverage.total(found['losses'] for found in self._metadata),
      'digest': fingerprint.digest(digests),
      'shards': digests,
    }


def collect(
  job: Job, mixture: Mixture, datasets: Sequence[Dataset], epochs: Mapping[str, int]
) -> list[RenderedDataset]:
  """Collects the rendered datasets of a mixture, with rates from their real sizes.

  Args:
    job: job of the build.
    mixture: mixture that defines the rates.
    datasets: prepared datasets of the mixture.
    epochs: dataset -> number of epochs rendered.
  """
  found = [RenderedDataset(job, dataset, epochs[dataset.name]) for dataset in datasets]
  drawn = mixing_rates.rates(mixture, {one.dataset.name: one.examples for one in found})
  for one in found:
    one.rate = drawn[one.dataset.name]
  return found


def _evaluation_entry(
  job: Job, dataset: Dataset, sizes: Mapping[str, int]
) -> dict[str, Any]:
  """Entry of an evaluation dataset in the manifest."""
  metadata = parts_lib.finished(
    job, f'evaluate.{dataset.name}', job.stamps[dataset.name]
  )
  return {
    'cluster': dataset.cluster,
    'tfds': dataset.tfds,
    'examples_read': metadata['filters']['read'],
    'examples': metadata['examples'],
    'filters': {key: metadata['filters'][key] for key in ('unlabeled', 'empty')},
    'clamped': clamped(dataset, sizes),
    'digest': metadata['digest'],
  }


def validated(training: Sequence[Sized]) -> list[Sized]:
  """The training datasets that have dev examples."""
  return [
    (dataset, sizes)
    for dataset, sizes in training
    if 'dev' in dataset.slices and dataset.num_examples('dev', sizes)
  ]


def _validation_entry(job: Job, dataset: Dataset) -> dict[str, Any]:
  """Entry of the dev examples of a training dataset in the manifest."""
  name = dataset.name
  found = parts_lib.finished(job, f'validate.{name}', job.stamps[name])
  rendered = parts_lib.finished(job, *parts_lib.dev_part(job, name))
  filters = {key: found['filters'][key] for key in ('unlabeled', 'empty')}
  return {
    'cluster': dataset.cluster,
    'examples_read': found['filters']['read'],
    'examples': found['examples']['dev'],
    'filters': {**filters, 'too_long': rendered['too_long']},
    'in_training': rendered['in_training'],
    'digest': found['digest']['dev'],
    'shard': rendered['digest'],
  }


def histogram(lengths: np.ndarray) -> dict[str, list[int]]:
  """Histogram of lengths in tokens; counts[i] are in [edges[i], edges[i + 1])."""
  counts = np.bincount(lengths // _BAR)
  return {
    'edges': (np.arange(len(counts) + 1) * _BAR).tolist(),
    'counts': counts.tolist(),
  }


def planned(
  trained: Sequence[RenderedDataset],
  *,
  digest: str,
  bos_id: int | None,
  seed: int,
  tokens: int | None,
  sequence_length: int | None,
) -> dict[str, Any]:
  """Summarizes the packing plan of a run over the store.

  Args:
    trained: training datasets.
    digest: digest of the store.
    bos_id: id of BOS; None if the tokenizer has none.
    seed: template seed.
    tokens: tokens of the run, padding included; None for one pass over the mixture.
    sequence_length: sequence length in tokens; None for SEQUENCE_LENGTH, or the length
      of the longest example if that is more.

  Returns:
    {"seed", "sequence_length", "sequences", "examples", "fill", "lengths_drawn",
    "lengths_packed"}; the histograms cover the first draws and the packed examples, as
    many of each. They differ by the last window only: packing changes no draw.
  """
  drawn = [one for one in trained if one.rate]
  lengths = {one.dataset.name: one.lengths(bos_id) for one in drawn}
  rated = {one.dataset.name: one.rate for one in drawn}
  longest = max(int(found.max()) for found in lengths.values())
  sequence_length = sequence_length or max(SEQUENCE_LENGTH, longest)
  total: float | None = tokens
  if total is None:
    total = sum(float(lengths[name].mean()) * rate for name, rate in rated.items())
  rendered = {one.dataset.name: one.epochs for one in drawn}
  plan = PackingPlan.build(
    lengths,
    rated,
    rendered,
    seed=seed,
    sequences=max(1, math.floor(total / sequence_length)),
    sequence_length=sequence_length,
    digest=digest,
  )
  before = drawn_lengths(lengths, rated, rendered, seed=seed, count=plan.examples)
  return {
    'seed': seed,
    'sequence_length': sequence_length,
    'sequences': len(plan),
    'examples': plan.examples,
    'fill': plan.fill,
    'lengths_drawn': histogram(before),
    'lengths_packed': histogram(plan.lengths(lengths)),
  }


def assemble(
  recipe: fingerprint.Recipe,
  *,
  job: Job,
  tokenizer: Tokenizer,
  training: Sequence[RenderedDataset],
  needs: Mapping[str, int],
  evaluated: Sequence[Sized],
  validated: Sequence[Sized] = (),
) -> dict[str, Any]:
  """Assembles the manifest, all but its list of files.

  Args:
    recipe: everything that the store is made from.
    job: job of the build; all its parts are finished.
    tokenizer: tokenizer of the store.
    training: training datasets.
    needs: dataset -> number of epochs wanted.
    evaluated: datasets whose dev and test examples are kept.
    validated: training datasets whose dev examples are kept.
  """
  head = recipe.head
  trained = {one.dataset.name: one.entry(needs[one.dataset.name]) for one in training}
  held = {
    dataset.name: _evaluation_entry(job, dataset, sizes) for dataset, sizes in evaluated
  }
  every = [one.dataset for one in training] + [dataset for dataset, _ in evaluated]
  clusters = {entry['cluster'] for entry in trained.values() if entry['rate']}
  # Hashed, so these keys never change, whatever the manifest's own are.
  digest = fingerprint.digest(
    {
      'tokenizer': tokenizer.digest,
      'train': {
        name: {
          'rows': entry['examples'],
          'rate': entry['rate'],
          'epochs': entry['epochs'],
          'digest': entry['digest'],
        }
        for name, entry in trained.items()
      },
      'evaluation': {name: entry['digest'] for name, entry in held.items()},
    }
  )
  request = head['request']
  plan = planned(
    training,
    digest=digest,
    bos_id=tokenizer.bos_id,
    seed=head['seed'],
    tokens=request['steps'] and request['steps'] * request['batch_tokens'],
    sequence_length=request['sequence_length'],
  )
  lengths = [one.lengths(tokenizer.bos_id) for one in training]
  return {
    **head,
    'digest': digest,
    'digests': {
      'templates': fingerprint.digest(
        {dataset.name: fingerprint.templates(dataset) for dataset in every}
      ),
      'tokenizer': tokenizer.digest,
      'recipe': recipe.digest,
    },
    **file_task.recorded(dataset.name for dataset in every),
    'fill': plan['fill'],
    'trained_on': list(registry.in_order(clusters)),
    'tokenizer': {
      'name': tokenizer.name,
      'file': tokenizer.filename,
      'vocab_size': tokenizer.vocab_size,
      'bos_id': tokenizer.bos_id,
      'eos_id': tokenizer.eos_id,
      'pad_id': tokenizer.pad_id,
      'unk_id': tokenizer.unk_id,
      'digest': tokenizer.digest,
    },
    'flan_jax': __version__,
    'declared': {dataset.name: fingerprint.declared(dataset) for dataset in every},
    'tfds': {dataset.name: dataset.tfds for dataset in every if dataset.tfds},
    'datasets': trained,
    'evaluation': held,
    'validation': {d.name: _validation_entry(job, d) for d, _ in validated},
    'length_histogram': histogram(np.concatenate(lengths)),
    'plan': plan,
  }
