"""The held-out evaluation of a training run, before, during and after it."""

import contextlib
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import NamedSharding

from flan_jax.catalog import leakage, registry
from flan_jax.catalog import lineage as lineage_lib
from flan_jax.config import evaluation as evaluation_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data.store.store import Store
from flan_jax.evaluate import (
  eval_data,
  load_model,
  measured_data,
)
from flan_jax.evaluate.response_cache import fingerprint
from flan_jax.jobs import measure, provenance
from flan_jax.report import build, schema, tables
from flan_jax.runtime import atomic_file, multihost
from flan_jax.runtime.progress import Progress

EVAL_STEPS = 'evaluations.jsonl'
"""Beside the report: one line for each look at dev during training."""


class HeldOutEvaluation:
  """The held-out evaluation of a training run, from the run's own store.

  `before` measures the base model ahead of tuning, `during` takes a look at dev, and
  `after` measures the tuned model beside the base. What they computed is kept in
  journals, so that an interrupted run goes on where it was, and `after` has the base
  model's answers from `before`.
  """

  def __init__(
    self,
    evaluate: evaluation_config.EvalConfig,
    *,
    store: Store,
    config: DecoderConfig,
    held_out: Sequence[str],
    seed: int,
    out: pathlib.Path,
    progress: Progress,
    sharding: NamedSharding | None = None,
    data_dir: str | None = None,
    text: str = '',
    on_batch: Callable[[], None] = lambda: None,
    untrained: leakage.LeakageReport | None = None,
  ):
    """Gathers what the measurements share.

    Args:
      evaluate: how.
      store: holds the evaluation rows and the tokenizer.
      config: of the model.
      held_out: clusters to measure.
      seed: of the sample of rows and the test of a difference.
      out: where the report goes.
      progress: where to say what is happening.
      sharding: of a batch [rows, length] on the run's mesh.
      data_dir: raw data, for exemplars; None for TFDS's default.
      text: the resolved configuration with its origins, for the report.
      on_batch: called between two batches, on every host as often.
      untrained: what is proven of the model that the run starts from; None where
        nothing is.
    """
    self._untrained = untrained
    self._held_out = tuple(held_out)
    self._out = out
    self._config = config
    self._tokenizer = store.tokenizer()
    self._text = text
    self._scorer = functools.partial(
      load_model.scorer,
      config=config,
      tokenizer=self._tokenizer,
      evaluate=evaluate,
      sharding=sharding,
      on_batch=on_batch,
    )
    self._shared = {
      'datasets': [
        registry.get(name, family=store.manifest['family'])
        for name in store.manifest['evaluation']
        if store.clusters[name] in held_out
      ],
      'examples': eval_data.stored(store, data_dir=data_dir, progress=progress),
      'evaluate': evaluate,
      'seed': seed,
      'progress': progress,
    }
    self._about = {
      'held_out': self._held_out,
      'data_digest': store.digest,
      'seed': seed,
      'missing': tuple(store.manifest['missing']),
      'data': measured_data.in_store(
        store, num_fewshot=evaluate.num_fewshot, data_dir=data_dir
      ),
    }

  def before(self, params: Any) -> dict[str, Any]:
    """Measures the base model; returns its figures in the form of report.json."""
    progress = self._shared['progress']
    evaluate = self._shared['evaluate']
    title = measure.title(self._held_out, self._shared['datasets'], evaluate)
    progress.stage(f'Base model {title}')
    journal = load_model.journal(
      self._scorer(
        params, prompt_style=evaluate.base_prompt_style or evaluate.prompt_style
      ),
      self._out / load_model.JOURNAL.format('base'),
      fingerprint=fingerprint(params),
      progress=progress,
    )
    try:
      results = measure.run(
        journal,
        prompt_style=evaluate.base_prompt_style or evaluate.prompt_style,
        **self._shared,
      )
    finally:
      journal.close()
    found = build.build(
      results, model='base model', checkpoint='', **self._of_base(), **self._about
    )
    if multihost.is_main_process():
      tables.print_table(found)
    return found

  def _of_base(self) -> dict[str, Any]:
    """What is known of the base model's training."""
    proof = self._untrained
    if proof is None:
      return {'trained_on': lineage_lib.UNKNOWN, 'train_examples': {}}
    return {**proof.lineage.summary(proof.evaluated_family), 'leakage': proof.as_json()}

  def during(self, params: Any, *, step: int) -> dict[str, Any]:
    """A look at dev in the middle of training: few rows, one template, no test.

    It is one line of evaluations.jsonl beside the report; steps that a restart runs
    again replace their lines. Test rows are never looked at: nothing can be chosen by
    them.

    Args:
      params: the parameters as they are.
      step: steps done.

    Returns:
      {'step', 'examples', 'clusters': {cluster: mean over its datasets, in percent},
      'datasets': {label of a result: percent}}.
    """
    evaluate = self._shared['evaluate']
    results = measure.run(
      self._scorer(params, prompt_style=evaluate.prompt_style),
      **{**self._shared, 'progress': Progress(quiet=True)},
      splits=('dev',),
      max_examples=evaluate.eval_examples,
      templates=1,
    )
    found = build.build(
      results,
      model='',
      checkpoint='',
      trained_on=lineage_lib.UNKNOWN,
      train_examples={},
      **self._about,
    )
    look = {
      'step': step,
      'examples': evaluate.eval_examples,
      'clusters': {a['cluster']: round(a['mean'], 4) for a in schema.averages(found)},
      'datasets': {schema.label(result): result['mean'] for result in found['results']},
    }
    if multihost.is_main_process():
      _add_eval_step(self._out.parent / EVAL_STEPS, look)
    means = ', '.join(f'{name} {mean:.1f}' for name, mean in look['clusters'].items())
    self._shared['progress'].line(f'step {step:,}, dev, percent: {means or "no rows"}')
    return look

  def has_evaluated(self, step: int) -> bool:
    """Whether the look at this step was taken."""
    there = multihost.is_main_process() and step in _eval_steps(
      self._out.parent / EVAL_STEPS
    )
    return multihost.broadcast(b'' if there else None) is not None

  def after(
    self, params: Any, *, base: Any | None, metadata: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Measures the tuned model and writes the report.

    Args:
      params: the tuned parameters.
      base: the parameters that the run started from, or None.
      metadata: fields of report.json about the run (model, checkpoint, leakage, lineage,
        trained_on, train_examples).

    Returns:
      The content of report.json.
    """
    models = {'tuned': params} | ({} if base is None else {'base': base})
    prompt_styles = measure.prompt_styles(self._shared['evaluate'])
    of = {
      name: provenance.of_model(found, config=self._config, tokenizer=self._tokenizer)
      for name, found in models.items()
    }
    about = {
      **metadata,
      **self._about,
      'provenance': {
        'config': self._text,
        'models': of,
        'versions': provenance.versions(),
      },
    }
    with load_model.journals(
      {
        name: (
          self._scorer(p, prompt_style=prompt_styles[name]),
          of[name]['fingerprint'],
        )
        for name, p in models.items()
      },
      self._out,
      progress=self._shared['progress'],
    ) as journals:
      return measure.report(**journals, about=about, out=self._out, **self._shared)


def _add_eval_step(path: pathlib.Path, look: Mapping[str, Any]) -> None:
  """Adds a line, in place of those of the same step and later ones."""
  kept = [found for step, found in _eval_steps(path).items() if step < look['step']]
  with atomic_file.writing(path) as file:
    file.writelines(f'{json.dumps(found)}\n' for found in [*kept, look])


def _eval_steps(path: pathlib.Path) -> dict[int, dict[str, Any]]:
  """Step -> the look at it, of those whose lines are whole."""
  found = {}
  for line in path.read_text(encoding='utf-8').splitlines() if path.is_file() else ():
    with contextlib.suppress(json.JSONDecodeError):  # torn by a kill
      look = json.loads(line)
      found[look['step']] = look
  return found
