"""Every metric against a literal table, and BLEU's sums against sacrebleu itself."""

import numpy as np
import pytest

from flan_jax.errors import InputError
from flan_jax.evaluate import metrics


def figure(name, predictions, references):
  metric = metrics.METRICS[name]
  return metric.aggregate(metric.scores(predictions, references))


@pytest.mark.parametrize(
  ('text', 'normal'),
  [
    ('The Eiffel Tower!', 'eiffel tower'),
    ('  a  cat, an ox ', 'cat ox'),
    ('theatre', 'theatre'),
    ("it's 3.14", 'its 314'),
    ('...', ''),
    ('Ärger über das Öl', 'ärger über das öl'),
  ],
)
def test_squad_normal_form(text, normal):
  assert metrics.normalise(text) == normal


@pytest.mark.parametrize(
  ('name', 'prediction', 'references', 'percent'),
  [
    ('accuracy', 'yes', ['yes'], 100),
    ('accuracy', ' yes\n', ['yes'], 100),
    ('accuracy', 'Yes', ['yes'], 0),
    ('accuracy', 'blue', ['red', 'blue'], 100),
    ('accuracy', '', ['yes'], 0),
    ('exact_match', 'The answer.', ['answer'], 100),
    ('exact_match', 'an answer', ['question', 'Answer!'], 100),
    ('exact_match', 'answers', ['answer'], 0),
    ('exact_match', '', [], 0),
    ('f1', 'the red house', ['red house'], 100),
    ('f1', 'red', ['red house'], 200 / 3),
    ('f1', 'red red', ['red house'], 50),
    ('f1', 'green', ['red house', 'a green house'], 200 / 3),
    ('f1', 'green', ['red house'], 0),
    ('f1', 'the', ['a'], 100),
    ('f1', 'the', ['house'], 0),
    ('rouge', 'a cat sat', ['a cat sat'], 100),
    ('rouge', 'a cat', ['a cat sat down'], 200 / 3),
    ('rouge', 'one dog', ['a cat sat down', 'one dog'], 100),
    ('rouge', 'nothing here', ['a cat sat down'], 0),
    ('bleu', 'the quick brown fox jumps', ['the quick brown fox jumps'], 100),
    ('bleu', '', ['the quick brown fox'], 0),
    ('bleu', 'too short', ['too short'], 0),
  ],
)
def test_one_row(name, prediction, references, percent):
  assert figure(name, [prediction], [references]) == pytest.approx(percent)


def test_corpus_figure_is_the_mean_of_its_rows():
  assert figure('accuracy', ['a', 'b', 'c', 'd'], [['a'], ['b'], ['x'], ['x']]) == 50


@pytest.mark.parametrize(
  ('name', 'said', 'wanted', 'headline', 'others'),
  [
    ('rouge', 'b a', 'a b', ('rougeLsum', 50), {'rouge1': 100, 'rouge2': 0}),
    ('f1', 'red house', 'a red hat', ('f1', 50), {'exact_match': 0}),
    ('exact_match', 'The hat', 'hat', ('exact_match', 100), {'f1': 100}),
    ('trivia_em', 'Jean-Luc', 'jean luc', ('exact_match', 100), {'f1': 100}),
    ('accuracy', 'yes', 'yes', ('accuracy', 100), {}),
  ],
)
def test_a_headline_and_the_other_figures(name, said, wanted, headline, others):
  metric = metrics.METRICS[name]
  rows = metric.scores([said], [[wanted]])
  assert (metric.name, metric.aggregate(rows)) == headline
  assert metric.others(rows) == pytest.approx(others)


@pytest.mark.parametrize(
  ('text', 'squad', 'trivia'),
  [
    ("The O'Neill-Smith co.", 'oneillsmith co', 'o neill smith co'),
    ('an_apple', 'anapple', 'apple'),
    ('A  Tale', 'tale', 'tale'),
    ('rock \u2019n\u2019 roll', 'rock \u2019n\u2019 roll', 'rock n roll'),
  ],
)
def test_trivia_qa_parts_words_where_squad_joins_them(text, squad, trivia):
  assert metrics.normalise(text) == squad
  assert metrics.normalise_trivia(text) == trivia


@pytest.mark.parametrize(
  ('said', 'wanted', 'percent'),
  [
    ([1, 2, 3], [10, 20, 900], 100),
    ([3, 2, 1], [10, 20, 900], -100),
    ([1, 2, 3, 4], [1, 3, 2, 4], 80),
    ([1, 1, 2, 2], [1, 2, 3, 4], 100 * 2 / 5**0.5),
    ([3, 3, 3], [1, 2, 3], 0),
  ],
)
def test_spearman_is_of_ranks(said, wanted, percent):
  metric = metrics.METRICS['pearson']
  rows = metric.scores([str(x) for x in said], [[str(y)] for y in wanted])
  assert metric.others(rows)['spearman'] == pytest.approx(percent)


def test_rouge_lsum_matches_sentences_out_of_order():
  said, wanted = 'It rains. We stay.', 'We stay. It rains.'
  assert figure('rouge', [said], [[wanted]]) == 100


@pytest.mark.parametrize(
  ('predictions', 'truths', 'percent'),
  [
    (['yes', 'yes', 'no', 'no'], ['yes', 'no', 'yes', 'no'], 50),
    (['yes', 'yes', 'yes'], ['yes', 'no', 'no'], 50),
    (['no', 'no'], ['no', 'no'], 0),
    (['Yes', 'no', ''], ['yes', 'no', 'no'], 100),
  ],
)
def test_f1a_is_f1_of_the_positive_answer(predictions, truths, percent):
  assert figure('f1a', predictions, [[t] for t in truths]) == pytest.approx(percent)


SAID = [
  'the cat sat on the mat today',
  'there is one more house in town',
  'hello',
  'an entirely different sentence without overlap',
]
WANTED = [
  ['the cat sat on the mat', 'a cat was sitting on the mat today'],
  ['there is another house in the town'],
  ['hello there my friend'],
  ['nothing in common, at all'],
]


@pytest.mark.parametrize('rows', [[0], [0, 1], [0, 1, 2, 3], [1, 3], [2], [2, 3], [3]])
def test_bleu_of_summed_statistics_is_sacrebleu(rows):
  from sacrebleu.metrics import BLEU

  said = [SAID[i] for i in rows]
  most = max(len(WANTED[i]) for i in rows)
  streams = [
    [WANTED[i][k] if k < len(WANTED[i]) else None for i in rows] for k in range(most)
  ]
  expected = BLEU().corpus_score(said, streams).score
  assert figure('bleu', said, [WANTED[i] for i in rows]) == pytest.approx(expected)


@pytest.mark.parametrize('name', sorted(metrics.METRICS))
def test_combine_works_on_any_leading_shape(name):
  """A bootstrap hands over [resamples, templates, statistics] at once."""
  metric = metrics.METRICS[name]
  said = ['yes', 'the quick brown fox jumps over the dog', 'no']
  rows = metric.scores(said, [['yes'], ['the quick brown fox jumps over it'], ['x']])
  totals = np.stack([rows[:2].sum(0), rows.sum(0)])[:, None, :]
  counts = np.array([[2], [3]])
  found = metric.combine(totals, counts)
  assert found.shape == (2, 1)
  assert found[0, 0] == pytest.approx(metric.aggregate(rows[:2]))
  assert found[1, 0] == pytest.approx(metric.aggregate(rows))


def test_unknown_metric_names_the_nearest():
  with pytest.raises(InputError, match="did you mean 'accuracy'"):
    metrics.get('acuracy')


@pytest.mark.parametrize(
  ('prediction', 'reference', 'percent'),
  [('abcd', 'abcd', 100.0), ('abxd', 'abcd', 75.0), ('', 'ab', 0.0), ('', '', 100.0)],
)
def test_edit_distance_is_a_share_of_the_longer_text(prediction, reference, percent):
  metric = metrics.get('edit_distance')
  found = metric.aggregate(metric.scores([prediction], [[reference]]))
  assert found == pytest.approx(percent)


@pytest.mark.parametrize(
  ('predictions', 'references', 'percent'),
  [
    (['0', '1', '5'], ['0', '1', '5'], 100.0),
    (['5', '3', '1'], ['1', '3', '5'], -100.0),
    (['1', '2', '3', '4'], ['1', '3', '2', '4'], 80.0),
    (['3', '3', '3'], ['0', '2', '5'], 0.0),
    (['two', '0', 'nan'], ['0', '0', '0'], 0.0),
  ],
)
def test_pearson(predictions, references, percent):
  metric = metrics.get('pearson')
  rows = metric.scores(predictions, [[r] for r in references])
  assert metric.aggregate(rows) == pytest.approx(percent)
