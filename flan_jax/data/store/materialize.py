"""Materializes a mixture: raw records -> text -> tokens, once, into a store.

The same mixture, data, tokenizer and seed give the same bytes on any machine, with any
number of workers. A store appears whole or not at all. An interrupted run leaves its
finished parts beside it, in `.NAME.partial`, and the next run resumes from them.
"""

import contextlib
import dataclasses
import fcntl
import functools
import itertools
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flan_jax.catalog import leakage, prompt, registry
from flan_jax.catalog.dataset import CLUSTERS
from flan_jax.catalog.registry import Mixture
from flan_jax.data import packing, preprocess, raw_records, stable_hash, tokenizers
from flan_jax.data.preprocess import Limits
from flan_jax.data.store import fingerprint, parts
from flan_jax.data.store import manifest as manifest_lib
from flan_jax.data.store import store as store_lib
from flan_jax.data.store.manifest import RenderedDataset, Sized
from flan_jax.data.store.parts import WORK, Job
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import atomic_file, worker_pool

Progress = Callable[[str, str, int, int], None]
"""progress(stage, dataset, examples done, examples in all).

Stages are read, render (the epochs known to be needed), extend (further epochs that a
run of `steps` needs) and evaluate.
"""

TRAIN = 'train'
"""Value of `tokenizer` that trains one on the rendered examples."""

TOKENIZER_EXAMPLES = 4_000
"""Maximum number of examples of one dataset to train a tokenizer on."""

MARGIN = 1.02
"""Safety factor for the number of draws, which is estimated from mean lengths."""


def materialize(
  mixture: Mixture,
  *,
  out: str | os.PathLike,
  tokenizer: str | os.PathLike = TRAIN,
  vocab_size: int = 8192,
  seed: int = 0,
  epochs: int | None = None,
  steps: int | None = None,
  batch_tokens: int | None = None,
  sequence_length: int | None = None,
  data_dir: str | None = None,
  evaluate: Sequence[str] | None = None,
  missing: str = 'refuse',
  limits: tuple[int, int] = Limits(),
  workers: int = 1,
  runner: str | None = None,
  progress: Progress | None = None,
) -> dict[str, Any]:
  """Writes the store of a mixture, or opens it if it exists already.

  Args:
    mixture: mixture of training datasets and held-out clusters.
    out: directory of the store. It appears whole or not at all.
    tokenizer: argument of `flan_jax.data.tokenizers.load`, or the word `train`.
    vocab_size: vocabulary size of a trained tokenizer.
    seed: template seed: draws the template of each example and epoch.
    epochs: number of epochs to render; 1 if `steps` is not given either.
    steps: length of the run, in place of `epochs`: render as much of each dataset as
      the run draws. Never more epochs than templates: the plan then starts again at the
      first.
    batch_tokens: tokens of a step, padding included (batch_size x sequence_length);
      needed with `steps`.
    sequence_length: maximum tokens of an example; None for the sum of the limits.
    data_dir: TFDS data directory.
    evaluate: clusters whose dev and test examples are kept; None for the held-out ones.
    missing: `refuse`, or `skip` datasets that are not prepared.
    limits: maximum tokens of inputs and of targets, each with its EOS.
    workers: number of processes; 1 to stay in this one.
    runner: an Apache Beam runner (`DirectRunner`, ...) in place of `workers`; its
      workers must see `out` and the raw data under the same paths.
    progress: called while the work goes on.

  Returns:
    The manifest.

  Raises:
    InputError: on bad arguments, a dataset that is not prepared, a bad example (named),
      another store at `out`, or a full disk. Finished parts are kept.
  """
  limits = Limits(*limits)
  out = pathlib.Path(out)
  evaluate = tuple(mixture.held_out if evaluate is None else evaluate)
  _check(mixture, evaluate, epochs, steps, batch_tokens, missing)
  if epochs is None and steps is None:
    epochs = 1
  report = progress or (lambda *_: None)
  given = None if str(tokenizer) == TRAIN else tokenizers.load(tokenizer)
  training, evaluated, absent = _datasets(mixture, evaluate, data_dir, missing)
  request = {
    'epochs': epochs,
    'steps': steps,
    'batch_tokens': batch_tokens,
    'sequence_length': sequence_length,
    'tokenizer': given.digest if given else f'{TRAIN}:{vocab_size}',
  }
  head = {
    'version': store_lib.VERSION,
    'mixture': mixture.name,
    'family': mixture.family,
    'held_out': list(mixture.held_out),
    'excluded': list(mixture.excluded),
    'evaluate': list(evaluate),
    'seed': seed,
    'request': request,
    'limits': {**limits._asdict(), 'policy': preprocess.POLICY},
    'missing': absent,
    'style': dataclasses.asdict(mixture.style),
    'shared_cap': mixture.shared_cap,
  }
  declared = {
    d.name: fingerprint.declaration(d, sizes) for d, sizes in training + evaluated
  }
  trains = [dataset.name for dataset, _ in training]
  recipe = fingerprint.recipe(head, declared, trains)
  finished = functools.partial(_finished, out, head, declared, trains)
  run = functools.partial(_run, workers=workers, runner=runner)
  done = finished()
  if done is not None:
    return done
  job = Job(
    folder='',
    family=mixture.family,
    style=mixture.style,
    seed=seed,
    limits=limits,
    sequence_length=sequence_length,
    data_dir=data_dir,
    sizes={d.name: dict(sizes) for d, sizes in training + evaluated},
    stamps={
      d.name: raw_records.stamp(d, data_dir=data_dir) for d, _ in training + evaluated
    },
    threads=1 if workers > 1 or runner else None,
  )
  with _partial(out, recipe) as folder:
    done = finished()  # another process may have finished it
    if done is not None:
      return done
    job = job._replace(folder=str(folder))
    tally = worker_pool.Tally(report)
    _gather(job, training, evaluated, run, tally)
    given, job = _tokenizer(job, given, training, vocab_size)
    trained, needs = _render(
      job, mixture, training, given, steps, batch_tokens, epochs, run, tally
    )
    if not any(one.rate for one in trained):
      raise InputError(
        f'mixture {mixture.name!r}: no training examples are left to draw from'
      )
    manifest = manifest_lib.assemble(
      head, job=job, recipe=recipe, tokenizer=given, training=trained, needs=needs,
      evaluated=evaluated,
    )  # fmt: skip
    shutil.rmtree(folder / WORK)
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    manifest['files'] = {
      path.relative_to(folder).as_posix(): path.stat().st_size for path in files
    }
    atomic_file.write_json(folder / store_lib.MANIFEST, manifest, ensure_ascii=False)
    atomic_file.move(folder, out)
  return manifest


def _run(
  calls: Sequence[worker_pool.Call],
  report: worker_pool.Report,
  *,
  workers: int,
  runner: str | None,
) -> None:
  """Builds the parts of a store, in a worker pool or on Beam."""
  if runner is None:
    worker_pool.run(calls, workers=workers, report=report)
    return
  from flan_jax.data.store import beam_runner

  beam_runner.run(calls, runner=runner, report=report)


def _gather(
  job: Job,
  training: Sequence[Sized],
  evaluated: Sequence[Sized],
  run,
  tally: worker_pool.Tally,
) -> None:
  """Reads every dataset, the largest first."""
  calls = []
  for dataset, sizes in training:
    examples = dataset.num_examples('train', sizes)
    tally.expect('read', dataset.name, examples)
    calls.append((examples, functools.partial(parts.read, job, dataset.name)))
  for dataset, sizes in evaluated:
    examples = sum(
      dataset.num_examples(s, sizes) for s in ('dev', 'test') if s in dataset.slices
    )
    tally.expect('evaluate', dataset.name, examples)
    calls.append((examples, functools.partial(parts.evaluate, job, dataset.name)))
  run(_largest_first(calls), tally)


def _largest_first(
  calls: Sequence[tuple[int, worker_pool.Call]],
) -> list[worker_pool.Call]:
  return [call for _, call in sorted(calls, key=lambda one: -one[0])]


def _tokenizer(
  job: Job, given: Tokenizer | None, training: Sequence[Sized], vocab_size: int
) -> tuple[Tokenizer, Job]:
  """Saves the tokenizer in the store's folder; returns it and the job with it."""
  made_from = fingerprint.digest([job.stamps[dataset.name] for dataset, _ in training])
  if given is None and parts.metadata(job, 'tokenizer', made_from) is not None:
    given = tokenizers.load(job.path(tokenizers.SentencePiece.filename))
    given.name = tokenizers.trained_name(vocab_size)
  elif given is None:
    given = tokenizers.train(_texts(job, training), vocab_size=vocab_size)
    given.save(job.path(given.filename))
    parts.finish(job, 'tokenizer', made_from, {'digest': given.digest})
  elif given.filename:
    given.save(job.path(given.filename))
  file = given.filename or tokenizers.BYTES
  return given, job._replace(tokenizer=file, tokenizer_digest=given.digest)


def _texts(job: Job, training: Sequence[Sized]) -> Iterator[str]:
  """Yields texts of epoch 0, to train a tokenizer on."""
  for dataset, _ in training:
    for example in itertools.islice(
      parts.spooled(job, dataset.name), TOKENIZER_EXAMPLES
    ):
      template = stable_hash.template(
        job.seed, example.example_id, 0, len(dataset.templates)
      )
      yield from prompt.render(dataset, template, example)


def _render(
  job: Job, mixture: Mixture, training: Sequence[Sized], tokenizer: Tokenizer,
  steps: int | None, batch_tokens: int | None, epochs: int | None, run,
  tally: worker_pool.Tally,
) -> tuple[list[RenderedDataset], dict[str, int]]:  # fmt: skip
  """Renders the epochs needed; returns (datasets, dataset -> epochs wanted)."""

  def to(have: Mapping[str, int], want: Mapping[str, int], stage: str) -> None:
    calls = []
    for dataset, _ in training:
      name = dataset.name
      kept = parts.metadata(job, f'read.{name}', job.stamps[name])['kept']
      for epoch in range(have[name], want[name]):
        tally.expect(stage, name, kept)
        call = functools.partial(parts.render, job, name, epoch, stage)
        calls.append((kept, call))
    run(_largest_first(calls), tally)

  def capped(needs: Mapping[str, int]) -> dict[str, int]:
    return {d.name: min(needs[d.name], len(d.templates)) for d, _ in training}

  datasets = [dataset for dataset, _ in training]
  names = [dataset.name for dataset in datasets]
  none = dict.fromkeys(names, 0)
  needs = dict.fromkeys(names, epochs or 1)
  have = capped(needs)
  to(none, have, 'render')
  if steps is not None:
    first = manifest_lib.collect(job, mixture, datasets, dict.fromkeys(names, 1))
    needs = _epochs_needed(first, steps * batch_tokens, tokenizer.bos_id)
    to(have, capped(needs), 'extend')
    have = capped(needs)
  return manifest_lib.collect(job, mixture, datasets, have), needs


def _check(mixture, evaluate, epochs, steps, batch_tokens, missing) -> None:
  if not mixture.datasets:
    raise InputError(f'mixture {mixture.name!r}: no datasets; must have at least one')
  if missing not in ('refuse', 'skip'):
    raise InputError(
      f"missing {missing!r}: must be 'refuse' or 'skip'"
      + did_you_mean(missing, ['refuse', 'skip']),
      field='MISSING',
    )
  if epochs is not None and steps is not None:
    raise InputError(f'epochs {epochs} and steps {steps}: give one of them')
  for name, value in (('epochs', epochs), ('steps', steps)):
    if value is not None and value < 1:
      raise InputError(f'{name} {value}: must be at least 1')
  if steps is not None and not batch_tokens:
    raise InputError(f'steps {steps}: needs batch_tokens as well, the tokens of a step')
  for cluster in evaluate:
    if cluster not in CLUSTERS:
      raise InputError(
        f'cluster {cluster!r}: must be one of {", ".join(CLUSTERS)}'
        + did_you_mean(cluster, CLUSTERS),
        field='Run.held_out',
      )
  leakage.check(mixture)
  for dataset in mixture.members:
    if not dataset.train:
      raise InputError(
        f'mixture {mixture.name!r}: {dataset.name!r} has no training split'
      )


def _datasets(
  mixture: Mixture, evaluate: Sequence[str], data_dir: str | None, missing: str
) -> tuple[list[Sized], list[Sized], dict[str, str]]:
  """Returns (training datasets, evaluation datasets, missing), with their sizes."""
  family = registry.datasets(mixture.family)
  wanted = [
    mixture.members,
    [dataset for dataset in family.values() if dataset.cluster in evaluate],
  ]
  found: list[list[Sized]] = [[], []]
  absent = {}
  for here, datasets in zip(found, wanted, strict=True):
    for dataset in datasets:
      try:
        here.append((dataset, dict(raw_records.sizes(dataset, data_dir=data_dir))))
      except InputError as error:
        if missing == 'refuse':
          raise
        absent[dataset.name] = str(error)
  if not found[0]:
    raise InputError(
      f'mixture {mixture.name!r}: none of its {len(mixture.datasets)} datasets is '
      'prepared'
    )
  return found[0], found[1], absent


def _finished(
  out: pathlib.Path,
  head: Mapping[str, Any],
  declared: Mapping[str, Any],
  trains: Sequence[str],
) -> dict[str, Any] | None:
  """Manifest of a store of this recipe at `out`; None if `out` is absent or empty.

  Args:
    out: path of the store.
    head, declared, trains: the recipe, as `fingerprint.recipe` takes it.

  Raises:
    InputError: if something else is at `out`.
  """
  if not out.exists() or (out.is_dir() and not any(out.iterdir())):
    return None
  if not (out / store_lib.MANIFEST).is_file():
    raise InputError(
      f'out {str(out)!r}: exists and is not a store; must be a new directory'
    )
  manifest = dict(store_lib.Store.open(out).manifest)
  # Why a dataset is missing is hashed as text, which other versions word otherwise.
  if manifest['missing'].keys() == head['missing'].keys():
    head = {**head, 'missing': manifest['missing']}
  recipe = fingerprint.recipe(head, declared, trains)
  got = manifest['digests']['recipe']
  if got != recipe:
    raise InputError(
      f'store {str(out)!r}: holds {manifest["mixture"]!r} of recipe {got[:12]}, not '
      f'{recipe[:12]}; a finished store is not rewritten: delete it or use another path'
    )
  return manifest


@contextlib.contextmanager
def _partial(out: pathlib.Path, recipe: str) -> Iterator[pathlib.Path]:
  """Opens the work folder beside `out`, with the finished parts of an interrupted run.

  The process holds a lock on it. On exit the folder is removed unless it was renamed or
  a part in it is finished; half-written files are removed.

  Raises:
    InputError: if another process holds the lock, or a file cannot be written.
  """
  out.parent.mkdir(parents=True, exist_ok=True)
  # A work folder rather than a draft: a killed run resumes from it, so its name is
  # fixed, and only a finished run or another recipe clears it.
  folder = out.parent / f'.{out.name}.partial'
  folder.mkdir(exist_ok=True)
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      locked = os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except (BlockingIOError, FileNotFoundError):
      locked = False
    if not locked:
      raise InputError(
        f'store {str(out)!r}: another process is writing it; wait until it ends'
      )
    try:
      _prepare(folder, recipe)
      yield folder
    except OSError as error:
      raise InputError(
        f'store {str(out)!r}: {error}; finished parts are kept: fix that, then rerun '
        'the same command to resume'
      ) from None
    finally:
      # After the rename, another process may already use the name.
      with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
          _tidy(folder)
          if not any((folder / WORK).glob('*.json')):
            shutil.rmtree(folder)
  finally:
    os.close(descriptor)


_RECIPE = 'recipe'


def _prepare(folder: pathlib.Path, recipe: str) -> None:
  """Keeps finished parts of this recipe; clears anything else."""
  kept = folder / WORK / _RECIPE
  if not (kept.is_file() and kept.read_text(encoding='utf-8') == recipe):
    for left in folder.iterdir():
      if left.is_dir():
        shutil.rmtree(left)
      else:
        left.unlink()
    for name in ('train', 'evaluation', WORK):
      (folder / name).mkdir()
    kept.write_text(recipe, encoding='utf-8')
  _tidy(folder)


def _tidy(folder: pathlib.Path) -> None:
  """Removes half-written files."""
  for path in folder.rglob('.*'):
    path.unlink()


def _epochs_needed(
  trained: Sequence[RenderedDataset], tokens: int, bos_id: int | None
) -> dict[str, int]:
  """Number of epochs of each dataset that a run of `tokens` tokens draws."""
  total = sum(one.rate for one in trained)
  if not total:
    return {one.dataset.name: 1 for one in trained}
  mean = sum(
    one.rate / total * float(one.lengths(bos_id).mean()) for one in trained if one.rate
  )
  draws = packing.drawn(math.ceil(tokens / mean * MARGIN))
  return {
    one.dataset.name: max(1, math.ceil(draws * one.rate / total / max(1, one.examples)))
    for one in trained
  }
