"""Evaluates a checkpoint, and a base beside it."""

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

  Killed, it goes on where it was when it is asked the same again. Several hosts that
  run it together compute together, with the model laid over all of them; the first
  writes.

  Args:
    evaluation: the settings.
    text: the resolved configuration with its origins, for the report.
    progress: where to say what is happening.
    on_batch: called between two batches, on every host as often.

  Raises:
    InputError: at an unknown cluster or dataset, a checkpoint that is none, a dataset
      that is not prepared, or hosts that do not have the same before them.
  """
  datasets = eval_data.asked(evaluation)
  for path in filter(None, (evaluation.checkpoint, evaluation.base_checkpoint)):
    model_source.check(path)
  proofs = {
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
  lineage = proofs['CHECKPOINT'].lineage
  proof = leakage.with_base(proofs['CHECKPOINT'], proofs.get('BASE_CHECKPOINT'))
  for warning in proof['warnings']:
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
      if eval_data.prepared(
        d, data_dir=data_dir, missing=evaluation.missing, progress=progress
      )
    ]
  if not datasets:
    raise InputError(
      'CLUSTERS, DATASETS: none of the datasets named is there to be measured; `flan '
      'fetch` says what is prepared',
      field='Evaluation.clusters',
    )
  suspects = contamination.suspects(evaluation.contamination)
  out = pathlib.Path(evaluation.output_dir)
  with multihost.main_process_first():
    if multihost.is_main_process():
      _claim(out)
  progress.stage(f'Checkpoint {evaluation.checkpoint}')
  prompt_styles = measure.prompt_styles(evaluation.evaluate)
  folders = {'tuned': evaluation.checkpoint, 'base': evaluation.base_checkpoint}
  folders = {
    name: model_source.brought(path, out=out, progress=progress)
    for name, path in folders.items()
    if path is not None
  }
  multihost.assert_same_on_all(
    {'the data': digest, 'the models': [*map(load_model.digest, folders.values())]}
  )
  scorers = {
    name: load_model.checkpoint(
      folder, evaluation, prompt_style=prompt_styles[name], on_batch=on_batch
    )
    for name, folder in folders.items()
  }
  of = {
    name: provenance.of_model(s.params, config=s.config, tokenizer=s.tokenizer)
    | provenance.of_conversion(folders[name])
    for name, s in scorers.items()
  }
  about = {
    'model': pathlib.Path(evaluation.checkpoint).name,
    'checkpoint': evaluation.checkpoint,
    'held_out': list(dict.fromkeys(d.cluster for d in datasets)),
    **lineage.summary(evaluation.family),
    'data_digest': digest,
    'data': where,
    'base': evaluation.base_checkpoint,
    'seed': evaluation.seed,
    'leakage': proof,
    'missing': missing,
    'provenance': {'config': text, 'models': of, 'versions': provenance.versions()},
  }
  with load_model.journals(
    {name: (s, of[name]['fingerprint']) for name, s in scorers.items()},
    out,
    progress=progress,
  ) as journals:
    return measure.report(
      **journals,
      evaluate=evaluation.evaluate,
      datasets=datasets,
      examples=examples,
      seed=evaluation.seed,
      about=about,
      out=out,
      progress=progress,
      look_up=functools.partial(
        contamination.look_up,
        suspects=suspects,
        ngram=evaluation.ngram,
        progress=progress,
      )
      if suspects
      else None,
    )


def _claim(out: pathlib.Path) -> None:
  """Makes the folder of the report, before anything that takes time.

  Raises:
    InputError: if nothing can be written there.
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
