"""Published figures: marked, matched to our metrics, and sound where they can be."""

import numpy as np
import pytest

from flan_jax.catalog import registry
from flan_jax.evaluate import metrics
from flan_jax.report import published


def test_figures_carry_their_mark():
  found = published.figures('anli_r1', metric='accuracy')
  assert found['flan_137b_zero_shot'] == {'value': 47.7, 'mark': 'confirmed'}
  assert found['gpt3_175b_few_shot'] == {'value': 36.8, 'mark': 'M+'}
  assert found['lamda_pt_137b_zero_shot'] == {'value': 39.6, 'mark': 'M'}


@pytest.mark.parametrize(('direction', 'value'), [('de-en', 38.9), ('en-de', 25.4)])
def test_each_direction_of_a_translation_has_its_own(direction, value):
  found = published.figures('wmt16_translate_deen', metric='bleu', direction=direction)
  assert found['flan_137b_zero_shot']['value'] == value


def test_no_direction_and_no_other_has_any():
  assert published.figures('wmt16_translate_deen', metric='bleu') == {}
  assert (
    published.figures('wmt16_translate_deen', metric='bleu', direction='fr-en') == {}
  )


def test_beside_a_few_shot_result_stands_the_few_shot_figure():
  zero = published.figures('rte', metric='accuracy', num_fewshot=0)
  few = published.figures('rte', metric='accuracy', num_fewshot=5)
  whole = published.figures('rte', metric='accuracy')
  assert (len(zero), len(few)) == (4, 4)
  assert whole == zero | few
  assert zero['flan_137b_zero_shot']['value'] == 78.3
  assert few['flan_137b_few_shot']['value'] == 79.9
  assert published.beside({'published': zero, 'num_fewshot': 0})['value'] == 78.3
  assert published.beside({'published': whole, 'num_fewshot': 0})['value'] == 78.3
  assert published.beside({'published': whole, 'num_fewshot': 5})['value'] == 79.9
  assert published.beside({'published': zero, 'num_fewshot': 5}) is None


def test_rouge_l_is_our_headline():
  found = published.figures('common_gen', metric='rougeLsum')
  assert found['flan_137b_zero_shot']['value'] == 48.4


def test_nothing_of_another_metric_or_dataset():
  assert published.figures('anli_r1', metric='f1') == {}
  assert published.figures('samsum', metric='rougeLsum') == {}


@pytest.mark.parametrize(
  ('setting', 'datasets', 'average'),
  [
    ('flan_137b_zero_shot', 'anli_r1 anli_r2 anli_r3 cb rte', 56.2),
    ('gpt3_175b_zero_shot', 'anli_r1 anli_r2 anli_r3 cb rte', 42.9),
    ('gpt3_175b_few_shot', 'anli_r1 anli_r2 anli_r3 cb rte', 53.2),
    ('flan_137b_zero_shot', 'bool_q multirc openbookqa', 77.4),
    ('gpt3_175b_zero_shot', 'bool_q multirc openbookqa', 63.7),
    ('gpt3_175b_few_shot', 'bool_q multirc openbookqa', 72.6),
    (
      'flan_137b_zero_shot',
      'arc_easy arc_challenge natural_questions trivia_qa',
      53.7,
    ),
  ],
)
def test_agrees_with_the_averages_of_the_papers_figure_1(setting, datasets, average):
  metrics = {'multirc': 'f1a', 'natural_questions': 'exact_match'}
  metrics['trivia_qa'] = 'exact_match'
  values = [
    published.figures(name, metric=metrics.get(name, 'accuracy'))[setting]['value']
    for name in datasets.split()
  ]
  assert np.mean(values) == pytest.approx(average, abs=0.06)


@pytest.mark.parametrize(
  ('cluster', 'datasets', 'figures'),
  [
    ('nli', 'anli_r1 anli_r2 anli_r3 cb rte', (42.9, 53.2, 56.2)),
    ('reading_comprehension', 'bool_q multirc openbookqa', (63.7, 72.6, 77.4)),
    (
      'closed_book_qa',
      'arc_challenge arc_easy natural_questions trivia_qa_wiki',
      (49.8, 55.7, 56.6),
    ),
  ],
)
def test_figure_1_is_shown_where_the_same_datasets_are_measured(
  cluster, datasets, figures
):
  found = published.averages(cluster, datasets.split())
  names = ('gpt3_175b_zero_shot', 'gpt3_175b_few_shot', 'flan_137b_zero_shot')
  assert tuple(found[name]['value'] for name in names) == figures
  assert {figure['mark'] for figure in found.values()} == {'confirmed'}
  assert published.averages(cluster, datasets.split()[1:]) == {}


def test_the_average_of_closed_book_qa_changed_with_the_test_set_of_triviaqa():
  """arXiv v5 measures TriviaQA on the Wikipedia dev set; its mean is derived."""
  found = published.figures('trivia_qa_wiki', metric='exact_match')
  assert found['flan_137b_zero_shot'] == {'value': 66.6, 'mark': 'D'}
  values = [
    published.figures(name, metric=metric)['flan_137b_zero_shot']['value']
    for name, metric in (
      ('arc_challenge', 'accuracy'),
      ('arc_easy', 'accuracy'),
      ('natural_questions', 'exact_match'),
      ('trivia_qa_wiki', 'exact_match'),
    )
  ]
  assert np.mean(values) == pytest.approx(56.6, abs=0.06)


def test_the_average_of_closed_book_qa_over_the_datasets_that_are_here():
  """... is that of arXiv v1, of the TriviaQA that TFDS has."""
  names = [d.name for d in registry.datasets('flan').values()
           if d.cluster == 'closed_book_qa']  # fmt: skip
  found = published.averages('closed_book_qa', names, num_fewshot=0)
  assert found == {'flan_137b_zero_shot': {'value': 53.7, 'mark': 'confirmed'}}


@pytest.mark.parametrize(
  ('cluster', 'zero', 'few'),
  [('nli', 54.7, 59.3), ('closed_book_qa', 53.7, 57.2), ('commonsense', 80.0, 80.8)],
)
def test_figure_9_is_the_mean_of_the_datasets_of_the_catalog(cluster, zero, few):
  datasets = [d for d in registry.datasets('flan').values() if d.cluster == cluster]
  for num_fewshot, value in ((0, zero), (5, few)):
    setting = f'flan_137b_{published.setting(num_fewshot)}'
    found = published.averages(
      cluster, [d.name for d in datasets], num_fewshot=num_fewshot
    )
    assert found[setting]['value'] == value
    values = [
      published.figures(d.name, metric=metrics.METRICS[d.metric].name)[setting]['value']
      for d in datasets
    ]
    assert np.mean(values) == pytest.approx(value, abs=0.06)


@pytest.mark.parametrize(
  'cluster', ['reading_comprehension', 'coreference', 'struct_to_text']
)
def test_a_bar_of_figure_9_whose_datasets_are_not_ours_stands_beside_nothing(cluster):
  names = [d.name for d in registry.datasets('flan').values() if d.cluster == cluster]
  assert published.averages(cluster, names) == {}
  lines = [x for x in published.table() if x['dataset'] == f'average:{cluster}']
  assert sum(line['metric'] == 'mean figure 9' for line in lines) == 2


def test_figure_6_has_a_point_for_every_mixture_of_its_clusters():
  points = published.points(6)
  assert [float(p['value']) for p in points] == [
    49.9, 55.0, 59.3, 59.2, 60.8, 61.9, 63.5,
  ]  # fmt: skip
  for point in points:
    mixture = registry.mixture(point['metric'].removeprefix('mean '))
    assert mixture.held_out == ('nli', 'closed_book_qa', 'commonsense')


def test_figure_8_is_the_mean_of_its_four_clusters():
  found = {}
  for point in published.points(8):
    cluster = point['dataset'].partition(':')[2]
    found.setdefault(point['metric'], {})[cluster] = float(point['value'])
  assert {name: part['average'] for name, part in found.items()} == {
    'mean instructions': 55.2,
    'mean no_template': 37.3,
    'mean dataset_name_then_instructions': 46.6,
    'mean dataset_name': 47.0,
  }
  for part in found.values():
    average = part.pop('average')
    assert len(part) == 4
    assert np.mean(list(part.values())) == pytest.approx(average, abs=0.06)


def test_every_line_of_the_table_has_a_mark_and_a_source():
  lines = published.table()
  assert len(lines) == 425
  assert {line['mark'] for line in lines} == set(published.MARKS)
  assert all(line['source'] and float(line['value']) > 0 for line in lines)
  keys = [tuple(line[k] for k in ('dataset', 'model', 'setting', 'metric'))
          for line in lines]  # fmt: skip
  assert len(set(keys)) == len(keys)


def test_a_figure_that_nobody_else_has_seen_is_shown_with_a_question_mark():
  shown = [published.shown({'value': 47.7, 'mark': mark}) for mark in published.MARKS]
  assert shown == ['47.7', '47.7 ?', '47.7 ?', '47.7 ?']


def test_every_evaluated_dataset_finds_its_figures():
  """The names and metrics of the table are those of the catalog."""
  found = {
    name
    for name, dataset in registry.datasets('flan').items()
    for way in dataset.by_direction
    if published.figures(
      name, metric=metrics.METRICS[dataset.metric].name, direction=way.direction
    )
  }
  assert len(found) >= 40
  assert {'anli_r1', 'multirc', 'squad_v1', 'trivia_qa', 'common_gen'} <= found
