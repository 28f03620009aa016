"""Validation of a training run: loss and metrics on dev of its training datasets."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog import registry
from flan_jax.config.evaluation import EvalConfig
from flan_jax.data.store.store import Store
from flan_jax.evaluate import eval_data, evaluator, load_model
from flan_jax.jobs import measure
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.report import build, schema
from flan_jax.report import validation as in_words
from flan_jax.runtime.progress import Progress
from flan_jax.train.eval_log import EvalLog
from flan_jax.train.eval_loss import EvalLoss, LossEvaluator
from flan_jax.train.trainer import Trainer
from flan_jax.train.writers.jsonl import VALIDATION


class Validation:
  """Evaluates the models of a training run on dev of its training datasets.

  The loss is the mean negative log-likelihood of a target token, in nats. Each example
  has its template of epoch 0, cut to the limits of training. The metric is the
  dataset's own, on the same examples, in its first template. An evaluation step takes
  `EvalConfig.eval_examples` of each dataset, the one at the end `max_examples`.
  """

  def __init__(
    self,
    trainer: Trainer,
    *,
    store: Store,
    evaluate: EvalConfig,
    seed: int,
    log: EvalLog,
    progress: Progress,
    chat_template: str | None = None,
    on_batch: Callable[[], None] = lambda: None,
  ):
    """Sets up what the evaluations share.

    Args:
      trainer: trainer of the run.
      store: store with the dev examples.
      evaluate: evaluation settings.
      seed: seed for the sample of examples.
      log: log of the evaluation steps.
      progress: progress output.
      chat_template: chat template of the model that the run starts from, or None.
      on_batch: called between two batches, equally often on every process.
    """
    self._store, self._evaluate, self._seed = store, evaluate, seed
    self._log, self._progress = log, progress
    self._names = datasets(store)
    self._last: Mapping[str, Any] = {}
    self._losses = LossEvaluator(
      trainer, bos_id=store.bos_id, eos_id=store.eos_id, on_batch=on_batch
    )
    self._scorer = functools.partial(
      load_model.scorer,
      config=trainer.config,
      tokenizer=store.tokenizer(),
      evaluate=evaluate,
      prompt_style=evaluate.prompt_style,
      chat_template=chat_template,
      sharding=mesh_lib.batch_sharding(trainer.mesh, trainer.settings.mesh.rules),
      on_batch=on_batch,
    )

  def during(self, params: Any, *, step: int) -> dict[str, Any]:
    """Runs an evaluation step: one line of MODEL_DIR/validation.jsonl.

    Args:
      params: current parameters.
      step: number of steps done.

    Returns:
      {'step', 'examples', 'loss', 'perplexity', 'accuracy', 'target_tokens',
      'datasets': {name: the same, and 'metrics': {label of a result: {'metric',
      'value' (in percent), 'ci95', 'n'}}}}.
    """
    found = self._measured(params, step=step, examples=self._evaluate.eval_examples)
    self._last = found
    self._log.add(found)
    self._progress.line(f'step {step:,}, validation: {in_words.summary(found)}')
    return found

  def values(self, found: Mapping[str, Any]) -> dict[str, float]:
    """Name -> figure of an evaluation step, for the metric writers."""
    keys = 'loss', 'perplexity', 'accuracy'
    out = {f'{VALIDATION}/{key}': found[key] for key in keys}
    for name, figures in found['datasets'].items():
      out[f'{VALIDATION}/{name}/loss'] = figures['loss']
      for label, metric in figures['metrics'].items():
        out[f'{VALIDATION}/{label}/{metric["metric"]}'] = metric['value']
    return {name: value for name, value in out.items() if value is not None}

  def has_evaluated(self, step: int) -> bool:
    """Returns whether the evaluation step at this step has run."""
    return self._log.has(step)

  def after(self, params: Any, *, step: int) -> dict[str, Any]:
    """Evaluates the tuned model, as `during` does, on `max_examples` of each dataset.

    Args:
      params: tuned parameters.
      step: number of steps done.
    """
    named = f'{len(self._names)} training datasets'
    if len(self._names) <= in_words.MAX_NAMED:
      named = ', '.join(self._names)
    self._progress.stage(f'Validation on dev of {named}')
    examples = self._evaluate.max_examples
    if self._last.get('step') == step and self._is_whole(examples):
      found = {**self._last, 'examples': examples}
    else:
      found = self._measured(params, step=step, examples=examples)
    self._progress.line(f'validation: {in_words.summary(found)}')
    return found

  def _is_whole(self, examples: int | None) -> bool:
    """True if an evaluation step takes as many examples as one of `examples`."""
    step = self._evaluate.eval_examples
    return all(
      min(held, step) == (held if examples is None else min(held, examples))
      for held in map(self._held, self._names)
    )

  def _held(self, name: str) -> int:
    """Number of dev examples of a dataset."""
    assert self._store.validation is not None  # it has dev examples
    return self._store.validation[name]['examples']

  def _measured(
    self, params: Any, *, step: int, examples: int | None
  ) -> dict[str, Any]:
    """Losses and metrics on at most `examples` of each dataset; None for all."""
    losses = {name: self._loss(params, name, examples) for name in self._names}
    wanted = self._evaluate.validation_metrics
    metrics = self._metrics(params, examples) if wanted else {}
    return schema.rounded(
      {
        'step': step,
        'examples': examples,
        **sum(losses.values(), EvalLoss()).as_json(),
        'datasets': {
          name: {**loss.as_json(), 'metrics': metrics.get(name, {})}
          for name, loss in losses.items()
        },
      }
    )

  def _loss(self, params: Any, name: str, examples: int | None) -> EvalLoss:
    drawn = evaluator.sample(
      self._store.validation_examples(name), max_examples=examples, seed=self._seed
    )
    wanted = {example.example_id for example in drawn}
    chosen = [
      e.tokens for e in self._store.rendered_validation(name) if e.example_id in wanted
    ]
    progress = self._progress.brief()
    with progress.work(f'validation loss {name}', len(chosen), unit='examples'):
      return self._losses(params, chosen)

  def _metrics(
    self, params: Any, examples: int | None
  ) -> dict[str, dict[str, dict[str, Any]]]:
    """Dataset -> label of a result -> figures of the dataset's metric."""
    results = measure.run(
      self._scorer(params),
      evaluate=self._evaluate,
      datasets=[
        eval_data.of_store(dataset, {'dev': self._held(dataset.name)})
        for dataset in map(registry.get, self._names)
        if not measure.is_task(dataset) and not dataset.messages
      ],
      examples=lambda name, split: self._store.validation_examples(name),
      seed=self._seed,
      progress=self._progress.brief(),
      splits=('dev',),
      max_examples=examples,
      templates=1,
      num_fewshot=0,
    )
    built = build.build(
      results,
      build.Metadata(
        model='', checkpoint='', held_out=(), trained_on=lineage_lib.UNKNOWN,
        train_examples={}, data_digest=self._store.digest, seed=self._seed,
      ),
    )  # fmt: skip
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for result in built['results']:
      figures = {key: result[key] for key in ('metric', 'ci95', 'n')}
      figures['value'] = result['mean']
      found.setdefault(result['dataset'], {})[schema.label(result)] = figures
    return found


def datasets(store: Store) -> tuple[str, ...]:
  """Training datasets of a store that have dev examples."""
  kept = store.validation or {}
  return tuple(name for name in store.datasets if kept.get(name, {}).get('examples', 0))
