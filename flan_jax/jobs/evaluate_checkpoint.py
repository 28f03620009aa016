"""Evaluation of a checkpoint, and of a base beside it."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flan_jax.catalog import leakage, prompt_style, registry
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import model_dir
from flan_jax.config.evaluation import EvalJobConfig
from flan_jax.config.setting import refusal
from flan_jax.data.sources import file_task
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.evaluate import (
  contamination,
  eval_data,
  load_model,
  measured_data,
  metrics,
)
from flan_jax.evaluate.prompt_cache import PromptCache
from flan_jax.evaluate.response_cache import ResponseCache
from flan_jax.inference.rank_options import Scorer
from flan_jax.jobs import measure, model_source, provenance
from flan_jax.runtime import lock, modules, multihost
from flan_jax.runtime.progress import Progress


@dataclasses.dataclass(frozen=True)
class Leakage:
  """Result of the leakage checks: lineage of the model, report on it and its base."""

  lineage: Lineage
  report: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Data:
  """Examples to evaluate.

  Attributes:
    datasets: datasets that have examples.
    examples: (dataset name, split) -> examples.
    digest: digest of the store; '' for raw data.
    missing: datasets of the mixture that the store lacks.
    where: source of the examples, for the report.
    suspects: texts to search for the examples.
  """

  datasets: list[Dataset]
  examples: eval_data.Examples
  digest: str
  missing: tuple[str, ...]
  where: Mapping[str, Any]
  suspects: tuple[contamination.StoreTexts | contamination.FolderTexts, ...]


@dataclasses.dataclass(frozen=True)
class _Models:
  """Models by name, `tuned` and `base`: scorers, and their part of the provenance.

  Attributes:
    scorers, described: by name.
    tuned: model folder of the evaluated model.
  """

  scorers: dict[str, Scorer]
  described: dict[str, dict[str, Any]]
  tuned: str


@dataclasses.dataclass
class Shared:
  """Parts shared by the evaluations of several checkpoints in one start.

  Attributes:
    datasets: datasets that were asked for.
    data: the examples.
    leakage: checkpoint -> result of its leakage checks.
    prompts: the prompts, by tokenizer and lengths.
    answers: answers of the base, once it has any.
    base: the base and its part of the provenance, once it is loaded.
  """

  datasets: list[Dataset]
  data: Data
  leakage: Mapping[str | None, Leakage]
  prompts: PromptCache = dataclasses.field(default_factory=PromptCache)
  answers: ResponseCache | None = None
  base: tuple[Scorer, dict[str, Any]] | None = None


def evaluate_checkpoint(
  evaluation: EvalJobConfig,
  *,
  text: str = '',
  progress: Progress,
  on_batch: Callable[[], None] = lambda: None,
  shared: Shared | None = None,
) -> dict[str, Any]:
  """Evaluates a checkpoint, and a base beside it; `flan eval`.

  If it is killed, the same call resumes it. Several processes shard the model and
  compute together; the main process writes.

  Args:
    evaluation: settings.
    text: resolved configuration with its origins, for the report.
    progress: progress output.
    on_batch: called between two batches, equally often on every process.
    shared: parts that evaluations of other checkpoints share with this one, or None.

  Raises:
    InputError: at an unknown cluster or dataset, a path that is not a checkpoint, a
      dataset that is not prepared, or different data or models on two processes.
  """
  datasets = shared.datasets if shared else requested(evaluation)
  leakages = shared.leakage if shared else {}
  found = leakages.get(evaluation.checkpoint) or check_leakage(evaluation, datasets)
  for warning in found.report['warnings']:
    progress.line(f'warning: {warning}')
  with lock.held_by_main('OUTPUT_DIR', evaluation.output_dir):
    data = shared.data if shared else open_data(evaluation, datasets, progress=progress)
    models = _models(
      evaluation, data, progress=progress, on_batch=on_batch, shared=shared
    )
    metadata = _metadata(evaluation, data, models, found, text=text)
    return _evaluate(
      evaluation, data, models, metadata, progress=progress, shared=shared
    )


# Set up.


def requested(
  evaluation: EvalJobConfig, checkpoints: Sequence[str] = ()
) -> list[Dataset]:
  """Checks names and paths; returns the datasets asked for.

  Args:
    evaluation: settings.
    checkpoints: the checkpoints, if there are several.
  """
  tuned = checkpoints or tuple(filter(None, [evaluation.checkpoint]))
  for path in tuned:
    modules.expect(model_source.modules(path), of=f'CHECKPOINT {path!r}')
  measure.check_styles(evaluation.evaluate)
  datasets = eval_data.requested(
    evaluation.family, evaluation.clusters, _dataset_names(evaluation)
  )
  metrics.check_declared(datasets)
  measure.check(datasets, evaluation.evaluate, {})
  for path in filter(None, (*tuned, evaluation.base_checkpoint)):
    model_source.check(path)
  _check_chat_templates(evaluation, tuned)
  return datasets


def _check_chat_templates(evaluation: EvalJobConfig, tuned: Sequence[str]) -> None:
  """Checks that every model keeps the chat template that its prompt style needs.

  Raises:
    InputError: if one does not.
  """
  styles = measure.prompt_styles(evaluation.evaluate)
  setting = 'base_prompt_style' if evaluation.evaluate.base_prompt_style else None
  base = [evaluation.base_checkpoint] if evaluation.base_checkpoint else []
  for style, paths, field, of in (
    (styles['tuned'], tuned, 'prompt_style', 'checkpoint'),
    (styles['base'], base, setting or 'prompt_style', 'base checkpoint'),
  ):
    for path in paths if prompt_style.is_chat(style) else ():
      load_model.expect_chat_template(
        model_source.chat_template(path), style, setting=field, of=f'the {of} {path!r}'
      )


def check_leakage(evaluation: EvalJobConfig, datasets: list[Dataset]) -> Leakage:
  """Checks that nothing evaluated was trained on, by the model or its base."""
  # A model may be measured on the task that it was trained on, such as a file or a
  # seqio Task, if that is a cluster by itself.
  own = [dataset.name for dataset in datasets if dataset.cluster == dataset.name]
  reports = {
    which: leakage.check_checkpoint(
      provenance.lineage(path),
      tuple(dict.fromkeys(dataset.cluster for dataset in datasets)),
      family=registry.family_of(datasets),
      allow_overlap=evaluation.allow_overlap,
      itself=own,
      checkpoint_setting=which,
    )
    for which, path in (
      ('CHECKPOINT', evaluation.checkpoint),
      ('BASE_CHECKPOINT', evaluation.base_checkpoint),
    )
    if path is not None
  }
  tuned = reports['CHECKPOINT']
  return Leakage(
    tuned.lineage, leakage.with_base(tuned, reports.get('BASE_CHECKPOINT'))
  )


def _dataset_names(evaluation: EvalJobConfig) -> tuple[str, ...]:
  """The names in DATASETS; a file is declared, and stands under its own.

  Raises:
    InputError: if two files have one name, or INPUTS or TARGETS have no effect.
  """
  given = evaluation.datasets
  names = (given,) if isinstance(given, str) else given
  found: dict[str, str] = {}
  for name in names:
    resolved = file_task.resolve(
      name,
      setting='DATASETS',
      inputs=evaluation.inputs,
      targets=evaluation.targets,
      split='test',
    )
    if found.setdefault(resolved, name) != name:
      raise InputError(
        f'DATASETS: {found[resolved]!r} and {name!r} are both named {resolved!r}; '
        'evaluate them one at a time, or rename one',
        field='DATASETS',
      )
  if not any(map(file_task.is_file, names)):
    for field in ('inputs', 'targets'):
      if getattr(evaluation, field) != field:
        raise refusal(evaluation, field, 'has no effect: DATASETS names no file')
  return tuple(found)


# Data.


def open_data(
  evaluation: EvalJobConfig, datasets: list[Dataset], *, progress: Progress
) -> Data:
  """Opens the store or the raw data, and the texts to search for its examples."""
  data_dir = evaluation.tfds_data_dir
  datasets = measure.configured(datasets, evaluation.evaluate, data_dir=data_dir)
  if evaluation.store is not None:
    store = Store.open(evaluation.store)
    if line := store.unchecked:
      progress.line(line)
    examples = eval_data.stored(store, data_dir=data_dir, progress=progress)
    digest, missing = store.digest, tuple(store.manifest['missing'])
    where = measured_data.in_store(
      store, num_fewshot=evaluation.evaluate.num_fewshot, data_dir=data_dir
    )
    datasets = eval_data.in_store(
      datasets, store, missing=evaluation.missing, progress=progress
    )
  else:
    examples = eval_data.raw(data_dir=data_dir, progress=progress)
    digest, missing = '', ()
    datasets = [
      d
      for d in datasets
      if eval_data.is_prepared(
        d, data_dir=data_dir, missing=evaluation.missing, progress=progress
      )
    ]
    where = measured_data.in_raw(datasets, data_dir)
  if not datasets:
    raise InputError(
      'CLUSTERS, DATASETS: none of the named datasets can be evaluated; `flan fetch` '
      'lists those that are prepared',
      field='Evaluation.clusters',
    )
  suspects = contamination.suspects(evaluation.contamination)
  return Data(datasets, examples, digest, missing, where, suspects)


# Model.


def _models(
  evaluation: EvalJobConfig,
  data: Data,
  *,
  progress: Progress,
  on_batch: Callable[[], None],
  shared: Shared | None,
) -> _Models:
  """Loads the model and the base, alike on every process."""
  out = pathlib.Path(evaluation.output_dir)
  progress.stage(f'Checkpoint {evaluation.checkpoint}')
  prompt_styles = measure.prompt_styles(evaluation.evaluate)
  folders = {'tuned': evaluation.checkpoint, 'base': evaluation.base_checkpoint}
  folders = {
    name: model_source.model_folder(
      path, out=out, progress=progress, private=shared is not None and name == 'tuned'
    )
    for name, path in folders.items()
    if path is not None
  }
  for line in filter(None, map(model_dir.unchecked, folders.values())):
    progress.line(line)
  multihost.assert_same_on_all(
    {
      'the data': data.digest,
      'the models': [*map(load_model.digest, folders.values())],
    }
  )
  loaded = {} if not shared or not shared.base else {'base': shared.base}
  scorers = {
    name: loaded[name][0]
    if name in loaded
    else load_model.load(
      folder,
      evaluate=evaluation.evaluate,
      mesh=evaluation.mesh,
      tokenizer=evaluation.tokenizer,
      prompt_style=prompt_styles[name],
      on_batch=on_batch,
    )
    for name, folder in folders.items()
  }
  names = {'tuned': 'model', 'base': 'base model'}
  measure.check(
    data.datasets,
    evaluation.evaluate,
    {names[name]: scorer.tokenizer for name, scorer in scorers.items()},
  )
  described = {
    name: loaded[name][1]
    if name in loaded
    else provenance.of_model(s.params, config=s.config, tokenizer=s.tokenizer)
    | provenance.of_conversion(folders[name])
    for name, s in scorers.items()
  }
  if shared and 'base' in scorers:
    shared.base = scorers['base'], described['base']
  return _Models(scorers, described, folders['tuned'])


# Evaluate.


def _metadata(
  evaluation: EvalJobConfig, data: Data, models: _Models, found: Leakage, *, text: str
) -> dict[str, Any]:
  """Metadata of the report."""
  assert evaluation.checkpoint is not None
  lineage = found.lineage
  if model_source.is_step(evaluation.checkpoint):
    lineage = provenance.lineage(models.tuned)  # with the digest of its weights
  return {
    'model': pathlib.Path(evaluation.checkpoint).name,
    'checkpoint': evaluation.checkpoint,
    'held_out': list(dict.fromkeys(d.cluster for d in data.datasets)),
    **lineage.summary(registry.family_of(data.datasets)),
    'training': provenance.training(models.tuned, lineage),
    'data_digest': data.digest,
    'data': data.where,
    'base': evaluation.base_checkpoint,
    'seed': evaluation.seed,
    'leakage': found.report,
    'missing': data.missing,
    'provenance': provenance.of(text, models.described),
  }


def _evaluate(
  evaluation: EvalJobConfig,
  data: Data,
  models: _Models,
  metadata: Mapping[str, Any],
  *,
  progress: Progress,
  shared: Shared | None,
) -> dict[str, Any]:
  """Evaluates the models, and writes the report."""
  out = pathlib.Path(evaluation.output_dir)
  find_overlaps = None
  if data.suspects:
    find_overlaps = functools.partial(
      contamination.find_overlaps,
      suspects=data.suspects,
      ngram=evaluation.ngram,
      progress=progress,
    )
  marks = {
    name: (scorer, models.described[name]['fingerprint'])
    for name, scorer in models.scorers.items()
  }
  answers = {}
  if shared and 'base' in marks:
    scorer, fingerprint = marks.pop('base')
    if shared.answers is None:
      path = out.parent / load_model.RESPONSES.format('base')
      shared.answers = load_model.cached(
        scorer, path, fingerprint=fingerprint, progress=progress
      )
    answers['base'] = shared.answers
  with load_model.all_cached(marks, out, progress=progress) as cached:
    return measure.report(
      **cached,
      **answers,
      evaluate=evaluation.evaluate,
      datasets=data.datasets,
      examples=data.examples,
      seed=evaluation.seed,
      metadata=metadata,
      out=out,
      progress=progress,
      find_overlaps=find_overlaps,
      prompts=shared.prompts if shared else None,
    )
