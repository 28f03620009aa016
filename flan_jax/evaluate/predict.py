"""Measurement: rows put to the models, and what the metric makes of their answers.

One block of rows at a time: rendered and fitted once per tokenizer, ranked by
log-probability or generated, compared with what is right, written down.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from flan_jax.catalog import continuation_prompts
from flan_jax.catalog.answers import Label
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.data import batch, prompts
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.preprocess import Limits
from flan_jax.data.prompts import Fitted
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.evaluate import metric as metric_lib
from flan_jax.evaluate import metrics
from flan_jax.inference import joined_tokens
from flan_jax.inference.generate import Generated
from flan_jax.inference.rank_options import Request, Scored

_NAMED = 3
"""Rows named in a warning; the others are counted."""


class LanguageModel(Protocol):
  """What is evaluated; `flan_jax.inference.rank_options.Scorer` is one."""

  tokenizer: Tokenizer
  sequence_length: int
  max_length: int | None  # of a prompt with its answer

  def score(self, requests: Sequence[Request]) -> Scored: ...

  def generate(
    self, prompts: Sequence[np.ndarray], *, max_new_tokens: int
  ) -> Generated: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptSpec:
  """How one model is asked about one dataset.

  Attributes:
    dataset: the declaration, in the words that this model reads.
    templates: indices of those that are measured.
    pool: exemplars to show before each prompt; None for zero-shot.
    target_delimiter: what stands between prompt and answer where they are one text, as a blank
      does, but before a comma or another mark that closes up to its text; '' where EOS
      parts them, and each is a text of its own.
    end: a generated answer ends before this text; None for the model's own end.
  """

  dataset: Dataset
  templates: tuple[int, ...]
  pool: FewShotPool | None = None
  target_delimiter: str = ''
  end: str | None = None

  def options(self, example: Example) -> list[str]:
    """The options of an example, each with what stands before it."""
    return [
      continuation_prompts.delimited(self.target_delimiter, option)
      for option in example.answer.options
    ]

  def answer(self, text: str) -> str:
    """What counts of a generated text."""
    text = text.strip()
    return text if self.end is None else text.partition(self.end)[0].rstrip()


class Block(NamedTuple):
  """What one model made of a block of rows.

  Attributes:
    scores: statistics of the metric, float64 [T, N, S]; NaN where a prompt could not
      be made to fit.
    confidence: float64 [T, N, 2], of a ranked answer: its probability among the
      options, and 1 where it was right; NaN where nothing was ranked.
    shown: exemplars before each prompt, int64 [T, N].
  """

  scores: np.ndarray
  confidence: np.ndarray
  shown: np.ndarray


@dataclasses.dataclass
class Clock:
  """What one model computed, and how long it took."""

  examples: int = 0
  seconds: float = 0.0
  tokens_scored: int = 0
  tokens_naive: int = 0
  prefill_tokens: int = 0
  generated_tokens: int = 0

  def as_json(self) -> dict[str, Any]:
    rate = self.examples / self.seconds if self.seconds else 0.0
    return {'examples_per_s': rate, **dataclasses.asdict(self)}


class Warnings:
  """Lines for people: rows named up to a few, and counted."""

  def __init__(self):
    self._rows: dict[tuple[str, str], dict[str, None]] = {}

  def add(self, dataset: str, what: str, example: str = '') -> None:
    self._rows.setdefault((dataset, what), {})[example] = None

  def lines(self) -> tuple[str, ...]:
    out = []
    for (dataset, what), rows in self._rows.items():
      names = ', '.join(filter(None, list(rows)[:_NAMED]))
      more = f' and {len(rows) - _NAMED:,} more' if len(rows) > _NAMED else ''
      out.append(f'{dataset}: {what}' + (f' ({names}{more})' if names else ''))
    return tuple(out)


@dataclasses.dataclass
class Predictor:
  """What stays the same over all datasets of one evaluation.

  Attributes:
    models: by name, `tuned` and perhaps `base`.
    limits: most tokens of inputs.
    max_new_tokens: most tokens of a generated answer.
    emit: called as emit(prediction, split=, model=), or None.
    clocks: one for each model.
    warnings: of all datasets.
  """

  models: Mapping[str, LanguageModel]
  limits: Limits
  max_new_tokens: int
  emit: Callable[..., None] | None
  clocks: Mapping[str, Clock]
  warnings: Warnings

  def measure(
    self, questions: Mapping[str, PromptSpec], rows: Sequence[tuple[str, Example]]
  ) -> dict[str, Block]:
    """Asks every model about a block of rows.

    Args:
      questions: model -> how it is asked; all of the same dataset.
      rows: (split, example) each.

    Returns:
      Model -> what it made of them.

    Raises:
      InputError: if an option does not fit in an example of the scorer.
    """
    fitted: dict[Any, list[Fitted | None]] = {}
    out = {}
    for name, model in self.models.items():
      question = questions[name]
      pairs = [
        (example, template) for template in question.templates for _, example in rows
      ]
      sizes = (model.sequence_length, model.max_length)
      words = (id(question), model.tokenizer.digest, *sizes)
      if words not in fitted:
        fitted[words] = self._fit(question, pairs, model)
      splits = [split for _ in question.templates for split, _ in rows]
      out[name] = self._answer(name, question, pairs, splits, fitted[words])
    return out

  def _answer(
    self,
    name: str,
    question: PromptSpec,
    pairs: Sequence[tuple[Example, int]],
    splits: Sequence[str],
    fitted: Sequence[Fitted | None],
  ) -> Block:
    dataset = question.dataset
    kept = [i for i, prompt in enumerate(fitted) if prompt is not None]
    work = [(*pairs[i], fitted[i]) for i in kept]
    answer = self._rank if dataset.has_options else self._write
    predictions = answer(question, work, name)
    self.clocks[name].examples += len(work)
    measured = _scores(predictions, metrics.get(dataset.metric))
    scores = np.full((len(pairs), measured.shape[1]), np.nan)
    confidence = np.full((len(pairs), 2), np.nan)
    shown = np.zeros(len(pairs), np.int64)
    scores[kept] = measured
    for i, prediction in zip(kept, predictions, strict=True):
      confidence[i] = prediction.confidence
      shown[i] = len(fitted[i].exemplars)
      if self.emit is not None:
        self.emit(prediction.record, split=splits[i], model=name)
    shape = (len(question.templates), len(pairs) // len(question.templates))
    return Block(
      scores.reshape(*shape, -1), confidence.reshape(*shape, 2), shown.reshape(shape)
    )

  def _fit(
    self,
    question: PromptSpec,
    pairs: Sequence[tuple[Example, int]],
    model: LanguageModel,
  ) -> list[Fitted | None]:
    dataset = question.dataset
    rooms = [self.limits.inputs - 1] * len(pairs)
    silent: dict[str, str] = {}
    most, bos_id = model.max_length, model.tokenizer.bos_id
    if dataset.has_options:
      most = min(model.sequence_length, most or model.sequence_length)
      ids = _encoded(question, [example for example, _ in pairs], model.tokenizer)
      for example in {example.example_id: example for example, _ in pairs}.values():
        if _silent(question, example, ids):
          silent[example.example_id] = 'left out: no option has a token'
        elif not question.target_delimiter:
          options = [ids[option] for option in question.options(example)]
          self._alike(question, example, options)
      for i, (example, _) in enumerate(pairs):
        longest = max(
          (len(ids[option]) for option in question.options(example)), default=0
        )
        rooms[i] = min(rooms[i], most - batch.length(0, longest, bos_id))
    elif most is not None:
      room = most - batch.length(0, self.max_new_tokens, bos_id)
      rooms = [min(rooms[0], room)] * len(pairs)
    fitted = prompts.fit(
      dataset, pairs, tokenizer=model.tokenizer, max_tokens=rooms, pool=question.pool
    )
    if dataset.has_options and question.target_delimiter:
      room = most - batch.length(0, 0, bos_id)
      for example_id in self._fit_joined(
        question, pairs, fitted, rooms, room, model.tokenizer
      ):
        silent.setdefault(
          example_id, 'left out: an option has no token after the prompt'
        )
    for i, ((example, template), prompt) in enumerate(zip(pairs, fitted, strict=True)):
      where = f'example {example.example_id} template {template}'
      if example.example_id in silent:
        what = silent[example.example_id]
        self.warnings.add(dataset.label, what, f'example {example.example_id}')
        fitted[i] = None
      elif prompt is None:
        what = 'prompts left out: blank, or too long whatever is cut'
        self.warnings.add(dataset.label, what, where)
      elif prompt.cut:
        self.warnings.add(dataset.label, 'prompts with fields cut to fit', where)
      if fitted[i] is not None and model.tokenizer.unk_id in fitted[i].ids:
        what = 'prompts with words that the vocabulary lacks'
        self.warnings.add(dataset.label, what, where)
    return fitted

  def _fit_joined(
    self,
    question: PromptSpec,
    pairs: Sequence[tuple[Example, int]],
    fitted: list[Fitted | None],
    rooms: list[int],
    room: int,
    tokenizer: Tokenizer,
  ) -> set[str]:
    """Cuts in `fitted` the prompts whose joined texts have more than `room` tokens.

    Returns:
      The rows an option of which has no token of its own: nothing could be ranked.
    """
    silent = set()
    left = [i for i, prompt in enumerate(fitted) if prompt is not None]
    while left:
      work = [(fitted[i].text, question.options(pairs[i][0])) for i in left]
      long = []
      for i, joined in zip(left, joined_tokens.join(work, tokenizer), strict=True):
        if joined.longest > room:
          rooms[i] = min(rooms[i], len(fitted[i].ids)) - (joined.longest - room)
          long.append(i)
        elif not all(map(len, joined.options)):
          silent.add(pairs[i][0].example_id)
        else:
          self._alike(question, pairs[i][0], joined.options)
      again = prompts.fit(
        question.dataset,
        [pairs[i] for i in long],
        tokenizer=tokenizer,
        max_tokens=[rooms[i] for i in long],
        pool=question.pool,
      )
      for i, prompt in zip(long, again, strict=True):
        fitted[i] = prompt
      left = [i for i in long if fitted[i] is not None]
    return silent

  def _alike(
    self, question: PromptSpec, example: Example, ids: Sequence[np.ndarray]
  ) -> None:
    """Names an example with different options that the tokenizer cannot tell apart."""
    texts = set(question.options(example))
    if len({option.tobytes() for option in ids}) < len(texts):
      what = 'options that tokenize alike, counted as tied'
      self.warnings.add(question.dataset.label, what, f'example {example.example_id}')

  def _rank(
    self, question: PromptSpec, work: Sequence[tuple[Example, int, Fitted]], name: str
  ) -> list['_Prediction']:
    model = self.models[name]
    about = f'dataset {question.dataset.label!r}'
    requests = [
      Request(*asked, f'{about}, example {example.example_id!r}, template {template}')
      for (example, template, _), asked in zip(
        work, _asked(question, work, model.tokenizer), strict=True
      )
    ]
    scored = model.score(requests)
    self.clocks[name].seconds += scored.seconds
    self.clocks[name].tokens_scored += scored.tokens_scored
    self.clocks[name].tokens_naive += scored.tokens_naive
    return [
      self._ranked(question, example, template, prompt, found, name)
      for (example, template, prompt), found in zip(
        work, scored.log_probabilities, strict=True
      )
    ]

  def _ranked(
    self,
    question: PromptSpec,
    example: Example,
    template: int,
    prompt: Fitted,
    found: np.ndarray,
    name: str,
  ) -> '_Prediction':
    options, gold = example.answer.options, example.answer.gold
    if np.isnan(found).any():
      self._nan(question, example, template, name)
      tied: list[int] = []
    else:
      tied = np.flatnonzero(found == found.max()).tolist()
    record = _record(question, example, template, prompt) | {
      'log_probabilities': [float(v) if np.isfinite(v) else None for v in found],
      'gold': list(gold),
      'predicted': tied[0] if tied else None,
    }
    if len(tied) > 1:
      record['tied'] = tied
    said = [options[i] for i in tied] or [None]
    confidence = (np.nan, np.nan)
    if tied:
      right = [options[i] for i in gold]
      hit = sum(text in right for text in said) / len(said)
      confidence = (
        1 / float(np.exp(found.astype(np.float64) - found.max()).sum()),
        hit,
      )
    if isinstance(question.dataset.answer, Label) and question.dataset.answer.measured:
      record['references'] = example.answer.right
    return _Prediction(record, said, example.answer.right, confidence)

  def _write(
    self, question: PromptSpec, work: Sequence[tuple[Example, int, Fitted]], name: str
  ) -> list['_Prediction']:
    model = self.models[name]
    generated = model.generate(
      [prompt.ids for *_, prompt in work], max_new_tokens=self.max_new_tokens
    )
    self.clocks[name].seconds += generated.seconds
    self.clocks[name].prefill_tokens += generated.prefill_tokens
    self.clocks[name].generated_tokens += generated.generated_tokens
    out = []
    for (example, template, prompt), written, broken in zip(
      work, generated.texts, generated.nan, strict=True
    ):
      if broken:
        self._nan(question, example, template, name)
      text = '' if broken else question.answer(written)
      references = example.answer.right
      record = _record(question, example, template, prompt) | {
        'text': text,
        'gold': references,
        'predicted': None if broken else text,
      }
      said = [None if broken else text]
      out.append(_Prediction(record, said, references, (np.nan, np.nan)))
    return out

  def _nan(
    self, question: PromptSpec, example: Example, template: int, name: str
  ) -> None:
    where = f'example {example.example_id} template {template}'
    of = 'base model' if name == 'base' else 'model'
    what = f'NaN from the {of}, counted as wrong'
    self.warnings.add(question.dataset.label, what, where)


class _Prediction(NamedTuple):
  """A line of predictions.jsonl, and the texts that the metric compares.

  Attributes:
    record: the line.
    texts: what was answered; several where options are tied, None where the model
      gave NaN.
    references: what counts as right.
    confidence: (probability among the options, 1 where right), or NaN.
  """

  record: dict[str, Any]
  texts: list[str | None]
  references: list[str]
  confidence: tuple[float, float]


def _scores(
  predictions: Sequence[_Prediction], metric: metric_lib.Metric
) -> np.ndarray:
  """Statistics of each prediction, float64 [N, S]; the mean over options that tie."""
  counts = np.array([len(prediction.texts) for prediction in predictions], np.int64)
  each = metric.scores(
    [text for prediction in predictions for text in prediction.texts],
    [prediction.references for prediction in predictions for _ in prediction.texts],
  )
  if not len(counts) or counts.max() == 1:
    return each
  starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
  return np.add.reduceat(each, starts, axis=0) / counts[:, None]


def _silent(
  question: PromptSpec, example: Example, ids: Mapping[str, np.ndarray]
) -> bool:
  """Whether no option of an example has a token, so that there is nothing to rank."""
  if question.target_delimiter:  # a blank after a prompt may well be a token
    return not any(option.strip() for option in example.answer.options)
  return not any(len(ids[option]) for option in question.options(example))


def _encoded(
  question: PromptSpec, rows: Sequence[Example], tokenizer: Tokenizer
) -> dict[str, np.ndarray]:
  """Token ids of every distinct option of `rows`."""
  distinct = list(
    dict.fromkeys(o for example in rows for o in question.options(example))
  )
  return dict(zip(distinct, tokenizer.encode_batch(distinct), strict=True))


def _asked(
  question: PromptSpec,
  work: Sequence[tuple[Example, int, Fitted]],
  tokenizer: Tokenizer,
) -> list[joined_tokens.Joined]:
  """The tokens of each prompt and of its options, joined where they are one text."""
  if question.target_delimiter:
    texts = [(prompt.text, question.options(example)) for example, _, prompt in work]
    return joined_tokens.join(texts, tokenizer)
  ids = _encoded(question, [example for example, *_ in work], tokenizer)
  return [
    joined_tokens.Joined(prompt.ids, tuple(ids[o] for o in question.options(example)))
    for example, _, prompt in work
  ]


def _record(
  question: PromptSpec, example: Example, template: int, prompt: Fitted
) -> dict[str, Any]:
  shown = {'exemplars': list(prompt.exemplars)} if prompt.exemplars else {}
  direction = question.dataset.direction
  return {
    'example_id': example.example_id,
    'dataset': question.dataset.name,
    **({'direction': direction} if direction else {}),
    'template': template,
    'prompt': prompt.text,
    'options': question.options(example),
    **shown,
  }
