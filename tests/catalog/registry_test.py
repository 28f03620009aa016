"""The registry: one door for what ships and for what a user brings."""

import dataclasses

import pytest

from flan_jax.catalog import leakage, mixing_rates, names, registry
from flan_jax.catalog.answers import Label
from flan_jax.catalog.dataset import CLUSTERS, Dataset
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.catalog.registry import Cluster, Mixture, register
from flan_jax.catalog.source import Generator
from flan_jax.catalog.template import Template
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics


def records(split):
  return [{'body': f'{split} {i}', 'queue': i % 2} for i in range(8)]


TICKETS = Dataset(
  name='tickets',
  cluster='support',
  source=Generator(records, {'train': 8, 'validation': 8}),
  fields={'body': 'body'},
  answer=Label('queue', ('bug', 'other')),
  metric='accuracy',
  templates=(Template('{body}\n\n{OPTIONS}'),),
)


@pytest.fixture(autouse=True)
def forgets():
  with registry.restored():
    yield


def test_a_dataset_of_ones_own_stands_beside_the_papers():
  register(TICKETS)
  assert registry.get('tickets') is names.dataset('tickets') is TICKETS
  assert registry.mixture('tickets').datasets == ('tickets',)
  assert registry.clusters() == (*CLUSTERS, 'support')
  assert TICKETS.slices == {'train': 'train', 'dev': 'validation'}


@pytest.mark.parametrize('name', ['rte', 'flan_rte'])
def test_short_names_and_task_names_are_the_same_to_every_look_up(name):
  dataset = registry.get('rte')
  assert registry.find(name) is registry.get(name) is names.dataset(name) is dataset
  assert (
    registry.mixture(name)
    == names.mixture(name)
    == Mixture(name='flan_rte', datasets=('rte',))
  )


def test_a_name_that_is_taken_is_refused_with_both_places():
  register(TICKETS)
  register(TICKETS)  # the same again, as a notebook does
  other = dataclasses.replace(TICKETS, cluster='help')
  with pytest.raises(
    InputError, match=r'registered twice, at (.*_test.py:\d+) and at '
  ):
    register(other)
  with pytest.raises(InputError, match=r"'rte'.*tasks/__init__.py:\d+ and at .*_test"):
    register(dataclasses.replace(TICKETS, name='rte'))
  register(other, replace=True)
  assert registry.get('tickets').cluster == 'help'


@pytest.mark.parametrize('name', ['tickets', 'help_tickets'])
def test_a_dataset_and_a_mixture_have_no_name_in_common(name):
  tickets = dataclasses.replace(TICKETS, family='help')
  both = Mixture(name=name, datasets=('rte',))
  places = r"\(.*_test.py:\d+\): '{}' is the name of {} \(.*_test.py:\d+\); must have"
  with registry.restored():
    register(tickets)
    message = places.format(name, "dataset 'tickets'")
    with pytest.raises(InputError, match=f'mixture {name!r} {message}'):
      register(both)
  register(both)
  with pytest.raises(
    InputError, match=f"dataset 'tickets' {places.format(name, 'a mixture')}"
  ):
    register(tickets, replace=True)


def test_a_mixture_is_not_named_as_a_task_that_ships():
  with pytest.raises(InputError, match="mixture 'flan_rte' .* dataset 'rte' "):
    register(Mixture(name='flan_rte', datasets=('rte',)))


def test_what_is_no_declaration_is_refused():
  with pytest.raises(InputError, match="register: got 'tickets'; must be a Dataset"):
    register('tickets')


def mixture(**settings):
  """Registers a mixture, and returns it as the others see it."""
  register(Mixture(name='mine', **settings), replace=True)
  return registry.mixture('mine')


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (
      lambda: Mixture(name='m1', datasets='rte'),
      r"mixture 'm1': datasets 'rte'; must be a tuple, as \('rte',\)",
    ),
    (
      lambda: Mixture(name='m1', datasets=('rte',), held_out='nli'),
      "held_out 'nli'; must be a tuple",
    ),
    (lambda: Cluster('c', too_near='nli'), "cluster 'c': too_near 'nli'; must be"),
    (
      lambda: dataclasses.replace(registry.get('rte'), derived_from='wikipedia'),
      "dataset 'rte': derived_from 'wikipedia'; must be a tuple",
    ),
    (
      lambda: dataclasses.replace(registry.get('rte'), templates=Template('{premise}')),
      r"dataset 'rte': templates .*; must be a tuple, as \(Template\(...\),\)",
    ),
  ],
)
def test_one_item_where_a_tuple_belongs_is_refused(make, message):
  with pytest.raises(InputError, match=message):
    make()


def test_a_dataset_without_a_template_is_refused():
  with pytest.raises(InputError, match=r"'tickets' \(.*\): no templates; must have"):
    register(dataclasses.replace(TICKETS, templates=()))
  with pytest.raises(InputError, match="template '{body}'; must be a Template"):
    dataclasses.replace(TICKETS, templates=('{body}',))


def test_a_generator_that_fails_is_named_with_its_record():
  def failing(split):
    yield {'body': 'good', 'queue': 0}
    raise ValueError('no more')

  source = Generator(failing)
  with pytest.raises(InputError, match=r"failing, record 1 of split 'train': ValueErr"):
    list(source.records('train'))


class TestMixtures:
  def test_rates_of_its_own_take_the_place_of_those_by_examples(self):
    register(TICKETS)
    mine = mixture(datasets=('tickets', 'rte'), rates={'tickets': 500})
    examples = {'tickets': 8, 'rte': 2000}
    assert mixing_rates.rates(mine, examples) == {'tickets': 500, 'rte': 2000}

  def test_weights_become_whole_numbers_in_the_same_proportion(self):
    mine = mixture(datasets=('rte', 'cb'), rates={'rte': 0.75, 'cb': 0.25})
    found = mixing_rates.rates(mine, {'rte': 10, 'cb': 10})
    assert found['rte'] == 3 * found['cb']
    assert all(isinstance(rate, int) for rate in found.values())

  def test_a_mixture_in_a_mixture_stands_for_its_datasets_and_shares_its_weight(self):
    inner = registry.mixture('flan_held_out_nli')
    register(TICKETS)
    mine = mixture(
      datasets=('tickets', 'flan_held_out_nli'),
      rates={'tickets': 1.0, 'flan_held_out_nli': 3.0},
    )
    assert mine.datasets == ('tickets', *inner.datasets)
    rates, alone = mixing_rates.rates(mine), mixing_rates.rates(inner)
    rest = {name: rate for name, rate in rates.items() if name != 'tickets'}
    assert sum(rest.values()) == pytest.approx(3 * rates['tickets'], rel=1e-3)
    for name, rate in rest.items():
      expected = sum(rest.values()) * alone[name] / sum(alone.values())
      assert rate == pytest.approx(expected, abs=1)

  def test_each_dataset_may_have_its_own_prompt_style(self):
    few = PromptStyle(num_fewshot=2)
    mine = mixture(datasets=('rte', 'flan_held_out_nli_2_shot'), style=PromptStyle())
    assert mine.style_of('rte') == PromptStyle()
    assert mine.style_of('sst2') == few
    mine = dataclasses.replace(mine, styles={'rte': few})
    assert mine.style_of('rte') == few

  def test_a_member_that_is_not_registered_names_the_nearest(self):
    with pytest.raises(InputError, match=r"'mine' \(.*\): member 'rt' is not"):
      mixture(datasets=('rt',))
    with pytest.raises(InputError, match="member 'mine' has 'mine' among its own"):
      mixture(datasets=('rte', 'mine'))

  @pytest.mark.parametrize('rate', [0, -1, True, '3', float('nan')])
  def test_a_rate_is_a_number_above_0(self, rate):
    with pytest.raises(
      InputError, match="rate of 'rte': got .* must be a number above"
    ):
      Mixture(name='mine', datasets=('rte',), rates={'rte': rate})

  def test_a_rate_of_what_is_no_member_is_refused(self):
    with pytest.raises(InputError, match="rates of 'rt'.*did you mean 'rte'"):
      Mixture(name='mine', datasets=('rte',), rates={'rt': 3})


def test_a_metric_may_stand_below_the_dataset_that_names_it(monkeypatch):
  register(dataclasses.replace(TICKETS, metric='acuracy'))
  message = "'tickets': metric 'acuracy': must be .*did you mean 'accuracy'"
  with pytest.raises(InputError, match=message):
    metrics.check_declared(registry.datasets().values())
  monkeypatch.setitem(metrics.METRICS, 'acuracy', metrics.get('accuracy'))
  metrics.check_declared(registry.datasets().values())


class TestClusters:
  def test_one_of_ones_own_is_held_out_as_the_papers_are(self):
    register(TICKETS)
    mine = mixture(datasets=('rte', 'sst2'), held_out=('support',))
    report = leakage.check(mine)
    assert report.held_out == ('support',)
    measured = registry.of_clusters(mine.held_out, mine.families)
    assert [dataset.name for dataset in measured] == ['tickets']

  def test_what_is_too_near_may_not_train(self):
    register(TICKETS, Cluster('support', too_near=('nli',)))
    mine = mixture(datasets=('rte', 'sst2'), held_out=('support',))
    with pytest.raises(InputError, match=r'nli, related to it \(rte\)'):
      leakage.check(mine)

  def test_what_is_too_near_is_a_cluster(self):
    register(Cluster('support', too_near=('nlp',)))
    message = r"'support' \(.*_test.py:\d+\): too_near names 'nlp'; .*mean 'nli'"
    with pytest.raises(InputError, match=message):
      registry.too_near('support')

  def test_a_family_that_nothing_trains_is_named_with_the_others(self):
    """A mixture of no family, and a cluster of several."""
    register(TICKETS)
    (line,) = names.families_taken(['commonsense'], [''])
    assert line.startswith('commonsense: the datasets of flan are measured, since')
    assert 'for those of microworld, put one' in line
    assert '--gin.FAMILY=microworld --gin.CLUSTERS=commonsense' in line
    assert not names.families_taken(['commonsense'], ['microworld', ''])
    assert not names.families_taken(['support'], [''])

  def test_a_dataset_that_trains_is_not_held_out(self):
    register(TICKETS)
    mine = mixture(datasets=('tickets', 'sst2'), held_out=('support',))
    with pytest.raises(InputError, match=r'that very cluster \(tickets\)'):
      leakage.check(mine)

  def test_a_cluster_of_the_paper_is_measured_on_its_datasets_and_ones_own(self):
    register(dataclasses.replace(TICKETS, cluster='nli'))
    names = [d.name for d in registry.of_clusters(['nli'], ['flan'])]
    assert 'rte' in names
    assert 'tickets' in names
    assert 'mini_rte' not in names
