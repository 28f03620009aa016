"""Evaluator: runs datasets through a model, and through a base model beside it.

Every template that asks for the answer is evaluated on the same examples of dev and
test. Options of classification and multiple choice are ranked by log-probability, free
text is generated. The base model gets the same examples as the
tuned one, in the same prompt style or its own (FLAN section 2.4). No TensorFlow.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.catalog import continuation_prompts, options_style
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.prompt_style import PromptStyle, is_chat
from flan_jax.data import stable_hash
from flan_jax.data.few_shot import POOL_SIZE, FewShotPool
from flan_jax.data.preprocess import Limits
from flan_jax.evaluate import clock, template_choice
from flan_jax.evaluate.clock import Clocks
from flan_jax.evaluate.eval_data import Examples
from flan_jax.evaluate.predict import (  # fmt: skip
  Block,
  LanguageModel,
  Predictor,
  Reader,
  Warnings,
)
from flan_jax.evaluate.prompt_cache import PromptCache
from flan_jax.evaluate.prompt_spec import PromptSpec
from flan_jax.evaluate.task_metrics import TaskResult
from flan_jax.runtime.progress import Progress

SPLITS = ('dev', 'test')

_BLOCK = 1024
"""Prompts rendered and scored together, to bound memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitResult:
  """Results on one split of one dataset.

  Attributes:
    examples: evaluated examples.
    tuned: statistics of the dataset's metric, float64 [T, N, S] for T templates, N
      examples; NaN if a prompt could not be made to fit.
    base: statistics of the base model, with its own number of templates; or None.
    confidence: model -> float64 [T, N, 2] of a ranked answer: its probability among
      the options, and 1 if it was right; NaN if nothing was ranked.
    shown: model -> exemplars before each prompt, int64 [T, N].
  """

  examples: tuple[Example, ...]
  tuned: np.ndarray
  base: np.ndarray | None
  confidence: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  shown: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  @property
  def measured(self) -> bool:
    """True if at least one prompt of every model fitted."""
    models = [self.tuned, *([] if self.base is None else [self.base])]
    return not any(np.isnan(scores).all() for scores in models)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetResult:
  """Results on one dataset, or one direction of a translation.

  Attributes:
    dataset: declaration, with its direction.
    templates: indices of the tuned model's templates.
    splits: results by split.
    base_templates: indices of the base model's templates; None for the same.
    num_fewshot: requested exemplars before each prompt.
    prompt_style: prompt style of the tuned model.
    base_prompt_style: prompt style of the base model.
    options_style: style of the OPTIONS block, of both.
    template_texts: model -> inputs of its templates, as they are declared.
  """

  dataset: Dataset
  templates: tuple[int, ...]
  splits: Mapping[str, SplitResult]
  base_templates: tuple[int, ...] | None = None
  num_fewshot: int = 0
  prompt_style: str = 'instructions'
  base_prompt_style: str = 'instructions'
  options_style: str = options_style.DEFAULT
  template_texts: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

  @property
  def own_style(self) -> dict[str, str]:
    """`options_style` of a result; {} for the usual one."""
    usual = self.options_style == options_style.DEFAULT or not self.dataset.has_options
    return {} if usual else {'options_style': self.options_style}

  @property
  def split(self) -> str:
    """Name of the reported split: test, or dev without a test split."""
    return 'test' if 'test' in self.splits else 'dev'

  @property
  def reported(self) -> SplitResult:
    return self.splits[self.split]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
  """Results of `evaluate`.

  Attributes:
    datasets: results by dataset, in the given order; empty ones are left out.
    timing: `timing` of report.json.
    warnings: one line each.
    own: results on datasets that are measured by metrics of their own.
  """

  datasets: tuple[DatasetResult, ...]
  timing: Mapping[str, Any]
  warnings: tuple[str, ...]
  own: tuple[TaskResult, ...] = ()

  def plus(self, other: 'Results') -> 'Results':
    """Adds the results of an evaluation of the same models."""
    return Results(
      datasets=self.datasets + other.datasets,
      timing=clock.plus(self.timing, other.timing),
      warnings=self.warnings + other.warnings,
      own=self.own + other.own,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
  """Settings of an evaluation, the same for all its datasets.

  Attributes:
    templates: number of templates, the first ones of each direction, or indices, among
      `Dataset.evaluated_templates`; None for all. Inverted templates never count.
    max_examples: limit on the examples of each split, drawn by `seed`; None for all.
    splits: `dev` chooses the best template, `test` is reported.
    dev: whether dev is evaluated beside test; a dataset without test has dev anyway.
    num_fewshot: maximum number of exemplars before each prompt, drawn by `seed` from
      train, never the example itself; fewer if no more fit (FLAN section 4.4). 0 for
      zero-shot.
    prompt_style: `instructions`; `no_options`, the same without their OPTIONS;
      `no_template` and `dataset_name` (FLAN section 4.3); `continuation`, a prompt that
      an untuned model continues.
    base_prompt_style: prompt style of the base model; None for the same.
    separator: 'eos' or 'none' between prompt and answer, in all styles but
      `continuation` and those of a chat template, which have their own.
    options_style: style of the OPTIONS block, of both.
    limits: limit on the tokens of the inputs; longer prompts have their fields cut, and
      are counted in a warning.
    max_tokens: limit on the tokens of a generated answer; None for limits.targets.
    seed: seed for the sample of examples and the exemplars.
  """

  templates: int | Sequence[int] | None = None
  max_examples: int | None = None
  splits: Sequence[str] = SPLITS
  dev: bool = True
  num_fewshot: int = 0
  prompt_style: str = 'instructions'
  base_prompt_style: str | None = None
  separator: str = 'eos'
  options_style: str = options_style.DEFAULT
  limits: Limits = Limits()
  max_tokens: int | None = None
  seed: int = 0

  @property
  def generated(self) -> int:
    """Limit on the tokens of a generated answer."""
    return self.max_tokens or self.limits.targets

  @property
  def prompt_styles(self) -> dict[str, str]:
    """Prompt style by model, 'tuned' and 'base'."""
    base = self.base_prompt_style or self.prompt_style
    return {'tuned': self.prompt_style, 'base': base}


def sample(
  examples: Iterable[Example], *, max_examples: int | None, seed: int
) -> list[Example]:
  """Samples at most `max_examples` by a seeded hash of their ids; keeps their order.

  The sample does not depend on the storage order, and a smaller sample is part of a
  larger one.
  """
  found = list(examples)
  if max_examples is None or len(found) <= max_examples:
    return found
  order = sorted(
    range(len(found)),
    key=lambda i: stable_hash.key('sample', seed, found[i].example_id),
  )
  return [found[i] for i in sorted(order[:max_examples])]


def evaluate(
  tuned: LanguageModel,
  protocol: Protocol | None = None,
  *,
  datasets: Sequence[Dataset],
  examples: Examples,
  base: LanguageModel | None = None,
  emit: Callable[..., None] | None = None,
  progress: Progress | None = None,
  prompts: PromptCache | None = None,
) -> Results:
  """Evaluates a model, and a base model beside it.

  Args:
    tuned: tuned model.
    protocol: settings of the evaluation; None for the defaults.
    datasets: datasets of the held-out clusters.
    examples: (dataset name, split) -> examples, as `Store.evaluation_examples`; split
      `train` is read for exemplars only.
    base: model before tuning, evaluated on the same examples.
    emit: called as emit(prediction, split=, model=) for every prediction, such as
      `predictions.Predictions`.
    progress: progress output; None for none.
    prompts: prompts that evaluations of other models share, or None.

  Raises:
    InputError: if an option does not fit in the model's sequence length.
  """
  protocol = protocol or Protocol()
  models = {'tuned': tuned} | ({} if base is None else {'base': base})
  clocks = Clocks(models)
  predictor = Predictor(
    models=models,
    limits=protocol.limits,
    max_tokens=protocol.generated,
    emit=emit,
    clocks=clocks.total,
    warnings=Warnings(),
    prompts=prompts,
  )
  found = []
  for dataset in template_choice.directions(
    datasets, protocol.templates, predictor.warnings
  ):
    read = directed(dataset, examples)
    result = _evaluate(
      predictor, protocol, dataset, read, progress or Progress(quiet=True)
    )
    clocks.split(dataset.label)
    if result is not None:
      found.append(result)
  warnings = predictor.warnings.lines()
  return Results(datasets=tuple(found), timing=clocks.timing(), warnings=warnings)


def _evaluate(
  predictor: Predictor,
  protocol: Protocol,
  dataset: Dataset,
  examples: Examples,
  progress: Progress,
) -> DatasetResult | None:
  """Evaluates the models on one dataset; None, with a warning, if nothing was measured.

  Args:
    predictor: answers prompts with each model.
    protocol: settings of the evaluation.
    dataset: dataset, in one direction.
    examples: (dataset name, split) -> examples.
    progress: progress output.
  """
  warnings = predictor.warnings
  drawn = draw(protocol, dataset, examples, warnings)
  if not drawn:
    splits = ' or '.join(protocol.splits)
    warnings.add(dataset.label, f'no examples in {splits}; left out')
    return None
  pool = few_shot_examples(dataset, examples) if protocol.num_fewshot else []
  if protocol.num_fewshot and not pool:
    warnings.add(dataset.label, 'no training examples to show as exemplars; left out')
    return None
  specs = _prompt_specs(dataset, predictor, protocol, pool)
  queue = [(split, example) for split, some in drawn.items() for example in some]
  block = max(1, _BLOCK // max(len(spec.templates) for spec in specs.values()))
  blocks = []
  prompts = sum(len(spec.templates) for spec in specs.values())  # of an example
  with progress.work(f'evaluate {dataset.label}', prompts * len(queue)) as meter:
    for start in range(0, len(queue), block):
      blocks.append(predictor.predict(specs, queue[start : start + block]))
      meter.reach(prompts * min(start + block, len(queue)))
  parts = _by_split(drawn, blocks)
  parts = {split: part for split, part in parts.items() if part.measured}
  if not parts:
    return None
  return DatasetResult(
    dataset=dataset,
    templates=specs['tuned'].templates,
    splits=parts,
    base_templates=specs['base'].templates if 'base' in specs else None,
    num_fewshot=protocol.num_fewshot,
    prompt_style=protocol.prompt_styles['tuned'],
    base_prompt_style=protocol.prompt_styles['base'],
    options_style=protocol.options_style,
    template_texts={name: spec.texts for name, spec in specs.items()},
  )


def draw(
  protocol: Protocol, dataset: Dataset, examples: Examples, warnings: Warnings
) -> dict[str, list[Example]]:
  """Draws the examples of each split of the protocol that has any."""
  has = [split for split in protocol.splits if split in dataset.slices]
  if 'test' in has and not protocol.dev:
    has = ['test']
  drawn = {
    split: sample(
      valid_examples(dataset, examples(dataset.name, split), warnings),
      max_examples=protocol.max_examples,
      seed=protocol.seed,
    )
    for split in has
  }
  return {split: some for split, some in drawn.items() if some}


def directed(dataset: Dataset, examples: Examples) -> Examples:
  """Wraps `examples` to give the answers of the dataset's direction."""
  return lambda name, split: (
    dataset.directed(example) for example in examples(name, split)
  )


def valid_examples(
  dataset: Dataset, examples: Iterable[Example], warnings: Warnings
) -> Iterable[Example]:
  """Yields examples with a right answer, which is among their options if they have any.

  Warns of the others. A store leaves out examples with a blank answer, so those of raw
  data must be left out too.
  """
  for example in examples:
    options, gold = example.answer.options, example.answer.gold
    warning = ''
    if dataset.has_options and not any(option.strip() for option in options):
      warning = 'left out: no option has any text'
    elif dataset.has_options and not (
      gold and all(0 <= i < len(options) for i in gold)
    ):
      warning = 'left out: the right answer is not among the options'
    elif example.answer.is_blank:
      warning = 'left out: the right answer is blank'
    if warning:
      warnings.add(dataset.label, warning, f'example {example.example_id}')
    else:
      yield example


def few_shot_examples(dataset: Dataset, examples: Examples) -> list[Example]:
  """Returns the examples that exemplars are drawn from: the first of train."""
  if 'train' not in dataset.slices:
    return []
  return [
    example
    for example, _ in zip(
      examples(dataset.name, 'train'), range(POOL_SIZE), strict=False
    )
  ]


def _prompt_specs(
  dataset: Dataset,
  predictor: Predictor,
  protocol: Protocol,
  pool: Sequence[Example],
) -> dict[str, PromptSpec]:
  """Makes the prompt spec of each model; models with equal settings share one."""
  made = predictor.prompts or PromptCache()
  out = {}
  for name, model in predictor.models.items():
    prompt_style = protocol.prompt_styles[name]
    tokens = model.tokenizer.digest if protocol.num_fewshot else ''
    if is_chat(prompt_style) and model.chat is not None:
      tokens = f'{model.tokenizer.digest} {model.chat.template.source}'
    out[name] = made.spec(
      (dataset.label, prompt_style, tokens),
      functools.partial(prompt_spec, dataset, model, protocol, prompt_style, pool),
    )
  return out


def prompt_spec(
  dataset: Dataset,
  model: Reader,
  protocol: Protocol,
  prompt_style: str,
  pool: Sequence[Example],
) -> PromptSpec:
  """Makes the prompt spec of a model in a prompt style, with exemplars from `pool`."""
  continued = prompt_style == continuation_prompts.STYLE
  how: dict[str, Any] = {}
  if continued:
    styled = continuation_prompts.apply(dataset)
    how = continuation_prompts.delimiters(dataset)
  else:
    style = PromptStyle(prompt_style=prompt_style, options_style=protocol.options_style)
    styled = style.apply(dataset)
    if is_chat(prompt_style):
      how = {'chat': model.chat}
    elif protocol.separator == 'none':
      continued = True
      how = {'target_delimiter': continuation_prompts.TARGET_DELIMITER}
  few_shot = None
  if protocol.num_fewshot:
    encode = model.tokenizer.encode_batch
    few_shot = FewShotPool(
      styled,
      pool,
      num_fewshot=protocol.num_fewshot,
      seed=protocol.seed,
      count=lambda texts: [len(ids) for ids in encode(texts)],
      **({'exemplar': continuation_prompts.exemplar} if continued else {}),
    )
  if len(styled.templates) == len(dataset.templates):
    indices = template_choice.of(styled, protocol.templates)
  else:
    indices = styled.evaluated_templates
  return PromptSpec(
    dataset=styled, templates=indices, pool=few_shot, prompt_style=prompt_style, **how
  )


def _by_split(
  drawn: Mapping[str, Sequence[Example]], blocks: Sequence[Mapping[str, Block]]
) -> dict[str, SplitResult]:
  """Joins the blocks, which hold the examples of all splits in turn; cuts by split."""
  joined = {
    model: Block(*map(_joined, zip(*found, strict=True)))
    for model in blocks[0]
    for found in [[block[model] for block in blocks]]
  }
  parts = {}
  start = 0
  for split, some in drawn.items():
    at = slice(start, start + len(some))
    part = {model: Block(*(a[:, at] for a in whole)) for model, whole in joined.items()}
    parts[split] = SplitResult(
      examples=tuple(some),
      tuned=part['tuned'].scores,
      base=part['base'].scores if 'base' in part else None,
      confidence={model: block.confidence for model, block in part.items()},
      shown={model: block.shown for model, block in part.items()},
    )
    start += len(some)
  return parts


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
  """Joins arrays [T, N, ...] of blocks; one without any statistics has one column."""
  width = max(part.shape[-1] for part in parts)
  if parts[0].ndim == 3:
    parts = [np.resize(p, (*p.shape[:2], width)) if p.shape[2] < width else p
             for p in parts]  # fmt: skip
  return np.concatenate(parts, axis=1)
