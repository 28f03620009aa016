"""Prompts of an evaluation, as `evaluator.evaluate` asks them, without a model."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.data.prompts import Fitted
from flan_jax.evaluate import evaluator, template_choice
from flan_jax.evaluate.eval_data import Examples
from flan_jax.evaluate.predict import Predictor, Reader, Warnings
from flan_jax.evaluate.prompt_spec import PromptSpec


class Prompted(NamedTuple):
  """The prompts that `evaluate` asks in one template of a dataset, on one split."""

  spec: PromptSpec
  split: str
  template: int
  prompts: list[tuple[Example, Fitted]]

  @property
  def dataset(self) -> Dataset:
    return self.spec.dataset


def prompts(
  reader: Reader,
  protocol: evaluator.Protocol,
  *,
  datasets: Sequence[Dataset],
  examples: Examples,
  warnings: Warnings,
) -> Iterator[Prompted]:
  """Yields the prompts that `evaluate` asks a model, without asking it.

  Args:
    reader: tokenizer and lengths of the model.
    protocol: settings of the evaluation.
    datasets: datasets of the held-out clusters.
    examples: (dataset name, split) -> examples.
    warnings: receives what is left out, or cut.
  """
  predictor = Predictor(
    models={}, limits=protocol.limits, max_tokens=protocol.generated, emit=None,
    clocks={}, warnings=warnings,
  )  # fmt: skip
  for dataset in template_choice.directions(datasets, protocol.templates, warnings):
    read = evaluator.directed(dataset, examples)
    drawn = evaluator.draw(protocol, dataset, read, warnings)
    pool = evaluator.few_shot_examples(dataset, read) if protocol.num_fewshot else []
    spec = evaluator.prompt_spec(dataset, reader, protocol, protocol.prompt_style, pool)
    for split, some in drawn.items():
      for template in spec.templates:
        fitted = predictor.fit(spec, [(one, template) for one in some], reader)
        pairs = zip(some, fitted, strict=True)
        kept = [(one, prompt) for one, prompt in pairs if prompt is not None]
        if kept:
          yield Prompted(spec, split, template, kept)
