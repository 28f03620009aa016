"""Calibration: expected calibration error against tables worked out by hand."""

import numpy as np
import pytest

from flan_jax.evaluate import calibration


def answers(*pairs):
  """float64 [1, N, 2] of (confidence, right)."""
  return np.array([pairs], float)


@pytest.mark.parametrize(
  ('pairs', 'ece'),
  [
    ([(1.0, 1)] * 4, 0),
    ([(1.0, 0)] * 4, 100),
    ([(0.75, 1), (0.75, 1), (0.75, 1), (0.75, 0)], 0),
    ([(0.55, 1), (0.55, 1), (0.95, 0), (0.95, 1)], 45),
    # In two bins errors of opposite sign do not cancel; in one they do.
    ([(0.5, 1), (0.9, 0)], 70),
    ([(0.50, 1), (0.58, 0)], 4),
  ],
)
def test_expected_calibration_error(pairs, ece):
  found = calibration.of(answers(*pairs))
  assert found['ece'] == pytest.approx(ece)
  assert found['n'] == len(pairs)


def test_a_bin_has_its_range_and_its_means():
  (found,) = calibration.of(answers((0.62, 1), (0.68, 0)))['bins']
  assert found == pytest.approx(
    {'low': 60, 'high': 70, 'n': 2, 'confidence': 65, 'right': 50}
  )


def test_answers_that_were_not_ranked_do_not_count():
  found = calibration.of(answers((0.9, 1), (np.nan, np.nan)))
  assert found['n'] == 1
  assert calibration.of(answers((np.nan, np.nan))) is None


def test_pooled_calibration_is_that_of_all_answers():
  generator = np.random.default_rng(0)
  parts = [generator.random((2, n, 2)).round(1) for n in (3, 50, 20)]
  pooled = calibration.pooled([*map(calibration.of, parts), None])
  whole = calibration.of(np.concatenate([p.reshape(1, -1, 2) for p in parts], axis=1))
  assert pooled['ece'] == pytest.approx(whole['ece'], abs=0.02)
  assert [b['n'] for b in pooled['bins']] == [b['n'] for b in whole['bins']]
  assert calibration.pooled([None]) is None
