"""Metrics: one registry, per-row sufficient statistics, a percentage at the end.

A metric turns every row into a vector of statistics that add up over rows. What is
reported is a function of their sum, so a bootstrap resample of a corpus metric such
as BLEU costs one matrix product and no second look at the text.

numpy only; sacrebleu and rouge-score are imported when their metric is first used.
"""

import collections
import functools
import re
import string
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from flan_jax.errors import InputError, did_you_mean


class Metric(Protocol):
  """What every entry of METRICS offers.

  Attributes:
    name: the headline figure, as the report names it.
  """

  name: str

  def scores(
    self, predictions: Sequence[str], references: Sequence[Sequence[str]]
  ) -> np.ndarray:
    """Statistics of each row, float64 [rows, statistics]; they add up over rows.

    Args:
      predictions: one text per row.
      references: for each row, every text that counts as right.
    """

  def combine(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The figure in percent, [...], of summed statistics.

    Args:
      totals: float64 [..., statistics], sums over rows.
      count: [...], the number of rows in each sum.
    """

  def aggregate(self, rows: np.ndarray) -> float:
    """The figure in percent of `rows`, float64 [rows, statistics]."""

  def others(self, rows: np.ndarray) -> dict[str, float]:
    """Further figures of `rows` in percent, by name; {} where there are none."""


class _Metric:
  def aggregate(self, rows: np.ndarray) -> float:
    rows = np.asarray(rows, np.float64)
    return float(self.combine(rows.sum(0), np.asarray(len(rows))))

  def others(self, rows: np.ndarray) -> dict[str, float]:
    del rows
    return {}


def _best(score, predictions, references) -> np.ndarray:
  """The best `score(prediction, reference)` over each row's references, [rows, 1]."""
  return np.array(
    [
      [max((score(prediction, reference) for reference in row), default=0.0)]
      for prediction, row in zip(predictions, references, strict=True)
    ],
    np.float64,
  ).reshape(-1, 1)


class Mean(_Metric):
  """100 times the mean over rows of the best match with any reference."""

  def __init__(self, name: str, score):
    self.name = name
    self._score = score

  def scores(self, predictions, references):
    return _best(self._score, predictions, references)

  def combine(self, totals, count):
    return 100 * totals[..., 0] / np.maximum(count, 1)


_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)


def normalise(text: str) -> str:
  """SQuAD's normal form: lower case, no punctuation, no articles, single blanks.

  >>> normalise('The  Eiffel Tower!')
  'eiffel tower'
  """
  text = text.lower().translate(_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', text).split())


_BLANKS = str.maketrans(dict.fromkeys(string.punctuation + '\u2018\u2019\u00b4', ' '))


def normalise_trivia(text: str) -> str:
  """TriviaQA's normal form: as SQuAD's, but punctuation parts words.

  >>> normalise_trivia("Jean-Luc's ship_yard")
  'jean luc s ship yard'
  """
  return ' '.join(_ARTICLES.sub(' ', text.lower().translate(_BLANKS)).split())


def _same(prediction: str, reference: str) -> float:
  return float(prediction.strip() == reference.strip())


class Words(_Metric):
  """Exact match and word F1 of normal forms, each with the best of the references.

  Statistics: exact match, F1.
  """

  types = ('exact_match', 'f1')

  def __init__(self, name: str, normal: Callable[[str], str]):
    self.name = name
    self._normal = normal

  def scores(self, predictions, references):
    rows = np.zeros((len(predictions), len(self.types)))
    for row, prediction, wanted in zip(rows, predictions, references, strict=True):
      said = self._normal(prediction)
      for reference in map(self._normal, wanted):
        row[:] = np.maximum(row, [said == reference, _token_f1(said, reference)])
    return rows

  def combine(self, totals, count):
    return 100 * totals[..., self.types.index(self.name)] / np.maximum(count, 1)

  def others(self, rows):
    return _others(self, rows)


def _others(metric, rows: np.ndarray) -> dict[str, float]:
  """Every type of a metric but its headline, in percent."""
  if not len(rows):
    return {}
  means = zip(metric.types, 100 * np.mean(rows, 0), strict=True)
  return {name: float(mean) for name, mean in means if name != metric.name}


def _token_f1(prediction: str, reference: str) -> float:
  """Harmonic mean of precision and recall over the words of two normal forms."""
  got, wanted = prediction.split(), reference.split()
  if not got or not wanted:
    return float(got == wanted)
  common = sum((collections.Counter(got) & collections.Counter(wanted)).values())
  return 2 * common / (len(got) + len(wanted))


def _edit_similarity(prediction: str, reference: str) -> float:
  """1 minus the Levenshtein distance in characters over the longer length."""
  from nltk.metrics.distance import edit_distance

  longer = max(len(prediction), len(reference))
  return 1 - edit_distance(prediction, reference) / longer if longer else 1.0


class Pearson(_Metric):
  """100 times Pearson's r of the predicted and the right number (STS-B).

  A prediction that is no number counts as 0. Spearman's rank correlation stands
  beside it. Statistics: 1, x, y, x^2, y^2, xy.
  """

  name = 'pearson'

  def scores(self, predictions, references):
    x = np.array([_number(prediction) for prediction in predictions])
    y = np.array([_number(wanted[0]) for wanted in references])
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=-1)

  def combine(self, totals, count):
    del count
    n, x, y, xx, yy, xy = np.moveaxis(totals, -1, 0)
    spread = (n * xx - x * x) * (n * yy - y * y)
    # Without spread in one of them there is no correlation to speak of.
    return 100 * (n * xy - x * y) / np.sqrt(np.where(spread > 1e-12, spread, np.inf))

  def others(self, rows):
    return {'spearman': spearman(rows[:, 1], rows[:, 2])} if len(rows) else {}


def spearman(x: np.ndarray, y: np.ndarray) -> float:
  """100 times the rank correlation of x and y; 0 where one of them does not vary."""
  if len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2:
    return 0.0
  from scipy.stats import spearmanr

  return 100 * float(spearmanr(x, y).statistic)


def _number(text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    return 0.0
  return value if np.isfinite(value) else 0.0


class F1A(_Metric):
  """F1 of the positive answer over all rows (MultiRC's F1a; FLAN table 1).

  Statistics: true positives, false positives, false negatives.
  """

  name = 'f1a'

  def __init__(self, positive: str = 'yes'):
    self._positive = positive

  def scores(self, predictions, references):
    rows = np.zeros((len(predictions), 3))
    for row, prediction, wanted in zip(rows, predictions, references, strict=True):
      said = normalise(prediction) == self._positive
      true = any(normalise(reference) == self._positive for reference in wanted)
      row[:] = said and true, said and not true, true and not said
    return rows

  def combine(self, totals, count):
    del count
    hits, false_alarms, misses = np.moveaxis(totals, -1, 0)
    return 200 * hits / np.maximum(2 * hits + false_alarms + misses, 1e-12)


class Bleu(_Metric):
  """Corpus BLEU of sacrebleu: 13a tokens, mixed case, exponential smoothing.

  Statistics: length of the prediction, length of the nearest reference, matching
  n-grams of orders 1 to 4, n-grams of orders 1 to 4 in the prediction.
  """

  name = 'bleu'

  @functools.cached_property
  def _bleu(self):
    from sacrebleu.metrics import BLEU

    return BLEU(effective_order=True)

  def scores(self, predictions, references):
    rows = np.zeros((len(predictions), 10))
    for row, prediction, wanted in zip(rows, predictions, references, strict=True):
      found = self._bleu.sentence_score(prediction, list(wanted) or [''])
      row[:] = found.sys_len, found.ref_len, *found.counts, *found.totals
    return rows

  def combine(self, totals, count):
    del count
    length, wanted = totals[..., 0], totals[..., 1]
    matched, possible = totals[..., 2:6], totals[..., 6:10]
    # An order without a match counts as a half, a quarter, ... of one: each further
    # empty order halves again (sacrebleu's `exp`). An order that cannot occur
    # (everything is shorter than n words) makes the corpus score zero.
    empty = (matched == 0) & (possible > 0)
    halvings = np.cumsum(empty, -1)
    counted = np.where(empty, 0.5**halvings, matched)
    with np.errstate(divide='ignore', invalid='ignore'):
      precision = np.log(counted) - np.log(possible)
      brevity = np.where(length < wanted, 1 - wanted / length, 0.0)
      score = 100 * np.exp(precision.mean(-1) + brevity)
    return np.where((possible > 0).all(-1) & (matched.sum(-1) > 0), score, 0.0)


class Rouge(_Metric):
  """ROUGE F-measures of rouge-score; the headline is `rougeLsum`.

  Sentences are split at full stops, question and exclamation marks, as ROUGE-Lsum
  wants them on lines of their own. No stemming.

  Statistics: rouge1, rouge2, rougeLsum, each the best over the row's references.
  """

  types = ('rouge1', 'rouge2', 'rougeLsum')
  name = 'rougeLsum'

  @functools.cached_property
  def _scorer(self):
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(self.types), use_stemmer=False)

  def scores(self, predictions, references):
    rows = np.zeros((len(predictions), len(self.types)))
    for row, prediction, wanted in zip(rows, predictions, references, strict=True):
      found = self._scorer.score_multi(
        [_lines(reference) for reference in wanted] or [''], _lines(prediction)
      )
      row[:] = [found[kind].fmeasure for kind in self.types]
    return rows

  def combine(self, totals, count):
    return 100 * totals[..., self.types.index(self.name)] / np.maximum(count, 1)

  def others(self, rows):
    return _others(self, rows)


_SENTENCE_END = re.compile(r'(?<=[.!?])\s+')


def _lines(text: str) -> str:
  return _SENTENCE_END.sub('\n', text.strip())


METRICS: dict[str, Metric] = {
  'accuracy': Mean('accuracy', _same),
  'exact_match': Words('exact_match', normalise),
  'f1': Words('f1', normalise),
  'trivia_em': Words('exact_match', normalise_trivia),
  'trivia_f1': Words('f1', normalise_trivia),
  'f1a': F1A(),
  'bleu': Bleu(),
  'rouge': Rouge(),
  'edit_distance': Mean('edit_similarity', _edit_similarity),
  'pearson': Pearson(),
}


def get(name: str) -> Metric:
  """The metric of that name.

  Raises:
    InputError: if there is none; names the nearest.
  """
  if name not in METRICS:
    raise InputError(
      f'metric {name!r}: must be one of {", ".join(METRICS)}'
      + did_you_mean(name, METRICS)
    )
  return METRICS[name]
