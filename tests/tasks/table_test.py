"""Every declaration against the table of the paper's and the reference's datasets."""

import collections
import csv
import pathlib
import re

import pytest

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import mixing_rates, registry

DATASETS = registry.datasets('flan')
with (pathlib.Path(__file__).parent / 'declared.csv').open(encoding='utf-8') as file:
  TABLE = {line['dataset']: line for line in csv.DictReader(file)}

each_line = pytest.mark.parametrize('line', TABLE.values(), ids=TABLE)


def test_only_datasets_of_the_table_are_in_a_view_and_all_are_declared():
  assert len(TABLE) == 72
  assert set(TABLE) <= set(DATASETS)
  for name in set(DATASETS) - set(TABLE):
    assert not DATASETS[name].in_paper
    assert not DATASETS[name].in_reference


@each_line
def test_clusters_builders_and_views_match_the_table(line):
  dataset = DATASETS[line['dataset']]
  assert dataset.cluster == line['cluster']
  assert dataset.tfds.partition(':')[0] == line['tfds']
  assert dataset.in_paper == (not line['only_in'])
  assert dataset.in_reference == (bool(line['rate']) and line['rate'] != '0')


@pytest.mark.parametrize(
  'line', [line for line in TABLE.values() if line['only_in'] != 'paper_only']
)
def test_splits_and_their_sizes_match_the_table(line):
  """Two datasets are in the paper alone, which gives no splits."""
  dataset = DATASETS[line['dataset']]
  for split in dataset_lib.SPLITS:
    assert dataset.slices.get(split, '') == line[split]
    assert dataset.num_examples(split) == int(line[f'{split}_rows'])


def test_the_rate_of_every_task_matches_the_table():
  found = mixing_rates.rates(registry.mixture('flan_all'))
  assert found == {
    name: int(line['rate']) for name, line in TABLE.items() if int(line['rate'] or 0)
  }
  assert sum(found.values()) == 188_371


def test_the_paper_counts_sixty_two_datasets_in_twelve_clusters():
  """... distributed over the clusters as in its figure 3."""
  paper = [d for d in DATASETS.values() if d.in_paper]
  by_cluster = collections.Counter(
    cluster for _, cluster in {(d.paper_name, d.cluster) for d in paper}
  )
  assert by_cluster == {
    'nli': 7, 'commonsense': 4, 'sentiment': 4, 'paraphrase': 4, 'closed_book_qa': 3,
    'struct_to_text': 4, 'translation': 8, 'reading_comprehension': 5,
    'reading_comp_commonsense': 2, 'coreference': 3, 'misc': 7, 'summarization': 11,
  }  # fmt: skip
  assert by_cluster.total() == 62
  assert tuple(c for c in dataset_lib.CLUSTERS if by_cluster[c]) == dataset_lib.CLUSTERS


def test_four_datasets_of_the_paper_are_several_tasks():
  tasks = collections.defaultdict(set)
  for dataset in DATASETS.values():
    if dataset.in_paper:
      tasks[dataset.paper_name].add(dataset.name)
  assert {name: found for name, found in tasks.items() if len(found) > 1} == {
    'ANLI': {'anli_r1', 'anli_r2', 'anli_r3'},
    'MNLI': {'mnli_matched', 'mnli_mismatched'},
    'ARC': {'arc_challenge', 'arc_easy'},
    'SQuAD': {'squad_v1', 'squad_v2'},
  }


@each_line
def test_a_dataset_has_its_name_in_the_paper(line):
  dataset = DATASETS[line['dataset']]
  if dataset.in_paper:
    words = re.findall(r'\w+', dataset.paper_name)
    assert words == re.findall(r'\w+', line['title'])[: len(words)]


def test_the_views_differ_as_the_paper_and_its_code_do():
  only_paper = {n for n, d in DATASETS.items() if d.in_paper and not d.in_reference}
  only_code = {n for n, d in DATASETS.items() if d.in_reference and not d.in_paper}
  neither = {n for n in TABLE if not DATASETS[n].in_reference} - only_paper
  assert only_paper == {'wsc273'}
  assert only_code == {'wsc', 'true_case', 'word_segment'}
  assert neither == {'para_crawl_ende', 'para_crawl_enfr'}


def test_the_json_of_a_dataset_has_the_documented_keys():
  found = registry.as_json(DATASETS['anli_r1'], rate=3000)
  assert list(found) == [
    'dataset', 'cluster', 'in_paper', 'paper_name', 'tfds', 'splits', 'rate', 'metric',
    'answer_type', 'templates',
  ]  # fmt: skip
  assert (found['in_paper'], found['paper_name']) == (True, 'ANLI')
  assert set(found['templates'][0]) == {'inputs', 'targets', 'inverted'}
  assert registry.as_json(DATASETS['wsc'], rate=504)['in_paper'] is False
