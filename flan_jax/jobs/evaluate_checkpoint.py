"""The held-out evaluation, from parameters or a checkpoint to a report."""

import contextlib
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.sharding import NamedSharding

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import leakage
from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.dataset import Dataset
from flan_jax.config import training
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data.preprocess import Limits
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.evaluate import (
  contamination,
  eval_data,
  evaluator,
  load_model,
  measured_data,
  predictions,
)
from flan_jax.evaluate.eval_data import Rows
from flan_jax.evaluate.evaluator import Results
from flan_jax.evaluate.predict import LanguageModel
from flan_jax.evaluate.response_cache import fingerprint
from flan_jax.jobs import provenance
from flan_jax.report import build  # fmt: skip
from flan_jax.runtime import atomic_file, multihost
from flan_jax.runtime.progress import Progress

_NAMED = 12
"""Most datasets that a stage names one by one."""

LOOKS = 'evaluations.jsonl'
"""Beside the report: one line for each look at dev during training."""


class Run:
  """The held-out evaluation of a training run, from the run's own store.

  `before` measures the base model ahead of tuning, `during` takes a look at dev, and
  `after` measures the tuned model beside the base. What they computed is kept in
  journals, so that an interrupted run goes on where it was, and `after` has the base
  model's answers from `before`.
  """

  def __init__(
    self,
    evaluate: training.Evaluate,
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
    between: Callable[[], None] = lambda: None,
    untrained: leakage.Proof | None = None,
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
      between: called between two batches, on every host as often.
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
      between=between,
    )
    self._shared = {
      'datasets': [
        dataset_lib.get(name, family=store.manifest['family'])
        for name in store.manifest['evaluation']
        if store.clusters[name] in held_out
      ],
      'rows': eval_data.stored(store, data_dir=data_dir, progress=progress),
      'evaluate': evaluate,
      'seed': seed,
      'progress': progress,
    }
    self._about = {
      'held_out': self._held_out,
      'data_digest': store.digest,
      'seed': seed,
      'missing': tuple(store.manifest['missing']),
      'data': measured_data.in_store(store, shots=evaluate.shots, data_dir=data_dir),
    }

  def before(self, params: Any) -> dict[str, Any]:
    """Measures the base model; returns its figures in the form of report.json."""
    progress = self._shared['progress']
    evaluate = self._shared['evaluate']
    title = _title(self._held_out, self._shared['datasets'], evaluate)
    progress.stage(f'Base model {title}')
    journal = load_model.journal(
      self._scorer(params, form=evaluate.base_form or evaluate.form),
      self._out / load_model.JOURNAL.format('base'),
      fingerprint=fingerprint(params),
      progress=progress,
    )
    try:
      results = _measure(
        journal, form=evaluate.base_form or evaluate.form, **self._shared
      )
    finally:
      journal.close()
    return build.build(
      results, model='base model', checkpoint='', **self._of_base(), **self._about
    )

  def _of_base(self) -> dict[str, Any]:
    """What is known of the base model's training."""
    proof = self._untrained
    if proof is None:
      return {'trained_on': lineage_lib.UNKNOWN, 'train_rows': {}}
    return {**proof.lineage.about(proof.measured), 'guard': proof.as_json()}

  def during(self, params: Any, *, step: int) -> dict[str, Any]:
    """A look at dev in the middle of training: few rows, one template, no test.

    It is one line of evaluations.jsonl beside the report; steps that a restart runs
    again replace their lines. Test rows are never looked at: nothing can be chosen by
    them.

    Args:
      params: the parameters as they are.
      step: steps done.

    Returns:
      {'step', 'rows', 'clusters': {cluster: mean over its datasets, in percent},
      'datasets': {label of a result: percent}}.
    """
    evaluate = self._shared['evaluate']
    results = _measure(
      self._scorer(params, form=evaluate.form),
      **{**self._shared, 'progress': Progress(quiet=True)},
      splits=('dev',),
      max_rows=evaluate.period_rows,
      templates=1,
    )
    found = build.build(
      results,
      model='',
      checkpoint='',
      trained_on=lineage_lib.UNKNOWN,
      train_rows={},
      **self._about,
    )
    look = {
      'step': step,
      'rows': evaluate.period_rows,
      'clusters': {a['cluster']: round(a['mean'], 4) for a in build.averages(found)},
      'datasets': {build.label(row): row['mean'] for row in found['rows']},
    }
    if multihost.first():
      _look(self._out.parent / LOOKS, look)
    means = ', '.join(f'{name} {mean:.1f}' for name, mean in look['clusters'].items())
    self._shared['progress'].line(f'step {step:,}, dev, percent: {means or "no rows"}')
    return look

  def looked(self, step: int) -> bool:
    """Whether the look at this step was taken."""
    there = multihost.first() and step in _looks(self._out.parent / LOOKS)
    return multihost.told(b'' if there else None) is not None

  def after(
    self, params: Any, *, base: Any | None, about: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Measures the tuned model and writes the report.

    Args:
      params: the tuned parameters.
      base: the parameters that the run started from, or None.
      about: what report.json says of the run (model, checkpoint, guard, lineage,
        trained_on, train_rows).

    Returns:
      The content of report.json.
    """
    models = {'tuned': params} | ({} if base is None else {'base': base})
    forms = _forms(self._shared['evaluate'])
    of = {
      name: provenance.of_model(found, config=self._config, tokenizer=self._tokenizer)
      for name, found in models.items()
    }
    about = {
      **about,
      **self._about,
      'provenance': {
        'config': self._text,
        'models': of,
        'versions': provenance.versions(),
      },
    }
    with load_model.journals(
      {
        name: (self._scorer(p, form=forms[name]), of[name]['fingerprint'])
        for name, p in models.items()
      },
      self._out,
      progress=self._shared['progress'],
    ) as journals:
      return _report(**journals, about=about, out=self._out, **self._shared)


def evaluate_checkpoint(
  evaluation: training.Evaluation,
  *,
  text: str = '',
  progress: Progress,
  between: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
  """Evaluates a checkpoint, and a base beside it; `flan eval`.

  Killed, it goes on where it was when it is asked the same again. Several hosts that
  run it together compute together, with the model laid over all of them; the first
  writes.

  Args:
    evaluation: the settings.
    text: the resolved configuration with its origins, for the report.
    progress: where to say what is happening.
    between: called between two batches, on every host as often.

  Raises:
    InputError: at an unknown cluster or dataset, a checkpoint that is none, a dataset
      that is not prepared, or hosts that do not have the same before them.
  """
  datasets = eval_data.asked(evaluation)
  for path in filter(None, (evaluation.checkpoint, evaluation.base_checkpoint)):
    load_model.check(path)
  proofs = {
    which: leakage.prove_checkpoint(
      provenance.lineage(path),
      tuple(dict.fromkeys(dataset.cluster for dataset in datasets)),
      family=evaluation.family,
      accept=evaluation.accept,
      which=which,
    )
    for which, path in (
      ('CHECKPOINT', evaluation.checkpoint),
      ('BASE_CHECKPOINT', evaluation.base_checkpoint),
    )
    if path is not None
  }
  lineage = proofs['CHECKPOINT'].lineage
  proof = leakage.beside(proofs['CHECKPOINT'], proofs.get('BASE_CHECKPOINT'))
  for warning in proof['warnings']:
    progress.line(f'warning: {warning}')
  data_dir = evaluation.tfds_data_dir
  if evaluation.store is not None:
    store = Store.open(evaluation.store)
    rows = eval_data.stored(store, data_dir=data_dir, progress=progress)
    digest, missing = store.digest, tuple(store.manifest['missing'])
    where = measured_data.in_store(
      store, shots=evaluation.evaluate.shots, data_dir=data_dir
    )
    datasets = eval_data.in_store(
      datasets, store, missing=evaluation.missing, progress=progress
    )
  else:
    rows = eval_data.raw(evaluation.family, data_dir=data_dir, progress=progress)
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
      'fetch` says what is prepared'
    )
  suspects = contamination.suspects(evaluation.contamination)
  out = pathlib.Path(evaluation.output_dir)
  with multihost.first_first():
    if multihost.first():
      _claim(out)
  progress.stage(f'Checkpoint {evaluation.checkpoint}')
  forms = _forms(evaluation.evaluate)
  folders = {'tuned': evaluation.checkpoint, 'base': evaluation.base_checkpoint}
  folders = {
    name: load_model.brought(path, out=out, progress=progress)
    for name, path in folders.items()
    if path is not None
  }
  multihost.agree(
    {'the data': digest, 'the models': [*map(load_model.digest, folders.values())]}
  )
  scorers = {
    name: load_model.checkpoint(folder, evaluation, form=forms[name], between=between)
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
    **lineage.about(evaluation.family),
    'data_digest': digest,
    'data': where,
    'base': evaluation.base_checkpoint,
    'seed': evaluation.seed,
    'guard': proof,
    'missing': missing,
    'provenance': {'config': text, 'models': of, 'versions': provenance.versions()},
  }
  with load_model.journals(
    {name: (s, of[name]['fingerprint']) for name, s in scorers.items()},
    out,
    progress=progress,
  ) as journals:
    return _report(
      **journals,
      evaluate=evaluation.evaluate,
      datasets=datasets,
      rows=rows,
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
      'folder, made if absent'
    ) from None


def _forms(evaluate: training.Evaluate) -> dict[str, str]:
  """Model -> the words of its prompts."""
  return {'tuned': evaluate.form, 'base': evaluate.base_form or evaluate.form}


def _report(
  tuned: LanguageModel,
  base: LanguageModel | None = None,
  *,
  datasets: Sequence[Dataset],
  about: Mapping[str, Any],
  out: pathlib.Path,
  progress: Progress,
  evaluate: training.Evaluate,
  look_up: Callable[[Results], Mapping[str, Any]] | None = None,
  **shared: Any,
) -> dict[str, Any]:
  """Measures, writes OUT/report.json and what belongs to it; returns the report."""
  models = 'Model beside the base' if base is not None else 'Model'
  progress.stage(f'{models} {_title(about["held_out"], datasets, evaluate)}')
  with contextlib.ExitStack() as stack:
    emit = None
    if multihost.first():
      out.mkdir(parents=True, exist_ok=True)
      emit = stack.enter_context(predictions.Predictions(out))
    results = _measure(
      tuned, base=base, datasets=datasets, emit=emit, progress=progress,
      evaluate=evaluate, **shared,
    )  # fmt: skip
  for warning in results.warnings:
    progress.line(f'warning: {warning}')
  found = None
  if multihost.first():
    overlaps = look_up(results) if look_up is not None else None
    asked = {
      'normalisation': evaluate.normalisation,
      'decoding': dataclasses.asdict(evaluate.decoding),
    }
    made = build.write(out, results, contamination=overlaps, answers=asked, **about)
    found = json.dumps(made).encode()
  return json.loads(multihost.told(found))


def _title(
  clusters: Sequence[str], datasets: Sequence[Dataset], evaluate: training.Evaluate
) -> str:
  names = f'{len(datasets)} datasets'
  if len(datasets) <= _NAMED:
    names = ', '.join(dataset.name for dataset in datasets)
  how = f'{evaluate.shots}-shot' if evaluate.shots else 'zero-shot'
  return f'{how} on {", ".join(clusters)}: {names}'


def _measure(
  tuned: LanguageModel,
  *,
  evaluate: training.Evaluate,
  datasets: Sequence[Dataset],
  rows: Rows,
  seed: int,
  progress: Progress,
  base: LanguageModel | None = None,
  emit: Callable[..., None] | None = None,
  **changes: Any,
) -> Results:
  settled = {
    'templates': evaluate.templates,
    'max_rows': evaluate.max_rows,
    'shots': evaluate.shots,
    'form': evaluate.form,
    'base_form': evaluate.base_form,
  }
  with progress.counter() as count:
    return evaluator.evaluate(
      tuned,
      datasets=datasets,
      rows=rows,
      base=base,
      limits=Limits(min(Limits().inputs, evaluate.row_length), evaluate.max_decode),
      seed=seed,
      emit=emit,
      progress=count,
      **{**settled, **changes},
    )


def _look(path: pathlib.Path, look: Mapping[str, Any]) -> None:
  """Adds a line, in place of those of the same step and later ones."""
  kept = [found for step, found in _looks(path).items() if step < look['step']]
  with atomic_file.writing(path) as file:
    file.writelines(f'{json.dumps(found)}\n' for found in [*kept, look])


def _looks(path: pathlib.Path) -> dict[int, dict[str, Any]]:
  """Step -> the look at it, of those whose lines are whole."""
  found = {}
  for line in path.read_text(encoding='utf-8').splitlines() if path.is_file() else ():
    with contextlib.suppress(json.JSONDecodeError):  # torn by a kill
      look = json.loads(line)
      found[look['step']] = look
  return found
