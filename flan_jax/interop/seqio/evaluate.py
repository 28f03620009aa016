"""Evaluation of seqio Tasks by their own metrics, as `seqio.Evaluator` has them.

The Task's preprocessors make the prompts, its vocabulary decodes the answers, and its
`postprocess_fn` and metrics get what `seqio.Evaluator` would give them. Imports
TensorFlow.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.catalog.dataset import Dataset
from flan_jax.config.evaluation import EvalConfig
from flan_jax.config.setting import label
from flan_jax.data import batch
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate.clock import Clock, Clocks
from flan_jax.evaluate.evaluator import Protocol, Results
from flan_jax.evaluate.predict import LanguageModel, Warnings
from flan_jax.evaluate.task_metrics import Figure, TaskResult, TaskSplit
from flan_jax.inference.rank_options import Request
from flan_jax.interop.seqio import own_metrics, task_data
from flan_jax.interop.seqio.task_data import INPUTS, TARGETS, TaskData
from flan_jax.runtime.metering import Meter
from flan_jax.runtime.progress import Progress

_REPORTED = ('test', 'dev')
"""Splits in order of preference: the first that there is, is reported."""

_BLOCK = 1024
"""Prompts answered together: an interrupted evaluation repeats no more of them."""


def evaluate(
  datasets: Sequence[Dataset],
  protocol: Protocol,
  *,
  models: Mapping[str, LanguageModel],
  emit: Callable[..., None] | None = None,
  progress: Progress | None = None,
) -> Results:
  """Evaluates models on datasets that are seqio Tasks, each by its own metrics.

  Args:
    datasets: datasets whose source is a Task.
    protocol: settings of the evaluation.
    models: model by name, `tuned` and perhaps `base`.
    emit: called as emit(prediction, split=, model=) for every prediction.
    progress: progress output; None for none.

  Raises:
    InputError: as `check`.
  """
  clocks = Clocks(models)
  warnings = Warnings()
  found = []
  for dataset in datasets:
    split = next(
      (s for s in _REPORTED if s in protocol.splits and s in dataset.slices), ''
    )
    data = (
      task_data.read(
        dataset, split, max_examples=protocol.max_examples, seed=protocol.seed
      )
      if split
      else None
    )
    if data is None or not data.examples:
      splits = ' or '.join(protocol.splits)
      warnings.add(dataset.label, f'no examples in {splits}; left out')
      continue
    if protocol.templates not in (None, 1):
      warnings.add(dataset.label, 'TEMPLATES does not apply: it makes its own prompts')
    outputs = own_metrics.outputs(data.task)
    figures = {}
    for name, model in models.items():
      asked = Asked(data, model, _max_tokens(dataset, protocol), clocks.total[name])
      what = f'evaluate {dataset.label}' + (', base model' if name == 'base' else '')
      prompts = len(outputs) * len(data.examples)
      with (progress or Progress(quiet=True)).work(what, prompts) as meter:
        asked.answer(outputs, meter)
      figures[name], others = own_metrics.figures(data, asked.answers)
      _warn(warnings, dataset, asked, others, name)
      if emit is not None:
        for record in _records(dataset, asked, figures[name]):
          emit(record, split=split, model=name)
    clocks.split(dataset.label)
    part = TaskSplit(examples=tuple(data.rendered), total=data.total, figures=figures)
    found.append(TaskResult(dataset=dataset, splits={split: part}))
  return Results(
    datasets=(), own=tuple(found), timing=clocks.timing(), warnings=warnings.lines()
  )


def check(
  datasets: Sequence[Dataset],
  settings: EvalConfig,
  tokenizers: Mapping[str, Tokenizer],
) -> None:
  """Refuses Tasks that cannot be evaluated with these settings, or by these models.

  Args:
    datasets: datasets whose source is a Task.
    settings: settings of the evaluation.
    tokenizers: name of a model -> its tokenizer.

  Raises:
    InputError: if a Task has no metrics, or another vocabulary than a model; or at a
      setting of prompts, which a Task makes itself.
  """
  for dataset in datasets:
    outputs = own_metrics.outputs(task_data.task_of(dataset))
    refused = [*_PROMPTS, *(['normalization'] if 'scores' in outputs else [])]
    for name in refused:
      value, usual = getattr(settings, name), getattr(EvalConfig(), name)
      if value != usual:
        what = (
          'its log-likelihoods are sums'
          if name == 'normalization'
          else ('it makes its own prompts')
        )
        raise InputError(
          f'{label(EvalConfig, name)}: got {value!r}, with the seqio task '
          f'{dataset.name!r}: {what}; must be {usual!r}, or evaluate it apart',
          field=f'Evaluate.{name}',
        )
    for model, tokenizer in tokenizers.items():
      task_data.check_vocabulary(dataset, tokenizer, model=model)


_PROMPTS = (
  'num_fewshot', 'prompt_style', 'base_prompt_style', 'separator', 'eos',
  'options_style',
)  # fmt: skip
"""Settings that make prompts from templates."""


def _max_tokens(dataset: Dataset, protocol: Protocol) -> int:
  """Limit on the tokens of a generated answer, at most that of the targets."""
  own = protocol.max_tokens or protocol.limits.targets
  return min(own, task_data.lengths(dataset).get(TARGETS, own))


class Asked:
  """A model that is asked for its answers to the examples of a Task.

  Attributes:
    answers: `predictions`, the generated tokens of each example, and `scores`, the
      log-likelihood of each target; those that were asked for.
    cut: examples whose inputs were cut to the model's length.
    nan: examples for which the model gave NaN.
  """

  def __init__(
    self, data: TaskData, model: LanguageModel, max_tokens: int, clock: Clock
  ):
    """Asks nothing yet.

    Args:
      data: examples.
      model: the model.
      max_tokens: limit on the tokens of a generated answer, EOS included.
      clock: clock of the model.
    """
    self.data = data
    self.answers: dict[str, list[Any]] = {}
    self.cut: set[int] = set()
    self.nan: set[int] = set()
    self._model = model
    self._max_tokens = max_tokens
    self._clock = clock

  def answer(self, outputs: Collection[str], meter: Meter | None = None) -> None:
    """Generates an answer to each example, or scores its target.

    The prompt is `[BOS] inputs EOS`, and the score that of the target and its EOS.

    Args:
      outputs: `predictions`, `scores`, or both.
      meter: counts the prompts done, or None.
    """
    ask = {'predictions': self._generate, 'scores': self._score}
    self.answers = {output: [] for output in sorted(outputs)}
    every = range(len(self.data.examples))
    for start in range(0, len(every), _BLOCK):
      block = every[start : start + _BLOCK]
      for output, out in self.answers.items():
        out += ask[output](block)
      self._clock.examples += len(block)
      if meter is not None:
        meter.reach(len(outputs) * (block[-1] + 1))

  def _generate(self, block: Sequence[int]) -> list[list[int]]:
    prompts = [self._fitted(i, self._max_tokens) for i in block]
    found = self._model.generate(prompts, max_tokens=self._max_tokens)
    self._clock.generate(found)
    self.nan.update(i for i, nan in zip(block, found.nan, strict=True) if nan)
    return [
      [] if i in self.nan else tokens
      for i, tokens in zip(block, found.tokens, strict=True)
    ]

  def _score(self, block: Sequence[int]) -> list[float]:
    data, name = self.data, f'seqio task {self.data.task.name!r}'
    requests = [
      Request(
        self._fitted(i, len(data.targets[i])),
        (data.targets[i],),
        f'{name}, example {data.ids[i]!r}',
      )
      for i in block
    ]
    found = self._model.loglikelihood(requests)
    self._clock.score(found)
    scores = [float(values[0]) for values in found.log_probabilities]
    self.nan.update(
      i for i, score in zip(block, scores, strict=True) if np.isnan(score)
    )
    return scores

  def _fitted(self, i: int, answer: int) -> np.ndarray:
    """Cuts inputs at their end, as seqio does, to the model's length."""
    inputs = self.data.inputs[i]
    if self._model.max_length is None:
      return inputs
    bos_id = self._model.tokenizer.bos_id
    room = max(batch.room(self._model.max_length, answer, bos_id), 0)
    if len(inputs) > room:
      self.cut.add(i)
    return inputs[:room]


def _warn(
  warnings: Warnings, dataset: Dataset, asked: Asked, others: Sequence[str], name: str
) -> None:
  """Warns of cut inputs, of NaN, and of values that are not numbers."""
  ids, model = asked.data.ids, 'base model' if name == 'base' else 'model'
  for i in sorted(asked.cut):
    warnings.add(dataset.label, "inputs cut to the model's length", f'example {ids[i]}')
  for i in sorted(asked.nan):
    warnings.add(dataset.label, f'NaN from the {model}', f'example {ids[i]}')
  for value in others:
    warnings.add(dataset.label, f'{value!r} is not a number; left out')


def _records(
  dataset: Dataset, asked: Asked, figures: Mapping[str, Figure]
) -> Iterator[dict[str, Any]]:
  """Yields the lines of predictions.jsonl; `values` are those of single examples."""
  data = asked.data
  predictions, scores = (asked.answers.get(k) for k in ('predictions', 'scores'))
  for i, example_id in enumerate(data.ids):
    text = None
    if predictions is not None and i not in asked.nan:
      text = data.decode(predictions[i])
    values = {
      name: float(figure.values[i])
      for name, figure in figures.items()
      if figure.values is not None and np.isfinite(figure.values[i])
    }
    yield {
      'example_id': example_id,
      'dataset': dataset.name,
      'template': 0,
      'prompt': data.text(i, INPUTS),
      'options': [],
      **({} if predictions is None else {'text': text or ''}),
      'gold': [data.text(i, TARGETS)],
      'predicted': text,
      **({} if scores is None else {'log_probability': _finite(scores[i])}),
      'values': values,
    }


def _finite(value: float) -> float | None:
  return float(value) if np.isfinite(value) else None
