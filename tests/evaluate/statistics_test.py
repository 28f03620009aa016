"""Intervals hold what they promise, respect shared rows, and pair two models."""

import numpy as np
import pytest

from flan_jax.evaluate import metrics, statistics
from flan_jax.fields import Answer

ACCURACY = metrics.METRICS['accuracy']


def shared_rows(generator, *, templates=10, rows=60, agreement=0.8, rate=0.6):
  """Right or wrong, [T, N, 1]: templates mostly agree about a row."""
  row_N = generator.random(rows) < rate
  own_TxN = generator.random((templates, rows)) < rate
  agree_TxN = generator.random((templates, rows)) < agreement
  return np.where(agree_TxN, row_N, own_TxN)[..., None].astype(float)


def width(interval):
  return interval.high - interval.low


def test_spread_is_over_templates():
  assert statistics.spread([40, 50, 60]) == pytest.approx((50, 8.16497), abs=1e-5)
  assert statistics.spread([40]) == (40, 0)


def test_interval_covers_the_truth_about_95_times_in_100():
  generator = np.random.default_rng(0)
  covered = 0
  for trial in range(300):
    scores = shared_rows(generator)
    low, high = statistics.interval(scores, metric=ACCURACY, seed=trial, resamples=400)
    covered += low <= 60 <= high
  assert 0.91 <= covered / 300 <= 0.98


def test_clustering_by_row_widens_what_naive_resampling_reports():
  """Six hundred answers about sixty rows are not six hundred rows."""
  scores = shared_rows(np.random.default_rng(1))
  clustered = statistics.interval(scores, metric=ACCURACY, seed=0)
  naive = statistics.interval(scores.reshape(1, -1, 1), metric=ACCURACY, seed=0)
  assert width(clustered) > 2 * width(naive)


def test_pairing_is_tighter_than_two_separate_intervals():
  generator = np.random.default_rng(2)
  base = shared_rows(generator, rows=200)
  tuned = np.where(generator.random(base.shape) < 0.1, 1.0, base)
  paired = statistics.paired_interval(tuned, base, metric=ACCURACY, seed=0)
  apart = statistics.paired_interval(
    tuned, base[:, generator.permutation(200)], metric=ACCURACY, seed=0
  )
  assert width(paired) < 0.6 * width(apart)
  assert paired.low > 0


def test_a_model_against_itself_differs_by_nothing():
  scores = shared_rows(np.random.default_rng(3))
  assert statistics.paired_interval(scores, scores, metric=ACCURACY, seed=4) == (0, 0)


def test_same_seed_same_interval():
  scores = shared_rows(np.random.default_rng(4))
  draw = lambda seed: statistics.interval(scores, metric=ACCURACY, seed=seed)  # noqa: E731
  assert draw(1) == draw(1)
  assert draw(1) != draw(2)


def test_interval_does_not_depend_on_how_resampling_is_blocked(monkeypatch):
  scores = shared_rows(np.random.default_rng(5))
  whole = statistics.interval(scores, metric=ACCURACY, seed=0, resamples=100)
  monkeypatch.setattr(statistics, '_BLOCK', 60 * 7)
  assert statistics.interval(scores, metric=ACCURACY, seed=0, resamples=100) == whole


def test_a_corpus_metric_is_resampled_by_its_sums():
  bleu = metrics.METRICS['bleu']
  said = ['the cat sat on the mat', 'a dog ran in the park', 'birds sing in the tree']
  wanted = [['the cat sat on a mat'], ['the dog ran to the park'], ['birds sing in it']]
  scores = np.tile(bleu.scores(said, wanted)[None], (1, 8, 1))
  low, high = statistics.interval(scores, metric=bleu, seed=0)
  assert low < statistics.figures(scores, metric=bleu)[0] < high


def test_a_missing_cell_leaves_only_its_template():
  scores = np.ones((2, 4, 1))
  scores[0, :2] = 0
  scores[0, 0] = np.nan
  np.testing.assert_allclose(
    statistics.figures(scores, metric=ACCURACY), [200 / 3, 100]
  )
  low, high = statistics.interval(scores, metric=ACCURACY, seed=0)
  assert 50 <= low < high <= 100


def test_a_template_without_a_row_leaves_the_others():
  scores = np.ones((2, 5, 1))
  scores[1] = np.nan
  found = statistics.figures(scores, metric=ACCURACY)
  assert found[0] == 100
  assert np.isnan(found[1])
  assert statistics.spread(found) == (100, 0)
  assert statistics.interval(scores, metric=ACCURACY, seed=0) == (100, 100)


class TestPairedPValue:
  def p(self, tuned, base, seed=0, resamples=400):
    return statistics.paired_p_value(
      tuned, base, metric=ACCURACY, seed=seed, resamples=resamples
    )

  def test_models_that_do_not_differ_are_told_apart_5_times_in_100(self):
    """Though ten templates of a row agree: rows are swapped, not answers."""
    generator = np.random.default_rng(0)
    below = sum(
      self.p(shared_rows(generator), shared_rows(generator), seed=trial) < 0.05
      for trial in range(300)
    )
    assert 0.02 <= below / 300 <= 0.09

  def test_a_real_difference_is_seen(self):
    generator = np.random.default_rng(1)
    base = shared_rows(generator, rows=200, rate=0.4)
    tuned = np.where(generator.random(base.shape) < 0.3, 1.0, base)
    assert self.p(tuned, base) == pytest.approx(1 / 401)

  def test_a_model_against_itself(self):
    scores = shared_rows(np.random.default_rng(2))
    assert self.p(scores, scores) == 1

  def test_a_corpus_metric_is_swapped_by_its_sums(self):
    bleu = metrics.METRICS['bleu']
    wanted = [[f'the cat number {i} sat on the mat today'] for i in range(12)]
    good = bleu.scores([row[0] for row in wanted], wanted)[None]
    bad = bleu.scores(['a dog ran in the park at noon'] * 12, wanted)[None]
    p = statistics.paired_p_value(good, bad, metric=bleu, seed=0, resamples=200)
    assert p < 0.02
    assert statistics.paired_p_value(good, good, metric=bleu, seed=0) == 1

  def test_one_prompt_of_the_base_stands_beside_every_template(self):
    scores = shared_rows(np.random.default_rng(3), rows=30)
    one = scores[:1]
    assert self.p(scores, one) == self.p(scores, np.repeat(one, 10, axis=0))

  def test_other_rows_are_refused(self):
    scores = shared_rows(np.random.default_rng(4))
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


def test_what_is_detectable_is_seen_80_times_in_100():
  """A coin that is right 10 points more often, tossed as often as power asks."""
  generator = np.random.default_rng(0)

  def once(trial, difference):
    base = (generator.random((1, 400, 1)) < 0.5).astype(float)
    tuned = (generator.random((1, 400, 1)) < 0.5 + difference).astype(float)
    draw = lambda scores: statistics.replicates(  # noqa: E731
      scores, metric=ACCURACY, seed=trial, resamples=300
    )
    differences = draw(tuned) - draw(base)
    return statistics.detectable(differences), statistics.percentiles(differences)

  size = once(0, 0.0)[0]
  assert size == pytest.approx(2.8 * 100 * (0.5 / 400) ** 0.5, rel=0.1)
  seen = sum(once(trial, size / 100)[1].low > 0 for trial in range(200))
  assert 0.7 <= seen / 200 <= 0.9


def test_nothing_is_said_of_what_does_not_vary():
  assert statistics.detectable(np.zeros(100)) is None


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
    # Own options in each row: the constant is a position.
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
  """Always saying yes is no mean baseline of F1a: precision a half, recall whole."""
  f1a = metrics.METRICS['f1a']
  answers = [Answer('yes', LABELS, (0,)), Answer('no', LABELS, (1,))]
  assert statistics.majority(answers, metric=f1a) == pytest.approx(200 / 3)
  assert statistics.chance(answers, metric=f1a) == pytest.approx(50)
