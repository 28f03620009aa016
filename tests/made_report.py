"""A made evaluation of two models on three datasets, and its report."""

import re
import xml.etree.ElementTree as ET

import numpy as np

from flan_jax.catalog.answers import Answer, Label, Text
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template
from flan_jax.evaluate import evaluator
from flan_jax.evaluate.contamination import Found, Overlap
from flan_jax.report import build

LABELS = ('yes', 'no')
RIGHT = {'tuned': 0.8, 'base': 0.5}
"""Model -> its share of right answers."""


def dataset(name: str, cluster: str, metric: str = 'accuracy') -> Dataset:
  ranked = metric == 'accuracy'
  return Dataset(
    name=name, cluster=cluster, source=Tfds(f'{name}:1.0.0'), family='flan',
    train='', dev='dev', test='test',
    sizes={'dev': 20, 'test': 400}, fields={'premise': 'premise'}, metric=metric,
    answer=Label('label', LABELS) if ranked else Text('{premise}'),
    templates=(Template('{premise}'),) * 3,
  )  # fmt: skip


DATASETS = (
  dataset('rte', 'nli'),
  dataset('anli_r1', 'nli'),
  dataset('aeslc', 'summarization', 'edit_distance'),
)


def _split(of: Dataset, name: str, count: int, models) -> evaluator.SplitResult:
  rng = np.random.default_rng([count, *of.name.encode(), *name.encode()])
  scores, confidence, examples = {}, {}, []
  for i in range(count):
    answer = Answer('yes')
    if of.has_options:
      answer = Answer('yes', LABELS, (0,), ('yes',))
    examples.append(Example(f'{name}.0.{i}', {'premise': f'{of.name} {i}'}, answer))
  for model in models:
    right = (rng.random((3, count, 1)) < RIGHT[model]).astype(float)
    scores[model] = right
    if of.has_options:
      sure = rng.uniform(0.5, 1, right.shape)
      confidence[model] = np.concatenate([sure, right], axis=-1)
  return evaluator.SplitResult(
    examples=tuple(examples),
    tuned=scores['tuned'],
    base=scores.get('base'),
    confidence=confidence,
  )


def results(*, with_base: bool = True, warnings=()) -> evaluator.Results:
  models = ('tuned', 'base') if with_base else ('tuned',)
  measured = tuple(
    evaluator.DatasetResult(
      dataset=each,
      templates=(0, 1, 2),
      splits={'dev': _split(each, 'dev', 20, models),
              'test': _split(each, 'test', 40, models)},
      template_texts=dict.fromkeys(models, ('{premise}',) * 3),
    )
    for each in DATASETS
  )  # fmt: skip
  own = {'examples_per_s': 1.5, 'tokens_scored': 10, 'tokens_naive': 20}
  timing = own | ({'base': own} if with_base else {})
  return evaluator.Results(datasets=measured, timing=timing, warnings=tuple(warnings))


METADATA = {
  'model': 'tiny', 'checkpoint': 'runs/tiny', 'held_out': ['nli', 'summarization'],
  'trained_on': ['sentiment'], 'train_examples': {'sentiment': 100},
  'data_digest': 'abc', 'seed': 3,
}  # fmt: skip
OVERLAPS = Found(
  13,
  ('texts',),
  1234,
  {'rte': Overlap(np.arange(40) < 10, np.arange(40) < 30, np.zeros(40))},
)


def report(*, with_base: bool = True, contaminated: bool = True, **changes):
  """The content of report.json; `changes` are attributes of build.Metadata."""
  warnings = changes.pop('warnings', ())
  return build.build(
    results(with_base=with_base, warnings=warnings),
    build.Metadata(**METADATA | changes),
    contamination=OVERLAPS if contaminated else None,
  )


def record(of: Dataset, i: int, *, template: int = 0, right: bool = True, **changes):
  """A line of predictions.jsonl."""
  found = {
    'example_id': f'test.0.{i}', 'dataset': of.name, 'template': template,
    'prompt': f'{of.name} {i}', 'options': [],
  }  # fmt: skip
  if of.has_options:
    found |= {'options': list(LABELS), 'gold': [0], 'predicted': 0 if right else 1,
              'log_probabilities': [-1.5, -2.25]}  # fmt: skip
  else:
    text = 'yes' if right else 'nay'
    found |= {'text': text, 'gold': ['yes'], 'predicted': text}
  return found | changes


PHONE, PADDING = 390, 2 * 16
"""Width of a phone, and of what a page leaves free at its sides, in px."""


def text_on_a_phone(svg):
  """Returns the size of the smallest text of a figure on a phone, in px."""
  width = float(ET.fromstring(svg).get('width').removesuffix('pt'))
  sizes = re.findall(r'font-size: ([\d.]+)px', svg)
  return min(map(float, sizes)) * (PHONE - PADDING) / width
