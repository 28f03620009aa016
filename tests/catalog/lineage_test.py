"""Lineage: written, read back, and reconstructed from older training.json files."""

import json

import pytest

from flan_jax.catalog import leakage, lineage, registry
from flan_jax.errors import InputError

NLI = registry.mixture('flan_held_out_nli')
UNKNOWN = lineage.Lineage((lineage.unknown('before'),))


def test_a_lineage_survives_json():
  chain = lineage.Lineage((
    lineage.unknown('gemma', 'converted'),
    lineage.of_mixture(NLI, model='m', weights='abc', train_examples={'sentiment': 7}),
  ))  # fmt: skip
  written = json.loads(json.dumps(chain.as_json()))
  assert written[0]['trained_on'] == written[0]['datasets'] == 'unknown'
  assert 'nli' not in written[1]['trained_on']
  assert lineage.of_json(written, where='training.json') == chain


@pytest.mark.parametrize(
  'damage',
  [
    None,
    'unknown',
    [5],
    [{}],
    [{**UNKNOWN.as_json()[0], 'trained_on': []}],
    [{**UNKNOWN.as_json()[0], 'train_examples': 3}],
    [{**UNKNOWN.as_json()[0], 'datasets': [{}], 'trained_on': []}],
    [{**UNKNOWN.as_json()[0], 'more': 1}],
  ],
)
def test_a_damaged_lineage_is_refused_with_the_name_of_its_file(damage):
  with pytest.raises(InputError, match=r'^training\.json: lineage: not as a run wrote'):
    lineage.of_json(damage, where='training.json')


def test_examples_and_clusters_of_one_family_are_added_up():
  chain = lineage.RANDOM
  for name, examples in (
    ('flan_sst2', {'sentiment': 3}),
    ('microworld_mini_rte', {'nli': 5}),
    ('flan_held_out_nli', {'sentiment': 4, 'misc': 1}),
  ):
    mixture = registry.mixture(name)
    chain = chain.then(lineage.of_mixture(mixture, model=name, train_examples=examples))
  assert chain.train_examples('flan') == {'sentiment': 7, 'misc': 1}
  assert chain.train_examples('microworld') == {'nli': 5}
  assert chain.trained_on('microworld') == ('nli',)
  assert chain.trained_on('flan') == NLI.trained_on
  assert UNKNOWN.trained_on('flan') is None
  assert lineage.RANDOM.trained_on('flan') == ()


class TestOlderRecords:
  """training.json without a lineage, as older runs wrote it."""

  def read(self, record, parent=lineage.RANDOM):
    return lineage.of_record(record, parent=parent, model='m')

  def test_the_datasets_of_its_leakage_report_count(self):
    saved = {'mixture': NLI.name, 'leakage': leakage.check(NLI).as_json()}
    assert self.read(saved) == lineage.RANDOM.then(lineage.of_mixture(NLI, model='m'))

  def test_otherwise_the_datasets_of_its_mixture_count(self):
    chain = self.read({'mixture': 'flan_all', 'train_examples': {'nli': 2}}, UNKNOWN)
    assert not chain.known
    with pytest.raises(InputError, match='very cluster'):
      leakage.check_checkpoint(chain, 'nli', family='flan')
    assert chain.train_examples('flan') == {'nli': 2}

  def test_otherwise_the_training_is_unknown(self):
    for saved in ({}, {'mixture': 'mine'}, {'leakage': None}):
      assert not self.read(saved).known

  def test_an_undeclared_dataset_keeps_its_cluster(self):
    recorded = {'mixture': 'mine', 'family': 'flan', 'datasets': ['sst2', 'mine']}
    saved = {'leakage': recorded, 'trained_on': ['nli', 'sentiment']}
    chain = self.read(saved)
    assert chain.trained_on('flan') == ('nli', 'sentiment')
    report = leakage.check_checkpoint(chain, 'translation', family='flan')
    assert report.seen == {'translation': leakage.NEVER}
    with pytest.raises(InputError, match=r'very cluster \(mine\)'):
      leakage.check_checkpoint(chain, 'nli', family='flan')
    assert not self.read({'leakage': recorded}).known
