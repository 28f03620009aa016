"""Metrics: one registry, per-row sufficient statistics, a percentage at the end.

A metric turns every row into a vector of statistics that add up over rows. What is
reported is a function of their sum, so leaving a row out of a corpus metric such as
BLEU, or swapping it, costs one sum and no second look at the text. How good one answer
is, and so which of two is better, is the metric's `value`.

numpy only; sacrebleu and rouge-score are imported when their metric is first used.
"""

import collections
import functools
import importlib.metadata
import re
import string
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.errors import InputError, did_you_mean
from flan_jax.evaluate import drop


class Metric(Protocol):
  """What every entry of METRICS offers.

  Attributes:
    name: the headline figure, as the report names it.
    about: what it computes, in one line.
    kind: `mean`, a mean over rows of values from 0 to 1; `share`, another figure from 0
      to 100; `correlation`, one from -100 to 100.
    graded: whether one answer can be better than wrong without being right.
  """

  name: str
  about: str
  kind: str
  graded: bool

  def scores(
    self, predictions: Sequence[str | None], references: Sequence[Sequence[str]]
  ) -> np.ndarray:
    """Statistics of each row, float64 [rows, statistics]; they add up over rows.

    Args:
      predictions: one text per row; None for no answer, which is wrong whatever the
        references are.
      references: for each row, every text that counts as right.
    """

  def value(self, statistics: np.ndarray) -> np.ndarray:
    """How good each answer is, [...]: higher is better, and 1 the best there is.

    Args:
      statistics: of single answers, float64 [..., statistics].
    """

  def same(self, prediction: str, references: Sequence[str]) -> bool:
    """Whether an answer is one of the references, in the metric's normal form."""

  def signature(self, references: Sequence[Sequence[str]]) -> str:
    """What another must set to get the same figure; '' where the name says it all."""

  def combine(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The figure in percent, [...], of summed statistics.

    Args:
      totals: float64 [..., statistics], sums over rows.
      count: [...], the number of rows in each sum.
    """

  def cases(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    """On how many right or wrong decisions a figure stands, [...]; see `combine`."""

  def aggregate(self, rows: np.ndarray) -> float:
    """The figure in percent of `rows`, float64 [rows, statistics]."""

  def others(self, rows: np.ndarray) -> dict[str, float]:
    """Further figures of `rows` in percent, by name; {} where there are none."""


class _Metric:
  kind = 'mean'
  graded = True
  _normal: Callable[[str], str] = staticmethod(str.strip)

  def same(self, prediction: str, references: Sequence[str]) -> bool:
    return self._normal(prediction) in map(self._normal, references)

  def signature(self, references: Sequence[Sequence[str]]) -> str:
    del references
    return ''

  def cases(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    del totals
    return count

  def aggregate(self, rows: np.ndarray) -> float:
    rows = np.asarray(rows, np.float64)
    return float(self.combine(rows.sum(0), np.asarray(len(rows))))

  def others(self, rows: np.ndarray) -> dict[str, float]:
    del rows
    return {}


def _best(score, predictions, references) -> np.ndarray:
  """The best `score(prediction, reference)` over each row's references, [rows, 1]."""
  rows = np.zeros((len(predictions), 1))
  for row, prediction, wanted in zip(rows, predictions, references, strict=True):
    if prediction is not None:
      row[0] = max((score(prediction, one) for one in wanted), default=0.0)
  return rows


class Mean(_Metric):
  """100 times the mean over rows of the best match with any reference."""

  def __init__(self, name: str, score, about: str, *, graded: bool = True):
    self.name = name
    self.about = about
    self.graded = graded
    self._score = score

  def scores(self, predictions, references):
    return _best(self._score, predictions, references)

  def value(self, statistics):
    return statistics[..., 0]

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


class _Several(_Metric):
  """Figures of one answer side by side, each a mean over rows; `name` is one of them.

  Attributes:
    types: of the figures; there are as many statistics.
  """

  types: tuple[str, ...] = ()

  @property
  def graded(self) -> bool:
    return self.name != 'exact_match'

  @property
  def _headline(self) -> int:
    return self.types.index(self.name)

  def value(self, statistics):
    return statistics[..., self._headline]

  def combine(self, totals, count):
    return 100 * totals[..., self._headline] / np.maximum(count, 1)

  def others(self, rows):
    if not len(rows):
      return {}
    means = zip(self.types, 100 * np.mean(rows, 0), strict=True)
    return {name: float(mean) for name, mean in means if name != self.name}


class Words(_Several):
  """Exact match and F1, each with the best of the references.

  As the scripts of SQuAD 1.1 and TriviaQA and t5 have it, two texts without a word in
  their normal forms match exactly and have an F1 of 0.

  Statistics: exact match, F1.
  """

  types = ('exact_match', 'f1')

  def __init__(self, name: str, normal: Callable[[str], str], about: str):
    self.name = name
    self.about = about
    self._normal = normal

  def scores(self, predictions, references):
    rows = np.zeros((len(predictions), len(self.types)))
    for row, prediction, wanted in zip(rows, predictions, references, strict=True):
      if prediction is None:
        continue
      said = self._prepared(prediction)
      for reference in map(self._prepared, wanted):
        row[:] = np.maximum(row, self._pair(said, reference))
    return rows

  def _prepared(self, text: str):
    return self._normal(text)

  def _pair(self, said, reference) -> tuple[float, float]:
    return float(said == reference), _token_f1(said, reference)


class Drop(Words):
  """The same by the rules of DROP's script; see `flan_jax.evaluate.drop`."""

  def __init__(self, name: str, about: str):
    super().__init__(name, lambda text: '\n'.join(sorted(drop.spans(text))), about)

  def _prepared(self, text):
    return drop.spans(text)

  def _pair(self, said, reference):
    return drop.scores(said, reference)


def _token_f1(prediction: str, reference: str) -> float:
  """Harmonic mean of precision and recall over the words of two normal forms."""
  got, wanted = prediction.split(), reference.split()
  common = sum((collections.Counter(got) & collections.Counter(wanted)).values())
  return 2 * common / (len(got) + len(wanted)) if common else 0.0


def _edit_similarity(prediction: str, reference: str) -> float:
  """1 minus the Levenshtein distance in characters over the longer length."""
  from nltk.metrics.distance import edit_distance

  longer = max(len(prediction), len(reference))
  return 1 - edit_distance(prediction, reference) / longer if longer else 1.0


class Pearson(_Metric):
  """100 times Pearson's r of the predicted and the right number (STS-B).

  A prediction that is no number counts as -1, as in t5, which on a scale from 0 is
  wrong whatever is right. Of two answers the nearer one is better. Spearman's rank
  correlation stands beside it. Statistics: 1, x, y, x^2, y^2, xy.
  """

  name = 'pearson'
  about = "Pearson's r with the right number, and Spearman's rank correlation"
  kind = 'correlation'

  def scores(self, predictions, references):
    x = np.array([_number(prediction) for prediction in predictions])
    y = np.array([_number(wanted[0]) for wanted in references])
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=-1)

  def value(self, statistics):
    return 1 - np.abs(statistics[..., 1] - statistics[..., 2])

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


_NO_NUMBER = -1.0


def _number(text: str | None) -> float:
  try:
    value = float(text or '')
  except ValueError:
    return _NO_NUMBER
  return value if np.isfinite(value) else _NO_NUMBER


class F1A(_Metric):
  """F1 of the positive answer over all rows (MultiRC's F1a; FLAN table 1).

  No answer counts as the opposite of the right one, as in t5. Statistics: true
  positives, false positives, false negatives.
  """

  name = 'f1a'
  about = 'F1 of the answer "yes" over all rows'
  graded = False
  _normal = staticmethod(normalise)
  kind = 'share'

  def __init__(self, positive: str = 'yes'):
    self._positive = positive

  def scores(self, predictions, references):
    rows = np.zeros((len(predictions), 3))
    for row, prediction, wanted in zip(rows, predictions, references, strict=True):
      true = any(normalise(reference) == self._positive for reference in wanted)
      said = not true
      if prediction is not None:
        said = normalise(prediction) == self._positive
      row[:] = said and true, said and not true, true and not said
    return rows

  def value(self, statistics):
    return 1 - statistics[..., 1] - statistics[..., 2]

  def combine(self, totals, count):
    del count
    hits, false_alarms, misses = np.moveaxis(totals, -1, 0)
    return 200 * hits / np.maximum(2 * hits + false_alarms + misses, 1e-12)

  def cases(self, totals, count):
    # Hits are a share of all but the true negatives, and F1 a function of that share:
    # so many coins have the variance that F1 then has (delta method).
    del count
    counted = totals.sum(-1)
    return (counted + totals[..., 0]) ** 2 / (2 * np.maximum(counted, 1e-12))


class Bleu(_Metric):
  """Corpus BLEU of sacrebleu, set as t5 sets it: `intl` tokens, mixed case.

  Orders without a match are smoothed (`exp`). One answer by itself has the BLEU of
  the orders that it is long enough for.

  Statistics: length of the prediction, length of the nearest reference, matching
  n-grams of orders 1 to 4, n-grams of orders 1 to 4 in the prediction.
  """

  name = 'bleu'
  about = 'corpus BLEU of sacrebleu: `intl` tokens, mixed case, smoothing `exp`'
  _tokens = 'intl'
  kind = 'share'

  @functools.cached_property
  def _bleu(self):
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=self._tokens, effective_order=True)

  def signature(self, references):
    from sacrebleu.metrics import BLEU

    counts = {len(wanted) for wanted in references}
    whole = BLEU(tokenize=self._tokens)
    whole.num_refs = counts.pop() if len(counts) == 1 else -1  # `var`
    return str(whole.get_signature())

  def scores(self, predictions, references):
    rows = np.zeros((len(predictions), 10))
    for row, prediction, wanted in zip(rows, predictions, references, strict=True):
      found = self._bleu.sentence_score(prediction or '', list(wanted) or [''])
      row[:] = found.sys_len, found.ref_len, *found.counts, *found.totals
    return rows

  def value(self, statistics):
    return _bleu(statistics, statistics[..., 6:10] > 0)

  def combine(self, totals, count):
    del count
    # An order that cannot occur (everything is shorter) makes the corpus score zero.
    score = 100 * _bleu(totals, np.ones_like(totals[..., 6:10], bool))
    return np.where((totals[..., 6:10] > 0).all(-1), score, 0.0)


def _bleu(sums: np.ndarray, counted: np.ndarray) -> np.ndarray:
  """BLEU from 0 to 1 of sums of statistics, over the orders that are `counted`."""
  length, wanted = sums[..., 0], sums[..., 1]
  matched, possible = sums[..., 2:6], sums[..., 6:10]
  # An order without a match counts as a half, a quarter, ... of one: each further
  # empty order halves again (sacrebleu's `exp`).
  empty = (matched == 0) & (possible > 0)
  smoothed = np.where(empty, 0.5 ** np.cumsum(empty, -1), matched)
  with np.errstate(divide='ignore', invalid='ignore'):
    logarithms = np.where(counted, np.log(smoothed) - np.log(possible), 0.0)
    precision = logarithms.sum(-1) / np.maximum(counted.sum(-1), 1)
    brevity = np.where(length < wanted, 1 - wanted / length, 0.0)
    return np.where(matched.sum(-1) > 0, np.exp(precision + brevity), 0.0)


class Rouge(_Several):
  """ROUGE F-measures of rouge-score, set as t5 sets them; the headline is `rougeLsum`.

  Sentences are the lines of a text, and what a full stop between two blanks ends. No
  stemming. The figure is the mean over rows, of which t5 prints a bootstrap's median.

  Statistics: rouge1, rouge2, rougeLsum, each the best over the row's references.
  """

  types = ('rouge1', 'rouge2', 'rougeLsum')
  name = 'rougeLsum'
  about = (
    'ROUGE-Lsum of rouge-score without stemming, sentences parted at newlines and '
    "` . `: the mean over rows, of which t5 prints a bootstrap's median; the paper's "
    'tables call it ROUGE-L'
  )

  @functools.cached_property
  def _scorer(self):
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(self.types), use_stemmer=False)

  def signature(self, references):
    del references
    version = importlib.metadata.version('rouge_score')
    return f'stem:no|sentences:newline, " . "|version:{version}'

  def scores(self, predictions, references):
    rows = np.zeros((len(predictions), len(self.types)))
    for row, prediction, wanted in zip(rows, predictions, references, strict=True):
      found = self._scorer.score_multi(
        [_lines(reference) for reference in wanted] or [''], _lines(prediction or '')
      )
      row[:] = [found[kind].fmeasure for kind in self.types]
    return rows


def _lines(text: str) -> str:
  """A text with each sentence on a line of its own."""
  return text.replace(' . ', ' .\n')


_SQUAD = "in SQuAD's form: no case, punctuation or articles"
_TRIVIA = "in TriviaQA's form: as SQuAD's, but punctuation parts words"

METRICS: dict[str, Metric] = {
  'accuracy': Mean(
    'accuracy', _same, 'the very text, but for blanks around it', graded=False
  ),
  'exact_match': Words('exact_match', normalise, f'exact match {_SQUAD}'),
  'f1': Words('f1', normalise, f'F1 over words {_SQUAD}'),
  'trivia_em': Words('exact_match', normalise_trivia, f'exact match {_TRIVIA}'),
  'trivia_f1': Words('f1', normalise_trivia, f'F1 over words {_TRIVIA}'),
  'drop_f1': Drop('f1', "F1 of DROP's script: numbers by value, spans matched"),
  'f1a': F1A(),
  'bleu': Bleu(),
  'rouge': Rouge(),
  'edit_distance': Mean(
    'edit_similarity',
    _edit_similarity,
    '1 minus the edit distance in characters over the longer length',
  ),
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


def of(dataset: str, *, headline: str = 'accuracy') -> Metric:
  """The metric of a dataset, or where it is not declared one of that headline."""
  found = dataset_lib.find(dataset)
  if found is not None:
    return get(found.metric)
  return next((m for m in METRICS.values() if m.name == headline), METRICS['accuracy'])
