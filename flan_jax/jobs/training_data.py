"""The store of a run: opened or built, and checked against the run's settings."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from flan_jax import __version__
from flan_jax.catalog import names, registry
from flan_jax.checkpoints import model_dir
from flan_jax.config import checks, training
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.setting import refusal
from flan_jax.data import chat_template, packing, tokenizer_coverage, tokenizers
from flan_jax.data.preprocess import Limits
from flan_jax.data.sources import file_task
from flan_jax.data.store import fingerprint, materialize
from flan_jax.data.store import sources as sources_lib
from flan_jax.data.store.store import Store
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.runtime import multihost, object_store
from flan_jax.runtime.object_store import Bucket
from flan_jax.runtime.progress import Progress
from flan_jax.train import initial_model
from flan_jax.train.run_dir import RunDir


def local(config: training.TrainConfig) -> training.TrainConfig:
  """The settings with local copies of what lies in an object store."""
  with multihost.main_process_first():
    return dataclasses.replace(
      config,
      store=object_store.here('STORE', config.store),
      initial_checkpoint=initial_model.here(config.initial_checkpoint),
    )


def mixture(config: training.TrainConfig) -> registry.Mixture:
  """The mixture that the run trains on: a registered one, a task, or a file.

  Raises:
    InputError: if it is none of them; names the nearest.
  """
  if not file_task.is_file(config.mixture):
    _refuse_without_file(config)
  name = file_task.resolve(
    config.mixture,
    setting='MIXTURE_OR_TASK_NAME',
    inputs=config.inputs,
    targets=config.targets,
    messages=config.messages,
    validation=config.validation,
    stored=config.store is not None,
  )
  return names.mixture(name)


def _refuse_without_file(config: training.TrainConfig) -> None:
  """Refuses the settings of a file if the mixture is none."""
  for field in dataclasses.fields(config):
    if field.name in ('inputs', 'targets', 'messages', 'validation'):
      got = getattr(config, field.name)
      if got != field.default:
        raise refusal(
          config, field.name, f'has no effect: {config.mixture!r} is no file'
        )


def _chat_template(
  config: training.TrainConfig, mixture: registry.Mixture
) -> str | None:
  """The chat template of the run's conversations; None without conversations.

  Raises:
    InputError: if CHAT_TEMPLATE is no file, or there is nothing to render with it.
  """
  chats = any(dataset.messages for dataset in mixture.members)
  if config.chat_template is not None:
    if not chats:
      raise refusal(
        config, 'chat_template', 'has no effect: there are no conversations'
      )
    return chat_template.load(config.chat_template)
  if not chats or config.initial_checkpoint is None or config.tokenizer is not None:
    return None  # that beside the tokenizer, if any
  return chat_template.beside(model_dir.tokenizer_file(config.initial_checkpoint))


def chat_files(config: training.TrainConfig, store: Store) -> dict[str, str]:
  """Name -> text of the files by which a model is asked as in its conversations.

  {} without conversations: the model is asked as FLAN asks.
  """
  if store.chat_template is None:
    return {}
  found = {chat_template.FILE: store.chat_template}
  if config.initial_checkpoint is not None:
    path = model_dir.find(config.initial_checkpoint) / model_dir.GENERATION
    if path.is_file():
      found[path.name] = path.read_text(encoding='utf-8')
  return found


def check_eval_period(
  config: training.TrainConfig,
  mixture: registry.Mixture,
  held_out: tuple[str, ...],
) -> None:
  """Refuses an EVAL_PERIOD that has nothing to evaluate on.

  The examples of a store are not known yet, and not asked for.
  """
  if config.evaluate.eval_period is None or config.store is not None or held_out:
    return
  if any('dev' in dataset.slices for dataset in mixture.members):
    return
  give = 'VALIDATION=0.05 sets some aside'
  if not file_task.is_file(config.mixture):
    give = "a dataset's `dev` names them"
  raise refusal(
    config.evaluate,
    'eval_period',
    f'has no effect: no cluster is held out, and nothing that trains has dev examples '
    f'({give}); must be None',
  )


def open_store(
  run: training.TrainConfig,
  mixture: registry.Mixture,
  held_out: tuple[str, ...],
  folder: RunDir,
  *,
  progress: Progress,
) -> Store:
  """Opens the store that the run names, or the one in MODEL_DIR, or builds it there."""
  path = folder.store if run.store is None else run.store
  bucket = Bucket('STORE', f'{run.model_dir}/store') if folder.bucket else None
  if bucket and run.store is None:
    bucket.pull()
  kept = (pathlib.Path(path) / 'manifest.json').is_file()
  if run.store is None and not kept:
    build_store(run, mixture, held_out, path, progress=progress)
    if bucket:
      bucket.push()
  store = Store.open(path)
  if line := store.unchecked:
    progress.line(line)
  file_task.as_stored(store.manifest)
  if kept and multihost.is_main_process():
    field = 'Run.model_dir' if run.store is None else 'Run.store'
    check_unchanged(store, field=field, warn=progress.line)
  return store


def build_store(
  run: training.TrainConfig,
  mixture: registry.Mixture,
  held_out: tuple[str, ...],
  out: str | os.PathLike,
  *,
  progress: Progress,
) -> dict[str, Any]:
  """Renders the examples of a run into the store `out`; returns its manifest."""
  tokenizer = run.tokenizer
  if tokenizer is None and run.initial_checkpoint is not None:
    tokenizer = model_dir.tokenizer_file(run.initial_checkpoint)
  longest = min(run.sequence_length, run.evaluate.sequence_length)
  line = checks.lengths_above(run.task_feature_lengths, longest)
  if line and multihost.is_main_process():
    progress.line(f'warning: TASK_FEATURE_LENGTHS: {line}')
  with progress.counter() as count:
    return materialize.materialize(
      mixture,
      materialize.StoreConfig(
        tokenizer=tokenizer or materialize.TRAIN,
        vocab_size=run.vocab_size,
        seed=run.template_seed,
        steps=max(run.train_steps, 1),
        batch_tokens=run.batch_tokens,
        sequence_length=longest,
        limits=Limits.of(run.task_feature_lengths),
        evaluate=held_out,
        missing=run.missing,
        chat_template=_chat_template(run, mixture),
        shuffle_targets=run.shuffle_targets,
      ),
      out=out,
      data_dir=run.tfds_data_dir,
      progress=count,
    )


def check_store(
  run: training.TrainConfig,
  mixture: registry.Mixture,
  held_out: tuple[str, ...],
  store: Store,
) -> None:
  """Checks that a store fits the run.

  Processes have compared their stores before, so that all of them raise the same error.

  Raises:
    InputError: if it holds another mixture, was made with other settings, or lacks the
      evaluation examples of a held-out cluster.
  """
  path = store.path if run.store is None else run.store
  if store.manifest['mixture'] != mixture.name:
    raise InputError(
      f'STORE {str(path)!r}: holds mixture {store.manifest["mixture"]!r}, the run has '
      f'{mixture.name!r}; they must be the same',
      field='STORE',
    )
  seed = store.manifest['seed']
  if seed != run.template_seed:
    raise InputError(
      f'TEMPLATE_SEED: got {run.template_seed}; STORE {str(path)!r} was made with '
      f'{seed}; they must be the same: give --gin.TEMPLATE_SEED={seed}',
      field='Run.template_seed',
    )
  shuffles = store.manifest.get('shuffle_targets', False)
  if shuffles != run.shuffle_targets:
    raise InputError(
      f'SHUFFLE_TARGETS: got {run.shuffle_targets}; STORE {str(path)!r} was made with '
      f'{shuffles}; they must be the same: give another STORE',
      field='Run.shuffle_targets',
    )
  if run.store is not None and run.task_feature_lengths is not None:
    limits = Limits.of(run.task_feature_lengths).as_json()
    got = {name: store.manifest['limits'].get(name) for name in limits}
    if got != limits:
      raise InputError(
        f'TASK_FEATURE_LENGTHS: got {limits}; STORE {str(path)!r} was made with {got}; '
        'they must be the same',
        field='Run.task_feature_lengths',
      )
  if run.store is not None and run.tokenizer not in (None, materialize.TRAIN):
    store.require({'tokenizer': tokenizers.load(run.tokenizer).digest}, of='TOKENIZER')
  template = chat_template.suited(_chat_template(run, mixture), store.tokenizer())
  if run.store is not None and template not in (None, store.chat_template):
    raise InputError(
      f'STORE {str(path)!r}: was made with another chat template than that of the '
      'model or of CHAT_TEMPLATE; they must be the same: give its chat_template.jinja '
      'as CHAT_TEMPLATE, or materialize again',
      field='STORE',
    )
  absent = [c for c in held_out if c not in store.manifest['evaluate']]
  if absent:
    raise InputError(
      f'STORE {str(path)!r}: has no evaluation examples of {", ".join(absent)}; '
      'materialize it with them',
      field='STORE',
    )


def changed(store: Store) -> list[str]:
  """Datasets whose data or declaration is another one than when the store was made.

  Those whose data is not on this machine are left out.
  """
  out = []
  for name, digest in store.manifest.get('declared', {}).items():
    dataset = registry.find(name)
    with contextlib.suppress(InputError):  # a store stands without its raw data
      if dataset is not None and fingerprint.declared(dataset) != digest:
        out.append(name)
  return out


def check_unchanged(store: Store, *, field: str, warn: Callable[[str], None]) -> None:
  """Checks that a store holds the data and the templates of now.

  Args:
    store: a store that was there before.
    field: setting that names it, for the error.
    warn: called with a warning.

  Raises:
    InputError: if it does not; if another version made it, this is a warning, since
      that version may have worded a template otherwise.
  """
  names = changed(store)
  if not names:
    return
  what = f'data or templates of {", ".join(names)} have changed since it was made'
  if store.manifest.get('flan_jax') != __version__:
    warn(f'warning: store {str(store.path)!r}: {what}, by another version; it is used')
    return
  raise InputError(
    f'store {str(store.path)!r}: {what}; delete it or give another MODEL_DIR or STORE, '
    'or restore what it was made from',
    field=field,
  )


def check_length(config: training.TrainConfig) -> None:
  """Checks that a run is no longer than a plan can be.

  Raises:
    InputError: if it is.
  """
  if config.sequences > packing.MAX_SEQUENCES:
    nearest = packing.MAX_SEQUENCES // config.batch_size
    raise InputError(
      f'TRAIN_STEPS: got {config.train_steps:,} steps of {config.batch_size} '
      f'sequences; must be {nearest:,} or fewer',
      field='Run.train_steps',
    )


def check_tokenizer(
  config: training.TrainConfig, model: DecoderConfig, store: Store
) -> Tokenizer:
  """Returns the store's tokenizer, which must be the model's.

  Raises:
    InputError: if the initial checkpoint has another, or more tokens than the model.
  """
  if config.initial_checkpoint is not None:
    digest = model_dir.tokenizer_digest(config.initial_checkpoint)
    if digest is not None:
      store.require({'tokenizer': digest}, of='the checkpoint')
  tokenizer = store.tokenizer()
  if tokenizer.vocab_size > model.vocab_size:
    raise InputError(
      f'DecoderConfig.vocab_size: got {model.vocab_size:,}; the tokenizer '
      f'has {tokenizer.vocab_size:,} tokens; must be {tokenizer.vocab_size:,} or more',
      field='DecoderConfig.vocab_size',
    )
  return tokenizer


def store_warnings(store: Store) -> Iterator[str]:
  """Lines on a store's missing datasets, dropped and cut examples, and lost text."""
  for name, why in store.manifest['missing'].items():
    yield f'missing: {name} ({why})'
  for name, entry in store.manifest['datasets'].items():
    dropped = sources_lib.dropped(name, entry['filters'])
    parts = [f'dropped {", ".join(dropped)}'] if dropped else []
    if cut := {why: n for why, n in entry['truncated'].items() if n}:
      words = ', '.join(f'{n:,} {why}' for why, n in cut.items())
      chats = sources_lib.is_chats(name)
      parts.append(
        f'cut {sum(cut.values()):,} after the last turn that fits'
        if chats
        else f'cut or redrawn {words}'
      )
    if parts:
      yield f'{name}: {entry["examples"]:,} examples; {"; ".join(parts)}'
  for name, entry in (store.validation or {}).items():
    if n := entry['in_training']:
      yield (
        f'warning: {name}: {n:,} of its {entry["examples"]:,} validation examples are '
        'training examples too; they say nothing of unseen ones'
      )
  if line := tokenizer_coverage.warning(store.manifest):
    yield line
  if text := _end_text(store):
    yield (
      f'warning: the chat template ends an answer by {text!r:.40}, which is text to '
      'the tokenizer: answers will have that text at their end'
    )


def _end_text(store: Store) -> str:
  """Text by which the conversations of a store end an answer; '' if a token does."""
  if store.chat_template is None:
    return ''
  from flan_jax.data.chat import ChatTemplate  # imports Jinja
  from flan_jax.inference.chat_prompts import ChatPrompts

  try:
    return ChatPrompts(ChatTemplate(store.chat_template, store.tokenizer())).end_text
  except InputError:  # it renders no conversation of one prompt and one answer
    return ''
