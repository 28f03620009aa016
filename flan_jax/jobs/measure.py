"""Measurement: evaluates models on datasets, and writes the report."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flan_jax.catalog import continuation_prompts, options_style, prompt_style
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.source import SeqioTask
from flan_jax.config import evaluation as evaluation_config
from flan_jax.config import setting
from flan_jax.data.preprocess import Limits
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError, did_you_mean
from flan_jax.evaluate import (
  contamination,
  evaluator,
  load_model,
  predictions,
  template_choice,
)
from flan_jax.evaluate.eval_data import Examples
from flan_jax.evaluate.evaluator import Results
from flan_jax.evaluate.predict import LanguageModel
from flan_jax.evaluate.prompt_cache import PromptCache
from flan_jax.report import write
from flan_jax.runtime import modules, multihost
from flan_jax.runtime.progress import Progress

_MAX_NAMED = 12
"""Maximum number of datasets that a title names one by one."""


def prompt_styles(evaluate: evaluation_config.EvalConfig) -> dict[str, str]:
  """Returns the prompt style of each model."""
  return {
    'tuned': evaluate.prompt_style,
    'base': evaluate.base_prompt_style or evaluate.prompt_style,
  }


def check_styles(evaluate: evaluation_config.EvalConfig) -> None:
  """Checks that the prompt styles and the options style are registered.

  Raises:
    InputError: if one is not; names the nearest.
  """
  prompts = (*prompt_style.names(), continuation_prompts.STYLE)
  for name, legal in (
    ('prompt_style', prompts),
    ('base_prompt_style', (*prompts, None)),
    ('options_style', options_style.names()),
  ):
    value = getattr(evaluate, name)
    if value not in legal:
      known = [each for each in legal if each]
      rule = f'must be one of {", ".join(known)}{modules.hint()}'
      raise setting.refusal(evaluate, name, rule + did_you_mean(value, known))
  styles = set(prompt_styles(evaluate).values())
  if all(map(load_model.has_own_form, styles)):
    for name in ('separator', 'eos'):
      if getattr(evaluate, name) is not None:
        raise setting.refusal(
          evaluate, name, f'has no effect on prompts of style {", ".join(styles)}'
        )


def report(
  tuned: LanguageModel,
  base: LanguageModel | None = None,
  *,
  datasets: Sequence[Dataset],
  metadata: Mapping[str, Any],
  out: pathlib.Path,
  progress: Progress,
  evaluate: evaluation_config.EvalConfig,
  find_overlaps: Callable[[Results], contamination.Found] | None = None,
  **shared: Any,
) -> dict[str, Any]:
  """Evaluates, writes OUT/report.json and the files beside it; returns the report.

  Args:
    tuned: tuned model.
    base: base model, or None.
    datasets: datasets to evaluate.
    metadata: further arguments of report.write.write: model, checkpoint, held_out, ...
    out: folder of the report.
    progress: progress output.
    evaluate: evaluation settings.
    find_overlaps: looks for the evaluated examples in suspect texts; None for no check.
    **shared: further arguments of `run`.
  """
  models = 'Model beside the base' if base is not None else 'Model'
  progress.stage(f'{models} {title(metadata["held_out"], datasets, evaluate)}')
  with contextlib.ExitStack() as stack:
    emit = None
    if multihost.is_main_process():
      out.mkdir(parents=True, exist_ok=True)
      emit = stack.enter_context(predictions.Predictions(out))
    results = run(
      tuned,
      base=base,
      datasets=datasets,
      emit=emit,
      progress=progress,
      evaluate=evaluate,
      **shared,
    )
    check_measured(results, evaluate)
  for warning in results.warnings:
    progress.line(f'warning: {warning}')
  encoded = None
  if multihost.is_main_process():
    overlaps = find_overlaps(results) if find_overlaps is not None else None
    answers = {
      'normalization': evaluate.normalization,
      'decoding': dataclasses.asdict(evaluate.decoding),
      **_form(evaluate, tuned, base),
    }
    made = write.write(
      out, results, contamination=overlaps, answers=answers, **metadata
    )
    encoded = json.dumps(made).encode()
  sent = multihost.broadcast(encoded)
  assert sent is not None  # the main process sends its report
  return json.loads(sent)


def check_measured(results: Results, evaluate: evaluation_config.EvalConfig) -> None:
  """Refuses an evaluation that has measured nothing: its report would be empty.

  Raises:
    InputError: if it has; names the lengths, and the first reason.
  """
  if results.datasets or results.own:
    return
  limits = Limits.of(evaluate.task_feature_lengths)
  why = f': {results.warnings[0]}' if results.warnings else ''
  raise InputError(
    f'nothing was measured{why}; a prompt and its answer must fit into '
    f'Evaluate.sequence_length {evaluate.sequence_length:,}, the prompt into '
    f"TASK_FEATURE_LENGTHS 'inputs' {limits.inputs:,}",
    field='Evaluate.sequence_length',
  )


def _form(
  evaluate: evaluation_config.EvalConfig,
  tuned: LanguageModel,
  base: LanguageModel | None,
) -> dict[str, str]:
  """Returns the separator and the end of a scored answer, of each model."""
  found = {}
  for name, model, mark in (('tuned', tuned, ''), ('base', base, 'base_')):
    if model is not None:
      style = prompt_styles(evaluate)[name]
      found[f'{mark}separator'] = load_model.separator(evaluate, style)
      end = 'eos' if load_model.scores_eos(evaluate, style) else 'none'
      if prompt_style.is_chat(style) and (chat := model.chat) is not None:
        end = chat.end_mark or 'none'
      found[f'{mark}end'] = end
  return found


def title(
  clusters: Sequence[str],
  datasets: Sequence[Dataset],
  evaluate: evaluation_config.EvalConfig,
) -> str:
  """Returns the title of an evaluation, such as `zero-shot on nli: rte, cb`."""
  names = f'{len(datasets)} datasets'
  if len(datasets) <= _MAX_NAMED:
    names = ', '.join(dataset.name for dataset in datasets)
  shots = f'{evaluate.num_fewshot}-shot' if evaluate.num_fewshot else 'zero-shot'
  return f'{shots} on {", ".join(clusters)}: {names}'


def protocol_of(
  evaluate: evaluation_config.EvalConfig, seed: int, **changes: Any
) -> evaluator.Protocol:
  """Returns the protocol of some settings, with further fields replaced."""
  inputs = Limits.of(evaluate.task_feature_lengths).inputs
  settings = {
    'templates': evaluate.templates,
    'max_examples': evaluate.max_examples,
    'dev': evaluate.dev,
    'num_fewshot': evaluate.num_fewshot,
    'prompt_style': evaluate.prompt_style,
    'base_prompt_style': evaluate.base_prompt_style,
    'separator': evaluate.separator or 'eos',
    'options_style': evaluate.options_style,
    'limits': Limits(min(inputs, evaluate.sequence_length), evaluate.max_decode),
    'seed': seed,
  }
  return evaluator.Protocol(**{**settings, **changes})


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
  prompts: PromptCache | None = None,
  **changes: Any,
) -> Results:
  """Evaluates models with the settings of `evaluate`.

  Args:
    tuned: tuned model.
    evaluate: evaluation settings.
    datasets: datasets to evaluate.
    examples: (dataset name, split) -> examples.
    seed: seed for the sample of examples and the exemplars.
    progress: progress output.
    base: base model, or None.
    emit: called as emit(prediction, split=, model=), or None.
    prompts: prompts that evaluations of other models share, or None.
    **changes: fields of the protocol that replace the settings.
  """
  protocol = protocol_of(evaluate, seed, **changes)
  own = [dataset for dataset in datasets if is_task(dataset)]
  others = [dataset for dataset in datasets if dataset not in own]
  found = None
  if others or not own:
    found = evaluator.evaluate(
      tuned,
      protocol,
      datasets=others,
      examples=examples,
      base=base,
      emit=emit,
      progress=progress,
      prompts=prompts,
    )
  if own:
    from flan_jax.interop.seqio import evaluate as evaluate_tasks  # imports TensorFlow

    models = {'tuned': tuned} | ({} if base is None else {'base': base})
    tasks = evaluate_tasks.evaluate(
      own, protocol, models=models, emit=emit, progress=progress
    )
    found = tasks if found is None else found.plus(tasks)
  assert found is not None
  return found


def is_task(dataset: Dataset) -> bool:
  """Returns whether a dataset is a seqio Task, measured by its own metrics."""
  return isinstance(dataset.source, SeqioTask) and dataset.source.tokenized


def configured(
  datasets: Sequence[Dataset],
  evaluate: evaluation_config.EvalConfig,
  *,
  data_dir: str | None,
) -> list[Dataset]:
  """Gives seqio tasks the limits of their features, and their data directory.

  Raises:
    InputError: if a dataset is one of conversations, which have no metric.
  """
  lengths = tuple(Limits.of(evaluate.task_feature_lengths).lengths.items())
  found = []
  for dataset in datasets:
    if dataset.messages:
      raise InputError(
        f'dataset {dataset.name!r}: conversations; must be prompts with answers: the '
        'loss on conversations is that of VALIDATION in a run'
      )
    if isinstance(dataset.source, SeqioTask) and is_task(dataset):
      source = dataclasses.replace(dataset.source, lengths=lengths, data_dir=data_dir)
      dataset = dataclasses.replace(dataset, source=source)
    found.append(dataset)
  return found


def check(
  datasets: Sequence[Dataset],
  evaluate: evaluation_config.EvalConfig,
  tokenizers: Mapping[str, Tokenizer],
) -> None:
  """Refuses settings and models that the datasets cannot be evaluated with.

  Args:
    datasets: datasets to evaluate.
    evaluate: evaluation settings.
    tokenizers: name of a model -> its tokenizer.

  Raises:
    InputError: as `template_choice.check` and `interop.seqio.evaluate.check`.
  """
  own = [dataset for dataset in datasets if is_task(dataset)]
  others = [dataset for dataset in datasets if dataset not in own]
  template_choice.check(others, evaluate.templates)
  if own:
    from flan_jax.interop.seqio import evaluate as evaluate_tasks  # imports TensorFlow

    evaluate_tasks.check(own, evaluate, tokenizers)
