"""Metrics of a user's own: a function of one example, a class with statistics."""

import re

import numpy as np
import pytest

from flan_jax.catalog import registry
from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.template import Template
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics, value_metric
from flan_jax.evaluate.evaluator import DatasetResult, SplitResult
from flan_jax.evaluate.value_metric import Metric
from flan_jax.report import values

ANSWERS = (['5', '12', ''], [['7'], ['12', '30'], ['1']])


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
  monkeypatch.setattr(metrics, 'METRICS', dict(metrics.METRICS))
  monkeypatch.setattr(metrics, '_places', dict(metrics._places))


def dataset(metric):
  return Dataset(
    name='bills', cluster='money', fields={'body': 'text'}, answer=Text('{body}'),
    metric=metric, templates=(Template('{body}'), Template('Say {body}')),
  )  # fmt: skip


def result(metric, scores_TxNxS, base=None):
  part = SplitResult(examples=('e',) * scores_TxNxS.shape[1], tuned=scores_TxNxS,
                     base=base)  # fmt: skip
  measured = DatasetResult(
    dataset=dataset(metric),
    templates=(0, 1)[: len(scores_TxNxS)],
    splits={'test': part},
  )
  return values.of_metric(measured, seed=0)


def scored(metric, predictions=ANSWERS[0], references=ANSWERS[1]):
  return value_metric.scores(
    metrics.get(metric), predictions, references, dataset='bills',
    examples=['e.0', 'e.1', 'e.2'][: len(predictions)],
  )  # fmt: skip


def test_values_of_a_function_are_averaged_as_they_are_and_the_highest_of_references():
  @metrics.metric
  def apart(reference, prediction):
    return {'apart': int(reference) - int(prediction or 0), 'size': len(prediction)}

  @metrics.metric(name='all_of_them')
  def of_all(references, prediction):
    return min(int(one) for one in references)

  np.testing.assert_array_equal(scored('apart'), [[2, 1], [18, 2], [1, 0]])
  np.testing.assert_array_equal(scored('all_of_them'), [[7], [12], [1]])
  both = np.stack([scored('apart'), scored('apart') + 3])
  first, second = result('apart', both, base=both - 1)
  assert (first['metric'], second['metric']) == ('apart', 'size')
  assert first['kind'] == 'value'
  assert first['mean'] == pytest.approx(7 + 1.5)
  assert [entry['test'] for entry in first['per_template']] == pytest.approx([7, 10])
  assert first['std_over_templates'] == pytest.approx(1.5)
  assert first['delta'] == pytest.approx(1)
  assert first['ci95'][0] < 8.5 < first['ci95'][1]


def test_a_class_combines_its_sums_and_its_interval_is_the_jackknife_s():
  @metrics.metric
  class word_share(Metric):
    """Words of the answers over words of the references."""

    def scores(self, predictions, references):
      pairs = zip(predictions, references, strict=True)
      return np.array([[len(p or ''), len(r[0])] for p, r in pairs], np.float64)

    def combine(self, totals, count):
      return {
        'share': totals[..., 0] / totals[..., 1],
        'length': totals[..., 0] / count,
      }

  assert metrics.get('word_share').description.startswith('Words of the answers')
  scores = scored('word_share')
  share, length = result('word_share', scores[None])
  assert share['mean'] == pytest.approx(3 / 4)
  assert length['mean'] == pytest.approx(1)
  # A mean's pseudo-values are its values: Student's interval of 1, 2, 0.
  half = 4.302653 * 1 / 3**0.5
  assert length['ci95'] == pytest.approx([1 - half, 1 + half], rel=1e-4)


@pytest.mark.parametrize(
  ('returned', 'message'),
  [
    (float('nan'), "metric 'bad', dataset 'bills', example 'e.1': returned NaN; must"),
    ({'a': float('inf')}, "example 'e.1': returned a = inf; must be a finite number"),
    (np.zeros(3), r"example 'e.1': returned ndarray of shape \(3,\); must be a finite"),
    ('1', "example 'e.1': returned '1'; must be a finite number"),
    (None, "example 'e.1': returned None; must be a finite number"),
    ({'b': 1}, "example 'e.1': returned the names b; must be a, as for the first"),
  ],
)
def test_a_wrong_value_names_metric_dataset_and_example(returned, message):
  first = {'a': 1} if isinstance(returned, dict) else 1.0

  @metrics.metric
  def bad(reference, prediction):
    return first if prediction == '5' else returned

  with pytest.raises(InputError, match=message) as error:
    scored('bad')
  assert '\n' not in str(error.value)


def test_errors_of_metrics_are_one_line():
  @metrics.metric
  def bad(reference, prediction):
    return int(prediction)

  message = "metric 'bad', dataset 'bills', example 'e.2': raised ValueError: invalid"
  with pytest.raises(InputError, match=message):
    scored('bad')

  @metrics.metric
  class flat(Metric):
    def scores(self, predictions, references):
      return np.ones(len(predictions))

  with pytest.raises(InputError, match=r"'flat', dataset 'bills': scores returned sh"):
    scored('flat')

  with pytest.raises(InputError, match=r"metric 'one': takes x; must take \(refer"):
    metrics.metric(lambda x: x, name='one')
  with pytest.raises(InputError, match="metric 'accuracy': registered twice, as"):
    metrics.metric(lambda a, b: 0, name='accuracy')
  with pytest.raises(InputError, match="metric 'what': got 3; must be a function"):
    metrics.metric(3, name='what')


def test_a_metric_may_be_registered_after_the_dataset_that_names_it():
  with registry.restored():
    registry.register(dataset('later'))
    with pytest.raises(InputError, match="dataset 'bills': metric 'later'"):
      metrics.check_declared(registry.datasets().values())
    metrics.metric(lambda reference, prediction: 1, name='later')
    metrics.check_declared(registry.datasets().values())


def test_a_figure_that_is_no_number_is_refused():
  @metrics.metric
  class rate(Metric):
    def scores(self, predictions, references):
      return np.zeros((len(predictions), 1))

    def combine(self, totals, count):
      return totals[..., 0] / totals[..., 0]

  message = "metric 'rate', dataset 'bills': rate of all examples is nan; must be a"
  with pytest.raises(InputError, match=re.escape(message)):
    result('rate', scored('rate')[None])
