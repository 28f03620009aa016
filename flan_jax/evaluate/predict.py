"""Predictions: prompts for a block of examples, the models' answers, their scores.

A block is rendered and fitted once per tokenizer, ranked by log-probability or
generated, scored by the metric, and emitted.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from flan_jax.catalog.answers import Label
from flan_jax.catalog.dataset import Example
from flan_jax.data import batch, prompts
from flan_jax.data.preprocess import Limits
from flan_jax.data.prompts import Fitted
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.evaluate import metric as metric_lib
from flan_jax.evaluate import metrics, value_metric
from flan_jax.evaluate.clock import Clock
from flan_jax.evaluate.prompt_cache import PromptCache
from flan_jax.evaluate.prompt_spec import PromptSpec
from flan_jax.inference import joined_tokens
from flan_jax.inference.generate import Generated
from flan_jax.inference.rank_options import Request, Scored

if TYPE_CHECKING:
  from flan_jax.inference.chat_prompts import ChatPrompts  # imports Jinja

_MAX_NAMED = 3
"""Examples named in a warning; the others are counted."""


class Reader(Protocol):
  """Interface that prompts are fitted to: a tokenizer and lengths."""

  @property
  def tokenizer(self) -> Tokenizer: ...

  @property
  def sequence_length(self) -> int: ...

  @property
  def max_length(self) -> int | None:
    """Limit on the tokens of a prompt with its answer."""
    ...

  @property
  def chat(self) -> 'ChatPrompts | None':
    """Chat template by which the model is asked, if it is."""
    ...


class LanguageModel(Reader, Protocol):
  """Interface of an evaluated model; inference.rank_options.Scorer implements it."""

  def loglikelihood(self, requests: Sequence[Request]) -> Scored: ...

  def generate(
    self, prompts: Sequence[np.ndarray], *, max_tokens: int
  ) -> Generated: ...


class Block(NamedTuple):
  """Scores of one model on N examples under T templates.

  Attributes:
    scores: statistics of the metric, float64 [T, N, S]; NaN if the prompt could not be
      made to fit.
    confidence: float64 [T, N, 2], of a ranked answer: its probability among the
      options, and 1 if it was right; NaN if nothing was ranked.
    shown: exemplars before each prompt, int64 [T, N].
  """

  scores: np.ndarray
  confidence: np.ndarray
  shown: np.ndarray


class Warnings:
  """Warnings by dataset: the first few examples are named, the others counted."""

  def __init__(self):
    self._examples: dict[tuple[str, str], dict[str, None]] = {}

  def add(self, dataset: str, warning: str, example: str = '') -> None:
    self._examples.setdefault((dataset, warning), {})[example] = None

  def update(self, other: 'Warnings') -> None:
    for key, examples in other._examples.items():
      self._examples.setdefault(key, {}).update(examples)

  def lines(self) -> tuple[str, ...]:
    out = []
    for (dataset, warning), examples in self._examples.items():
      names = ', '.join(filter(None, list(examples)[:_MAX_NAMED]))
      others = len(examples) - _MAX_NAMED
      more = f' and {others:,} more' if others > 0 else ''
      out.append(f'{dataset}: {warning}' + (f' ({names}{more})' if names else ''))
    return tuple(out)


@dataclasses.dataclass
class Predictor:
  """Predicts and scores blocks of examples; shared by all datasets of an evaluation.

  Attributes:
    models: models by name, `tuned` and perhaps `base`.
    limits: limit on the tokens of the inputs.
    max_tokens: limit on the tokens of a generated answer.
    emit: called as emit(prediction, split=, model=), or None.
    clocks: clock of each model.
    warnings: warnings about all datasets.
    prompts: prompts that other evaluations share, or None.
  """

  models: Mapping[str, LanguageModel]
  limits: Limits
  max_tokens: int
  emit: Callable[..., None] | None
  clocks: Mapping[str, Clock]
  warnings: Warnings
  prompts: PromptCache | None = None

  def predict(
    self, specs: Mapping[str, PromptSpec], examples: Sequence[tuple[str, Example]]
  ) -> dict[str, Block]:
    """Predicts a block of examples with every model.

    Args:
      specs: model -> its prompts; all of the same dataset.
      examples: (split, example) each.

    Returns:
      Model -> its scores.

    Raises:
      InputError: if an option does not fit in the model's sequence length.
    """
    fitted: dict[Any, list[Fitted | None]] = {}
    out = {}
    for name, model in self.models.items():
      spec = specs[name]
      pairs = [
        (example, template) for template in spec.templates for _, example in examples
      ]
      sizes = (model.sequence_length, model.max_length)
      key = (id(spec), model.tokenizer.digest, *sizes)
      if key not in fitted:
        names = tuple(example.example_id for _, example in examples)
        fitted[key] = self._shared((*key, names), spec, pairs, model)
      splits = [split for _ in spec.templates for split, _ in examples]
      out[name] = self._answer(name, spec, pairs, splits, fitted[key])
    return out

  def _answer(
    self,
    name: str,
    spec: PromptSpec,
    pairs: Sequence[tuple[Example, int]],
    splits: Sequence[str],
    fitted: Sequence[Fitted | None],
  ) -> Block:
    dataset = spec.dataset
    kept = [(i, prompt) for i, prompt in enumerate(fitted) if prompt is not None]
    requests = [(*pairs[i], prompt) for i, prompt in kept]
    answer = self._rank if dataset.has_options else self._generate
    predictions = answer(spec, requests, name)
    self.clocks[name].examples += len(requests)
    metric = metrics.get(dataset.metric)
    found = _scores(predictions, metric, dataset.label)
    scores = np.full((len(pairs), found.shape[1]), np.nan)
    confidence = np.full((len(pairs), 2), np.nan)
    shown = np.zeros(len(pairs), np.int64)
    scores[[i for i, _ in kept]] = found
    for (i, prompt), prediction in zip(kept, predictions, strict=True):
      confidence[i] = prediction.confidence
      shown[i] = len(prompt.exemplars)
      if self.emit is not None:
        values = value_metric.of_example(metric, scores[i])
        self.emit(prediction.record | values, split=splits[i], model=name)
    shape = (len(spec.templates), len(pairs) // len(spec.templates))
    return Block(
      scores.reshape(*shape, -1), confidence.reshape(*shape, 2), shown.reshape(shape)
    )

  def _shared(
    self,
    key: Hashable,
    spec: PromptSpec,
    pairs: Sequence[tuple[Example, int]],
    model: Reader,
  ) -> list[Fitted | None]:
    """Makes the prompts of a block, unless another evaluation has made them."""
    if self.prompts is None:
      return self.fit(spec, pairs, model)

    def make():
      alone = dataclasses.replace(self, warnings=Warnings())
      return alone.fit(spec, pairs, model), alone.warnings

    fitted, warnings = self.prompts.block(key, make)
    self.warnings.update(warnings)
    return fitted

  def fit(
    self, spec: PromptSpec, pairs: Sequence[tuple[Example, int]], model: Reader
  ) -> list[Fitted | None]:
    """Makes the prompt of each (example, template); None for one that is left out."""
    dataset = spec.dataset
    rooms = [self.limits.inputs - 1] * len(pairs)
    dropped: dict[str, str] = {}
    max_length, bos_id = model.max_length, model.tokenizer.bos_id
    longest_scored = min(model.sequence_length, max_length or model.sequence_length)
    if dataset.has_options:
      ids = _encoded(spec, pairs, model.tokenizer)
      ranked = [spec.options(*pair) for pair in pairs]
      each = {(example.example_id, *options): (example, options)
              for (example, _), options in zip(pairs, ranked, strict=True)}  # fmt: skip
      for example, options in each.values():
        if _has_no_tokens(spec, example, options, ids):
          dropped[example.example_id] = 'left out: no option has a token'
        elif not spec.is_joined:
          self._warn_if_alike(spec, example, options, [ids[o] for o in options])
      for i, options in enumerate(ranked):
        longest = max((len(ids[option]) for option in options), default=0)
        rooms[i] = min(rooms[i], spec.room(longest_scored, longest, bos_id))
    elif max_length is not None:
      room = spec.room(max_length, self.max_tokens, bos_id)
      rooms = [min(rooms[0], room)] * len(pairs)
    fitted = prompts.fit(
      dataset, pairs, tokenizer=model.tokenizer, max_tokens=rooms, pool=spec.pool
    )
    room = None
    if dataset.has_options and spec.is_joined:
      room = batch.room(longest_scored, 0, bos_id)
    elif max_length is not None and spec.chat is not None:
      room = batch.room(max_length, self.max_tokens, bos_id)
    if room is not None:
      for example_id in self._fit_joined(
        spec, pairs, fitted, rooms, room, model.tokenizer
      ):
        warning = 'left out: an option has no token after the prompt'
        dropped.setdefault(example_id, warning)
    for i, ((example, template), prompt) in enumerate(zip(pairs, fitted, strict=True)):
      where = f'example {example.example_id} template {template}'
      if example.example_id in dropped:
        warning = dropped[example.example_id]
        self.warnings.add(dataset.label, warning, f'example {example.example_id}')
        fitted[i] = None
      elif prompt is None:
        warning = 'prompts left out: blank, or too long whatever is cut'
        self.warnings.add(dataset.label, warning, where)
      elif prompt.cut:
        self.warnings.add(dataset.label, 'prompts with fields cut to fit', where)
      kept = fitted[i]
      if kept is not None and model.tokenizer.unk_id in kept.ids:
        warning = 'prompts with words that the vocabulary lacks'
        self.warnings.add(dataset.label, warning, where)
    return fitted

  def _fit_joined(
    self,
    spec: PromptSpec,
    pairs: Sequence[tuple[Example, int]],
    fitted: list[Fitted | None],
    rooms: list[int],
    room: int,
    tokenizer: Tokenizer,
  ) -> set[str]:
    """Shortens the prompts in `fitted` whose joined texts exceed `room` tokens.

    Returns:
      Ids of examples with an option that has no token of its own, which are not ranked.
    """
    without_tokens = set()
    left = [(i, prompt) for i, prompt in enumerate(fitted) if prompt is not None]
    while left:
      texts = [(prompt.text, spec.options(*pairs[i])) for i, prompt in left]
      too_long = []
      for (i, prompt), joined in zip(left, spec.join(texts, tokenizer), strict=True):
        if joined.max_length > room:
          rooms[i] = min(rooms[i], len(prompt.ids)) - (joined.max_length - room)
          too_long.append(i)
        elif not all(map(len, joined.options)):
          without_tokens.add(pairs[i][0].example_id)
        else:
          ranked = spec.options(*pairs[i])
          self._warn_if_alike(spec, pairs[i][0], ranked, joined.options)
      again = prompts.fit(
        spec.dataset,
        [pairs[i] for i in too_long],
        tokenizer=tokenizer,
        max_tokens=[rooms[i] for i in too_long],
        pool=spec.pool,
      )
      left = []
      for i, prompt in zip(too_long, again, strict=True):
        fitted[i] = prompt
        if prompt is not None:
          left.append((i, prompt))
    return without_tokens

  def _warn_if_alike(
    self,
    spec: PromptSpec,
    example: Example,
    options: Sequence[str],
    ids: Sequence[np.ndarray],
  ) -> None:
    """Warns of an example with different options of equal tokens."""
    if len({option.tobytes() for option in ids}) < len({*options}):
      warning = 'options that tokenize alike, counted as tied'
      self.warnings.add(spec.dataset.label, warning, f'example {example.example_id}')

  def _rank(
    self, spec: PromptSpec, fitted: Sequence[tuple[Example, int, Fitted]], name: str
  ) -> list['_Prediction']:
    model = self.models[name]
    dataset = f'dataset {spec.dataset.label!r}'
    requests = [
      Request(*ids, f'{dataset}, example {example.example_id!r}, template {template}')
      for (example, template, _), ids in zip(
        fitted, _tokenized(spec, fitted, model.tokenizer), strict=True
      )
    ]
    scored = model.loglikelihood(requests)
    self.clocks[name].score(scored)
    return [
      self._ranked(spec, example, template, prompt, logp, name)
      for (example, template, prompt), logp in zip(
        fitted, scored.log_probabilities, strict=True
      )
    ]

  def _ranked(
    self,
    spec: PromptSpec,
    example: Example,
    template: int,
    prompt: Fitted,
    logp: np.ndarray,
    name: str,
  ) -> '_Prediction':
    options, gold = example.answer.options, example.answer.gold
    if np.isnan(logp).any():
      self._warn_of_nan(spec, example, template, name)
      tied: list[int] = []
    else:
      tied = np.flatnonzero(logp == logp.max()).tolist()
    record = _record(spec, example, template, prompt) | {
      'log_probabilities': [float(v) if np.isfinite(v) else None for v in logp],
      'gold': list(gold),
      'predicted': tied[0] if tied else None,
    }
    if len(tied) > 1:
      record['tied'] = tied
    texts: list[str | None] = [options[i] for i in tied] or [None]
    confidence = (np.nan, np.nan)
    if tied:
      right = [options[i] for i in gold]
      hit = sum(text in right for text in texts) / len(texts)
      odds = np.exp(logp.astype(np.float64) - logp.max())
      confidence = (1 / float(odds.sum()), hit)
    if isinstance(spec.dataset.answer, Label) and spec.dataset.answer.measured:
      record['references'] = example.answer.right
    return _Prediction(record, texts, example.answer.right, confidence)

  def _generate(
    self, spec: PromptSpec, fitted: Sequence[tuple[Example, int, Fitted]], name: str
  ) -> list['_Prediction']:
    model = self.models[name]
    generated = model.generate(
      [spec.context(prompt.text, prompt.ids) for *_, prompt in fitted],
      max_tokens=self.max_tokens,
    )
    self.clocks[name].generate(generated)
    out = []
    for (example, template, prompt), generation, nan in zip(
      fitted, generated.texts, generated.nan, strict=True
    ):
      if nan:
        self._warn_of_nan(spec, example, template, name)
      text = '' if nan else spec.answer(generation)
      references = example.answer.right
      record = _record(spec, example, template, prompt) | {
        'text': text,
        'gold': references,
        'predicted': None if nan else text,
      }
      texts = [None if nan else text]
      out.append(_Prediction(record, texts, references, (np.nan, np.nan)))
    return out

  def _warn_of_nan(
    self, spec: PromptSpec, example: Example, template: int, name: str
  ) -> None:
    where = f'example {example.example_id} template {template}'
    model = 'base model' if name == 'base' else 'model'
    warning = f'NaN from the {model}, counted as wrong'
    self.warnings.add(spec.dataset.label, warning, where)


class _Prediction(NamedTuple):
  """A line of predictions.jsonl, and the texts that the metric compares.

  Attributes:
    record: line of predictions.jsonl.
    texts: answer; several if options are tied, None if the model gave NaN.
    references: right answers.
    confidence: (probability among the options, 1 if right), or NaN.
  """

  record: dict[str, Any]
  texts: list[str | None]
  references: list[str]
  confidence: tuple[float, float]


def _scores(
  predictions: Sequence[_Prediction], metric: metric_lib.Metric, dataset: str
) -> np.ndarray:
  """Scores each prediction, float64 [N, S]; tied options count by their mean."""
  counts = np.array([len(prediction.texts) for prediction in predictions], np.int64)
  whole = [prediction for prediction in predictions for _ in prediction.texts]
  each = value_metric.scores(
    metric,
    [text for prediction in predictions for text in prediction.texts],
    [prediction.references for prediction in whole],
    dataset=dataset,
    examples=[prediction.record['example_id'] for prediction in whole],
  )
  if not len(counts) or counts.max() == 1:
    return each
  starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
  return np.add.reduceat(each, starts, axis=0) / counts[:, None]


def _has_no_tokens(
  spec: PromptSpec,
  example: Example,
  options: Sequence[str],
  ids: Mapping[str, np.ndarray],
) -> bool:
  """Returns whether no option has a token, so that nothing can be ranked."""
  if spec.is_joined:  # a blank after a prompt may well be a token
    return not any(option.strip() for option in example.answer.options)
  return not any(len(ids[option]) for option in options)


def _encoded(
  spec: PromptSpec, pairs: Sequence[tuple[Example, int]], tokenizer: Tokenizer
) -> dict[str, np.ndarray]:
  """Tokenizes every distinct option of (example, template) pairs."""
  distinct = list(dict.fromkeys(o for pair in pairs for o in spec.options(*pair)))
  return dict(zip(distinct, tokenizer.encode_batch(distinct), strict=True))


def _tokenized(
  spec: PromptSpec,
  fitted: Sequence[tuple[Example, int, Fitted]],
  tokenizer: Tokenizer,
) -> list[joined_tokens.Joined]:
  """Tokenizes each prompt with its options, joined if they are one text."""
  asked = [((example, template), prompt) for example, template, prompt in fitted]
  if spec.is_joined:
    texts = [(prompt.text, spec.options(*pair)) for pair, prompt in asked]
    return spec.join(texts, tokenizer)
  ids = _encoded(spec, [pair for pair, _ in asked], tokenizer)
  return [
    joined_tokens.Joined(prompt.ids, tuple(ids[o] for o in spec.options(*pair)))
    for pair, prompt in asked
  ]


def _record(
  spec: PromptSpec, example: Example, template: int, prompt: Fitted
) -> dict[str, Any]:
  shown = {'exemplars': list(prompt.exemplars)} if prompt.exemplars else {}
  direction = spec.dataset.direction
  labels = spec.labels(example, template)
  return {
    'example_id': example.example_id,
    'dataset': spec.dataset.name,
    **({'direction': direction} if direction else {}),
    'template': template,
    **spec.form,
    'prompt': prompt.text,
    'options': spec.options(example),
    **({'labels': list(labels)} if labels else {}),
    **shown,
  }
