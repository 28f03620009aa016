"""Tiny datasets: four of three answer types, declared as in `tasks/`."""

import hashlib
import json

import pytest

from flan_jax.catalog import registry
from flan_jax.catalog.answers import Choice, Label, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.registry import Mixture
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template
from flan_jax.data import raw_records
from flan_jax.errors import InputError

INSTRUCTIONS = (
  'Say',
  'Tell me',
  'Decide',
  'Judge',
  'Answer',
  'State',
  'Settle',
  'Work out',
)


def _ten(inputs, *inverted):
  plain = [
    Template(f'{instruction} now.\n\n{inputs}')
    for instruction in INSTRUCTIONS[: 10 - len(inverted)]
  ]
  plain += [
    Template(f'{inputs}\n\n{instruction}.')
    for instruction in INSTRUCTIONS[: 10 - len(inverted) - 8]
  ]
  return (*plain, *inverted)


DATASETS = (
  Dataset(
    name='pairs',
    cluster='nli',
    source=Tfds('pairs:1.0.0'),
    train='train[:-5]',
    dev='train[-5:]',
    test='validation',
    sizes={'train': 40, 'validation': 7},
    fields={'premise': 'premise', 'hypothesis': 'text/hypothesis'},
    answer=Label('label', ('yes', 'no')),
    metric='accuracy',
    templates=_ten(
      '{premise}\n{hypothesis}\n{OPTIONS}',
      Template('Write what follows from: {premise}', '{hypothesis}', inverted=True),
    ),
  ),
  Dataset(
    name='stories',
    cluster='summarization',
    source=Tfds('stories:1.0.0'),
    train='train',
    dev='',
    test='test',
    sizes={'train': 23, 'test': 3},
    fields={'story': 'story', 'title': 'title'},
    answer=Text('{title}'),
    metric='rouge',
    templates=_ten('{story}\n\nTitle?'),
  ),
  Dataset(
    name='picks',
    cluster='commonsense',
    source=None,
    train='train',
    dev='dev',
    test='',
    sizes={'train': 12, 'dev': 4},
    fields={'start': 'start', 'one': 'one', 'two': 'two'},
    answer=Choice('label', ('{one}', '{two}'), first=1),
    metric='accuracy',
    templates=_ten('{start}\n{OPTIONS}'),
  ),
  Dataset(
    name='twins',
    cluster='paraphrase',
    source=Tfds('twins:1.0.0'),
    train='train',
    dev='validation',
    test='test',
    sizes={'train': 9, 'validation': 3, 'test': 5},
    fields={'left': 'left', 'right': 'right'},
    answer=Label('same', ('no', 'yes')),
    metric='accuracy',
    templates=_ten('{left}\n{right}\n{OPTIONS}'),
  ),
)


def _record(name, i):
  words = ' '.join(f'word{(i * 7 + j) % 31}' for j in range(5 + i % 17))
  return {
    'pairs': {'premise': words, 'text': {'hypothesis': f'It is {i}.'}, 'label': i % 2},
    'stories': {'story': f'Once {words}.\nThen  {words}.', 'title': f'Tale {i}'},
    'picks': {'start': words, 'one': f'go {i}', 'two': f'stay {i}', 'label': 1 + i % 2},
    'twins': {'left': words, 'right': f'{words}!', 'same': i % 2},
  }[name]


class TinyDatasets:
  """Raw records of the tiny datasets, which a test may change.

  Attributes:
    examples: dataset -> TFDS split -> list of records.
    mixture: mixture of three datasets, with `paraphrase` held out.
  """

  def __init__(self):
    self.examples = {
      d.name: {s: [_record(d.name, i) for i in range(n)] for s, n in d.sizes.items()}
      for d in DATASETS
    }
    self.mixture = Mixture(
      name='tiny_held_out_paraphrase',
      datasets=('pairs', 'stories', 'picks'),
      held_out=('paraphrase',),
      excluded=('sentiment',),
      allowed_overlap=(('pairs', 'nli'),),  # else footnote 1 leaves it out
    )

  def sizes(self, dataset, *, data_dir=None):
    if dataset.name not in self.examples:
      raise InputError(f'dataset {dataset.name!r}: not prepared in {data_dir}')
    return {
      split: len(examples) for split, examples in self.examples[dataset.name].items()
    }

  def stamp(self, dataset, *, data_dir=None):
    return hashlib.sha256(json.dumps(self.examples[dataset.name]).encode()).hexdigest()

  def records(self, dataset, split, *, data_dir=None):
    part = dataset.resolve_splits(self.sizes(dataset))[split]
    for i in range(part.lo or 0, len(self.examples[dataset.name][part.split])):
      if part.hi is None or i < part.hi:
        yield f'{part.split}.0.{i}', self.examples[dataset.name][part.split][i]


@pytest.fixture
def tiny_datasets(monkeypatch):
  found = TinyDatasets()
  monkeypatch.setattr(raw_records, 'records', found.records)
  monkeypatch.setattr(raw_records, 'sizes', found.sizes)
  monkeypatch.setattr(raw_records, 'stamp', found.stamp)
  with registry.restored():
    registry.register(*DATASETS, family='tiny')
    yield found
