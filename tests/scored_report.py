"""Reports of scores drawn at random, without any model."""

import numpy as np

from flan_jax.catalog.answers import Answer, Label
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.template import Template
from flan_jax.evaluate import evaluator
from flan_jax.report import build as build_lib

LABELS = ('yes', 'no')


ABOUT = {
  'model': 'tiny',
  'checkpoint': 'runs/tiny',
  'held_out': ['nli'],
  'trained_on': ['sentiment'],
  'train_examples': {'sentiment': 100},
  'data_digest': 'abc',
  'seed': 3,
}


def dataset(name='rte', cluster='nli', metric='accuracy', answer=None, **changes):
  return Dataset(
    name=name, cluster=cluster, train='', dev='dev', test='test', metric=metric,
    fields={'premise': 'premise'}, answer=answer or Label('label', LABELS),
    templates=(Template('{premise}'),) * 3, **{'family': 'flan', **changes},
  )  # fmt: skip


def split(tuned, base=None, options=LABELS):
  """A split of N examples whose gold is always the first option."""
  tuned = np.asarray(tuned, float)[..., None]
  examples = tuple(
    Example(
      f'test.0.{i}', {}, Answer('yes', options, (0,) if options else (), ('yes',))
    )
    for i in range(tuned.shape[1])
  )
  base = None if base is None else np.asarray(base, float)[..., None]
  return evaluator.SplitResult(examples=examples, tuned=tuned, base=base)


def results(*parts, warnings=(), templates=(0, 1, 2)):
  found = tuple(
    evaluator.DatasetResult(dataset=d, templates=templates, splits=splits)
    for d, splits in parts
  )
  timing = {'examples_per_s': 1.0, 'tokens_scored': 10, 'tokens_naive': 20}
  return evaluator.Results(datasets=found, timing=timing, warnings=warnings)


GENERATOR = np.random.default_rng(0)


RIGHT = (GENERATOR.random((3, 40)) < 0.7).astype(float)


WRONG = RIGHT * (GENERATOR.random((3, 40)) < 0.6)


def build(*parts, templates=(0, 1, 2), **changes):
  return build_lib.build(
    results(*parts, templates=templates), build_lib.Metadata(**(ABOUT | changes))
  )


def record(i, *, predicted, **changes):
  return {
    'example_id': f'test.0.{i}', 'dataset': 'rte', 'template': 0,
    'prompt': f'Premise {i}', 'options': list(LABELS),
    'log_probabilities': [-1.5, -2.25], 'gold': [0], 'predicted': predicted,
  } | changes  # fmt: skip
