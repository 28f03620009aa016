"""Metrics: the registry of metrics, by name.

A metric turns every example into a vector of statistics that add up over examples. The
reported figure is a function of their sum, so leaving an example out of a corpus metric
such as BLEU, or swapping it, costs one sum and no second pass over the text. A metric's
`value` rates a single answer, and so decides which of two is better.

numpy only; sacrebleu and rouge-score are imported when their metric is first used.
"""

import collections
import inspect
import re
import string
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from flan_jax.catalog import registry
from flan_jax.catalog.dataset import Dataset
from flan_jax.errors import InputError, did_you_mean
from flan_jax.evaluate import drop
from flan_jax.evaluate.metric import BaseMetric, MeanMetric, Metric, MultiMetric
from flan_jax.evaluate.text_metrics import Bleu, Rouge
from flan_jax.evaluate.value_metric import FunctionMetric
from flan_jax.runtime import modules
from flan_jax.runtime.named import check_name

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)


def normalize(text: str) -> str:
  """Normalizes as SQuAD does: lower case, no punctuation or articles, single blanks.

  >>> normalize('The  Eiffel Tower!')
  'eiffel tower'
  """
  text = text.lower().translate(_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', text).split())


_BLANKS = str.maketrans(dict.fromkeys(string.punctuation + '\u2018\u2019\u00b4', ' '))


def normalize_trivia(text: str) -> str:
  """Normalizes as TriviaQA does: like SQuAD, but punctuation separates words.

  >>> normalize_trivia("Jean-Luc's ship_yard")
  'jean luc s ship yard'
  """
  return ' '.join(_ARTICLES.sub(' ', text.lower().translate(_BLANKS)).split())


def _same(prediction: str, reference: str) -> float:
  return float(prediction.strip() == reference.strip())


class Words(MultiMetric):
  """Exact match and F1 over words, each with the best reference.

  As in the scripts of SQuAD 1.1 and TriviaQA and in t5, two texts that normalize to
  nothing match exactly and have an F1 of 0.

  Statistics: exact match, F1.
  """

  types = ('exact_match', 'f1')

  def __init__(self, name: str, normalized: Callable[[str], str], description: str):
    self.name = name
    self.description = description
    self._normal = normalized

  def scores(self, predictions, references):
    out = np.zeros((len(predictions), len(self.types)))
    for i, (prediction, right) in enumerate(zip(predictions, references, strict=True)):
      if prediction is None:
        continue
      predicted = self._prepared(prediction)
      for reference in map(self._prepared, right):
        out[i] = np.maximum(out[i], self._pair(predicted, reference))
    return out

  def _prepared(self, text: str):
    return self._normal(text)

  def _pair(self, predicted, reference) -> tuple[float, float]:
    return float(predicted == reference), _token_f1(predicted, reference)


class Drop(Words):
  """Exact match and F1 by the rules of DROP's script; see `flan_jax.evaluate.drop`."""

  def __init__(self, name: str, description: str):
    normalized = lambda text: '\n'.join(sorted(drop.spans(text)))  # noqa: E731
    super().__init__(name, normalized, description)

  def _prepared(self, text):
    return drop.spans(text)

  def _pair(self, predicted, reference):
    return drop.scores(predicted, reference)


def _token_f1(prediction: str, reference: str) -> float:
  """Harmonic mean of precision and recall over the words of two normalized texts."""
  words, right = prediction.split(), reference.split()
  common = sum((collections.Counter(words) & collections.Counter(right)).values())
  return 2 * common / (len(words) + len(right)) if common else 0.0


def _edit_similarity(prediction: str, reference: str) -> float:
  """1 minus the Levenshtein distance in characters over the longer length."""
  from nltk.metrics.distance import edit_distance

  longer = max(len(prediction), len(reference))
  return 1 - edit_distance(prediction, reference) / longer if longer else 1.0


class Pearson(BaseMetric):
  """100 times Pearson's r of the predicted and the right number (STS-B).

  A non-numeric prediction counts as -1, as in t5, which is always wrong on a scale from
  0. Of two answers the nearer one is better. The further figure is Spearman's rank
  correlation. Statistics: 1, x, y, x^2, y^2, xy.
  """

  name = 'pearson'
  description = "Pearson's r with the right number, and Spearman's rank correlation"
  kind = 'correlation'

  def scores(self, predictions, references):
    x = np.array([_number(prediction) for prediction in predictions])
    y = np.array([_number(right[0]) for right in references])
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=-1)

  def value(self, statistics):
    return 1 - np.abs(statistics[..., 1] - statistics[..., 2])

  def combine(self, totals, count):
    del count
    n, x, y, xx, yy, xy = np.moveaxis(totals, -1, 0)
    spread = (n * xx - x * x) * (n * yy - y * y)
    # If x or y does not vary, the correlation counts as 0.
    return 100 * (n * xy - x * y) / np.sqrt(np.where(spread > 1e-12, spread, np.inf))

  def others(self, examples):
    return (
      {'spearman': spearman(examples[:, 1], examples[:, 2])} if len(examples) else {}
    )


def spearman(x: np.ndarray, y: np.ndarray) -> float:
  """Computes 100 times the rank correlation of x and y; 0 if one does not vary."""
  if len(set(x.tolist())) < 2 or len(set(y.tolist())) < 2:
    return 0.0
  from scipy.stats import spearmanr

  found = spearmanr(x, y)  # of a class that scipy makes at run time
  return 100 * float(found.statistic)  # pyright: ignore[reportAttributeAccessIssue]


_NO_NUMBER = -1.0


def _number(text: str | None) -> float:
  try:
    value = float(text or '')
  except ValueError:
    return _NO_NUMBER
  return value if np.isfinite(value) else _NO_NUMBER


class F1A(BaseMetric):
  """F1 of the positive answer over all examples (MultiRC's F1a; FLAN table 1).

  No answer counts as the opposite of the right one, as in t5. Statistics: true
  positives, false positives, false negatives.
  """

  name = 'f1a'
  description = 'F1 of the answer "yes" over all examples'
  graded = False
  _normal = staticmethod(normalize)
  kind = 'share'

  def __init__(self, positive: str = 'yes'):
    self._positive = positive

  def scores(self, predictions, references):
    out = np.zeros((len(predictions), 3))
    for i, (prediction, right) in enumerate(zip(predictions, references, strict=True)):
      true = any(normalize(reference) == self._positive for reference in right)
      positive = not true
      if prediction is not None:
        positive = normalize(prediction) == self._positive
      out[i] = positive and true, positive and not true, true and not positive
    return out

  def value(self, statistics):
    return 1 - statistics[..., 1] - statistics[..., 2]

  def combine(self, totals, count):
    del count
    hits, false_alarms, misses = np.moveaxis(totals, -1, 0)
    return 200 * hits / np.maximum(2 * hits + false_alarms + misses, 1e-12)

  def cases(self, totals, count):
    # Hits are a share of all but the true negatives, and F1 a function of that share:
    # this many coin flips have the variance of F1 (delta method).
    del count
    counted = totals.sum(-1)
    return (counted + totals[..., 0]) ** 2 / (2 * np.maximum(counted, 1e-12))


_SQUAD = 'after SQuAD normalization: no case, punctuation or articles'
_TRIVIA = "after TriviaQA normalization: like SQuAD's, but punctuation separates words"

METRICS: dict[str, Metric] = {}
"""Registered metrics by name."""

_places: dict[str, str] = {}


def metric(found: Any = None, *, name: str | None = None) -> Any:
  """Registers a metric; `Dataset.metric` names it.

  A function of one example returns a number, or several by name, which are averaged as
  they are:

  ```python
  @flan_jax.metric
  def cents_off(reference, prediction) -> float:
    return abs(100 * float(reference) - 100 * float(prediction or 0))
  ```

  Args:
    found: the function, called as (reference, prediction), with the highest value of
      several references, or as (references, prediction); a subclass of
      `flan_jax.Metric`; or a metric. None for a decorator with a name.
    name: name of the metric; None for that of the function or class.

  Raises:
    InputError: if the name is taken by another, or `found` is no metric.
  """
  if found is None:
    return lambda found: metric(found, name=name)
  if name is None:
    name = str(getattr(found, '__name__', getattr(found, 'name', found)))
  made = _made(found, name)
  check_name('metric', name)
  place = getattr(found, '__qualname__', type(found).__name__)
  place = f'{getattr(found, "__module__", "")}.{place}'
  if _places.setdefault(name, place) != place:
    raise InputError(
      f'metric {name!r}: registered twice, as {_places[name]} and as {place}; must '
      'have another name'
    )
  METRICS[name] = made
  modules.note(place)
  return found


def _made(found: Any, name: str) -> Any:
  """Makes a metric of what a user registers."""
  if isinstance(found, BaseMetric):
    return found
  if isinstance(found, type) and issubclass(found, BaseMetric):
    made = found()
    made.name = getattr(found, 'name', name)
    made.description = getattr(found, 'description', _line(found))
    return made
  if isinstance(found, type) or not callable(found):
    raise InputError(
      f'metric {name!r}: got {found!r:.80}; must be a function of (reference, '
      'prediction), or a subclass of flan_jax.Metric'
    )
  return FunctionMetric(name, found, _line(found))


def _line(found: Any) -> str:
  """First line of the documentation of a function or class."""
  return (inspect.getdoc(found) or 'as its function returns it').splitlines()[0]


for _name, _metric in {
  'accuracy': MeanMetric(
    'accuracy', _same, 'equal texts, surrounding blanks aside', graded=False
  ),
  'exact_match': Words('exact_match', normalize, f'exact match {_SQUAD}'),
  'f1': Words('f1', normalize, f'F1 over words {_SQUAD}'),
  'trivia_em': Words('exact_match', normalize_trivia, f'exact match {_TRIVIA}'),
  'trivia_f1': Words('f1', normalize_trivia, f'F1 over words {_TRIVIA}'),
  'drop_f1': Drop('f1', "F1 of DROP's script: numbers by value, spans matched"),
  'f1a': F1A(),
  'bleu': Bleu(),
  'rouge': Rouge(),
  'edit_distance': MeanMetric(
    'edit_similarity',
    _edit_similarity,
    '1 minus the edit distance in characters over the longer length',
  ),
  'pearson': Pearson(),
}.items():
  metric(_metric, name=_name)


def get(name: str) -> Metric:
  """Returns the metric with this name.

  Raises:
    InputError: if the name is unknown; names the nearest.
  """
  if name not in METRICS:
    modules.load()  # one of them may register it
  if name not in METRICS:
    raise InputError(
      f'metric {name!r}: must be one of {", ".join(METRICS)}{modules.hint()}'
      + did_you_mean(name, METRICS)
    )
  return METRICS[name]


def check_declared(datasets: Iterable[Dataset]) -> None:
  """Checks that the datasets of a command name known metrics.

  Raises:
    InputError: if one does not; names the dataset and the nearest metric.
  """
  for wrong in undeclared(datasets):
    raise InputError(wrong)


def undeclared(datasets: Iterable[Dataset]) -> Iterator[str]:
  """Yields a line on each dataset that names no known metric."""
  for dataset in datasets:
    try:
      get(dataset.metric)
    except InputError as error:
      yield f'dataset {dataset.name!r}: {error}'


def of(dataset: str, *, headline: str = 'accuracy') -> Metric:
  """Returns a dataset's metric; if undeclared, one with this headline figure."""
  found = registry.find(dataset)
  if found is not None:
    return get(found.metric)
  return next((m for m in METRICS.values() if m.name == headline), METRICS['accuracy'])
