"""Intervals: known closed forms, shared examples, paired models."""

import numpy as np
import pytest

from flan_jax.catalog.answers import Answer
from flan_jax.evaluate import intervals, metrics, statistics

ACCURACY = metrics.METRICS['accuracy']


def shared_examples(generator, *, templates=10, examples=60, agreement=0.8, rate=0.6):
  """Right or wrong, [T, N, 1]: templates mostly agree on an example."""
  shared_N = generator.random(examples) < rate
  own_TxN = generator.random((templates, examples)) < rate
  agree_TxN = generator.random((templates, examples)) < agreement
  return np.where(agree_TxN, shared_N, own_TxN)[..., None].astype(float)


def width(interval):
  return interval.high - interval.low


def test_spread_is_over_templates():
  assert statistics.spread([40, 50, 60]) == pytest.approx((50, 8.16497), abs=1e-5)
  assert statistics.spread([40]) == (40, 0)


def of_examples(scores):
  """The interval from the examples' means, if every template has every example."""
  values = scores[..., 0].mean(0)
  low, high = intervals.of_mean(values.mean(), values.var(), len(values))
  return 100 * low, 100 * high


def test_the_interval_of_a_mean_is_that_of_its_examples():
  scores = shared_examples(np.random.default_rng(0))
  found = statistics.interval(scores, metric=ACCURACY)
  assert found == pytest.approx(of_examples(scores), abs=1e-6)


@pytest.mark.parametrize(
  ('right', 'n', 'wilson'),
  [(56, 56, (93.58, 100)), (0, 56, (0, 6.42)), (18, 20, (69.90, 97.21))],
)
def test_right_or_wrong_under_one_template_has_wilsons_interval(right, n, wilson):
  scores = (np.arange(n) < right).astype(float)[None, :, None]
  found = statistics.interval(scores, metric=ACCURACY)
  assert found == pytest.approx(wilson, abs=0.01)


@pytest.mark.parametrize(
  ('gained', 'lost', 'tango'),
  # Of 50 pairs: b = 15, c = 6 and b = c = 0, by the score test's closed form.
  [(0, 0, (-7.13, 7.13))],
)
def test_right_or_wrong_of_two_models_has_tangos_interval(gained, lost, tango):
  tuned, base = np.zeros((2, 1, 50, 1))
  tuned[0, :gained] = 1
  base[0, gained : gained + lost] = 1
  found = statistics.paired_interval(tuned, base, metric=ACCURACY)
  assert found == pytest.approx(tango, abs=0.01)


def test_the_interval_of_two_models_is_where_the_score_test_just_rejects():
  """Tango 1998: without a difference the score is McNemar's (b - c) / sqrt(b + c)."""
  rejected = [
    intervals.of_difference(b / 80, c / 80, (b + c) / 80, 80)[0] > 0
    for b, c in ((4, 0), (3, 0), (8, 1), (6, 1), (15, 5), (13, 5))
  ]
  assert rejected == [True, False, True, False, True, False]


@pytest.mark.parametrize('name', ['accuracy', 'f1', 'rouge', 'f1a', 'bleu', 'pearson'])
@pytest.mark.parametrize('templates', [1, 3])
def test_the_interval_of_all_right_answers_has_a_width(name, templates):
  metric = metrics.METRICS[name]
  predicted = ['yes', 'no'] * 10
  if name in ('bleu', 'rouge'):
    predicted = [f'a text of {i} long words to be predicted' for i in range(20)]
  if name == 'pearson':
    predicted = [str(i) for i in range(20)]
  one = metric.scores(predicted, [[text] for text in predicted])
  scores = np.repeat(one[None], templates, axis=0)
  low, high = statistics.interval(scores, metric=metric)
  assert 60 < low < 97
  assert high == pytest.approx(100)
  low, high = statistics.paired_interval(scores, scores, metric=metric)
  assert low < -3 < 3 < high


@pytest.mark.parametrize('name', metrics.METRICS)
def test_the_kind_of_a_metric_is_mean_if_and_only_if_it_is_one(name):
  """`kind` chooses the interval."""
  metric = metrics.METRICS[name]
  predicted = ['3', '4.5', 'yes', 'no', 'a longer text', 'yes']
  expected = [['3'], ['5'], ['yes'], ['yes'], ['a long text'], ['no']]
  scores = metric.scores(predicted, expected)
  values = metric.value(scores)
  if metric.kind == 'mean':
    assert metric.aggregate(scores) == pytest.approx(100 * values.mean())
    assert ((values >= 0) & (values <= 1)).all()
  else:
    assert metric.aggregate(scores) != pytest.approx(100 * values.mean())


def test_intervals_cluster_by_example():
  """Six hundred answers about sixty examples are not six hundred examples."""
  scores = shared_examples(np.random.default_rng(1))
  clustered = statistics.interval(scores, metric=ACCURACY)
  naive = statistics.interval(scores.reshape(1, -1, 1), metric=ACCURACY)
  assert width(clustered) > 2 * width(naive)


def test_pairing_is_tighter_than_two_separate_intervals():
  generator = np.random.default_rng(2)
  base = shared_examples(generator, examples=200)
  tuned = np.where(generator.random(base.shape) < 0.1, 1.0, base)
  paired = statistics.paired_interval(tuned, base, metric=ACCURACY)
  apart = statistics.paired_interval(
    tuned, base[:, generator.permutation(200)], metric=ACCURACY
  )
  assert width(paired) < 0.6 * width(apart)
  assert paired.low > 0


def test_a_model_against_itself_has_an_interval_around_zero():
  scores = shared_examples(np.random.default_rng(3))
  low, high = statistics.paired_interval(scores, scores, metric=ACCURACY)
  assert -low == pytest.approx(high)
  assert 3 < high < 8  # 60 examples without a difference: 3.84 / 63.84


@pytest.mark.parametrize(('name', 'least'), [('f1a', 3), ('bleu', 3), ('pearson', 2)])
@pytest.mark.parametrize('n', [3, 60])
def test_a_corpus_metric_of_a_model_against_itself_has_an_interval_of_some_width(
  name, least, n
):
  """Even in the middle of its range, where the limits of each would cancel."""
  metric = metrics.METRICS[name]
  predicted = ['yes', 'no', 'no', 'yes', 'yes', 'no'] * 10
  expected = ['yes', 'yes', 'no', 'no', 'yes', 'yes'] * 10
  if name == 'bleu':
    expected = [f'one {i} two three {i + 1} four five six' for i in range(60)]
    predicted = [text.replace('two', 'ten') for text in expected]
  if name == 'pearson':
    predicted, expected = (
      [str(of) for of in (0, 2, 1, 4, 3, 5) * 10],
      [str(of) for of in (1, 2, 0, 3, 5, 4) * 10],
    )
  scores = metric.scores(predicted, [[text] for text in expected])[None, :n]
  low, high = statistics.paired_interval(scores, scores, metric=metric)
  assert -low == pytest.approx(high)
  assert high > least
  # Two equal templates against one: the same information.
  twice = np.repeat(scores, 2, axis=0)
  found = statistics.paired_interval(twice, scores, metric=metric)
  assert found == pytest.approx((low, high))


def test_the_two_models_may_have_different_numbers_of_templates():
  scores = shared_examples(np.random.default_rng(5), examples=100, rate=0.8)
  low, high = statistics.paired_interval(scores, scores[:1], metric=ACCURACY)
  delta = 100 * (scores.mean() - scores[:1].mean())
  assert low < delta < high
  backward = statistics.paired_interval(scores[:1], scores, metric=ACCURACY)
  assert backward == pytest.approx((-high, -low))


def test_nothing_is_drawn():
  scores = shared_examples(np.random.default_rng(4))
  order = np.random.default_rng(5).permutation(scores.shape[1])
  found = statistics.interval(scores, metric=ACCURACY)
  assert found == statistics.interval(scores, metric=ACCURACY)
  again = statistics.interval(scores[:, order], metric=ACCURACY)
  assert again == pytest.approx(found)


def test_a_corpus_metric_has_its_interval_from_its_sums():
  bleu = metrics.METRICS['bleu']
  predicted = [
    'the cat sat on the mat',
    'a dog ran in the park',
    'birds sing in the tree',
  ]
  expected = [
    ['the cat sat on a mat'],
    ['the dog ran to the park'],
    ['birds sing in it'],
  ]
  scores = np.tile(bleu.scores(predicted, expected)[None], (1, 8, 1))
  low, high = statistics.interval(scores, metric=bleu)
  assert low < statistics.figures(scores, metric=bleu)[0] < high


def test_a_missing_cell_affects_its_template_only():
  scores = np.ones((2, 4, 1))
  scores[0, :2] = 0
  scores[0, 0] = np.nan
  np.testing.assert_allclose(
    statistics.figures(scores, metric=ACCURACY), [200 / 3, 100]
  )
  low, high = statistics.interval(scores, metric=ACCURACY)
  assert low < (200 / 3 + 100) / 2 < high <= 100


def test_a_template_without_examples_is_ignored():
  scores = np.ones((2, 5, 1))
  scores[1] = np.nan
  found = statistics.figures(scores, metric=ACCURACY)
  assert found[0] == 100
  assert np.isnan(found[1])
  assert statistics.spread(found) == (100, 0)
  one = statistics.interval(scores[:1], metric=ACCURACY)
  assert statistics.interval(scores, metric=ACCURACY) == one


class TestPairedPValue:
  def p(self, tuned, base, seed=0, resamples=400):
    return statistics.paired_p_value(
      tuned, base, metric=ACCURACY, seed=seed, resamples=resamples
    )

  def test_equal_models_differ_significantly_5_times_in_100(self):
    """Even if ten templates of an example agree: examples are swapped, not answers."""
    generator = np.random.default_rng(0)
    below = sum(
      self.p(shared_examples(generator), shared_examples(generator), seed=trial) < 0.05
      for trial in range(300)
    )
    assert 0.02 <= below / 300 <= 0.09

  def test_a_real_difference_is_seen(self):
    generator = np.random.default_rng(1)
    base = shared_examples(generator, examples=200, rate=0.4)
    tuned = np.where(generator.random(base.shape) < 0.3, 1.0, base)
    assert self.p(tuned, base) == pytest.approx(1 / 401)

  def test_a_model_against_itself(self):
    scores = shared_examples(np.random.default_rng(2))
    assert self.p(scores, scores) == 1

  def test_a_corpus_metric_works_too(self):
    bleu = metrics.METRICS['bleu']
    expected = [[f'the cat number {i} sat on the mat today'] for i in range(12)]
    good = bleu.scores([example[0] for example in expected], expected)[None]
    bad = bleu.scores(['a dog ran in the park at noon'] * 12, expected)[None]
    p = statistics.paired_p_value(good, bad, metric=bleu, seed=0, resamples=200)
    assert p < 0.02
    assert statistics.paired_p_value(good, good, metric=bleu, seed=0) == 1

  def test_a_single_base_template_is_compared_with_every_template(self):
    scores = shared_examples(np.random.default_rng(3), examples=30)
    one = scores[:1]
    assert self.p(scores, one) == self.p(scores, np.repeat(one, 10, axis=0))

  def test_different_examples_are_refused(self):
    scores = shared_examples(np.random.default_rng(4))
    with pytest.raises(ValueError, match='same'):
      self.p(scores, scores[:, :-1])


@pytest.mark.parametrize(
  ('raw', 'corrected'),
  [
    ([0.01], [0.01]),
    ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
    ([0.04, 0.01, 0.03], [0.06, 0.03, 0.06]),
    ([0.5, 0.9], [1.0, 1.0]),
    ([], []),
  ],
)
def test_holm(raw, corrected):
  assert statistics.holm(raw) == pytest.approx(corrected)


def test_a_detectable_difference_is_seen_80_times_in_100():
  """A coin that is right 10 points more often, tossed as often as power asks."""
  generator = np.random.default_rng(0)

  def once(difference):
    base = (generator.random((1, 400, 1)) < 0.5).astype(float)
    tuned = (generator.random((1, 400, 1)) < 0.5 + difference).astype(float)
    found = statistics.paired_interval(tuned, base, metric=ACCURACY)
    return statistics.detectable(found), found

  size = once(0.0)[0]
  assert size == pytest.approx(2.8 * 100 * (0.5 / 400) ** 0.5, rel=0.1)
  seen = sum(once(size / 100)[1].low > 0 for _ in range(200))
  assert 0.7 <= seen / 200 <= 0.9


def test_an_undetectable_difference_is_none():
  assert statistics.detectable(statistics.Interval(-90, 90)) is None


def test_average_interval_of_one_figure_is_its_own():
  assert statistics.average_interval([50], [(44, 58)]) == (44, 58)


def test_average_of_equal_figures_is_tighter_by_the_root_of_their_number():
  found = statistics.average_interval([50] * 4, [(46, 54)] * 4)
  assert found == (48, 52)


LABELS = ('yes', 'no')


@pytest.mark.parametrize(
  ('answers', 'chance', 'majority'),
  [
    ([Answer('yes', LABELS, (0,)), Answer('no', LABELS, (1,))], 50, 50),
    ([Answer('yes', LABELS, (0,))] * 3 + [Answer('no', LABELS, (1,))], 50, 75),
    # Each example has its own options: the constant is a position.
    (
      [
        Answer('a', ('a', 'b', 'c'), (0,)),
        Answer('d', ('d', 'e'), (0,)),
        Answer('g', ('f', 'g'), (1,)),
      ],
      100 * (1 / 3 + 1 / 2 + 1 / 2) / 3,
      200 / 3,
    ),
    # Two right ones of four.
    ([Answer('a', ('a', 'b', 'c', 'd'), (0, 2))], 50, 100),
    # The same labels in another order: the constant is a word.
    ([Answer('yes', ('yes', 'no'), (0,)), Answer('yes', ('no', 'yes'), (1,))], 50, 100),
    ([Answer('free text', references=('free text',))], None, None),
    ([], None, None),
  ],
)
def test_chance_and_majority(answers, chance, majority):
  found = statistics.chance(answers, metric=ACCURACY)
  assert found == (None if chance is None else pytest.approx(chance))
  found = statistics.majority(answers, metric=ACCURACY)
  assert found == (None if majority is None else pytest.approx(majority))


def test_baselines_follow_the_dataset_metric():
  """Always answering yes is a strong baseline of F1a: precision 1/2, recall 1."""
  f1a = metrics.METRICS['f1a']
  answers = [Answer('yes', LABELS, (0,)), Answer('no', LABELS, (1,))]
  assert statistics.majority(answers, metric=f1a) == pytest.approx(200 / 3)
  assert statistics.chance(answers, metric=f1a) == pytest.approx(50)
