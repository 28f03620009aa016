"""Held-out evaluation of a training run: before, during and after training."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import NamedSharding

from flan_jax.catalog import leakage, registry
from flan_jax.catalog import lineage as lineage_lib
from flan_jax.config import evaluation as evaluation_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data.store.store import Store
from flan_jax.evaluate import eval_data, load_model, measured_data
from flan_jax.evaluate.response_cache import fingerprint
from flan_jax.jobs import measure, provenance
from flan_jax.report import build, schema, terminal
from flan_jax.report.values import number
from flan_jax.runtime import atomic_file, multihost
from flan_jax.runtime.progress import Progress
from flan_jax.train.eval_log import EvalLog
from flan_jax.train.writers.jsonl import EVALUATION


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
  """Held-out clusters of a run, and the settings of their evaluation.

  Attributes:
    clusters: clusters to evaluate.
    evaluate: evaluation settings.
    seed: seed for the sample of examples and the test of a difference.
    data_dir: TFDS data directory of the exemplars; None for TFDS's default.
    text: resolved configuration with its origins, for the report.
    untrained: leakage report of the model that the run starts from, or None.
    chat_template: chat template of that model, or None.
    base_responses: file of that model's answers, which other runs share, or None.
  """

  clusters: tuple[str, ...]
  evaluate: evaluation_config.EvalConfig
  seed: int
  data_dir: str | None = None
  text: str = ''
  untrained: leakage.LeakageReport | None = None
  chat_template: str | None = None
  base_responses: str | None = None


class HeldOutEvaluation:
  """Evaluates the models of a training run on the run's own store.

  `before` evaluates the base model ahead of tuning, `during` is an evaluation step on
  dev, and `after` evaluates the tuned model beside the base. Response caches keep the
  answers: an interrupted run resumes, and `after` reuses those of `before`.
  """

  def __init__(
    self,
    held_out: HeldOut,
    *,
    store: Store,
    config: DecoderConfig,
    out: pathlib.Path,
    progress: Progress,
    log: EvalLog,
    sharding: NamedSharding | None = None,
    on_batch: Callable[[], None] = lambda: None,
  ):
    """Sets up what the evaluations share.

    Args:
      held_out: held-out clusters, and the settings of their evaluation.
      store: store with the evaluation examples and the tokenizer.
      config: model config.
      out: folder of the report.
      progress: progress output.
      log: log of the evaluation steps.
      sharding: sharding of a batch [batch, length] on the run's mesh.
      on_batch: called between two batches, equally often on every process.
    """
    evaluate, data_dir = held_out.evaluate, held_out.data_dir
    self._held_out = held_out
    self._out = out
    self._log = log
    self._config = config
    self._tokenizer = store.tokenizer()
    self._scorer = functools.partial(
      load_model.scorer,
      config=config,
      tokenizer=self._tokenizer,
      evaluate=evaluate,
      chat_template=held_out.chat_template,
      sharding=sharding,
      on_batch=on_batch,
    )
    datasets = [
      eval_data.of_store(registry.get(name), entry['examples'])
      for name, entry in store.manifest['evaluation'].items()
      if store.clusters[name] in held_out.clusters
    ]
    self._shared = {
      'datasets': measure.configured(datasets, evaluate, data_dir=data_dir),
      'examples': eval_data.stored(store, data_dir=data_dir, progress=progress),
      'evaluate': evaluate,
      'seed': held_out.seed,
      'progress': progress,
    }
    measure.check(self._shared['datasets'], evaluate, {'run': self._tokenizer})
    self._metadata = {
      'held_out': held_out.clusters,
      'data_digest': store.digest,
      'seed': held_out.seed,
      'missing': tuple(store.manifest['missing']),
      'data': measured_data.in_store(
        store, num_fewshot=evaluate.num_fewshot, data_dir=data_dir
      ),
    }

  def before(self, params: Any) -> dict[str, Any]:
    """Evaluates the base model; returns its figures in the form of report.json."""
    progress = self._shared['progress']
    evaluate = self._shared['evaluate']
    title = measure.title(self._held_out.clusters, self._shared['datasets'], evaluate)
    progress.stage(f'Base model {title}')
    prompt_style = measure.prompt_styles(evaluate)['base']
    path = self._out / load_model.RESPONSES.format('base')
    shared = self._held_out.base_responses
    if shared is not None:
      _copy_if_absent(pathlib.Path(shared), path)
    cached = load_model.cached(
      self._scorer(params, prompt_style=prompt_style),
      path,
      fingerprint=fingerprint(params),
      progress=progress,
    )
    try:
      results = measure.run(cached, prompt_style=prompt_style, **self._shared)
    finally:
      cached.close()
    measure.check_measured(results, evaluate)
    if shared is not None:
      _copy_if_absent(path, pathlib.Path(shared))
    found = build.build(
      results,
      build.Metadata(
        model='base model', checkpoint='', **self._base_lineage(), **self._metadata
      ),
    )
    if multihost.is_main_process():
      terminal.print_table(found)
    return found

  def _base_lineage(self) -> dict[str, Any]:
    """Returns the metadata about the base model's training."""
    leakage_report = self._held_out.untrained
    if leakage_report is None:
      return {'trained_on': lineage_lib.UNKNOWN, 'train_examples': {}}
    lineage = leakage_report.lineage.summary(leakage_report.evaluated_family)
    return {**lineage, 'leakage': leakage_report.as_json()}

  def during(self, params: Any, *, step: int) -> dict[str, Any]:
    """Runs an evaluation step: few dev examples, one template, never test.

    It is one line of MODEL_DIR/evaluations.jsonl; a step that runs again after a
    restart replaces its line. Nothing can be selected on test examples, since they are
    not evaluated.

    Args:
      params: current parameters.
      step: number of steps done.

    Returns:
      {'step', 'examples', 'clusters': {cluster: mean over its datasets, in percent},
      'datasets': {label of a result: percent}, and 'values' (label of a result: value)
      if a dataset has metrics of its own}.
    """
    evaluate = self._shared['evaluate']
    results = measure.run(
      self._scorer(params, prompt_style=evaluate.prompt_style),
      **{**self._shared, 'progress': self._shared['progress'].brief()},
      splits=('dev',),
      max_examples=evaluate.eval_examples,
      templates=1,
    )
    found = build.build(
      results,
      build.Metadata(
        model='',
        checkpoint='',
        trained_on=lineage_lib.UNKNOWN,
        train_examples={},
        **self._metadata,
      ),
    )
    whole, values = schema.divided(found)
    in_percent = whole['results']
    eval_step: dict[str, Any] = {
      'step': step,
      'examples': evaluate.eval_examples,
      'clusters': {a['cluster']: round(a['mean'], 4) for a in schema.averages(found)},
      'datasets': {schema.label(result): result['mean'] for result in in_percent},
    }
    if values:
      eval_step['values'] = {schema.label(part): part['mean'] for part in values}
    self._log.add(eval_step)
    means = [f'{name} {mean:.1f}' for name, mean in eval_step['clusters'].items()]
    own = [
      f'{name} {number(mean)}' for name, mean in eval_step.get('values', {}).items()
    ]
    line = self._shared['progress'].line
    if means or not own:
      line(f'step {step:,}, dev, percent: {", ".join(means) or "no examples"}')
    if own:
      line(f'step {step:,}, dev: {", ".join(own)}')
    return eval_step

  def values(self, found: Mapping[str, Any]) -> dict[str, float]:
    """Name -> figure of an evaluation step, for the metric writers."""
    return {
      f'{EVALUATION}/{kind}/{name}': value
      for kind in ('clusters', 'datasets', 'values')
      for name, value in found.get(kind, {}).items()
    }

  def has_evaluated(self, step: int) -> bool:
    """Returns whether the evaluation step at this step has run."""
    return self._log.has(step)

  def after(
    self, params: Any, *, base: Any | None, metadata: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Evaluates the tuned model and writes the report.

    Args:
      params: tuned parameters.
      base: initial parameters of the run, or None.
      metadata: fields of report.json about the run (model, checkpoint, leakage,
        lineage, trained_on, train_examples).

    Returns:
      Content of report.json.
    """
    models = {'tuned': params} | ({} if base is None else {'base': base})
    prompt_styles = measure.prompt_styles(self._shared['evaluate'])
    described = {
      name: provenance.of_model(found, config=self._config, tokenizer=self._tokenizer)
      for name, found in models.items()
    }
    metadata = {
      **metadata,
      **self._metadata,
      'provenance': provenance.of(self._held_out.text, described),
    }
    scorers = {
      name: self._scorer(found, prompt_style=prompt_styles[name])
      for name, found in models.items()
    }
    with load_model.all_cached(
      {name: (s, described[name]['fingerprint']) for name, s in scorers.items()},
      self._out,
      progress=self._shared['progress'],
    ) as cached:
      return measure.report(**cached, metadata=metadata, out=self._out, **self._shared)


def _copy_if_absent(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a file of answers whole, on the main process."""
  if multihost.is_main_process() and source.is_file() and not target.exists():
    atomic_file.write_bytes(target, source.read_bytes())
