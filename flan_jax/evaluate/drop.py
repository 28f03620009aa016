"""DROP's own scores: numbers as numbers, and spans matched one to one.

The rules are those of the script that the paper gives out (Dua et al. 2019, section 5).
An answer of several spans has one on each line.
"""

import re
import string
from collections.abc import Sequence, Set

import numpy as np

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)


def spans(text: str) -> list[str]:
  """The normal forms of the spans of an answer, at least one."""
  lines = [line for line in text.split('\n') if line.strip()]
  return [normalize(line) for line in lines or ['']]


def normalize(text: str) -> str:
  """DROP's normal form of one span: as SQuAD's, but numbers keep their value.

  Words are parted at blanks and hyphens, which takes the sign of a negative number.

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


def scores(said: Sequence[str], wanted: Sequence[str]) -> tuple[float, float]:
  """Exact match and F1 of an answer, given as normal forms of its spans.

  F1 is the mean over spans under the best matching of one side's to the other's, a
  span left over counting 0; it has two decimals, as the script rounds it.
  """
  exact = len(said) == len(wanted) and set(said) == set(wanted)
  bags = [[set(span.split()) for span in part] for part in (wanted, said)]
  found = np.array([[_overlap(ours, right) for ours in bags[1]] for right in bags[0]])
  each = np.zeros(max(found.shape))
  if found.size == 1:
    each[0] = found[0, 0]
  else:
    from scipy.optimize import linear_sum_assignment

    matched = linear_sum_assignment(found, maximize=True)
    each[matched[0]] = found[matched]
  return float(exact), float(np.round(each.mean(), 2))


def _overlap(said: Set[str], wanted: Set[str]) -> float:
  """F1 of two sets of words; 0 where a number is wanted and none of them is there."""
  common = said & wanted
  numbers = {word for word in wanted if _is_number(word)}
  if numbers and not numbers & common:
    return 0.0
  if not common:
    return float(said == wanted)
  # Written so that what is rounded is the script's own number to the last bit.
  precision, recall = len(common) / len(said), len(common) / len(wanted)
  return 2 * precision * recall / (precision + recall)
