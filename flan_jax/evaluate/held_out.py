"""The held-out evaluation, from parameters or a checkpoint to a report."""

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
from flan_jax.evaluate.journal import Journal, fingerprint
from flan_jax.evaluate.protocol import LanguageModel, Results
from flan_jax.evaluate.scoring import Scorer
from flan_jax.fields import Unlabelled
from flan_jax.model.config import DecoderConfig
from flan_jax.progress import Progress
from flan_jax.train import model_folder, settings
from flan_jax.train import state as state_lib

Rows = Callable[[str, str], Iterable[Row]]


class Run:
  """The held-out evaluation of a training run, from the run's own store.

  `before` measures the base model ahead of tuning, `after` the tuned model beside it.
  Both keep what they computed in a journal, so that an interrupted run goes on where
  it was, and `after` has the base model's answers from `before`.
  """

  def __init__(
    self,
    evaluate: settings.Evaluate,
    *,
    store: Store,
    config: DecoderConfig,
    held_out: Sequence[str],
    seed: int,
    out: pathlib.Path,
    progress: Progress,
    sharding: NamedSharding | None = None,
  ):
    """Gathers what both measurements share.

    Args:
      evaluate: how.
      store: holds the evaluation rows and the tokenizer.
      config: of the model.
      held_out: clusters to measure.
      seed: of the sample of rows and the bootstrap.
      out: where the report goes.
      progress: where to say what is happening.
      sharding: of a batch [rows, length] on the run's mesh.
    """
    self._held_out = tuple(held_out)
    self._out = out
    self._scorer = functools.partial(
      _scorer,
      config=config,
      tokenizer=store.tokenizer(),
      evaluate=evaluate,
      sharding=sharding,
    )
    self._shared = {
      'datasets': [
        catalogue.get(name, family=store.manifest['family'])
        for name in store.manifest['evaluation']
        if store.clusters[name] in held_out
      ],
      'rows': _held(store),
      'evaluate': evaluate,
      'seed': seed,
      'progress': progress,
    }
    self._about = {
      'held_out': self._held_out,
      'data_digest': store.digest,
      'seed': seed,
      'missing': tuple(store.manifest['missing']),
    }

  def before(self, params: Any) -> dict[str, Any]:
    """Measures the base model; returns its figures in the form of report.json."""
    progress = self._shared['progress']
    title = _title(self._held_out, self._shared['datasets'])
    progress.stage(f'Base model {title}')
    journal = self._journal('base', params)
    try:
      results = _measure(journal, **self._shared)
    finally:
      journal.close()
    return report.build(
      results,
      model='base model',
      checkpoint='',
      trained_on=(),
      train_rows={},
      **self._about,
    )

  def after(
    self, params: Any, *, base: Any | None, about: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Measures the tuned model and writes the report.

    Args:
      params: the tuned parameters.
      base: the parameters that the run started from, or None.
      about: what report.json says of the run (model, checkpoint, trained_on,
        train_rows).

    Returns:
      The content of report.json.
    """
    journals = [self._journal('tuned', params)]
    if base is not None:
      journals.append(self._journal('base', base))
    try:
      found = _report(
        *journals, about={**about, **self._about}, out=self._out, **self._shared
      )
    finally:
      for journal in journals:
        journal.close()
    for journal in journals:
      journal.remove()
    return found

  def _journal(self, name: str, params: Any) -> Journal:
    path = self._out / f'{name}.journal.jsonl'
    return Journal(self._scorer(params), path, of=fingerprint(params))


def evaluate_checkpoint(
  evaluation: settings.Evaluation, *, progress: Progress
) -> dict[str, Any]:
  """Evaluates a checkpoint, and a base beside it; `flan eval`.

  Raises:
    InputError: at an unknown cluster or dataset, a checkpoint that is none, or a
      dataset that is not prepared.
  """
  datasets = _asked(evaluation)
  trained = _provenance(evaluation.checkpoint)
  proof = guard.prove_checkpoint(
    trained,
    tuple(dict.fromkeys(dataset.cluster for dataset in datasets)),
    family=evaluation.family,
    accept=evaluation.accept,
  )
  for warning in proof.warnings:
    progress.line(f'warning: {warning}')
  progress.stage(f'Checkpoint {evaluation.checkpoint}')
  tuned = _load(evaluation.checkpoint, evaluation)
  base = None
  if evaluation.base_checkpoint is not None:
    base = _load(evaluation.base_checkpoint, evaluation)
  if evaluation.store is not None:
    store = Store.open(evaluation.store)
    rows, digest = _held(store), store.digest
    missing = tuple(store.manifest['missing'])
  else:
    rows, digest, missing = _raw(evaluation, progress), '', ()
    datasets = [d for d in datasets if _prepared(d, evaluation, progress)]
  return _report(
    tuned,
    base,
    evaluate=evaluation.evaluate,
    datasets=datasets,
    rows=rows,
    seed=evaluation.seed,
    about={
      'model': pathlib.Path(evaluation.checkpoint).name,
      'checkpoint': evaluation.checkpoint,
      'held_out': list(dict.fromkeys(d.cluster for d in datasets)),
      'trained_on': trained.get('trained_on', []),
      'train_rows': trained.get('train_rows', {}),
      'data_digest': digest,
      'seed': evaluation.seed,
      'guard': proof.as_json(),
      'missing': missing,
    },
    out=pathlib.Path(evaluation.output_dir),
    progress=progress,
  )


def _report(
  tuned: LanguageModel,
  base: LanguageModel | None = None,
  *,
  datasets: Sequence[Dataset],
  about: Mapping[str, Any],
  out: pathlib.Path,
  progress: Progress,
  **shared: Any,
) -> dict[str, Any]:
  """Measures, writes OUT/report.json and what belongs to it; returns the report."""
  models = 'Tuned model beside the base' if base is not None else 'Model'
  progress.stage(f'{models} {_title(about["held_out"], datasets)}')
  out.mkdir(parents=True, exist_ok=True)
  with report.Predictions(out) as emit:
    results = _measure(
      tuned, base=base, datasets=datasets, emit=emit, progress=progress, **shared
    )
  for warning in results.warnings:
    progress.line(f'warning: {warning}')
  return report.write(out, results, **about)


def _title(clusters: Sequence[str], datasets: Sequence[Dataset]) -> str:
  names = ', '.join(dataset.name for dataset in datasets)
  return f'zero-shot on {", ".join(clusters)}: {names}'


def _measure(
  tuned: LanguageModel,
  *,
  evaluate: settings.Evaluate,
  datasets: Sequence[Dataset],
  rows: Rows,
  seed: int,
  progress: Progress,
  base: LanguageModel | None = None,
  emit: Callable[..., None] | None = None,
) -> Results:
  with progress.counter() as count:
    return protocol.evaluate(
      tuned,
      datasets=datasets,
      rows=rows,
      base=base,
      templates=evaluate.templates,
      max_rows=evaluate.max_rows,
      limits=Limits(min(Limits().inputs, evaluate.row_length), evaluate.max_decode),
      seed=seed,
      emit=emit,
      progress=count,
    )


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
  clusters = guard.clusters(evaluation.clusters, setting='CLUSTERS')
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
