"""DROP's scores: numbers compare by value, and spans are matched one to one.

The rules are those of the paper's script (Dua et al. 2019, section 5). An answer of
several spans has one on each line.
"""

import re
import string
from collections.abc import Sequence, Set

import numpy as np

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)


def spans(text: str) -> list[str]:
  """Splits an answer into spans, at least one, and normalizes each."""
  lines = [line for line in text.split('\n') if line.strip()]
  return [normalize(line) for line in lines or ['']]


def normalize(text: str) -> str:
  """Normalizes a span as DROP does: like SQuAD, but numbers keep their value.

  Words are split at blanks and hyphens, so a negative number loses its sign.

  >>> normalize('The 1,500 yards')
  '1500.0 yards'
  >>> normalize('1.5'), normalize('15')
  ('1.5', '15.0')
  """
  words = (_word(word.lower()) for word in re.split('[ -]', text))
  return ' '.join(word for word in words if word)


def _word(word: str) -> str:
  if not _is_number(word):
    word = word.translate(_PUNCTUATION)
  if _is_number(word):
    return str(float(word))
  return ' '.join(_ARTICLES.sub(' ', word).split())


def _is_number(word: str) -> bool:
  try:
    float(word)
  except ValueError:
    return False
  return True


def scores(predicted: Sequence[str], gold: Sequence[str]) -> tuple[float, float]:
  """Returns exact match and F1 of an answer, given as normalized spans.

  F1 is the mean over spans under the best one-to-one matching; an unmatched span counts
  as 0. It has two decimals, as in the script.
  """
  exact = len(predicted) == len(gold) and set(predicted) == set(gold)
  bags = [[set(span.split()) for span in part] for part in (gold, predicted)]
  found = np.array([[_overlap(p, g) for p in bags[1]] for g in bags[0]])
  each = np.zeros(max(found.shape))
  if found.size == 1:
    each[0] = found[0, 0]
  else:
    from scipy.optimize import linear_sum_assignment

    matched = linear_sum_assignment(found, maximize=True)
    each[matched[0]] = found[matched]
  return float(exact), float(np.round(each.mean(), 2))


def _overlap(predicted: Set[str], gold: Set[str]) -> float:
  """F1 of two sets of words; 0 if `gold` has numbers of which none is predicted."""
  common = predicted & gold
  numbers = {word for word in gold if _is_number(word)}
  if numbers and not numbers & common:
    return 0.0
  if not common:
    return float(predicted == gold)
  # In this order the value before rounding equals the script's to the last bit.
  precision, recall = len(common) / len(predicted), len(common) / len(gold)
  return 2 * precision * recall / (precision + recall)
