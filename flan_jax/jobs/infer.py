"""Inference: a checkpoint over a file of prompts, a task or a mixture."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from flan_jax.catalog import continuation_prompts, names, prompt_style, registry
from flan_jax.catalog.dataset import Dataset
from flan_jax.checkpoints import model_dir
from flan_jax.config.inference import InferConfig
from flan_jax.data import prompt_file
from flan_jax.data.prompt_file import Asked, Prompts
from flan_jax.data.sources import file_task
from flan_jax.errors import InputError
from flan_jax.evaluate import eval_data, load_model, predicted_file, prompt_spec
from flan_jax.evaluate.evaluator import Results
from flan_jax.evaluate.predict import Warnings
from flan_jax.evaluate.response_cache import ResponseCache, fingerprint
from flan_jax.inference import joined_tokens
from flan_jax.inference.rank_options import Request, Scorer
from flan_jax.jobs import measure, model_source
from flan_jax.runtime import lock, multihost, standard_input
from flan_jax.runtime.progress import Progress

_BLOCK = 256
"""Number of prompts answered together, the most that a resumed job repeats."""


def infer(
  config: InferConfig,
  *,
  progress: Progress,
  on_batch: Callable[[], None] = lambda: None,
) -> pathlib.Path:
  """Answers every prompt, and writes the answers in their order; `flan infer`.

  If it is killed, the same call resumes it. Several processes shard the model and
  compute together; the main process writes.

  Args:
    config: settings.
    progress: progress output.
    on_batch: called between two batches, equally often on every process.

  Returns:
    The path of the predictions.

  Raises:
    InputError: at an unknown task, a path that is not a checkpoint, or a bad row of
      the prompts.
  """
  model_source.check(config.checkpoint)
  measure.check_styles(config.evaluate)
  style = config.evaluate.prompt_style
  if prompt_style.is_chat(style):
    load_model.expect_chat_template(
      model_source.chat_template(config.checkpoint), style
    )
  datasets = _datasets(config, progress=progress) if config.mixture else []
  prompts = None if config.mixture else _prompts(config.prompts or '')
  out = pathlib.Path(config.output_dir)
  with lock.held_by_main('OUTPUT_DIR', out):
    scorer = _model(config, out=out, progress=progress, on_batch=on_batch)
    marks = {'predictions': (scorer, fingerprint(scorer.params))}
    with load_model.all_cached(marks, out, progress=progress) as cached:
      model = cached['predictions']
      with predicted_file.writing(out, config.format) as write:
        if prompts is None:
          _answer_tasks(config, datasets, model, write, progress=progress)
        else:
          _answer_file(config, prompts, scorer, model, write, progress=progress)
  return predicted_file.path(out, config.format)


# Set up.


def _datasets(config: InferConfig, *, progress: Progress) -> list[Dataset]:
  """The datasets of a task or a mixture that are prepared."""
  name = config.mixture or ''
  if file_task.is_file(name):
    raise InputError(
      f'MIXTURE_OR_TASK_NAME {name!r}: a file; give it as PROMPTS',
      field='Infer.mixture',
    )
  if registry.is_mixture(name):
    found = [registry.get(member) for member in registry.mixture(name).datasets]
  else:
    found = names.evaluated([name], setting='MIXTURE_OR_TASK_NAME')
  evaluate, data_dir = config.evaluate, config.tfds_data_dir
  measure.check(found, evaluate, {})
  found = measure.configured(found, evaluate, data_dir=data_dir)
  found = [
    dataset
    for dataset in found
    if eval_data.is_prepared(
      dataset, data_dir=data_dir, missing=config.missing, progress=progress
    )
  ]
  if not found:
    raise InputError(
      f'MIXTURE_OR_TASK_NAME {name!r}: none of its datasets is prepared; `flan fetch` '
      'lists those that are',
      field='Infer.mixture',
    )
  return found


def _prompts(path: str) -> Prompts:
  if path != prompt_file.STANDARD_INPUT:
    return prompt_file.read(path)
  return prompt_file.read_text(multihost.broadcast_from_main(standard_input.read))


def _model(
  config: InferConfig,
  *,
  out: pathlib.Path,
  progress: Progress,
  on_batch: Callable[[], None],
) -> Scorer:
  """Loads the model, alike on every process."""
  progress.stage(f'Checkpoint {config.checkpoint}')
  folder = model_source.model_folder(config.checkpoint, out=out, progress=progress)
  if line := model_dir.unchecked(folder):
    progress.line(line)
  multihost.assert_same_on_all({'the model': load_model.digest(folder)})
  return load_model.load(
    folder,
    evaluate=config.evaluate,
    mesh=config.mesh,
    tokenizer=config.tokenizer,
    prompt_style=config.evaluate.prompt_style,
    on_batch=on_batch,
  )


# Tasks.


def _answer_tasks(
  config: InferConfig,
  datasets: Sequence[Dataset],
  model: ResponseCache,
  write: Callable[[dict[str, Any]], None],
  *,
  progress: Progress,
) -> None:
  """Answers the prompts of datasets as an evaluation does."""
  evaluate = dataclasses.replace(config.evaluate, max_decode=config.max_tokens)
  measure.check(datasets, evaluate, {'model': model.tokenizer})
  progress.stage(f'Prompts of {config.mixture}: {len(datasets)} datasets')

  def emit(record: dict[str, Any], *, split: str, model: str) -> None:
    del split, model
    write(record)

  every = []
  for dataset in datasets:
    reported = 'test' if 'test' in dataset.slices else 'dev'
    results = measure.run(
      model,
      evaluate=evaluate,
      datasets=[dataset],
      examples=eval_data.raw(data_dir=config.tfds_data_dir, progress=progress),
      seed=config.seed,
      progress=progress,
      emit=emit,
      splits=(config.split or reported,),
    )
    every.append(results)
    for warning in results.warnings:
      progress.line(f'warning: {warning}')
  measure.check_measured(functools.reduce(Results.plus, every), evaluate)


# A file of prompts.


def _answer_file(
  config: InferConfig,
  prompts: Prompts,
  scorer: Scorer,
  model: ResponseCache,
  write: Callable[[dict[str, Any]], None],
  *,
  progress: Progress,
) -> None:
  progress.stage(f'Prompts of {config.prompts}: {prompts.size:,}')
  warnings = Warnings()
  block = _Block(scorer, model, config.max_tokens, warnings)
  style = config.evaluate.prompt_style
  form = prompt_spec.form(
    style if load_model.has_own_form(style) else 'instructions',
    load_model.separator(config.evaluate, style),
  )
  done = answered = 0
  with progress.work('predict', prompts.size) as meter:
    left = iter(prompts)
    while asked := list(itertools.islice(left, _BLOCK)):
      for one, answer in zip(asked, block.answers(asked), strict=True):
        write(_record(one, form | answer))
        answered += answer['predicted'] is not None
      done += len(asked)
      meter.reach(done)
  for warning in warnings.lines():
    progress.line(f'warning: {warning}')
  if done and not answered:
    why = ''.join(warnings.lines()[:1]) or 'the model gives NaN'
    raise InputError(
      f'PROMPTS {config.prompts!r}: no answer to any of {done:,}: {why}',
      field='Infer.prompts',
    )


def _record(asked: Asked, answer: dict[str, Any]) -> dict[str, Any]:
  """A line of predictions: the columns of its row, and the answer."""
  dropped = _ANSWER if 'prompt' in asked.row else ('inputs', *_ANSWER)
  kept = {
    name: value
    for name, value in asked.row.items()
    if name in answer or name not in dropped
  }
  ours = {'prompt': asked.prompt, 'options': list(asked.options), **answer}
  return {'example_id': asked.example_id, **kept, **ours}


_ANSWER = ('log_probabilities', 'text', 'predicted', 'tied')


@dataclasses.dataclass(frozen=True)
class _Block:
  """Answers prompts of a file, a block at a time."""

  scorer: Scorer
  model: ResponseCache
  max_tokens: int
  warnings: Warnings

  def answers(self, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """The answer of each prompt: its ranked options, or its generated text."""
    ranked = [i for i, one in enumerate(asked) if one.options]
    others = [i for i, one in enumerate(asked) if not one.options]
    found: list[dict[str, Any]] = [{} for _ in asked]
    for places, answer in ((ranked, self._rank), (others, self._generate)):
      for i, each in zip(places, answer([asked[i] for i in places]), strict=True):
        found[i] = each
    return found

  def _rank(self, asked: Sequence[Asked]) -> Iterator[dict[str, Any]]:
    requests = self._requests(asked)
    added = [max(map(len, request.options)) for request in requests]
    fits = self._fit(asked, [request.prompt for request in requests], added)
    kept = [request for request, fit in zip(requests, fits, strict=True) if fit]
    scores = iter(self.model.loglikelihood(kept).log_probabilities if kept else [])
    for one, fit in zip(asked, fits, strict=True):
      logp = next(scores) if fit else np.full(len(one.options), np.nan)
      best = None if np.isnan(logp).any() else logp.max()
      tied = [] if best is None else np.flatnonzero(logp == best).tolist()
      answer: dict[str, Any] = {
        'log_probabilities': [float(v) if np.isfinite(v) else None for v in logp],
        'predicted': tied[0] if tied else None,
      }
      yield answer | ({'tied': tied} if len(tied) > 1 else {})

  def _requests(self, asked: Sequence[Asked]) -> list[Request]:
    tokenizer, chat = self.scorer.tokenizer, self.scorer.chat
    if not self.scorer.separator:
      if chat is not None:
        joined = chat.join([(one.prompt, one.options) for one in asked])
      else:
        texts = [
          (
            one.prompt,
            [continuation_prompts.continuing(one.prompt, o) for o in one.options],
          )
          for one in asked
        ]
        joined = joined_tokens.join(texts, tokenizer)
      return [
        Request(one.prompt, one.options, f'prompt {each.example_id}')
        for each, one in zip(asked, joined, strict=True)
      ]
    prompts = tokenizer.encode_batch([one.prompt for one in asked])
    options = iter(tokenizer.encode_batch([o for one in asked for o in one.options]))
    return [
      Request(
        ids,
        tuple(itertools.islice(options, len(one.options))),
        f'prompt {one.example_id}',
      )
      for one, ids in zip(asked, prompts, strict=True)
    ]

  def _generate(self, asked: Sequence[Asked]) -> Iterator[dict[str, Any]]:
    chat = self.scorer.chat
    if chat is not None:
      ids = [chat.prompt(one.prompt) for one in asked]
    else:
      ids = self.scorer.tokenizer.encode_batch([one.prompt for one in asked])
    fits = self._fit(asked, ids, [self.max_tokens - self.scorer.eos] * len(asked))
    kept = [each for each, fit in zip(ids, fits, strict=True) if fit]
    texts = iter(())
    if kept:
      found = self.model.generate(kept, max_tokens=self.max_tokens)
      texts = iter(zip(found.texts, found.nan, strict=True))
    for fit in fits:
      text, nan = next(texts) if fit else ('', True)
      text = '' if nan else text.strip()
      yield {'text': text, 'predicted': None if nan else text}

  def _fit(
    self, asked: Sequence[Asked], ids: Sequence[np.ndarray], added: Sequence[int]
  ) -> list[bool]:
    """Tells which prompts fit with `added` tokens; warns of the others."""
    limits = [self.scorer.max_length, self.scorer.config.longest]
    limit = min((n for n in limits if n is not None), default=None)
    bos = self.scorer.tokenizer.bos_id is not None and self.scorer.chat is None
    out = []
    for one, prompt, more in zip(asked, ids, added, strict=True):
      length = bos + len(prompt) + self.scorer.separator + more + self.scorer.eos - 1
      out.append(limit is None or length <= limit)
      if not out[-1]:
        self.warnings.add(
          'prompts', f'not answered: over {limit} tokens with the answer',
          one.example_id,
        )  # fmt: skip
    return out
