"""Metric functions over all examples: a mean has an interval, others a reason."""

import numpy as np
import pytest
from scipy import stats

from flan_jax.evaluate import statistics, task_metrics
from flan_jax.evaluate.metric import MeanMetric

TARGETS = ['a', 'b'] * 20
ANSWERS = [text if i % 4 else 'c' for i, text in enumerate(TARGETS)]
RIGHT = np.array(
  [text == target for text, target in zip(ANSWERS, TARGETS, strict=True)]
)
WRONG = ['c'] * len(TARGETS)


def pairs(indices, answers):
  return [(TARGETS[i], answer) for i, answer in zip(indices, answers, strict=True)]


def accuracy(indices, answers):
  return {
    'accuracy': 100 * float(np.mean([t == a for t, a in pairs(indices, answers)]))
  }


def share(indices, answers):
  return {'share': float(np.mean([t == a for t, a in pairs(indices, answers)]))}


def f1(indices, answers):
  found = pairs(indices, answers)
  both = sum(target == answer == 'a' for target, answer in found)
  one = sum((target == 'a') != (answer == 'a') for target, answer in found)
  return {'f1': 2 * both / max(2 * both + one, 1)}


def measured(compute, answers, **settings):
  ((name, figure),) = task_metrics.figures(
    compute, answers, **{'ideal': TARGETS, **settings}
  ).items()
  metric = task_metrics.mean_of(name, [figure])
  return figure, task_metrics.interval(figure, metric)


@pytest.mark.parametrize(('compute', 'unit'), [(accuracy, 100), (share, 1)])
@pytest.mark.parametrize('answers', [ANSWERS, WRONG, TARGETS])
def test_a_mean_has_the_interval_of_our_own_metrics(compute, unit, answers):
  figure, interval = measured(compute, answers)
  right = np.array([t == a for t, a in pairs(range(40), answers)], float)
  ours = MeanMetric('accuracy', lambda *_: 0.0, '')
  expected = statistics.interval(right[None, :, None], metric=ours)
  assert figure.value == pytest.approx(unit * right.mean())
  assert interval == pytest.approx(np.multiply(expected, unit / 100))


@pytest.mark.parametrize('answers', [ANSWERS, WRONG, TARGETS, ['a'] * 40])
def test_a_figure_of_the_corpus_has_no_interval(answers):
  """All right or all wrong, it equals the mean by chance."""
  figure, interval = measured(f1, answers)
  assert figure.value == f1(range(40), answers)['f1']
  assert interval is None


def test_values_without_bounds_have_students_interval():
  scores = list(np.random.default_rng(0).normal(-300, 20, 40))
  figure, interval = measured(
    lambda _, values: {'loss': float(np.mean(values))}, scores, ideal=None
  )
  expected = stats.t.interval(0.95, 39, np.mean(scores), stats.sem(scores))
  assert figure.reason == ''
  assert interval == pytest.approx(expected)


def test_an_example_without_a_value_does_not_count():
  """NaN of one example, in a mean over the others."""

  def compute(indices, answers):
    del answers
    kept = [float(RIGHT[i]) for i in indices if i % 2]
    return {'share': float(np.mean(kept)) if kept else np.nan}

  figure, interval = measured(compute, ANSWERS)
  assert np.isnan(figure.values).sum() == 20
  assert interval is not None


@pytest.mark.parametrize(
  ('compute', 'count', 'reason'),
  [
    (lambda i, _: {'x': float(len(i))}, 40, task_metrics.NO_MEAN),
    (lambda *_: {'x': np.nan}, 40, task_metrics.NO_NUMBER),
    (lambda *_: {'x': np.inf}, 40, task_metrics.NO_NUMBER),
    (lambda i, _: {'x': 1 / (len(i) - 1)}, 40, 'cannot be computed for one example'),
    (lambda i, _: {'x': 1 / len(i)}, 1, task_metrics.ONE_EXAMPLE),
  ],
)
def test_a_figure_without_values_says_why(compute, count, reason):
  figure, interval = measured(compute, ANSWERS[:count], ideal=None)
  assert interval is None
  assert reason in figure.reason


def test_a_difference_is_paired():
  found = [task_metrics.figures(accuracy, a, ideal=TARGETS)['accuracy'] for a in
           (ANSWERS, WRONG)]  # fmt: skip
  metric = task_metrics.mean_of('accuracy', found)
  ours = MeanMetric('accuracy', lambda *_: 0.0, '')
  pair = RIGHT.astype(float)[None, :, None], np.zeros((1, 40, 1))
  expected = statistics.paired_interval(*pair, metric=ours)
  assert task_metrics.paired_interval(*found, metric) == pytest.approx(expected)
  assert task_metrics.paired_p_value(*found, metric, seed=0) < 0.01
