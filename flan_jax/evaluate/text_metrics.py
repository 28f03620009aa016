"""Text metrics: BLEU and ROUGE by their reference packages."""

import functools
import importlib.metadata

import numpy as np

from flan_jax.evaluate.metric import Base, Several


class Bleu(Base):
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
    examples = np.zeros((len(predictions), 10))
    for example, prediction, wanted in zip(
      examples, predictions, references, strict=True
    ):
      found = self._bleu.sentence_score(prediction or '', list(wanted) or [''])
      example[:] = found.sys_len, found.ref_len, *found.counts, *found.totals
    return examples

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


class Rouge(Several):
  """ROUGE F-measures of rouge-score, set as t5 sets them; the headline is `rougeLsum`.

  Sentences are the lines of a text, and what a full stop between two blanks ends. No
  stemming. The figure is the mean over examples, of which t5 prints a bootstrap's median.

  Statistics: rouge1, rouge2, rougeLsum, each the best over the row's references.
  """

  types = ('rouge1', 'rouge2', 'rougeLsum')
  name = 'rougeLsum'
  about = (
    'ROUGE-Lsum of rouge-score without stemming, sentences parted at newlines and '
    "` . `: the mean over examples, of which t5 prints a bootstrap's median; the paper's "
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
    examples = np.zeros((len(predictions), len(self.types)))
    for example, prediction, wanted in zip(
      examples, predictions, references, strict=True
    ):
      found = self._scorer.score_multi(
        [_lines(reference) for reference in wanted] or [''], _lines(prediction or '')
      )
      example[:] = [found[kind].fmeasure for kind in self.types]
    return examples


def _lines(text: str) -> str:
  """A text with each sentence on a line of its own."""
  return text.replace(' . ', ' .\n')
