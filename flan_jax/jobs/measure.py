"""Measure: models on datasets, and the report of it."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flan_jax.catalog.dataset import Dataset
from flan_jax.config import evaluation as evaluation_config
from flan_jax.data.preprocess import Limits
from flan_jax.evaluate import (
  evaluator,
  predictions,
)
from flan_jax.evaluate.eval_data import Examples
from flan_jax.evaluate.evaluator import Results
from flan_jax.evaluate.predict import LanguageModel
from flan_jax.report import write  # fmt: skip
from flan_jax.runtime import multihost
from flan_jax.runtime.progress import Progress

_NAMED = 12
"""Most datasets that a stage names one by one."""


def prompt_styles(evaluate: evaluation_config.EvalConfig) -> dict[str, str]:
  """Model -> the words of its prompts."""
  return {
    'tuned': evaluate.prompt_style,
    'base': evaluate.base_prompt_style or evaluate.prompt_style,
  }


def report(
  tuned: LanguageModel,
  base: LanguageModel | None = None,
  *,
  datasets: Sequence[Dataset],
  about: Mapping[str, Any],
  out: pathlib.Path,
  progress: Progress,
  evaluate: evaluation_config.EvalConfig,
  look_up: Callable[[Results], Mapping[str, Any]] | None = None,
  **shared: Any,
) -> dict[str, Any]:
  """Measures, writes OUT/report.json and what belongs to it; returns the report."""
  models = 'Model beside the base' if base is not None else 'Model'
  progress.stage(f'{models} {title(about["held_out"], datasets, evaluate)}')
  with contextlib.ExitStack() as stack:
    emit = None
    if multihost.is_main_process():
      out.mkdir(parents=True, exist_ok=True)
      emit = stack.enter_context(predictions.Predictions(out))
    results = run(
      tuned, base=base, datasets=datasets, emit=emit, progress=progress,
      evaluate=evaluate, **shared,
    )  # fmt: skip
  for warning in results.warnings:
    progress.line(f'warning: {warning}')
  found = None
  if multihost.is_main_process():
    overlaps = look_up(results) if look_up is not None else None
    asked = {
      'normalization': evaluate.normalization,
      'decoding': dataclasses.asdict(evaluate.decoding),
    }
    made = write.write(out, results, contamination=overlaps, answers=asked, **about)
    found = json.dumps(made).encode()
  return json.loads(multihost.broadcast(found))


def title(
  clusters: Sequence[str],
  datasets: Sequence[Dataset],
  evaluate: evaluation_config.EvalConfig,
) -> str:
  names = f'{len(datasets)} datasets'
  if len(datasets) <= _NAMED:
    names = ', '.join(dataset.name for dataset in datasets)
  how = f'{evaluate.num_fewshot}-shot' if evaluate.num_fewshot else 'zero-shot'
  return f'{how} on {", ".join(clusters)}: {names}'


def run(
  tuned: LanguageModel,
  *,
  evaluate: evaluation_config.EvalConfig,
  datasets: Sequence[Dataset],
  examples: Examples,
  seed: int,
  progress: Progress,
  base: LanguageModel | None = None,
  emit: Callable[..., None] | None = None,
  **changes: Any,
) -> Results:
  settled = {
    'templates': evaluate.templates,
    'max_examples': evaluate.max_examples,
    'num_fewshot': evaluate.num_fewshot,
    'prompt_style': evaluate.prompt_style,
    'base_prompt_style': evaluate.base_prompt_style,
  }
  with progress.counter() as count:
    return evaluator.evaluate(
      tuned,
      datasets=datasets,
      examples=examples,
      base=base,
      limits=Limits(
        min(Limits().inputs, evaluate.sequence_length), evaluate.max_decode
      ),
      seed=seed,
      emit=emit,
      progress=count,
      **{**settled, **changes},
    )
