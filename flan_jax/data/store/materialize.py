"""Materializes a mixture: raw records -> text -> tokens, once, into a store.

The same mixture, data, tokenizer and seed give the same bytes on any machine, with any
number of workers. A store appears whole or not at all. An interrupted run leaves its
finished parts beside it, in `.NAME.partial`, and the next run resumes from them.
"""

import dataclasses
import functools
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.registry import Mixture
from flan_jax.catalog.source import UNKNOWN_SIZE
from flan_jax.data import (
  bpe,
  chat_template,
  packing,
  preprocess,
  raw_records,
  tokenizers,
)
from flan_jax.data.preprocess import Limits
from flan_jax.data.sources import file_task
from flan_jax.data.store import fingerprint, parts, store_files, work_folder
from flan_jax.data.store import manifest as manifest_lib
from flan_jax.data.store import sources as sources_lib
from flan_jax.data.store import store as store_lib
from flan_jax.data.store.manifest import RenderedDataset, Sized
from flan_jax.data.store.parts import WORK, Job
from flan_jax.data.store.sources import Sources
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import atomic_file, lock, modules, worker_pool

Progress = Callable[[str, str, int, int], None]
"""progress(stage, dataset, examples done, examples in all).

Stages are read, render (the epochs known to be needed), extend (further epochs that a
run of `steps` needs), evaluate, validate and `render dev` (of the training datasets).
"""

TRAIN = 'train'
"""Value of `tokenizer` that trains one on the rendered examples, if none is given."""

MARGIN = 1.02
"""Safety factor for the number of draws, which is estimated from mean lengths."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreConfig:
  """Settings of a store, which say what it holds of a mixture.

  Attributes:
    tokenizer: argument of `flan_jax.data.tokenizers.load`, or the word `train`. The
      tokens of seqio tasks come with their own, which is then the store's.
    vocab_size: vocabulary size of a trained tokenizer.
    seed: template seed: draws the template of each example and epoch.
    epochs: number of epochs to render; 1 if neither `steps` nor `draws` is given.
    steps: length of the run, in place of `epochs`: render as much of each dataset as
      the run draws. Never more epochs than templates: the plan then starts again at the
      first.
    batch_tokens: tokens of a step, padding included (batch_size x sequence_length);
      needed with `steps`.
    draws: number of examples that are drawn, in place of `epochs` and `steps`.
    sequence_length: maximum tokens of an example; None for the sum of the limits.
    limits: maximum tokens of inputs and of targets, each with its EOS.
    evaluate: clusters whose dev and test examples are kept; None for the held-out ones.
    missing: `refuse`, or `skip` datasets that are not prepared.
    chat_template: text of the model's chat template, which renders conversations; None
      for the one beside the tokenizer.
    shuffle_targets: shuffle the answers within each training dataset.
  """

  tokenizer: str | os.PathLike = TRAIN
  vocab_size: int = 8192
  seed: int = 0
  epochs: int | None = None
  steps: int | None = None
  batch_tokens: int | None = None
  draws: int | None = None
  sequence_length: int | None = None
  limits: Limits = Limits()
  evaluate: Sequence[str] | None = None
  missing: str = 'refuse'
  chat_template: str | None = None
  shuffle_targets: bool = False

  def __post_init__(self):
    if self.missing not in ('refuse', 'skip'):
      raise InputError(
        f"missing {self.missing!r}: must be 'refuse' or 'skip'"
        + did_you_mean(self.missing, ['refuse', 'skip']),
        field='MISSING',
      )
    lengths = {'epochs': self.epochs, 'steps': self.steps, 'draws': self.draws}
    given = {name: value for name, value in lengths.items() if value is not None}
    if len(given) > 1:
      both = ' and '.join(f'{name} {value}' for name, value in given.items())
      raise InputError(f'{both}: give one of them')
    for name, value in given.items():
      if value < 1:
        raise InputError(f'{name} {value}: must be at least 1')
    if self.steps is not None and not self.batch_tokens:
      raise InputError(
        f'steps {self.steps}: needs batch_tokens as well, the tokens of a step'
      )

  @property
  def tokens(self) -> int | None:
    """Tokens of the run of `steps`, padding included; None if `epochs` are rendered."""
    return self.steps and self.batch_tokens and self.steps * self.batch_tokens


class _Part(NamedTuple):
  """A part to build: its stage, dataset and number of examples, and what builds it."""

  stage: str
  dataset: str
  examples: int
  call: worker_pool.Call


class _Builder(NamedTuple):
  """Builds parts, in a worker pool or on Beam, and reports on them.

  Attributes:
    workers: number of processes; 1 to stay in this one.
    runner: Apache Beam runner in place of `workers`; None for the worker pool.
    tally: sums the progress of the parts.
  """

  workers: int
  runner: str | None
  tally: worker_pool.Tally

  @property
  def threads(self) -> int | None:
    """Number of tokenizer threads of a part; None for one per core."""
    return 1 if self.workers > 1 or self.runner else None

  def build(self, wanted: Iterable[_Part]) -> None:
    """Builds the parts and waits for them, the largest first."""
    wanted = sorted(wanted, key=lambda part: -part.examples)
    for part in wanted:
      self.tally.expect(part.stage, part.dataset, part.examples)
    calls = [part.call for part in wanted]
    if self.runner is None:
      worker_pool.run(calls, workers=self.workers, report=self.tally)
      return
    from flan_jax.data.store import beam_runner

    beam_runner.run(calls, runner=self.runner, report=self.tally)


def materialize(
  mixture: Mixture,
  config: StoreConfig = StoreConfig(),
  *,
  out: str | os.PathLike,
  data_dir: str | None = None,
  workers: int = 1,
  runner: str | None = None,
  progress: Progress | None = None,
) -> dict[str, Any]:
  """Writes the store of a mixture, or opens it if it exists already.

  Args:
    mixture: mixture of training datasets and held-out clusters.
    config: settings of the store.
    out: directory of the store. It appears whole or not at all.
    data_dir: TFDS data directory.
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
  # Sources and recipe.
  out = pathlib.Path(out)
  clusters = tuple(mixture.held_out if config.evaluate is None else config.evaluate)
  sources_lib.check(mixture, clusters)
  tokenizer = (
    None if str(config.tokenizer) == TRAIN else tokenizers.load(config.tokenizer)
  )
  sources = sources_lib.find(
    mixture, clusters, data_dir=data_dir, missing=config.missing
  )
  tokenizer = sources_lib.checked_tokenizer(sources, tokenizer)
  template = chat_template.suited(_chat_template(config, sources), tokenizer)
  config = dataclasses.replace(config, chat_template=template)
  recipe = _recipe(config, sources, tokenizer)
  if (done := _finished(out, recipe)) is not None:
    lock.sweep(out)
    return done
  builder = _Builder(workers, runner, worker_pool.Tally(progress or (lambda *_: None)))
  job = _job(config, sources, data_dir=data_dir, threads=builder.threads)

  with work_folder.opened(out, recipe.digest) as folder:
    if (done := _finished(out, recipe)) is not None:
      return done  # another process has finished it
    job = job._replace(folder=str(folder))

    # Read.
    builder.build(_read(job, sources))
    _check_left(job, sources)

    # Tokenize.
    tokenizer, job = _tokenizer(job, tokenizer, sources.training, config.vocab_size)

    # Render.
    trained, needs = _render(job, config, sources, tokenizer, builder)
    builder.build(_dev(job, sources))

    # Manifest.
    if config.chat_template:
      text = config.chat_template.encode('utf-8')
      (folder / chat_template.FILE).write_bytes(text)
    manifest = manifest_lib.assemble(
      recipe, job=job, tokenizer=tokenizer, training=trained, needs=needs,
      evaluated=sources.evaluated, validated=manifest_lib.validated(sources.training),
    )  # fmt: skip
    shutil.rmtree(folder / WORK)
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    manifest['files'] = {
      path.relative_to(folder).as_posix(): path.stat().st_size for path in files
    }
    atomic_file.write_json(folder / store_lib.MANIFEST, manifest, ensure_ascii=False)
    store_files.record(folder, list(manifest['files']))
    atomic_file.move(folder, out)
  return manifest


# Sources and recipe.


def _chat_template(config: StoreConfig, sources: Sources) -> str | None:
  """The chat template of the conversations; None without conversations.

  Raises:
    InputError: if there are some, and no template.
  """
  if not sources.chats:
    return None
  found = config.chat_template or chat_template.beside(config.tokenizer)
  if found is None:
    raise InputError(
      f'CHAT_TEMPLATE: got None; {sources.chats[0].name!r} has conversations, and the '
      "model keeps no chat template; must be a file with one, or 'chatml'",
      field='CHAT_TEMPLATE',
    )
  return found


def _recipe(
  config: StoreConfig, sources: Sources, tokenizer: Tokenizer | None
) -> fingerprint.Recipe:
  """Everything that the store is made from; `tokenizer` is None to train one."""
  mixture = sources.mixture
  whole = config.epochs is None and config.steps is None and config.draws is None
  head = {
    'version': store_lib.CHAT_VERSION if sources.chats else store_lib.VERSION,
    'mixture': mixture.name,
    'family': mixture.family,
    'held_out': list(mixture.held_out),
    'excluded': list(mixture.excluded),
    'evaluate': list(sources.clusters),
    'seed': config.seed,
    'request': {
      'epochs': 1 if whole else config.epochs,
      'steps': config.steps,
      'batch_tokens': config.batch_tokens,
      'sequence_length': config.sequence_length,
      'tokenizer': tokenizer.digest if tokenizer else f'{TRAIN}:{config.vocab_size}',
      **({} if config.draws is None else {'draws': config.draws}),
    },
    'limits': {**config.limits.as_json(), 'policy': preprocess.POLICY},
    'missing': sources.missing,
    'style': mixture.style.as_json(),
    'shared_cap': mixture.shared_cap,
    **({'shuffle_targets': True} if config.shuffle_targets else {}),
    **sources_lib.own_settings(mixture),
    **(
      {'chat_template': fingerprint.digest(config.chat_template)}
      if config.chat_template
      else {}
    ),
  }
  declared = {
    dataset.name: fingerprint.declaration(dataset, sizes)
    for dataset, sizes in sources.training + sources.evaluated
  }
  return fingerprint.Recipe(head, declared, [d.name for d, _ in sources.training])


def _finished(out: pathlib.Path, recipe: fingerprint.Recipe) -> dict[str, Any] | None:
  """Manifest of a store of this recipe at `out`; None if `out` is absent or empty.

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
  if manifest['missing'].keys() == recipe.head['missing'].keys():
    head = {**recipe.head, 'missing': manifest['missing']}
    recipe = dataclasses.replace(recipe, head=head)
  got, want = manifest['digests']['recipe'], recipe.digest
  if got != want:
    raise InputError(
      f'store {str(out)!r}: holds {manifest["mixture"]!r} of recipe {got[:12]}, not '
      f'{want[:12]}; a finished store is not rewritten: delete it or use another path'
    )
  return manifest


# Parts.


def _job(
  config: StoreConfig,
  sources: Sources,
  *,
  data_dir: str | None,
  threads: int | None,
) -> Job:
  """Job of the build, without its folder and its tokenizer."""
  every = sources.training + sources.evaluated
  return Job(
    folder='',
    style=sources.mixture.style,
    styles=dict(sources.mixture.styles),
    modules=modules.named(),
    declared=file_task.carried(),
    chat_template=config.chat_template or '',
    shuffle_targets=config.shuffle_targets,
    seed=config.seed,
    limits=config.limits,
    sequence_length=config.sequence_length,
    data_dir=data_dir,
    sizes={dataset.name: dict(sizes) for dataset, sizes in every},
    stamps={
      dataset.name: raw_records.stamp(dataset, data_dir=data_dir)
      for dataset, _ in every
    },
    threads=threads,
  )


def _read(job: Job, sources: Sources) -> Iterator[_Part]:
  """Parts that read every dataset, and write the evaluation examples."""
  for dataset, sizes in sources.training:
    examples = _expected(dataset, sizes, 'train')
    call = functools.partial(parts.read, job, dataset.name)
    yield _Part('read', dataset.name, examples, call)
  for dataset, sizes in manifest_lib.validated(sources.training):
    call = functools.partial(parts.validate, job, dataset.name)
    yield _Part('validate', dataset.name, _expected(dataset, sizes, 'dev'), call)
  for dataset, sizes in sources.evaluated:
    examples = _expected(dataset, sizes, 'dev', 'test')
    call = functools.partial(parts.evaluate, job, dataset.name)
    yield _Part('evaluate', dataset.name, examples, call)


def _check_left(job: Job, sources: Sources) -> None:
  """Refuses a mixture of whose examples none is left once they are read."""
  found = {
    dataset.name: parts.finished(job, f'read.{dataset.name}', job.stamps[dataset.name])
    for dataset, _ in sources.training
  }
  if not any(one['kept'] for one in found.values()):
    counts = {name: one['filters'] for name, one in found.items()}
    shutil.rmtree(job.path(WORK))  # no other run has a use for its parts
    raise sources_lib.nothing_left(sources.mixture, counts)


def _expected(dataset: Dataset, sizes: Mapping[str, int], *splits: str) -> int:
  """Number of examples of these splits, without those of unknown size."""
  counts = [dataset.num_examples(s, sizes) for s in splits if s in dataset.slices]
  return sum(count for count in counts if count < UNKNOWN_SIZE)


def _dev(job: Job, sources: Sources) -> Iterator[_Part]:
  """Parts that render the dev examples of the training datasets."""
  for dataset, _ in manifest_lib.validated(sources.training):
    kept = parts.finished(job, f'validate.{dataset.name}', job.stamps[dataset.name])
    call = functools.partial(parts.render_dev, job, dataset.name)
    yield _Part('render dev', dataset.name, kept['examples']['dev'], call)


def _tokenizer(
  job: Job, given: Tokenizer | None, training: Sequence[Sized], vocab_size: int
) -> tuple[Tokenizer, Job]:
  """Saves the tokenizer in the store's folder; returns it and the job with it."""
  made_from = fingerprint.digest([job.stamps[dataset.name] for dataset, _ in training])
  if given is None and parts.metadata(job, 'tokenizer', made_from) is not None:
    given = tokenizers.load(job.path(tokenizers.SentencePiece.filename))
    given.name = bpe.trained_name(vocab_size)
  elif given is None:
    datasets = [dataset for dataset, _ in training]
    texts = parts.texts(job, datasets)
    given = bpe.train(texts, vocab_size=vocab_size)
    given.save(job.path(given.filename))
    parts.finish(
      job, 'tokenizer', made_from, {'digest': given.digest}, [given.filename]
    )
  elif given.filename:
    given.save(job.path(given.filename))
  file = given.filename or tokenizers.BYTES
  return given, job._replace(tokenizer=file, tokenizer_digest=given.digest)


def _render(
  job: Job,
  config: StoreConfig,
  sources: Sources,
  tokenizer: Tokenizer,
  builder: _Builder,
) -> tuple[list[RenderedDataset], dict[str, int]]:
  """Renders the epochs needed; returns (datasets, dataset -> epochs wanted).

  Raises:
    InputError: if no example is left to draw from.
  """
  datasets = [dataset for dataset, _ in sources.training]

  names = [dataset.name for dataset in datasets]
  needs = dict.fromkeys(names, config.epochs or 1)
  have = _capped(needs, datasets)
  builder.build(_epochs(job, dict.fromkeys(names, 0), have, 'render'))
  if config.tokens is not None or config.draws is not None:
    first = manifest_lib.collect(
      job, sources.mixture, datasets, dict.fromkeys(names, 1)
    )
    draws = config.draws or _draws_of(first, config.tokens or 0, tokenizer.bos_id)
    needs = _epochs_needed(first, draws)
    more = _capped(needs, datasets)
    builder.build(_epochs(job, have, more, 'extend'))
    have = more
  trained = manifest_lib.collect(job, sources.mixture, datasets, have)
  if not any(dataset.rate for dataset in trained):
    counts = {}
    for one in trained:
      entry = one.entry(1)
      counts[one.dataset.name] = {'read': entry['examples_read'], **entry['filters']}
    shutil.rmtree(job.path(WORK))  # no other run has a use for its parts
    raise sources_lib.nothing_left(sources.mixture, counts)
  return trained, needs


def _capped(needs: Mapping[str, int], datasets: Sequence[Dataset]) -> dict[str, int]:
  """Epochs to render of those needed: never more than a dataset has templates."""
  return {d.name: min(needs[d.name], len(d.templates)) for d in datasets}


def _epochs(
  job: Job, have: Mapping[str, int], want: Mapping[str, int], stage: str
) -> Iterator[_Part]:
  """Parts that render each dataset from the epochs it has to those it needs."""
  for name, epochs in want.items():
    kept = parts.finished(job, f'read.{name}', job.stamps[name])['kept']
    for epoch in range(have[name], epochs):
      call = functools.partial(parts.render, job, name, epoch, stage)
      yield _Part(stage, name, kept, call)


def _draws_of(
  trained: Sequence[RenderedDataset], tokens: int, bos_id: int | None
) -> int:
  """Number of draws of a run of `tokens` tokens: whole windows, and some to spare."""
  drawn = [one for one in trained if one.rate]
  total = sum(one.rate for one in drawn)
  mean = sum(one.rate / total * float(one.lengths(bos_id).mean()) for one in drawn)
  return packing.drawn(math.ceil(tokens / mean * MARGIN)) if drawn else 1


def _epochs_needed(trained: Sequence[RenderedDataset], draws: int) -> dict[str, int]:
  """Number of epochs of each dataset that `draws` draws of the mixture take."""
  total = max(1, sum(one.rate for one in trained))
  return {
    one.dataset.name: max(1, math.ceil(draws * one.rate / total / max(1, one.examples)))
    for one in trained
  }
