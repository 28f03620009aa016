"""The protocol: which examples, in which words, what is measured, in which order.

Every template of a dataset that asks for the answer is measured on the same examples of
dev and test; classification and multiple choice are ranked by log-probability, free
text is generated; the base model reads the same examples as the tuned one, in the same
words or in its own (FLAN section 2.4). Nothing here needs TensorFlow.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.catalog import continuation_prompts
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data import stable_hash
from flan_jax.data.few_shot import POOL_SIZE, FewShotPool
from flan_jax.data.preprocess import Limits
from flan_jax.errors import InputError
from flan_jax.evaluate.predict import (  # fmt: skip
  Block,
  Clock,
  LanguageModel,
  Predictor,
  PromptSpec,
  Warnings,
)

SPLITS = ('dev', 'test')

_BLOCK = 1024
"""Prompts rendered, scored and let go of together, so that memory stays bounded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitResult:
  """One split of one dataset.

  Attributes:
    examples: those measured.
    tuned: statistics of the dataset's metric, float64 [T, N, S] for T templates, N
      examples; NaN where a prompt could not be made to fit.
    base: the same of the base model, with as many templates as it was asked by; or
      None.
    confidence: model -> float64 [T, N, 2] of a ranked answer: its probability among
      the options, and 1 where it was right; NaN where nothing was ranked.
    shown: model -> exemplars before each prompt, int64 [T, N].
  """

  examples: tuple[Example, ...]
  tuned: np.ndarray
  base: np.ndarray | None
  confidence: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  shown: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  @property
  def measured(self) -> bool:
    """Whether every model could be given at least one prompt."""
    models = [self.tuned, *([] if self.base is None else [self.base])]
    return not any(np.isnan(scores).all() for scores in models)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetResult:
  """One dataset, or one direction of a translation.

  Attributes:
    dataset: the declaration, of its direction.
    templates: indices of those that the tuned model was asked by.
    splits: by name.
    base_templates: of those that the base model was asked by; None for the same.
    num_fewshot: exemplars asked for.
    prompt_style: the words that the tuned model read.
    base_prompt_style: those that the base model read.
  """

  dataset: Dataset
  templates: tuple[int, ...]
  splits: Mapping[str, SplitResult]
  base_templates: tuple[int, ...] | None = None
  num_fewshot: int = 0
  prompt_style: str = 'instructions'
  base_prompt_style: str = 'instructions'

  @property
  def split(self) -> str:
    """The split whose figures are reported: test, or dev where there is no other."""
    return 'test' if 'test' in self.splits else 'dev'

  @property
  def reported(self) -> SplitResult:
    return self.splits[self.split]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
  """What `evaluate` returns.

  Attributes:
    datasets: in the order asked for; those without an example are left out.
    timing: the `timing` of report.json.
    warnings: one line each, for people.
  """

  datasets: tuple[DatasetResult, ...]
  timing: Mapping[str, Any]
  warnings: tuple[str, ...]


def sample(
  examples: Iterable[Example], *, most: int | None, seed: int
) -> list[Example]:
  """At most `most` examples, drawn by a seeded hash of their ids, in their own order.

  Which examples are drawn does not depend on how they are stored, and a smaller sample is
  part of a larger one.
  """
  found = list(examples)
  if most is None or len(found) <= most:
    return found
  order = sorted(
    range(len(found)),
    key=lambda i: stable_hash.key('sample', seed, found[i].example_id),
  )
  return [found[i] for i in sorted(order[:most])]


def evaluate(
  scorer: LanguageModel,
  *,
  datasets: Sequence[Dataset],
  examples: Callable[[str, str], Iterable[Example]],
  base: LanguageModel | None = None,
  templates: int | Sequence[int] | None = None,
  max_examples: int | None = None,
  splits: Sequence[str] = SPLITS,
  num_fewshot: int = 0,
  prompt_style: str = 'instructions',
  base_prompt_style: str | None = None,
  limits: Limits | None = None,
  max_new_tokens: int | None = None,
  seed: int = 0,
  emit: Callable[..., None] | None = None,
  progress: Callable[[str, str, int, int], None] | None = None,
) -> Results:
  """Measures a model, and a base model beside it.

  Args:
    scorer: the tuned model.
    datasets: those of the held-out clusters.
    examples: (dataset name, split) -> examples, as `Store.evaluation_examples`; split `train` is
      asked for only where exemplars are shown.
    base: the model before tuning; it sees the same examples.
    templates: the first so many of each direction, or these indices, of
      `Dataset.evaluated_templates`;
      None for all of them. Turned-around templates are never measured.
    max_examples: most examples of each split, drawn by `seed`; None for all.
    splits: `dev` chooses the best template, `test` is reported.
    num_fewshot: most exemplars before each prompt, drawn by `seed` from train, never the
      example itself; fewer where no more fit (FLAN section 4.4). 0 for zero-shot.
    prompt_style: the words: `instructions`; `no_options`, the same without their OPTIONS;
      `no_template` and `dataset_name` (FLAN section 4.3); `continuation`, a prompt that
      an untuned model goes on with.
    base_prompt_style: the words of the base model; None for the same.
    limits: most tokens of inputs; longer prompts have their fields cut, and are
      counted in a warning.
    max_new_tokens: most tokens of a generated answer; None for limits.targets.
    seed: of the sample of examples, and of the exemplars.
    emit: called as emit(prediction, split=, model=) for every prediction, as
      `report.Predictions` is.
    progress: called as progress(stage, dataset, examples done, examples in all).

  Raises:
    InputError: if a dataset has none of the templates, or an option does not fit in
      a scoring example.
  """
  limits = limits or Limits()
  models = {'tuned': scorer} | ({} if base is None else {'base': base})
  prompt_styles = {'tuned': prompt_style, 'base': base_prompt_style or prompt_style}
  warnings = Warnings()
  work = Predictor(
    models=models,
    limits=limits,
    max_new_tokens=max_new_tokens or limits.targets,
    emit=emit,
    clocks={name: Clock() for name in models},
    warnings=warnings,
  )
  found = []
  for dataset in _ways(datasets, templates):
    read = _directed(dataset, examples)
    drawn = {
      split: sample(
        _askable(dataset, read(dataset.name, split), warnings),
        most=max_examples,
        seed=seed,
      )
      for split in splits
      if split in dataset.slices
    }
    drawn = {split: some for split, some in drawn.items() if some}
    if not drawn:
      warnings.add(dataset.label, f'no examples in {" or ".join(splits)}; left out')
      continue
    pool_examples = _few_shot_examples(dataset, read) if num_fewshot else []
    if num_fewshot and not pool_examples:
      warnings.add(dataset.label, 'no training examples to show as exemplars; left out')
      continue
    questions = _questions(
      dataset, models, prompt_styles, templates=templates, num_fewshot=num_fewshot, examples=pool_examples,
      seed=seed,
    )  # fmt: skip
    queue = [(split, example) for split, some in drawn.items() for example in some]
    most = max(len(question.templates) for question in questions.values())
    block = max(1, _BLOCK // most)
    measured = []
    for start in range(0, len(queue), block):
      measured.append(work.measure(questions, queue[start : start + block]))
      if progress is not None:
        done = min(start + block, len(queue))
        progress('evaluate', dataset.label, done, len(queue))
    parts = _by_split(drawn, measured)
    parts = {split: part for split, part in parts.items() if part.measured}
    if parts:
      found.append(
        DatasetResult(
          dataset=dataset,
          templates=questions['tuned'].templates,
          splits=parts,
          base_templates=questions['base'].templates if base is not None else None,
          num_fewshot=num_fewshot,
          prompt_style=prompt_styles['tuned'],
          base_prompt_style=prompt_styles['base'],
        )
      )
  timing = work.clocks['tuned'].as_json()
  if base is not None:
    timing['base'] = work.clocks['base'].as_json()
  return Results(datasets=tuple(found), timing=timing, warnings=warnings.lines())


def _ways(
  datasets: Sequence[Dataset], templates: int | Sequence[int] | None
) -> list[Dataset]:
  """The datasets in each of their directions that some of `templates` goes.

  Raises:
    InputError: if a dataset has none of them.
  """
  found = []
  for dataset in datasets:
    chosen = _templates(dataset, templates)  # refused before anything is computed
    for way in dataset.by_direction:
      if isinstance(templates, int) or set(chosen) & set(way.evaluated_templates):
        found.append(way)
  return found


def _directed(
  dataset: Dataset, examples: Callable[[str, str], Iterable[Example]]
) -> Callable[[str, str], Iterable[Example]]:
  """The examples of a declaration, with the answers of one of its directions."""
  return lambda name, split: (
    dataset.directed(example) for example in examples(name, split)
  )


def _askable(
  dataset: Dataset, examples: Iterable[Example], warnings: Warnings
) -> Iterable[Example]:
  """Rows with a right answer, among their options if they have any.

  The others are named: a store leaves out those whose answer is blank, so examples that
  are read raw must lose them too.
  """
  for example in examples:
    options, gold = example.answer.options, example.answer.gold
    what = ''
    if dataset.has_options and not any(option.strip() for option in options):
      what = 'left out: no option has any text'
    elif dataset.has_options and not (
      gold and all(0 <= i < len(options) for i in gold)
    ):
      what = 'left out: the right answer is not among the options'
    elif example.answer.is_blank:
      what = 'left out: the right answer is blank'
    if what:
      warnings.add(dataset.label, what, f'example {example.example_id}')
    else:
      yield example


def _few_shot_examples(
  dataset: Dataset, examples: Callable[[str, str], Iterable[Example]]
) -> list[Example]:
  """The examples that exemplars are drawn from: the first of train."""
  if 'train' not in dataset.slices:
    return []
  return [
    example
    for example, _ in zip(
      examples(dataset.name, 'train'), range(POOL_SIZE), strict=False
    )
  ]


def _questions(
  dataset: Dataset,
  models: Mapping[str, LanguageModel],
  prompt_styles: Mapping[str, str],
  *,
  templates: int | Sequence[int] | None,
  num_fewshot: int,
  examples: Sequence[Example],
  seed: int,
) -> dict[str, PromptSpec]:
  """How each model is asked; one and the same question where nothing differs."""
  made: dict[tuple[str, str], PromptSpec] = {}
  out = {}
  for name, model in models.items():
    key = (prompt_styles[name], model.tokenizer.digest if num_fewshot else '')
    if key not in made:
      made[key] = _question(
        dataset, prompt_styles[name], model, templates=templates, num_fewshot=num_fewshot, examples=examples,
        seed=seed,
      )  # fmt: skip
    out[name] = made[key]
  return out


def _question(
  dataset, prompt_style, model, *, templates, num_fewshot, examples, seed
) -> PromptSpec:
  if prompt_style == continuation_prompts.STYLE:
    styled = continuation_prompts.apply(dataset)
    how = continuation_prompts.delimiters(dataset)
  else:
    styled, how = PromptStyle(prompt_style=prompt_style).apply(dataset), {}
  pool = None
  if num_fewshot:
    encode = model.tokenizer.encode_batch
    pool = FewShotPool(
      styled,
      examples,
      num_fewshot=num_fewshot,
      seed=seed,
      count=lambda texts: [len(ids) for ids in encode(texts)],
      **(
        {'exemplar': continuation_prompts.exemplar}
        if prompt_style == continuation_prompts.STYLE
        else {}
      ),
    )
  if len(styled.templates) == len(dataset.templates):
    indices = _templates(styled, templates)
  else:
    indices = styled.evaluated_templates
  return PromptSpec(dataset=styled, templates=indices, pool=pool, **how)


def _by_split(
  drawn: Mapping[str, Sequence[Example]], measured: Sequence[Mapping[str, Block]]
) -> dict[str, SplitResult]:
  """Blocks, whose examples are those of all splits in turn, taken apart."""
  joined = {
    model: Block(
      *(np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
    )
    for model in measured[0]
    for blocks in [[block[model] for block in measured]]
  }
  parts = {}
  start = 0
  for split, some in drawn.items():
    at = slice(start, start + len(some))
    of = {model: Block(*(a[:, at] for a in whole)) for model, whole in joined.items()}
    parts[split] = SplitResult(
      examples=tuple(some),
      tuned=of['tuned'].scores,
      base=of['base'].scores if 'base' in of else None,
      confidence={model: block.confidence for model, block in of.items()},
      shown={model: block.shown for model, block in of.items()},
    )
    start += len(some)
  return parts


def _templates(dataset: Dataset, asked: int | Sequence[int] | None) -> tuple[int, ...]:
  legal = dataset.evaluated_templates
  if asked is None:
    return legal
  kept = legal[:asked] if isinstance(asked, int) else tuple(asked)
  kept = tuple(index for index in kept if index in legal)
  if not kept:
    raise InputError(
      f'templates {asked!r}: none of them asks for the answer of dataset '
      f'{dataset.label!r}; those that do are {", ".join(map(str, legal))}',
      field='Evaluate.templates',
    )
  return kept
