"""The held-out evaluation, from parameters or a checkpoint to a report."""

import contextlib
import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jax.sharding import NamedSharding

from flan_jax import catalogue, guard, sources
from flan_jax.catalogue import Dataset, Row
from flan_jax.data import tokenizer as tokenizer_lib
from flan_jax.data.rendering import Limits
from flan_jax.data.store import Store
from flan_jax.data.tokenizer import Tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate import protocol, report
from flan_jax.evaluate.scoring import Scorer
from flan_jax.fields import Unlabelled
from flan_jax.model.config import DecoderConfig
from flan_jax.progress import Progress
from flan_jax.train import model_folder, settings
from flan_jax.train import state as state_lib

Rows = Callable[[str, str], Iterable[Row]]


def run(
  evaluate: settings.Evaluate,
  *,
  store: Store,
  params: Any,
  base: Any | None,
  config: DecoderConfig,
  held_out: Sequence[str],
  about: Mapping[str, Any],
  out: pathlib.Path,
  progress: Progress,
  sharding: NamedSharding | None = None,
) -> dict[str, Any]:
  """Evaluates the model that a run has just trained, from the run's own store.

  Args:
    evaluate: how.
    store: holds the evaluation rows and the tokenizer.
    params: the tuned parameters.
    base: the parameters that the run started from, or None.
    config: of both.
    held_out: clusters to measure.
    about: what report.json says of the run (model, checkpoint, trained_on, train_rows,
      seed).
    out: where the report goes.
    progress: where to say what is happening.
    sharding: of a batch [rows, length] on the run's mesh.

  Returns:
    The content of report.json.
  """
  family = store.manifest['family']
  datasets = [
    catalogue.get(name, family=family)
    for name in store.manifest['evaluation']
    if store.clusters[name] in held_out
  ]
  scorer = functools.partial(
    _scorer,
    config=config,
    tokenizer=store.tokenizer(),
    evaluate=evaluate,
    sharding=sharding,
  )
  return _report(
    evaluate,
    datasets=datasets,
    rows=_held(store),
    tuned=scorer(params),
    base=None if base is None else scorer(base),
    about={**about, 'held_out': held_out, 'data_digest': store.digest},
    out=out,
    progress=progress,
  )


def evaluate_checkpoint(
  evaluation: settings.Evaluation, *, progress: Progress
) -> dict[str, Any]:
  """Evaluates a checkpoint, and a base beside it; `flan eval`.

  Raises:
    InputError: at an unknown cluster or dataset, a checkpoint that is none, or a
      dataset that is not prepared.
  """
  datasets = _asked(evaluation)
  progress.stage(f'Checkpoint {evaluation.checkpoint}')
  tuned = _load(evaluation.checkpoint, evaluation)
  base = None
  if evaluation.base_checkpoint is not None:
    base = _load(evaluation.base_checkpoint, evaluation)
  if evaluation.store is not None:
    store = Store.open(evaluation.store)
    rows, digest = _held(store), store.digest
  else:
    rows, digest = _raw(evaluation, progress), ''
    datasets = [d for d in datasets if _prepared(d, evaluation, progress)]
  trained = _provenance(evaluation.checkpoint)
  return _report(
    evaluation.evaluate,
    datasets=datasets,
    rows=rows,
    tuned=tuned,
    base=base,
    about={
      'model': pathlib.Path(evaluation.checkpoint).name,
      'checkpoint': evaluation.checkpoint,
      'held_out': list(dict.fromkeys(d.cluster for d in datasets)),
      'trained_on': trained.get('trained_on', []),
      'train_rows': trained.get('train_rows', {}),
      'data_digest': digest,
      'seed': evaluation.seed,
    },
    out=pathlib.Path(evaluation.output_dir),
    progress=progress,
  )


def _report(
  evaluate: settings.Evaluate,
  *,
  datasets: Sequence[Dataset],
  rows: Rows,
  tuned: Scorer,
  base: Scorer | None,
  about: Mapping[str, Any],
  out: pathlib.Path,
  progress: Progress,
) -> dict[str, Any]:
  names = ', '.join(dataset.name for dataset in datasets)
  progress.stage(f'Zero-shot on {", ".join(about["held_out"])}: {names}')
  out.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    count = stack.enter_context(progress.counter())
    emit = stack.enter_context(report.Predictions(out))
    results = protocol.evaluate(
      tuned,
      datasets=datasets,
      rows=rows,
      base=base,
      templates=evaluate.templates,
      max_rows=evaluate.max_rows,
      limits=Limits(min(Limits().inputs, evaluate.row_length), evaluate.max_decode),
      seed=about['seed'],
      emit=emit,
      progress=count,
    )
  for warning in results.warnings:
    progress.line(f'warning: {warning}')
  return report.write(out, results, **about)


def _scorer(
  params: Any,
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  evaluate: settings.Evaluate,
  sharding: NamedSharding | None = None,
) -> Scorer:
  shards = 1  # the rows of a batch are laid over so many devices
  if sharding is not None:
    shards = sharding.mesh.size // sharding.mesh.shape['model']
  return Scorer(
    params=params,
    config=config,
    tokenizer=tokenizer,
    rows=-(-evaluate.batch_rows // shards) * shards,
    row_length=evaluate.row_length,
    sharding=sharding,
  )


def _load(checkpoint: str, evaluation: settings.Evaluation) -> Scorer:
  config = model_folder.config(checkpoint)
  shapes, _ = state_lib.abstract_params(config)
  params = model_folder.load(checkpoint, config=config, shapes=shapes)
  path = evaluation.tokenizer or model_folder.tokenizer_file(checkpoint)
  return _scorer(
    params,
    config=config,
    tokenizer=tokenizer_lib.load(path),
    evaluate=evaluation.evaluate,
  )


def _asked(evaluation: settings.Evaluation) -> list[Dataset]:
  family = catalogue.family(evaluation.family)
  clusters = guard.clusters(evaluation.clusters)
  named = evaluation.datasets
  named = (named,) if isinstance(named, str) else named
  names = [name for name, d in family.items() if d.cluster in clusters]
  names += [catalogue.get(name, family=evaluation.family).name for name in named]
  return [family[name] for name in dict.fromkeys(names)]


def _held(store: Store) -> Rows:
  """Rows of a store; a dataset without a dev split has none there."""

  def rows(dataset: str, split: str) -> Iterable[Row]:
    if split not in store.manifest['evaluation'][dataset]['rows']:
      return []
    return store.evaluation_rows(dataset, split)

  return rows


def _raw(evaluation: settings.Evaluation, progress: Progress) -> Rows:
  """Rows read from the raw data; unlabelled ones are left out and counted."""

  def rows(name: str, split: str) -> list[Row]:
    dataset = catalogue.get(name, family=evaluation.family)
    out, dropped = [], 0
    for row_id, record in sources.records(
      dataset, split, data_dir=evaluation.tfds_data_dir
    ):
      try:
        out.append(dataset.read(record, row_id))
      except Unlabelled:
        dropped += 1
    if dropped:
      progress.line(f'{name} {split}: {dropped:,} rows without a label left out')
    return out

  return rows


def _prepared(
  dataset: Dataset, evaluation: settings.Evaluation, progress: Progress
) -> bool:
  try:
    sources.sizes(dataset, data_dir=evaluation.tfds_data_dir)
  except InputError as error:
    if evaluation.missing == 'refuse':
      raise
    progress.line(f'skipped: {error}')
    return False
  return True


def _provenance(checkpoint: str) -> dict[str, Any]:
  """What a run says of the model it wrote, where it is one of ours."""
  path = model_folder.find(checkpoint) / model_folder.PROVENANCE
  if not path.is_file():
    return {}
  return json.loads(path.read_text(encoding='utf-8'))
