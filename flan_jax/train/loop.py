"""A run from its settings to its report, readable from top to bottom."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from flan_jax import catalogue, guard
from flan_jax.data import materialize
from flan_jax.data.loader import Loader
from flan_jax.data.store import Store
from flan_jax.errors import InputError
from flan_jax.evaluate import report as report_lib
from flan_jax.model import config as config_lib
from flan_jax.model.config import DecoderConfig
from flan_jax.progress import Progress
from flan_jax.train import folder as folder_lib
from flan_jax.train import log as log_lib
from flan_jax.train import mesh as mesh_lib
from flan_jax.train import model_folder, settings
from flan_jax.train import state as state_lib
from flan_jax.train import step as step_lib
from flan_jax.train.checkpoint import Checkpoints
from flan_jax.train.state import TrainState

INTERRUPTED = 143
"""Exit code after SIGTERM: a checkpoint was saved, start again to go on."""


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


class Stopped(Exception):
  """SIGTERM ended the run; all that was done is saved."""


class Stop:
  """SIGTERM as a flag that the loop reads between two steps."""

  def __init__(self):
    self.asked = False
    self._raises = False

  def __enter__(self) -> 'Stop':
    self._main = threading.current_thread() is threading.main_thread()
    if self._main:
      self._before = signal.signal(signal.SIGTERM, self._ask)
    return self

  def __exit__(self, *_):
    if self._main:
      signal.signal(signal.SIGTERM, self._before)

  @contextlib.contextmanager
  def at_once(self) -> Iterator[None]:
    """In here SIGTERM raises Stopped: an evaluation keeps what it has computed."""
    if self.asked:
      raise Stopped
    self._raises = True
    try:
      yield
    finally:
      self._raises = False

  def _ask(self, *_):
    self.asked = True
    if self._raises:
      raise Stopped


def train(run: settings.Run, *, text: str = '', progress: Progress) -> Outcome:
  """Trains, then evaluates the held-out clusters into MODEL_DIR/report.

  Args:
    run: the settings.
    text: the resolved configuration, kept in MODEL_DIR.
    progress: where to say what is happening.

  Raises:
    InputError: on settings or data that do not fit together, before the first step.
  """
  mixture = catalogue.mixture(run.mixture)
  held_out = guard.prove(mixture, run.held_out, accept=run.accept).held_out
  folder = folder_lib.Folder(run.model_dir)

  # What starts: a model folder, or a shape to fill at random.
  config = run.model
  if run.initial_checkpoint is not None:
    config = model_folder.config(run.initial_checkpoint, asked=run.model)
  if config is None:
    raise InputError(
      'Run.model: not set; include one of gin/models/*.gin, or give '
      '--gin.INITIAL_CHECKPOINT_PATH=FOLDER'
    )
  mesh = mesh_lib.build(run.mesh)
  shapes, axes = state_lib.abstract_params(config)
  microbatch = run.batch_rows // run.accumulation
  rules = run.mesh.rules
  mesh_lib.check(shapes, axes, mesh=mesh, rules=rules, batch_rows=microbatch)
  folder.claim(run, text=text)

  progress.stage(f'Data: {mixture.name}')
  store = open_store(run, mixture, held_out, folder, progress=progress)
  proof = guard.prove(mixture, held_out, accept=run.accept, datasets=store.datasets)
  for warning in proof.warnings:
    progress.line(f'warning: {warning}')
  tokenizer = store.tokenizer()
  if run.initial_checkpoint is not None:
    own = model_folder.tokenizer_digest(run.initial_checkpoint)
    if own is not None:
      store.require({'tokenizer': own}, of='the checkpoint')
  if tokenizer.vocab_size > config.vocab_size:
    raise InputError(
      f'DecoderConfig.vocab_size: got {config.vocab_size:,}; the tokenizer has '
      f'{tokenizer.vocab_size:,} pieces, and the model must have as many or more'
    )
  rows = max(run.train_steps, 1) * run.batch_rows
  plan = store.plan(
    seed=run.data_seed, rows=rows, row_length=run.row_length, pack=run.pack
  )
  progress.line(
    f'{plan.examples:,} examples in {len(plan):,} rows of {run.row_length:,} tokens, '
    f'{plan.fill:.1%} full'
  )

  count = config_lib.parameter_count(config)
  progress.stage(f'Model: {count:,} parameters on {mesh_lib.describe(mesh)}')
  optimizer = state_lib.make_optimizer(run.optimizer, logical_axes=axes)
  layout = state_lib.layout(
    config, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=rules
  )
  evaluation = None
  if held_out:
    from flan_jax.evaluate import held_out as evaluate_lib

    evaluation = evaluate_lib.Run(
      run.evaluate,
      store=store,
      config=config,
      held_out=held_out,
      seed=run.data_seed,
      out=folder.report,
      progress=progress,
      sharding=mesh_lib.batch_sharding(mesh, rules),
    )
  checkpoints = Checkpoints(run.model_dir, keep=run.keep)
  done = start = checkpoints.latest() or 0
  about = {
    'plan': plan.stream,
    'store': store.digest,
    'data_seed': run.data_seed,
    'mixture': mixture.name,
    'held_out': list(held_out),
    'trained_on': store.manifest['trained_on'],
    'guard': proof.as_json(),
  }
  with Stop() as stop:
    try:
      if start:
        progress.stage(f'Resuming at step {start:,}')
        _check_same_data(checkpoints.about(start), about)
        state = checkpoints.restore(start, layout=layout)
      else:
        params = initial_params(run, config, shapes, layout=layout)
        if evaluation and run.evaluate.base:
          with stop.at_once():
            report_lib.print_table(evaluation.before(params))
        state = state_lib.create(params, optimizer, layout=layout)
      train_step = step_lib.make(
        config,
        optimizer,
        layout=layout,
        mesh=mesh,
        rules=rules,
        accumulation=run.accumulation,
        z_loss=run.z_loss,
      )
      with step_lib.sharded(mesh, rules):
        state, done = _steps(
          run, state, train_step,
          start=start, store=store, plan=plan, config=config, mesh=mesh,
          checkpoints=checkpoints, about=about, folder=folder, stop=stop,
          progress=progress,
        )  # fmt: skip
      checkpoints.wait()
      if done < run.train_steps:
        raise Stopped
      rows_seen = Loader(store, plan, batch_rows=run.batch_rows).rows_seen(done)
      about |= {'step': done, 'train_rows': rows_seen}
      model_folder.save(
        folder.model, state.params, config=config, tokenizer=tokenizer, provenance=about
      )
      if not evaluation:
        return Outcome(state, done, False, None)
      with stop.at_once():
        report = evaluation.after(
          state.params,
          base=initial_params(run, config, shapes, layout=layout)
          if run.evaluate.base
          else None,
          about={
            'model': run.mixture,
            'checkpoint': str(folder.model),
            'trained_on': store.manifest['trained_on'],
            'train_rows': rows_seen,
            'guard': proof.as_json(),
          },
        )
      return Outcome(state, done, False, report)
    except Stopped:
      where = f'step {done:,} is saved' if done else 'before the first step'
      progress.stage(f'Stopped by SIGTERM; {where}. Start again to go on')
      return Outcome(None, done, True, None)
    finally:
      checkpoints.close()


def open_store(
  run: settings.Run,
  mixture: catalogue.Mixture,
  held_out: tuple[str, ...],
  folder: folder_lib.Folder,
  *,
  progress: Progress,
) -> Store:
  """The run's store: the one it names, the one in MODEL_DIR, or a new one there."""
  path = folder.store if run.store is None else run.store
  if run.store is None and not (folder.store / 'manifest.json').is_file():
    tokenizer = run.tokenizer
    if tokenizer is None and run.initial_checkpoint is not None:
      tokenizer = model_folder.tokenizer_file(run.initial_checkpoint)
    with progress.counter() as count:
      materialize.materialize(
        mixture,
        out=path,
        tokenizer=tokenizer or materialize.TRAIN,
        vocab_size=run.vocab_size,
        seed=run.data_seed,
        steps=max(run.train_steps, 1),
        batch_tokens=run.batch_tokens,
        row_length=min(run.row_length, run.evaluate.row_length),
        data_dir=run.tfds_data_dir,
        evaluate=held_out,
        missing=run.missing,
        progress=count,
      )
  store = Store.open(path)
  if store.manifest['mixture'] != mixture.name:
    raise InputError(
      f'STORE {str(path)!r}: holds mixture {store.manifest["mixture"]!r}, the run asks '
      f'for {mixture.name!r}; they must be the same'
    )
  absent = [c for c in held_out if c not in store.manifest['evaluate']]
  if absent:
    raise InputError(
      f'STORE {str(path)!r}: has no evaluation rows of {", ".join(absent)}; '
      'materialize it with them'
    )
  for line in remarks(store):
    progress.line(line)
  return store


def remarks(store: Store) -> Iterator[str]:
  """What a person should know of a store: what is missing, dropped, cut, clamped."""
  for name, why in store.manifest['missing'].items():
    yield f'missing: {name} ({why})'
  for name, entry in store.manifest['datasets'].items():
    said = [f'{count:,} {why}' for why, count in entry['filters'].items() if count]
    cut = [f'{count:,} {why}' for why, count in entry['truncated'].items() if count]
    parts = [f'dropped {", ".join(said)}'] if said else []
    parts += [f'cut or redrawn {", ".join(cut)}'] if cut else []
    if parts:
      yield f'{name}: {entry["rows"]:,} rows; {"; ".join(parts)}'


def initial_params(
  run: settings.Run, config: DecoderConfig, shapes: Any, *, layout: state_lib.Layout
) -> Any:
  """The parameters that the run starts from, on its mesh."""
  target = layout.shardings.params
  if run.initial_checkpoint is None:
    return state_lib.init_params(config, seed=run.seed, shardings=target)
  params = model_folder.load(run.initial_checkpoint, config=config, shapes=shapes)
  return jax.device_put(params, target)


def _check_same_data(saved: dict[str, Any], now: dict[str, Any]) -> None:
  for name in ('store', 'plan'):
    if saved[name] != now[name]:
      raise InputError(
        f'MODEL_DIR: the checkpoint was trained from {name} {saved[name]}, the run has '
        f'{now[name]}; restore that {name} or give another MODEL_DIR'
      )


def _steps(
  run, state, train_step, *,
  start, store, plan, config, mesh, checkpoints, about, folder, stop, progress,
):  # fmt: skip
  """Runs steps start .. train_steps; returns (state, steps done)."""
  sharding = mesh_lib.batch_sharding(mesh, run.mesh.rules)
  loader = Loader(store, plan, batch_rows=run.batch_rows, start_step=start)
  if start >= run.train_steps:
    return state, start
  batches = iter(loader)
  flops = config_lib.flops_per_token(config, run.row_length).train
  rate = state_lib.schedule(run.optimizer)
  log = log_lib.Log(
    folder,
    start_step=start,
    batch_tokens=run.batch_tokens,
    flops_per_token=flops,
  )
  progress.stage('Compiling the train step')
  rows = next(batches)
  batch = mesh_lib.put_batch(rows, sharding)
  compiled = train_step.lower(state, batch).compile()
  progress.stage(f'Training steps {start + 1:,} to {run.train_steps:,}')
  log.pause()
  done = start
  steps = run.train_steps - start
  with progress.bar('train', steps, unit='steps') as bar:
    while True:
      state, metrics = compiled(state, batch)
      digests = loader.digests(done, rows)  # while the step is computed
      done += 1
      waited = time.monotonic()
      last = done == run.train_steps
      if not last:
        rows = next(batches)
        batch = mesh_lib.put_batch(rows, sharding)
      log.add(metrics, rows=digests, wait_s=time.monotonic() - waited)
      text = ''
      ends = last or stop.asked  # read once: SIGTERM may come at any line
      saves = ends or done % run.checkpoint_period == 0
      # Before a checkpoint as well: a run that goes on from it lacks no row in its log.
      if done % run.log_period == 0 or saves:
        entry = log.flush(done, learning_rate=float(rate(done - 1)))
        text = log_lib.note(entry)
      bar.advance(1, text)
      if saves:
        checkpoints.save(state, step=done, about={**about, 'step': done})
      if ends:
        break
  log.close()
  return state, done
