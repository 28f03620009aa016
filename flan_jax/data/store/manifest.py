"""Manifest: what a store says of itself, put together from the notes of its parts."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.catalog import mixing_rates
from flan_jax.catalog.dataset import CLUSTERS, Dataset
from flan_jax.catalog.registry import Mixture
from flan_jax.data import batch, tokenization_loss
from flan_jax.data.packing import PackingPlan, drawn_lengths
from flan_jax.data.store import fingerprint
from flan_jax.data.store import parts as parts_lib
from flan_jax.data.store import shard as shard_lib
from flan_jax.data.store.parts import Job
from flan_jax.data.tokenizers import Tokenizer

SEQUENCE_LENGTH = 2048
"""Positions of an example where nothing else is said (design decision 7)."""

_BAR = 64

Sized = tuple[Dataset, Mapping[str, int]]
"""A dataset and the rows of each of its TFDS splits that are really there."""


def clamped(dataset: Dataset, sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
  """Splits with fewer rows than declared (design decision 8)."""
  out = {}
  for split in dataset.slices:
    declared, real = dataset.num_examples(split), dataset.num_examples(split, sizes)
    if real < declared:
      out[split] = {'declared': declared, 'real': real}
  return out


class Trained:
  """One dataset of the store, as far as it is rendered.

  Attributes:
    dataset: the declaration.
    epochs: how many are rendered.
    index: int32 [epochs * rows, 2], tokens of each entry.
    examples: number of training examples per epoch.
    rate: mixing rate; it may depend on the other datasets of the mixture.
  """

  rate = 0

  def __init__(self, job: Job, dataset: Dataset, epochs: int):
    self.dataset = dataset
    self.epochs = epochs
    self._job = job
    self._notes = [parts_lib.render_note(job, dataset.name, e) for e in range(epochs)]
    parts = [
      shard_lib.read_index(job.path('train'), dataset.name, e) for e in range(epochs)
    ]
    self.index = np.concatenate(parts)
    self.examples = len(self.index) // epochs

  def lengths(self, bos_id: int | None) -> np.ndarray:
    """Positions of every entry, int32 [epochs * rows]."""
    return batch.length(self.index[:, 0], self.index[:, 1], bos_id)

  def entry(self, needed: int) -> dict[str, Any]:
    """What the manifest says of the dataset; `needed` epochs were asked for."""
    name = self.dataset.name
    sizes = self._job.sizes[name]
    read = parts_lib.note(self._job, f'read.{name}', self._job.stamps[name])
    digests = [found['digest'] for found in self._notes]
    num_fewshot: collections.Counter[int] = collections.Counter()
    for found in self._notes:
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
        'too_long': self._notes[0]['too_long'],
      },
      'truncated': {
        why: sum(found['truncated'][why] for found in self._notes)
        for why in ('inputs', 'targets', 'redrawn')
      },
      **(
        {'num_fewshot': {str(n): num_fewshot[n] for n in sorted(num_fewshot)}}
        if any(num_fewshot)
        else {}
      ),
      'clamped': clamped(self.dataset, sizes),
      'tokens': dict(
        zip(('inputs', 'targets'), self.index.sum(0).tolist(), strict=True)
      ),
      'losses': tokenization_loss.total(found['losses'] for found in self._notes),
      'digest': fingerprint.digest(digests),
      'shards': digests,
    }


def collect(
  job: Job, mixture: Mixture, datasets: Sequence[Dataset], epochs: Mapping[str, int]
) -> list[Trained]:
  """The datasets of a mixture, with the rates of the rows really there (decision 8).

  Args:
    job: of the build.
    mixture: whose rates they are.
    datasets: those of the mixture that are prepared.
    epochs: dataset -> epochs rendered.
  """
  found = [Trained(job, dataset, epochs[dataset.name]) for dataset in datasets]
  drawn = mixing_rates.rates(mixture, {one.dataset.name: one.examples for one in found})
  for one in found:
    one.rate = drawn[one.dataset.name]
  return found


def _held(job: Job, dataset: Dataset, sizes: Mapping[str, int]) -> dict[str, Any]:
  """What the manifest says of a dataset that is evaluated."""
  note = parts_lib.note(job, f'evaluate.{dataset.name}', job.stamps[dataset.name])
  return {
    'cluster': dataset.cluster,
    'tfds': dataset.tfds,
    'examples_read': note['filters']['read'],
    'examples': note['examples'],
    'filters': {key: note['filters'][key] for key in ('unlabeled', 'empty')},
    'clamped': clamped(dataset, sizes),
    'digest': note['digest'],
  }


def histogram(lengths: np.ndarray) -> dict[str, list[int]]:
  """How many have a length in [edge, next edge), in positions."""
  counts = np.bincount(lengths // _BAR)
  return {
    'edges': (np.arange(len(counts) + 1) * _BAR).tolist(),
    'counts': counts.tolist(),
  }


def planned(
  trained: Sequence[Trained],
  *,
  digest: str,
  bos_id: int | None,
  seed: int,
  positions: int | None,
  sequence_length: int | None,
) -> dict[str, Any]:
  """What the plan of a run over the store looks like.

  Args:
    trained: its datasets.
    digest: of the store.
    bos_id: of its tokenizer.
    seed: template seed.
    positions: that the run has; None for those of one pass over the mixture.
    sequence_length: positions of an example; None for SEQUENCE_LENGTH, or the longest example.

  Returns:
    {"seed", "sequence_length", "sequences", "examples", "fill", "lengths_drawn",
    "lengths_packed"}: histograms of the first so many draws and of what stands in
    the rows. They differ by the last window alone: packing changes no draw.
  """
  drawn = [one for one in trained if one.rate]
  lengths = {one.dataset.name: one.lengths(bos_id) for one in drawn}
  rated = {one.dataset.name: one.rate for one in drawn}
  longest = max(int(found.max()) for found in lengths.values())
  sequence_length = sequence_length or max(SEQUENCE_LENGTH, longest)
  if positions is None:
    positions = sum(float(lengths[name].mean()) * rate for name, rate in rated.items())
  rendered = {one.dataset.name: one.epochs for one in drawn}
  plan = PackingPlan.build(
    lengths,
    rated,
    rendered,
    seed=seed,
    sequences=max(1, math.floor(positions / sequence_length)),
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
  head: Mapping[str, Any],
  *,
  job: Job,
  recipe: str,
  tokenizer: Tokenizer,
  training: Sequence[Trained],
  needs: Mapping[str, int],
  evaluated: Sequence[Sized],
) -> dict[str, Any]:
  """The manifest, all but its list of files.

  Args:
    head: what was asked for.
    job: of the build, all of whose parts are finished.
    recipe: digest of what the store is made from.
    tokenizer: of the store.
    training: datasets that train.
    needs: dataset -> epochs that were asked for.
    evaluated: datasets whose dev and test rows are kept.
  """
  trained = {one.dataset.name: one.entry(needs[one.dataset.name]) for one in training}
  held = {dataset.name: _held(job, dataset, sizes) for dataset, sizes in evaluated}
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
    positions=request['steps'] and request['steps'] * request['batch_tokens'],
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
      'recipe': recipe,
    },
    'fill': plan['fill'],
    'trained_on': [cluster for cluster in CLUSTERS if cluster in clusters],
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
    'tfds': {dataset.name: dataset.tfds for dataset in every if dataset.tfds},
    'datasets': trained,
    'evaluation': held,
    'length_histogram': histogram(np.concatenate(lengths)),
    'plan': plan,
  }
