"""Reports of a model that is right on the examples that a rule names."""

import dataclasses
import json
import re

from oracle import LABELS, Oracle, examples

from flan_jax.catalog import registry
from flan_jax.evaluate import evaluator, predictions
from flan_jax.report import build

RTE, CB = (
  dataclasses.replace(
    registry.get(name), templates=registry.get(name).templates[:2], test='validation'
  )
  for name in ('rte', 'cb')
)
ABOUT = {'held_out': ['nli'], 'trained_on': [], 'train_examples': {}}


def evaluated(out, right, *, dataset=RTE, count=40, base=None, **about):
  """Writes the report of a model that is right on example i if `right(i)`."""

  def model(known):
    def rule(prompt):
      i = int(re.findall(r'Fact (\d+) of', prompt)[-1])
      return LABELS[i % 2 if known(i) else 1 - i % 2]

    made = Oracle(rule)
    made.sequence_length = 4096  # the oracle's tokens are bytes
    return made

  with predictions.Predictions(out) as emit:
    results = evaluator.evaluate(
      model(right),
      evaluator.Protocol(splits=('test',)),
      datasets=[dataset],
      examples=examples(dataset, count),
      base=None if base is None else model(base),
      emit=emit,
    )
  about = {'model': 'm', 'checkpoint': str(out), 'data_digest': f'of {count}', **about}
  about.setdefault('provenance', {'config': '', 'models': {}, 'versions': {}})
  report = build.build(results, build.Metadata(seed=0, **ABOUT, **about))
  (out / 'report.json').write_text(json.dumps(report))


def trained(run, seed, step=100, settings='one', weights=None, **more):
  """Metadata of the report of a step of a run."""
  weights = weights or f'{settings} {seed} {step}'
  models = {'tuned': {'fingerprint': weights}, 'base': {'fingerprint': 'the base'}}
  return {
    'training': {'run': run, 'seed': seed, 'step': step, 'settings': settings},
    'provenance': {
      'config': f"Run.loss = '{settings}'  # default", 'models': models, 'versions': {},
    },
    **more,
  }  # fmt: skip
