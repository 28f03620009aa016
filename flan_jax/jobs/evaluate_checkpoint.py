"""Evaluation of a checkpoint, and of a base beside it."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from flan_jax.catalog import leakage
from flan_jax.config import evaluation as evaluation_config
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.evaluate import (
  contamination,
  eval_data,
  load_model,
  measured_data,
  metrics,
)
from flan_jax.jobs import measure, model_source, provenance
from flan_jax.runtime import atomic_file, multihost
from flan_jax.runtime.progress import Progress


def evaluate_checkpoint(
  evaluation: evaluation_config.EvalJobConfig,
  *,
  text: str = '',
  progress: Progress,
  on_batch: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
  """Evaluates a checkpoint, and a base beside it; `flan eval`.

  If it is killed, the same call resumes it. Several processes shard the model and
  compute together; the main process writes.

  Args:
    evaluation: settings.
    text: resolved configuration with its origins, for the report.
    progress: progress output.
    on_batch: called between two batches, equally often on every process.

  Raises:
    InputError: at an unknown cluster or dataset, a path that is not a checkpoint, a
      dataset that is not prepared, or different data or models on two processes.
  """
  metrics.check_declared()
  datasets = eval_data.requested(
    evaluation.family, evaluation.clusters, evaluation.datasets
  )
  for path in filter(None, (evaluation.checkpoint, evaluation.base_checkpoint)):
    model_source.check(path)
  leakage_reports = {
    which: leakage.check_checkpoint(
      provenance.lineage(path),
      tuple(dict.fromkeys(dataset.cluster for dataset in datasets)),
      family=evaluation.family,
      allow_overlap=evaluation.allow_overlap,
      checkpoint_setting=which,
    )
    for which, path in (
      ('CHECKPOINT', evaluation.checkpoint),
      ('BASE_CHECKPOINT', evaluation.base_checkpoint),
    )
    if path is not None
  }
  lineage = leakage_reports['CHECKPOINT'].lineage
  leakage_report = leakage.with_base(
    leakage_reports['CHECKPOINT'], leakage_reports.get('BASE_CHECKPOINT')
  )
  for warning in leakage_report['warnings']:
    progress.line(f'warning: {warning}')
  data_dir = evaluation.tfds_data_dir
  if evaluation.store is not None:
    store = Store.open(evaluation.store)
    examples = eval_data.stored(store, data_dir=data_dir, progress=progress)
    digest, missing = store.digest, tuple(store.manifest['missing'])
    where = measured_data.in_store(
      store, num_fewshot=evaluation.evaluate.num_fewshot, data_dir=data_dir
    )
    datasets = eval_data.in_store(
      datasets, store, missing=evaluation.missing, progress=progress
    )
  else:
    examples = eval_data.raw(evaluation.family, data_dir=data_dir, progress=progress)
    digest, missing = '', ()
    where = measured_data.in_raw(evaluation.family, data_dir)
    datasets = [
      d
      for d in datasets
      if eval_data.is_prepared(
        d, data_dir=data_dir, missing=evaluation.missing, progress=progress
      )
    ]
  if not datasets:
    raise InputError(
      'CLUSTERS, DATASETS: none of the named datasets can be evaluated; `flan fetch` '
      'lists those that are prepared',
      field='Evaluation.clusters',
    )
  suspects = contamination.suspects(evaluation.contamination)
  out = pathlib.Path(evaluation.output_dir)
  with multihost.main_process_first():
    if multihost.is_main_process():
      _make_writable(out)
  progress.stage(f'Checkpoint {evaluation.checkpoint}')
  prompt_styles = measure.prompt_styles(evaluation.evaluate)
  folders = {'tuned': evaluation.checkpoint, 'base': evaluation.base_checkpoint}
  folders = {
    name: model_source.model_folder(path, out=out, progress=progress)
    for name, path in folders.items()
    if path is not None
  }
  multihost.assert_same_on_all(
    {'the data': digest, 'the models': [*map(load_model.digest, folders.values())]}
  )
  scorers = {
    name: load_model.load(
      folder,
      evaluate=evaluation.evaluate,
      mesh=evaluation.mesh,
      tokenizer=evaluation.tokenizer,
      prompt_style=prompt_styles[name],
      on_batch=on_batch,
    )
    for name, folder in folders.items()
  }
  models = {
    name: provenance.of_model(s.params, config=s.config, tokenizer=s.tokenizer)
    | provenance.of_conversion(folders[name])
    for name, s in scorers.items()
  }
  metadata = {
    'model': pathlib.Path(evaluation.checkpoint).name,
    'checkpoint': evaluation.checkpoint,
    'held_out': list(dict.fromkeys(d.cluster for d in datasets)),
    **lineage.summary(evaluation.family),
    'data_digest': digest,
    'data': where,
    'base': evaluation.base_checkpoint,
    'seed': evaluation.seed,
    'leakage': leakage_report,
    'missing': missing,
    'provenance': {'config': text, 'models': models, 'versions': provenance.versions()},
  }
  with load_model.all_cached(
    {name: (s, models[name]['fingerprint']) for name, s in scorers.items()},
    out,
    progress=progress,
  ) as cached:
    return measure.report(
      **cached,
      evaluate=evaluation.evaluate,
      datasets=datasets,
      examples=examples,
      seed=evaluation.seed,
      metadata=metadata,
      out=out,
      progress=progress,
      find_overlaps=functools.partial(
        contamination.find_overlaps,
        suspects=suspects,
        ngram=evaluation.ngram,
        progress=progress,
      )
      if suspects
      else None,
    )


def _make_writable(out: pathlib.Path) -> None:
  """Makes the folder of the report, and checks that files can be written to it.

  Raises:
    InputError: if they cannot.
  """
  try:
    out.mkdir(parents=True, exist_ok=True)
    atomic_file.write_text(out / 'writable', '')
    (out / 'writable').unlink()
  except OSError as error:
    raise InputError(
      f'OUTPUT_DIR {str(out)!r}: cannot be written to ({error.strerror}); must be a '
      'folder, made if absent',
      field='Evaluation.output_dir',
    ) from None
