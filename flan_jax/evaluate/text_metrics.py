"""Text metrics: BLEU and ROUGE, computed by their reference packages."""

import functools
import importlib.metadata

import numpy as np

from flan_jax.evaluate.metric import BaseMetric, MultiMetric


class Bleu(BaseMetric):
  """Corpus BLEU by sacrebleu with t5's settings: `intl` tokens, mixed case.

  Orders without a match are smoothed (`exp`). A single answer is scored on the orders
  that it is long enough for.

  Statistics: length of the prediction, length of the nearest reference, matching
  n-grams of orders 1 to 4, n-grams of orders 1 to 4 in the prediction.
  """

  name = 'bleu'
  description = 'corpus BLEU of sacrebleu: `intl` tokens, mixed case, smoothing `exp`'
  _tokens = 'intl'
  kind = 'share'

  @functools.cached_property
  def _bleu(self):
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=self._tokens, effective_order=True)

  def signature(self, references):
    from sacrebleu.metrics.bleu import BLEU

    counts = {len(right) for right in references}
    whole = BLEU(tokenize=self._tokens)
    whole.num_refs = counts.pop() if len(counts) == 1 else -1  # `var`
    return str(whole.get_signature())

  def scores(self, predictions, references):
    out = np.zeros((len(predictions), 10))
    for i, (prediction, right) in enumerate(zip(predictions, references, strict=True)):
      found = self._bleu.sentence_score(prediction or '', list(right) or [''])
      out[i] = found.sys_len, found.ref_len, *found.counts, *found.totals
    return out

  def value(self, statistics):
    return _bleu(statistics, statistics[..., 6:10] > 0)

  def combine(self, totals, count):
    del count
    # An order longer than every prediction makes the corpus score zero.
    score = 100 * _bleu(totals, np.ones_like(totals[..., 6:10], bool))
    return np.where((totals[..., 6:10] > 0).all(-1), score, 0.0)


def _bleu(sums: np.ndarray, counted: np.ndarray) -> np.ndarray:
  """Computes BLEU from 0 to 1 from summed statistics, over the `counted` orders."""
  length, reference = sums[..., 0], sums[..., 1]
  matched, possible = sums[..., 2:6], sums[..., 6:10]
  # The first order without a match counts as half a match, the next as a quarter, and
  # so on (sacrebleu's `exp`).
  empty = (matched == 0) & (possible > 0)
  smoothed = np.where(empty, 0.5 ** np.cumsum(empty, -1), matched)
  with np.errstate(divide='ignore', invalid='ignore'):
    logarithms = np.where(counted, np.log(smoothed) - np.log(possible), 0.0)
    precision = logarithms.sum(-1) / np.maximum(counted.sum(-1), 1)
    brevity = np.where(length < reference, 1 - reference / length, 0.0)
    return np.where(matched.sum(-1) > 0, np.exp(precision + brevity), 0.0)


class Rouge(MultiMetric):
  """ROUGE F-measures by rouge-score with t5's settings; the headline is `rougeLsum`.

  Sentences end at a newline, or at a full stop between two blanks. No stemming. The
  figure is the mean over examples; t5 prints the median of a bootstrap of that mean.

  Statistics: rouge1, rouge2, rougeLsum, each with the best reference.
  """

  types = ('rouge1', 'rouge2', 'rougeLsum')
  name = 'rougeLsum'
  description = (
    'ROUGE-Lsum of rouge-score without stemming, sentences split at newlines and '
    "` . `: the mean over examples, of which t5 prints a bootstrap's median; the "
    "paper's tables call it ROUGE-L"
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
    out = np.zeros((len(predictions), len(self.types)))
    for i, (prediction, right) in enumerate(zip(predictions, references, strict=True)):
      found = self._scorer.score_multi(
        [_lines(reference) for reference in right] or [''], _lines(prediction or '')
      )
      out[i] = [found[kind].fmeasure for kind in self.types]
    return out


def _lines(text: str) -> str:
  """Puts each sentence of a text on a line of its own."""
  return text.replace(' . ', ' .\n')
