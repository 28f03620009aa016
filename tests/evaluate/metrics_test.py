"""Every metric against a literal table, and BLEU against sacrebleu."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
def test_squad_normalization(text, normal):
  assert metrics.normalize(text) == normal


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
    ('f1', 'the', ['a'], 0),
    ('exact_match', 'the', ['a'], 100),
    ('exact_match', '', [')'], 100),
    ('f1', '', [')'], 0),
    ('accuracy', '-5', ['5'], 0),
    ('accuracy', '1.5', ['15'], 0),
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
def test_one_example(name, prediction, references, percent):
  assert figure(name, [prediction], [references]) == pytest.approx(percent)


def test_the_figure_of_a_mean_is_the_mean_of_its_examples():
  assert figure('accuracy', ['a', 'b', 'c', 'd'], [['a'], ['b'], ['x'], ['x']]) == 50


@pytest.mark.parametrize(
  ('name', 'predicted', 'right', 'headline', 'others'),
  [
    ('rouge', 'b a', 'a b', ('rougeLsum', 50), {'rouge1': 100, 'rouge2': 0}),
    ('f1', 'red house', 'a red hat', ('f1', 50), {'exact_match': 0}),
    ('exact_match', 'The hat', 'hat', ('exact_match', 100), {'f1': 100}),
    ('trivia_em', 'Jean-Luc', 'jean luc', ('exact_match', 100), {'f1': 100}),
    ('accuracy', 'yes', 'yes', ('accuracy', 100), {}),
  ],
)
def test_a_headline_and_the_other_figures(name, predicted, right, headline, others):
  metric = metrics.METRICS[name]
  examples = metric.scores([predicted], [[right]])
  assert (metric.name, metric.aggregate(examples)) == headline
  assert metric.others(examples) == pytest.approx(others)


@pytest.mark.parametrize(
  ('text', 'squad', 'trivia'),
  [
    ("The O'Neill-Smith co.", 'oneillsmith co', 'o neill smith co'),
    ('an_apple', 'anapple', 'apple'),
    ('A  Tale', 'tale', 'tale'),
    ('rock \u2019n\u2019 roll', 'rock \u2019n\u2019 roll', 'rock n roll'),
  ],
)
def test_trivia_qa_splits_words_that_squad_joins(text, squad, trivia):
  assert metrics.normalize(text) == squad
  assert metrics.normalize_trivia(text) == trivia


@pytest.mark.parametrize(
  ('predicted', 'right', 'percent'),
  [
    ([1, 2, 3], [10, 20, 900], 100),
    ([3, 2, 1], [10, 20, 900], -100),
    ([1, 2, 3, 4], [1, 3, 2, 4], 80),
    ([1, 1, 2, 2], [1, 2, 3, 4], 100 * 2 / 5**0.5),
    ([3, 3, 3], [1, 2, 3], 0),
  ],
)
def test_spearman_is_of_ranks(predicted, right, percent):
  metric = metrics.METRICS['pearson']
  examples = metric.scores([str(x) for x in predicted], [[str(y)] for y in right])
  assert metric.others(examples)['spearman'] == pytest.approx(percent)


@pytest.mark.parametrize(
  ('predicted', 'right', 'percent'),
  [
    ('It rains . We stay .', 'We stay . It rains .', 100),
    ('It rains.\nWe stay.', 'We stay.\nIt rains.', 100),
    ('It rains. We stay.', 'We stay. It rains.', 50),
    ('it rains on runners', 'it rained on a runner', 100 * 2 * 2 / 9),
  ],
)
def test_rouge_lsum_splits_sentences_as_t5_does_and_stems_nothing(
  predicted, right, percent
):
  assert figure('rouge', [predicted], [[right]]) == pytest.approx(percent)


@pytest.mark.parametrize(
  ('predicted', 'right', 'exact', 'f1'),
  [
    ('15', ['15.0'], 100, 100),
    ('1,500 yards', ['1500 yards'], 100, 100),
    ('1.5', ['15'], 0, 0),
    ('5 yards', ['7 yards'], 0, 0),
    ('5', ['5 yards'], 0, 67),
    ('yards', ['5 yards'], 0, 0),
    ('7 November 1917', ['November 7, 1917'], 0, 100),
    ('the Bears', ['Bears', 'Chicago Bears'], 100, 100),
    ('Bears', ['Chicago Bears'], 0, 67),
    ('x\ny', ['y\nx'], 100, 100),
    ('x\ny', ['y\nx\nz'], 0, 67),
    ('x', ['x\ny'], 0, 50),
    ('x y', ['x\ny'], 0, 33),
    ('7\n5', ['5\n7'], 100, 100),
    ('house house', ['house'], 0, 100),
    ('', ['house'], 0, 0),
  ],
)
def test_drop_follows_its_own_script(predicted, right, exact, f1):
  metric = metrics.get('drop_f1')
  examples = metric.scores([predicted], [right])
  assert metric.name == 'f1'
  assert metric.aggregate(examples) == pytest.approx(f1)
  assert metric.others(examples) == {'exact_match': exact}


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


PREDICTED = [
  'the cat sat on the mat today',
  'there is one more house in town',
  'hello',
  'an entirely different sentence without overlap',
]
REFERENCES = [
  ['the cat sat on the mat', 'a cat was sitting on the mat today'],
  ['there is another house in the town'],
  ['hello there my friend'],
  ['nothing in common, at all'],
]


@pytest.mark.parametrize(
  'examples', [[0], [0, 1], [0, 1, 2, 3], [1, 3], [2], [2, 3], [3]]
)
def test_bleu_of_summed_statistics_is_sacrebleu(examples):
  from sacrebleu.metrics import BLEU

  predicted = [PREDICTED[i] for i in examples]
  num_references = max(len(REFERENCES[i]) for i in examples)
  streams = [
    [REFERENCES[i][k] if k < len(REFERENCES[i]) else None for i in examples]
    for k in range(num_references)
  ]
  expected = BLEU(tokenize='intl').corpus_score(predicted, streams).score
  assert figure('bleu', predicted, [REFERENCES[i] for i in examples]) == pytest.approx(
    expected
  )


TEXT = st.text('ab .,-$%\u00a3\u2013\u00e9', max_size=12).map(
  lambda text: text.replace(' ', ' the ')
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=5))
def test_bleu_is_sacrebleus_with_the_settings_of_t5(examples):
  """Any texts, two references each, with the settings of t5's metric."""
  import sacrebleu

  predicted, *streams = map(list, zip(*examples, strict=True))
  expected = sacrebleu.corpus_bleu(
    predicted, streams, smooth_method='exp', lowercase=False, tokenize='intl',
    use_effective_order=False,
  ).score  # fmt: skip
  right = [list(example[1:]) for example in examples]
  assert figure('bleu', predicted, right) == pytest.approx(expected, abs=1e-6)
  metric = metrics.get('bleu')
  for one, references in zip(predicted, right, strict=True):
    alone = sacrebleu.sentence_bleu(one, references, tokenize='intl').score
    (value,) = metric.value(metric.scores([one], [references]))
    assert 100 * value == pytest.approx(alone, abs=1e-6)


def test_bleu_reads_punctuation_as_the_reference_does():
  """`intl` splits off the punctuation of other languages, `13a` does not."""
  from sacrebleu.metrics import BLEU

  predicted, right = 'Er sagte: \u201ees ist so weit\u201c', 'Er sagte: es ist so weit'
  by = {
    name: BLEU(tokenize=name).corpus_score([predicted], [[right]]).score
    for name in ('13a', 'intl')
  }
  assert by['13a'] < by['intl'] - 1
  assert figure('bleu', [predicted], [[right]]) == pytest.approx(by['intl'], abs=1e-6)


def test_the_signature_of_bleu_is_sacrebleus():
  metric = metrics.get('bleu')
  assert metric.signature([['a'], ['b']]).startswith(
    'nrefs:1|case:mixed|eff:no|tok:intl|smooth:exp|version:'
  )
  assert metric.signature([['a', 'b'], ['b', 'c']]).startswith('nrefs:2|')
  assert metric.signature([['a', 'b'], ['b']]).startswith('nrefs:var|')
  assert metrics.get('rouge').signature([['a']]).startswith('stem:no|')
  assert metrics.get('accuracy').signature([['a']]) == ''


GOLD = {'f1a': ['yes', 'no'], 'pearson': ['0', '5', '2.6']}
each_metric = pytest.mark.parametrize('name', sorted(metrics.METRICS))


@each_metric
def test_no_answer_is_wrong_whatever_is_right(name):
  """Even if the right answer normalizes to nothing."""
  metric = metrics.get(name)
  golds = GOLD.get(name, ['word', ')', 'the', '-5', ''])
  examples = metric.scores([None] * len(golds), [[gold] for gold in golds])
  assert (metric.value(examples) <= 0).all()
  assert metric.aggregate(examples) <= 0


@each_metric
def test_the_right_answer_has_the_highest_value(name):
  metric = metrics.get(name)
  golds = GOLD.get(name, ['one', 'the old house by the sea', '-5 apples . So what'])
  examples = metric.scores(golds, [[gold] for gold in golds])
  np.testing.assert_allclose(metric.value(examples), 1)
  assert metric.value(examples[None]).shape == (1, len(golds))


WORDS = st.lists(
  st.sampled_from(['red', 'house', 'the', 'sea', '.', '5', '1.5', '-']), max_size=8
)
MEANS = sorted(metrics.METRICS.keys() - {'bleu', 'f1a', 'pearson'})


@pytest.mark.parametrize('name', MEANS)
@settings(deadline=None, max_examples=30)
@given(WORDS, WORDS, WORDS)
def test_of_two_answers_the_one_with_the_higher_figure_is_better(name, one, two, gold):
  """For a mean over examples, the value is the figure of the single example."""
  metric = metrics.get(name)
  predicted = [' '.join(one), ' '.join(two)]
  examples = metric.scores(predicted, [[' '.join(gold)]] * 2)
  alone = [metric.aggregate(example[None]) for example in examples]
  np.testing.assert_allclose(100 * metric.value(examples), alone)


@pytest.mark.parametrize(
  ('name', 'gold', 'worse', 'better'),
  [
    ('f1a', 'no', 'yes', 'no'),
    ('f1a', 'yes', 'no', 'yes'),
    ('pearson', '3.8', '0', '5'),
    ('pearson', '3.8', '5', '4'),
    ('pearson', '0', 'none', '0'),
    ('bleu', 'it is a red house', 'red', 'a red house'),
    ('rouge', 'a b c d', 'd c b a', 'a b c'),
  ],
)
def test_a_metric_decides_which_answer_is_better(name, gold, worse, better):
  metric = metrics.get(name)
  low, high = metric.value(metric.scores([worse, better], [[gold]] * 2))
  assert low < high


@pytest.mark.parametrize('name', sorted(metrics.METRICS))
def test_combine_works_on_any_leading_shape(name):
  """The resamples of a test are [resamples, templates, statistics] at once."""
  metric = metrics.METRICS[name]
  predicted = ['yes', 'the quick brown fox jumps over the dog', 'no']
  examples = metric.scores(
    predicted, [['yes'], ['the quick brown fox jumps over it'], ['x']]
  )
  totals = np.stack([examples[:2].sum(0), examples.sum(0)])[:, None, :]
  counts = np.array([[2], [3]])
  found = metric.combine(totals, counts)
  assert found.shape == (2, 1)
  assert found[0, 0] == pytest.approx(metric.aggregate(examples[:2]))
  assert found[1, 0] == pytest.approx(metric.aggregate(examples))


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
    (['two', '0'], ['0', '5'], 100.0),
  ],
)
def test_pearson(predictions, references, percent):
  metric = metrics.get('pearson')
  examples = metric.scores(predictions, [[r] for r in references])
  assert metric.aggregate(examples) == pytest.approx(percent)
