"""Calibration: of answers with 80 % confidence, 80 in 100 should be right.

The confidence of a ranked answer is its share of the total probability of the options.
All templates of all examples are pooled.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

BINS = 10
"""Number of bins, of equal width from 0 to 1 (Guo et al. 2017)."""


def of(confidence: np.ndarray) -> dict[str, Any] | None:
  """Computes the calibration of one dataset.

  Args:
    confidence: float64 [T, N, 2]: confidence of the answer, and 1 if it was right (a
      fraction if options are tied); NaN if nothing was ranked.

  Returns:
    {'ece' (expected calibration error, in points), 'n' (answers), 'bins': [{'low',
    'high', 'n', 'confidence', 'right'}], in percent, empty bins left out}; None if
    nothing was ranked.
  """
  pairs = confidence.reshape(-1, 2)
  pairs = pairs[~np.isnan(pairs).any(-1)]
  if not len(pairs):
    return None
  at = np.minimum((pairs[:, 0] * BINS).astype(int), BINS - 1)
  bins = []
  for i in np.unique(at):
    mean = 100 * pairs[at == i].mean(0)
    bins.append(
      {
        'low': 100 * i / BINS,
        'high': 100 * (i + 1) / BINS,
        'n': int((at == i).sum()),
        'confidence': round(float(mean[0]), 2),
        'right': round(float(mean[1]), 2),
      }
    )
  return _summary(bins)


def pooled(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
  """Pools the calibrations of several datasets."""
  by_bin: dict[float, list[Mapping[str, Any]]] = {}
  for part in parts:
    for found in part['bins'] if part else ():
      by_bin.setdefault(found['low'], []).append(found)
  if not by_bin:
    return None
  bins = []
  for _, found in sorted(by_bin.items()):
    n = sum(part['n'] for part in found)
    bins.append(
      {
        'low': found[0]['low'],
        'high': found[0]['high'],
        'n': n,
        **{
          key: sum(part['n'] * part[key] for part in found) / n
          for key in ('confidence', 'right')
        },
      }
    )
  return _summary(bins)


def of_models(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Computes the calibration of each model of a report over all ranked datasets.

  Returns:
    {'tuned', 'base': as `of`}, without models that ranked nothing or gave only NaN.
  """
  found = {
    'tuned': pooled(result.get('calibration') for result in report['results']),
    'base': pooled(
      result.get('base', {}).get('calibration') for result in report['results']
    ),
  }
  return {name: part for name, part in found.items() if part}


def _summary(bins: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  n = sum(found['n'] for found in bins)
  gaps = (found['n'] * abs(found['confidence'] - found['right']) for found in bins)
  return {'ece': round(sum(gaps) / n, 2), 'n': n, 'bins': list(bins)}
