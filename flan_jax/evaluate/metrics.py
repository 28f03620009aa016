"""Metrics: one registry, per-row sufficient statistics, a percentage at the end.

A metric turns every example into a vector of statistics that add up over examples. What is
reported is a function of their sum, so leaving an example out of a corpus metric such as
BLEU, or swapping it, costs one sum and no second look at the text. How good one answer
is, and so which of two is better, is the metric's `value`.

numpy only; sacrebleu and rouge-score are imported when their metric is first used.
"""

import collections
import re
import string
from collections.abc import Callable

import numpy as np

from flan_jax.catalog import registry
from flan_jax.errors import InputError, did_you_mean
from flan_jax.evaluate import drop
from flan_jax.evaluate.metric import Base, Mean, Metric, Several
from flan_jax.evaluate.text_metrics import Bleu, Rouge

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)


def normalize(text: str) -> str:
  """SQuAD's normal form: lower case, no punctuation, no articles, single blanks.

  >>> normalize('The  Eiffel Tower!')
  'eiffel tower'
  """
  text = text.lower().translate(_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', text).split())


_BLANKS = str.maketrans(dict.fromkeys(string.punctuation + '\u2018\u2019\u00b4', ' '))


def normalize_trivia(text: str) -> str:
  """TriviaQA's normal form: as SQuAD's, but punctuation parts words.

  >>> normalize_trivia("Jean-Luc's ship_yard")
  'jean luc s ship yard'
  """
  return ' '.join(_ARTICLES.sub(' ', text.lower().translate(_BLANKS)).split())


def _same(prediction: str, reference: str) -> float:
  return float(prediction.strip() == reference.strip())


class Words(Several):
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
    examples = np.zeros((len(predictions), len(self.types)))
    for example, prediction, wanted in zip(
      examples, predictions, references, strict=True
    ):
      if prediction is None:
        continue
      said = self._prepared(prediction)
      for reference in map(self._prepared, wanted):
        example[:] = np.maximum(example, self._pair(said, reference))
    return examples

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


class Pearson(Base):
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

  def others(self, examples):
    return (
      {'spearman': spearman(examples[:, 1], examples[:, 2])} if len(examples) else {}
    )


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


class F1A(Base):
  """F1 of the positive answer over all examples (MultiRC's F1a; FLAN table 1).

  No answer counts as the opposite of the right one, as in t5. Statistics: true
  positives, false positives, false negatives.
  """

  name = 'f1a'
  about = 'F1 of the answer "yes" over all rows'
  graded = False
  _normal = staticmethod(normalize)
  kind = 'share'

  def __init__(self, positive: str = 'yes'):
    self._positive = positive

  def scores(self, predictions, references):
    examples = np.zeros((len(predictions), 3))
    for example, prediction, wanted in zip(
      examples, predictions, references, strict=True
    ):
      true = any(normalize(reference) == self._positive for reference in wanted)
      said = not true
      if prediction is not None:
        said = normalize(prediction) == self._positive
      example[:] = said and true, said and not true, true and not said
    return examples

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


_SQUAD = "in SQuAD's form: no case, punctuation or articles"
_TRIVIA = "in TriviaQA's form: as SQuAD's, but punctuation parts words"

METRICS: dict[str, Metric] = {
  'accuracy': Mean(
    'accuracy', _same, 'the very text, but for blanks around it', graded=False
  ),
  'exact_match': Words('exact_match', normalize, f'exact match {_SQUAD}'),
  'f1': Words('f1', normalize, f'F1 over words {_SQUAD}'),
  'trivia_em': Words('exact_match', normalize_trivia, f'exact match {_TRIVIA}'),
  'trivia_f1': Words('f1', normalize_trivia, f'F1 over words {_TRIVIA}'),
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


def check_declared() -> None:
  """Checks that every declared dataset names a metric.

  Raises:
    InputError: naming the dataset and the nearest metric.
  """
  for dataset in registry.tasks().values():
    try:
      get(dataset.metric)
    except InputError as error:
      raise InputError(f'dataset {dataset.name!r}: {error}') from None


def of(dataset: str, *, headline: str = 'accuracy') -> Metric:
  """The metric of a dataset, or where it is not declared one of that headline."""
  found = registry.find(dataset)
  if found is not None:
    return get(found.metric)
  return next((m for m in METRICS.values() if m.name == headline), METRICS['accuracy'])
