"""A run from its settings to its report, readable from top to bottom."""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from flan_jax.catalog import leakage, registry
from flan_jax.catalog import lineage as lineage_lib
from flan_jax.checkpoints import model_dir
from flan_jax.config import decoder
from flan_jax.config import training as training_lib
from flan_jax.data import packing, tokenizer_coverage, tokenizers
from flan_jax.data.loader import Loader
from flan_jax.data.store import materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.model import attention_dispatch
from flan_jax.model import params as params_lib
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime import multihost, object_store, preemption
from flan_jax.runtime.object_store import Bucket
from flan_jax.runtime.preemption import Stop, Stopped
from flan_jax.runtime.progress import Progress
from flan_jax.train import checkpoint as checkpoint_lib
from flan_jax.train import (
  compile_async,
  initial_model,
  loop,
  loss_guard,
  profiler,
  run_dir,
)
from flan_jax.train import lora as lora_lib
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from flan_jax.train import train_step as train_step_lib
from flan_jax.train.checkpoint import Checkpoints
from flan_jax.train.evaluation import Evaluation
from flan_jax.train.goodput import Goodput
from flan_jax.train.metric_writer import BadStep
from flan_jax.train.state import TrainState

INTERRUPTED = preemption.INTERRUPTED


class Outcome(NamedTuple):
  """How a run ended.

  Attributes:
    state: the last TrainState; None where the run was interrupted.
    step: its number.
    interrupted: True where SIGTERM ended it before its report.
    report: the content of report.json, or None where nothing is held out.
  """

  state: TrainState | None
  step: int
  interrupted: bool
  report: dict[str, Any] | None


def train(
  run: training_lib.TrainConfig,
  *,
  text: str = '',
  profile: int = 0,
  progress: Progress,
  evaluate: Callable[..., Evaluation] | None = None,
) -> Outcome:
  """Trains, and measures the held-out clusters by what `evaluate` makes.

  Args:
    run: the settings.
    text: the resolved configuration, kept in MODEL_DIR.
    profile: steps to trace into MODEL_DIR/profile.
    progress: where to say what is happening.
    evaluate: makes the held-out evaluation, given the settings, the store, the model's
      config and what else HeldOutEvaluation takes; None for no evaluation.

  Raises:
    InputError: on settings, data or hosts that do not fit together and on a disk too
      small, before the first step; on a bad step and a full disk, with what is saved.
  """
  began, clock = time.time(), time.monotonic()
  mixture = registry.mixture(run.mixture)
  held_out = leakage.check(
    mixture, run.held_out, allow_overlap=run.allow_overlap
  ).held_out
  rows = max(run.train_steps, 1) * run.batch_size
  if rows > packing.MAX_SEQUENCES:
    nearest = packing.MAX_SEQUENCES // run.batch_size
    raise InputError(
      f'TRAIN_STEPS: got {run.train_steps:,} steps of {run.batch_size} rows; must be '
      f'{nearest:,} or fewer',
      field='Run.train_steps',
    )
  folder = run_dir.Folder(run.model_dir)
  given = run  # its paths as all hosts have them; those of object stores come here
  with multihost.main_process_first():
    run = dataclasses.replace(
      run,
      store=object_store.here('STORE', run.store),
      initial_checkpoint=object_store.here(
        'INITIAL_CHECKPOINT_PATH', run.initial_checkpoint
      ),
    )

  # What starts: a model folder, or a shape to fill at random.
  config = run.model
  if run.initial_checkpoint is not None:
    config = model_dir.config(run.initial_checkpoint, asked=run.model)
  if config is None:
    raise InputError(
      'Run.model: not set; include one of gin/models/*.gin, or give '
      '--gin.INITIAL_CHECKPOINT_PATH=FOLDER',
      field='Run.model',
    )
  for warning in multihost.assert_same_on_all(
    {**multihost.facts(given), 'Run.model': config}
  ):
    progress.line(f'warning: {warning}')
  mesh = mesh_lib.build(run.mesh)
  shapes, axes = params_lib.abstract_params(config)
  microbatch = run.batch_size // run.accumulation
  rules = run.mesh.rules
  mesh_lib.check(shapes, axes, mesh=mesh, rules=rules, batch_size=microbatch)
  if profile:
    profiler.check()
  attention_dispatch.check(
    run.attention_kernel, config, sequence_length=run.sequence_length,
    device_kind=mesh.devices.flat[0].device_kind,
  )  # fmt: skip

  parent = initial_model.lineage(run.initial_checkpoint)
  check = functools.partial(
    leakage.check, mixture, held_out, allow_overlap=run.allow_overlap, lineage=parent
  )
  check()

  progress.stage(f'Data: {mixture.name}')
  with multihost.main_process_first():  # what host 0 makes, the others find
    if multihost.is_main_process():
      folder.bring()
      _check_steps(run)
      folder.claim(given, text=text)
    store = open_store(run, mixture, held_out, folder, progress=progress)
  initial = model_dir.digest(run.initial_checkpoint)
  multihost.assert_same_on_all({'the data': store.digest, 'the initial model': initial})
  check_store(run, mixture, held_out, store)
  for line in remarks(store):
    progress.line(line)
  with multihost.main_process_first():
    plan = store.plan(
      seed=run.seed, sequences=rows, sequence_length=run.sequence_length, pack=run.pack
    )
  multihost.assert_same_on_all({'the plan': plan.stream})
  proof = check(datasets=store.datasets)
  for warning in proof.warnings:
    progress.line(f'warning: {warning}')
  tokenizer = store.tokenizer()
  if run.initial_checkpoint is not None:
    own = model_dir.tokenizer_digest(run.initial_checkpoint)
    if own is not None:
      store.require({'tokenizer': own}, of='the checkpoint')
  if tokenizer.vocab_size > config.vocab_size:
    raise InputError(
      f'DecoderConfig.vocab_size: got {config.vocab_size:,}; the tokenizer has '
      f'{tokenizer.vocab_size:,} pieces, and the model must have as many or more',
      field='DecoderConfig.vocab_size',
    )
  progress.line(
    f'{plan.examples:,} examples in {len(plan):,} rows of {run.sequence_length:,} tokens, '
    f'{plan.fill:.1%} full'
  )

  count = decoder.parameter_count(config)
  progress.stage(f'Model: {count:,} parameters on {mesh_lib.describe(mesh)}')
  model = initial_model.Model(
    run, config, shapes, mesh_lib.shardings(axes, mesh=mesh, rules=rules)
  )
  if run.lora.rank:  # what is trained are adapters beside it
    shapes, axes = lora_lib.abstract(shapes, axes, lora=run.lora)
    mesh_lib.check(shapes, axes, mesh=mesh, rules=rules, batch_size=microbatch)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    progress.line(f'{count:,} parameters of adapters are tuned, the model is frozen')
  plain = optimizer_lib.make_optimizer(
    run.optimizer, config=config, logical_axes=axes, lora=run.lora
  )
  watched = run.loss_spike is not None or run.bad_step == 'skip'
  skip = run.bad_step == 'skip'
  watch = loss_guard.watch(plain, loss_spike=run.loss_spike, skip=skip)
  layouts = {
    guarded: state_lib.layout(
      config, watch if guarded else plain,
      axes=axes, shapes=shapes, mesh=mesh, rules=rules,
    )
    for guarded in (False, True)
  }  # fmt: skip
  optimizer, layout = watch if watched else plain, layouts[watched]
  checkpoint_lib.check_room(run.model_dir, layout, keep=run.keep)
  stop = Stop()
  evaluation = None
  if held_out and evaluate is not None:
    evaluation = evaluate(
      run.evaluate,
      store=store,
      config=config,
      held_out=held_out,
      seed=run.eval_seed,
      out=folder.report,
      progress=progress,
      sharding=mesh_lib.batch_sharding(mesh, rules),
      data_dir=run.tfds_data_dir,
      text=text,
      on_batch=stop.on_batch,
      untrained=leakage.check_checkpoint(
        parent,
        held_out,
        family=mixture.family,
        allow_overlap=run.allow_overlap,
        setting='HELD_OUT',
      ),
    )
  checkpoints = Checkpoints(run.model_dir, keep=run.keep)
  train_step = train_step_lib.make(
    config, optimizer, layout=layout, mesh=mesh, rules=rules,
    frozen_shardings=model.shardings, **train_step_lib.options(run),
  )  # fmt: skip
  compile_step = functools.partial(
    compile_async.compile_step, train_step, run=run, layout=layout, mesh=mesh,
    frozen=model.shapes if run.lora.rank else None,
  )  # fmt: skip
  to_do = (checkpoints.latest() or 0) < run.train_steps
  compiling = compile_step() if to_do else None
  goodput = Goodput(folder.goodput, began=began, write=multihost.is_main_process())
  done = 0
  about = {
    'plan': plan.stream,
    'store': store.digest,
    'seed': run.seed,
    'template_seed': run.template_seed,
    'mixture': mixture.name,
    'held_out': list(held_out),
    'trained_on': store.manifest['trained_on'],
    'leakage': proof.as_json(),
    'lineage': parent.as_json(),
    'loss_guard': watched,
  }
  if run.lora.rank:
    about['lora'] = {
      **dataclasses.asdict(run.lora),
      'base': str(run.initial_checkpoint),
      'base_digest': lora_lib.base_digest(run.initial_checkpoint),
    }

  def restore(step: int) -> TrainState:
    said = checkpoints.about(step)
    _check_same_data(said, about)
    was = said.get('loss_guard', False)
    state = checkpoints.restore(step, layout=layouts[was], about=said)
    if was == watched:
      return state
    moments = loss_guard.adopt(state.optimizer, watched=watched)
    return jax.device_put(state._replace(optimizer=moments), layout.shardings)

  with stop:
    try:
      found = checkpoints.newest(restore, say=progress.line)
      if found is not None:
        done, state = found
        progress.stage(f'Resuming at step {done:,}')
      goodput.start(done)
      goodput.add('init', time.monotonic() - clock)
      if goodput.lost[0]:
        progress.line(
          f'{goodput.lost[0]:,} steps were done after it, and are done again'
        )
      frozen = None
      if found is not None and run.lora.rank:
        frozen = model.initial()
      if found is None:
        params = model.initial()
        if evaluation and run.evaluate.base:
          with stop.at_once(), goodput.span('evaluation'):
            evaluation.before(params)
        if run.lora.rank:
          frozen = params
          params = lora_lib.init(
            shapes, axes, seed=run.seed, shardings=layout.shardings.params
          )
        state = state_lib.create(params, optimizer, layout=layout)
        del params
      if compiling is None and done < run.train_steps:  # the newest could not be read
        compiling = compile_step()
      with train_step_lib.sharded(mesh, rules):
        state, done = loop.run(
          run, state, compiling, frozen=frozen, profile=profile,
          start=done, store=store, plan=plan, config=config, mesh=mesh,
          checkpoints=checkpoints, about=about, folder=folder, goodput=goodput,
          stop=stop, progress=progress, evaluation=evaluation,
        )  # fmt: skip
      with goodput.span('save'):
        checkpoints.wait()
      if done < run.train_steps:
        raise Stopped
      examples_seen = Loader(
        store, plan, batch_size=run.batch_size, process_index=0, process_count=1
      ).examples_seen(done)
      own = lineage_lib.of_mixture(
        mixture, store.datasets, model=folder.name, train_examples=examples_seen
      )
      about |= {
        'step': done,
        'train_examples': examples_seen,
        'lineage': parent.then(own).as_json(),
      }
      tuned = state.params
      if run.lora.rank:
        tuned = lora_lib.merge(frozen, tuned, lora=run.lora)
      with goodput.span('save'):
        checksum = model_dir.save(
          folder.model, tuned, config=config, tokenizer=tokenizer,
          provenance=about,
        )  # fmt: skip
      lineage = parent.then(dataclasses.replace(own, weights=checksum))
      if not evaluation:
        return Outcome(state, done, False, None)
      with stop.at_once(), goodput.span('evaluation'):
        report = evaluation.after(
          tuned,
          base=None if not run.evaluate.base else frozen or model.initial(),
          about={
            'model': run.mixture,
            'checkpoint': str(folder.model),
            'leakage': proof.as_json(),
            **lineage.summary(mixture.family),
          },
        )
      return Outcome(state, done, False, report)
    except Stopped:
      where = f'step {done:,} is saved' if done else 'before the first step'
      progress.stage(f'Stopped by SIGTERM; {where}. Start again to go on')
      return Outcome(None, done, True, None)
    except BadStep as error:
      checkpoints.wait()
      raise InputError(
        f'{error}, which is not finite or a spike; {checkpoints.kept()}: lower '
        'Optimizer.learning_rate, set Optimizer.clip_global_norm or '
        "Run.bad_step='skip'"
      ) from None
    except OSError as error:
      if not checkpoint_lib.is_full(error):
        raise
      raise InputError(
        f'MODEL_DIR {run.model_dir!r}: the disk is full; {checkpoints.kept()}; free '
        'some space and start again',
        field='Run.model_dir',
      ) from None
    finally:
      # Closing waits for the other hosts: for one that is gone it would wait for ever.
      if not multihost.is_peer_loss(sys.exception()):
        checkpoints.close()
      if multihost.is_main_process():
        folder.send()


def open_store(
  run: training_lib.TrainConfig,
  mixture: registry.Mixture,
  held_out: tuple[str, ...],
  folder: run_dir.Folder,
  *,
  progress: Progress,
) -> Store:
  """The run's store: the one it names, the one in MODEL_DIR, or a new one there."""
  path = folder.store if run.store is None else run.store
  kept = Bucket('STORE', f'{run.model_dir}/store') if folder.bucket else None
  if kept and run.store is None:
    kept.pull()
  if run.store is None and not (folder.store / 'manifest.json').is_file():
    tokenizer = run.tokenizer
    if tokenizer is None and run.initial_checkpoint is not None:
      tokenizer = model_dir.tokenizer_file(run.initial_checkpoint)
    with progress.counter() as count:
      materialize.materialize(
        mixture,
        out=path,
        tokenizer=tokenizer or materialize.TRAIN,
        vocab_size=run.vocab_size,
        seed=run.template_seed,
        steps=max(run.train_steps, 1),
        batch_tokens=run.batch_tokens,
        sequence_length=min(run.sequence_length, run.evaluate.sequence_length),
        data_dir=run.tfds_data_dir,
        evaluate=held_out,
        missing=run.missing,
        progress=count,
      )
    if kept:
      kept.push()
  return Store.open(path)


def check_store(
  run: training_lib.TrainConfig,
  mixture: registry.Mixture,
  held_out: tuple[str, ...],
  store: Store,
) -> None:
  """Checks that a store is the one that the run asks for.

  Hosts first agree on what they opened: an error here is then every host's.

  Raises:
    InputError: if it holds another mixture, was made with other settings, or lacks the
      evaluation rows of a held-out cluster.
  """
  path = store.path if run.store is None else run.store
  if store.manifest['mixture'] != mixture.name:
    raise InputError(
      f'STORE {str(path)!r}: holds mixture {store.manifest["mixture"]!r}, the run asks '
      f'for {mixture.name!r}; they must be the same',
      field='STORE',
    )
  seed = store.manifest['seed']
  if run.store is not None and seed != run.template_seed:
    raise InputError(
      f'TEMPLATE_SEED: got {run.template_seed}; STORE {str(path)!r} was made with '
      f'{seed}; they must be the same: give --gin.TEMPLATE_SEED={seed}',
      field='Run.template_seed',
    )
  if run.store is not None and run.tokenizer not in (None, materialize.TRAIN):
    store.require({'tokenizer': tokenizers.load(run.tokenizer).digest}, of='TOKENIZER')
  absent = [c for c in held_out if c not in store.manifest['evaluate']]
  if absent:
    raise InputError(
      f'STORE {str(path)!r}: has no evaluation rows of {", ".join(absent)}; '
      'materialize it with them',
      field='STORE',
    )


def remarks(store: Store) -> Iterator[str]:
  """What a person should know of a store: what is missing, dropped, cut, lost."""
  for name, why in store.manifest['missing'].items():
    yield f'missing: {name} ({why})'
  for name, entry in store.manifest['datasets'].items():
    said = [f'{count:,} {why}' for why, count in entry['filters'].items() if count]
    cut = [f'{count:,} {why}' for why, count in entry['truncated'].items() if count]
    parts = [f'dropped {", ".join(said)}'] if said else []
    parts += [f'cut or redrawn {", ".join(cut)}'] if cut else []
    if parts:
      yield f'{name}: {entry["examples"]:,} examples; {"; ".join(parts)}'
  if line := tokenizer_coverage.warning(store.manifest):
    yield line


def _check_steps(run: training_lib.TrainConfig) -> None:
  done = checkpoint_lib.newest_step(run.model_dir)
  if done is not None and run.train_steps < done:
    raise InputError(
      f'TRAIN_STEPS: got {run.train_steps:,}; MODEL_DIR {run.model_dir!r} has a '
      f'checkpoint of step {done:,}, so it must be {done:,} or more; for fewer steps '
      'give another MODEL_DIR',
      field='Run.train_steps',
    )


def _check_same_data(saved: dict[str, Any], now: dict[str, Any]) -> None:
  before, after = (x.get('lora', {}).get('base_digest') for x in (saved, now))
  if before != after:
    raise InputError(
      'INITIAL_CHECKPOINT_PATH: the adapters of the checkpoint rest on weights of '
      f'digest {before}, the run has {after}; give that model or another MODEL_DIR',
      field='Run.initial_checkpoint',
    )
  trainings = (x.get('lineage', now['lineage']) for x in (saved, now))
  before, after = ([training['digest'] for training in each] for each in trainings)
  if before != after:
    raise InputError(
      'INITIAL_CHECKPOINT_PATH: is not the model that this run started from (digest of '
      f'weights {before[-1:]}, now {after[-1:]}); give that one, or another MODEL_DIR',
      field='Run.initial_checkpoint',
    )
  for name in ('store', 'plan'):
    if saved[name] != now[name]:
      raise InputError(
        f'MODEL_DIR: the checkpoint was trained from {name} {saved[name]}, the run has '
        f'{now[name]}; restore that {name} or give another MODEL_DIR',
        field='Run.model_dir',
      )
