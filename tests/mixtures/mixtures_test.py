"""Mixtures: their datasets, excluded clusters, and the totals of the paper's table."""

import pytest
from flan_jax.mixtures import studies, styles

from flan_jax import mixtures
from flan_jax.catalog import leakage, mixing_rates, registry
from flan_jax.catalog.dataset import CLUSTERS
from flan_jax.catalog.registry import Mixture
from flan_jax.cli import task_table

FLAN = registry.datasets('flan')

# Held-out cluster, excluded clusters, tasks, total rate, datasets of the paper (one
# more if the test-only WSC273 counts, with rate 0).
HELD_OUT = (
  ('nli', {'paraphrase'}, 55, 152_276, 51),
  ('paraphrase', {'nli'}, 55, 152_276, 51),
  ('reading_comprehension', {'reading_comp_commonsense'}, 61, 164_371, 55),
  ('commonsense', {'reading_comp_commonsense'}, 63, 174_350, 56),
  (
    'reading_comp_commonsense',
    {'reading_comprehension', 'commonsense'},
    57,
    156_350,
    51,
  ),
  ('closed_book_qa', set(), 65, 179_401, 59),
  ('translation', set(), 61, 164_371, 54),
  ('coreference', set(), 66, 183_745, 59),
  ('struct_to_text', set(), 65, 176_371, 58),
  ('sentiment', set(), 65, 176_371, 58),
  ('summarization', set(), 58, 156_712, 51),
  ('misc', set(), 60, 161_371, 55),
)


def total(name: str) -> int:
  return sum(mixing_rates.rates(registry.mixture(name)).values())


def paper_names(mixture: Mixture) -> set[str]:
  return {FLAN[name].paper_name for name in mixture.datasets} - {''}


def test_the_two_views_have_the_published_totals():
  assert total('flan_all') == 188_371
  assert total('flan_paper62') == 169_867
  assert len(registry.mixture('flan_all').datasets) == 69
  paper = registry.mixture('flan_paper62')
  assert len(paper.datasets) == 66
  assert len(paper_names(paper)) == 61  # WSC273 has no training split


@pytest.mark.parametrize('example', HELD_OUT, ids=[example[0] for example in HELD_OUT])
def test_a_held_out_split_matches_the_paper(example):
  cluster, excluded, tasks, rate, datasets = example
  mixture = registry.mixture(f'flan_held_out_{cluster}')
  assert mixture.held_out == (cluster,)
  assert set(mixture.excluded) == excluded
  assert set(mixture.trained_on) == set(CLUSTERS) - {cluster} - excluded
  assert (len(mixture.datasets), total(mixture.name)) == (tasks, rate)
  in_paper = len(paper_names(mixture)) + ('coreference' in mixture.trained_on)
  assert in_paper == datasets


def test_nli_and_paraphrase_train_on_the_same_datasets():
  nli, paraphrase = (
    registry.mixture(f'flan_held_out_{cluster}') for cluster in ('nli', 'paraphrase')
  )
  assert nli.datasets == paraphrase.datasets


@pytest.mark.parametrize(
  ('cluster', 'rate'),
  [
    ('nli', 15_095),
    ('reading_comprehension', 15_000),
    ('closed_book_qa', 8_970),
    ('translation', 24_000),
    ('commonsense', 8_021),
    ('coreference', 4_122),
    ('struct_to_text', 12_000),
    ('reading_comp_commonsense', 6_000),
    ('sentiment', 12_000),
    ('paraphrase', 12_000),
    ('summarization', 31_659),
    ('misc', 21_000),
  ],
)
def test_the_rate_of_a_cluster_with_a_shared_maximum(cluster, rate):
  found = mixing_rates.rates(registry.mixture('flan_paper62'))
  assert sum(r for name, r in found.items() if FLAN[name].cluster == cluster) == rate


def test_a_shared_maximum_is_split_in_proportion_to_capped_examples():
  found = mixing_rates.rates(registry.mixture('flan_all_shared_cap'))
  assert [found[f'anli_r{i}'] for i in (1, 2, 3)] == [661, 1170, 1169]
  assert [found[f'mnli_{kind}'] for kind in ('matched', 'mismatched')] == [1500, 1500]
  assert [found['squad_v1'], found['squad_v2']] == [1500, 1500]
  assert [found['arc_challenge'], found['arc_easy']] == [919, 2051]  # below 3,000
  assert found['rte'] == 2290


def test_rates_follow_the_examples_that_are_present():
  mixture = registry.mixture('flan_paper62')
  examples = {'anli_r1': 10, 'anli_r2': 90_000, 'rte': 7, 'snli': 0}
  assert mixing_rates.rates(mixture, examples) == {
    'anli_r1': 1, 'anli_r2': 2999, 'rte': 7, 'snli': 0
  }  # fmt: skip


def test_clusters_are_added_one_by_one_the_largest_first():
  steps = [registry.mixture(f'flan_clusters_{step}') for step in range(1, 8)]
  assert [len(step.datasets) for step in steps] == [11, 19, 25, 29, 33, 36, 38]
  for before, after in zip(steps, steps[1:], strict=False):
    assert after.datasets[: len(before.datasets)] == before.datasets
  assert set(steps[-1].datasets) - set(steps[-2].datasets) == {'coqa', 'quac'}
  for step in steps:
    assert step.held_out == ('nli', 'closed_book_qa', 'commonsense')
    assert not {*step.held_out, *step.excluded} & set(step.trained_on)


def test_datasets_per_cluster_times_templates_per_dataset():
  for datasets in studies.DATASETS_PER_CLUSTER:
    for templates in studies.TEMPLATES_PER_DATASET:
      name = f'flan_{datasets}_datasets_{templates}_templates'
      mixture = registry.mixture(name)
      per_cluster = [
        [d for d in mixture.datasets if d in studies.of_cluster(cluster)]
        for cluster in studies.SEQUENCE
      ]
      assert all(1 <= len(part) <= datasets for part in per_cluster)
      assert {len(member.templates) for member in mixture.members} == {templates}
  assert len(registry.mixture('flan_1_datasets_1_templates').datasets) == 7


@pytest.mark.parametrize('cluster', CLUSTERS)
def test_every_split_comes_in_every_style(cluster):
  """A style changes neither the datasets nor the rates."""
  plain = registry.mixture(f'flan_held_out_{cluster}')
  suffixes = [f'_{n}_shot' for n in (1, 2, 3, 5, 10, 'multi')]
  for suffix in [*suffixes, *(f'_{arm}' for arm in styles.ARMS)]:
    styled = registry.mixture(plain.name + suffix)
    assert styled.datasets == plain.datasets
    assert mixing_rates.rates(styled) == mixing_rates.rates(plain)
    assert styled.held_out == plain.held_out
  assert registry.mixture(f'{plain.name}_multi_shot').style.num_fewshot == 16


def test_mixture_names_are_unique():
  assert len(registry.mixtures()) == len(mixtures.MIXTURES)
  assert not set(registry.mixtures()) & set(registry.tasks())


@pytest.mark.parametrize('name', registry.mixtures())
def test_every_mixture_allows_exactly_the_overlap_that_it_has(name):
  """The leakage check passes every mixture, and no allowed overlap is unused."""
  mixture = registry.mixture(name)
  report = leakage.check(mixture)
  assert {(o.dataset, o.source) for o in report.allowed_overlap} == set(
    mixture.allowed_overlap
  )
  assert {overlap.by for overlap in report.allowed_overlap} <= {'mixture'}


def test_the_listing_of_a_mixture_gives_exclusions_and_reasons():
  found = task_table.mixture(registry.mixture('flan_held_out_reading_comprehension'))
  assert found.data['left_out'] == {
    'reading_comprehension': 'held out: measured, never trained on',
    'reading_comp_commonsense': (
      'left out: related to reading_comprehension (FLAN footnote 1)'
    ),
  }
  assert found.data['total_rate'] == 164_371
  assert sum(d['rate'] for d in found.data['datasets']) == 164_371
  assert sum(d['share'] for d in found.data['datasets']) == pytest.approx(1)
  by_name = {d['dataset']: d for d in found.data['datasets']}
  assert by_name['qnli']['split_examples'] == 104_743
  assert by_name['qnli']['examples'] == 30_000
  assert any(
    'qnli trains and shares squad_v1 with held-out reading_comprehension' in line
    for line in found.lines
  )


def test_the_listing_of_all_datasets_has_the_rates_of_the_reference():
  found = task_table.datasets()
  assert sum(d['rate'] for d in found.data) == 188_371
  assert {d['dataset'] for d in found.data if not d['rate']} >= {
    'wsc273', 'para_crawl_ende', 'para_crawl_enfr'
  }  # fmt: skip
  assert found.lines[0].startswith("the paper's view: 62 datasets in 12 clusters")
