"""The training loop of one start of a run, from its checkpoint to its end."""

import contextlib
import time
from concurrent.futures import Future
from typing import Any

import jax
from jax.sharding import Mesh

from flan_jax.config import decoder, training
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data.loader import Loader
from flan_jax.data.packing import PackingPlan
from flan_jax.data.store.store import Store
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime import multihost
from flan_jax.runtime.preemption import Stop, Stopped, Watchdog
from flan_jax.runtime.progress import Progress
from flan_jax.train import lora as lora_lib
from flan_jax.train import metric_writer, optimizer
from flan_jax.train.checkpoint import Checkpoints
from flan_jax.train.evaluation import Evaluation
from flan_jax.train.goodput import GoodputLog
from flan_jax.train.profiler import Profile
from flan_jax.train.run_dir import RunDir
from flan_jax.train.state import TrainState


def run(
  run: training.TrainConfig,
  state: TrainState,
  compiling: Future[jax.stages.Compiled] | None,
  *,
  frozen: Any,
  profile: int = 0,
  start: int,
  store: Store,
  plan: PackingPlan,
  config: DecoderConfig,
  mesh: Mesh,
  checkpoints: Checkpoints,
  metadata: dict[str, Any],
  folder: RunDir,
  goodput: GoodputLog,
  stop: Stop,
  progress: Progress,
  evaluation: Evaluation | None = None,
) -> tuple[TrainState, int]:
  """Runs steps start .. train_steps, or until a stop is requested.

  The metrics of every step are fetched before the next checkpoint is saved, so that a
  state after a bad step is never saved. If the previous process stopped before a
  scheduled evaluation on dev (`evaluate.eval_period`), it runs first.

  Args:
    run: settings of the run.
    state: the state after `start` steps.
    compiling: the train step (compile_async); None if no step is left.
    frozen: the frozen parameters beside adapters; None if the state is the whole model.
    profile: number of steps to trace into MODEL_DIR/profile, in process 0.
    start: steps done.
    store: source of the examples.
    plan: packing plan of the run.
    config: decoder config.
    mesh: the device mesh.
    checkpoints: checkpoints of the run.
    metadata: metadata of every checkpoint.
    folder: MODEL_DIR.
    goodput: log of the time spent.
    stop: request to stop, as after SIGTERM.
    progress: progress output.
    evaluation: held-out evaluation, or None.

  Returns:
    (state, steps done); saving the checkpoint of the last one has been started.

  Raises:
    BadStep: at a bad step, if the run stops there.
  """
  if start >= run.train_steps:
    return state, start
  sharding = mesh_lib.batch_sharding(mesh, run.mesh.rules)
  shape = (run.batch_size, run.sequence_length)
  part, parts = mesh_lib.process_share(sharding, shape)
  loader = Loader(
    store,
    plan,
    batch_size=run.batch_size,
    start_step=start,
    process_index=part,
    process_count=parts,
  )
  batches = iter(loader)
  rate = optimizer.schedule(run.optimizer)
  flops = decoder.flops_per_token(config, run.sequence_length)
  flops = 2 * flops.forward if run.lora.rank else flops.train
  rest = () if frozen is None else (frozen,)
  log = metric_writer.MetricWriter(
    folder,
    start_step=start,
    batch_tokens=run.batch_tokens,
    flops_per_token=flops,
    write=multihost.is_main_process(),
    bad_step=run.bad_step,
  )
  progress.stage('Compiling the train step')
  with goodput.span('data wait'):
    sequences = next(batches)
    batch = mesh_lib.put_batch(sequences, sharding, shape=shape)
  with goodput.span('compile'):
    compiled = compiling.result()
    multihost.barrier('compiled')
  progress.stage(f'Training steps {start + 1:,} to {run.train_steps:,}')
  log.pause()
  done = logged = start
  waits = saves = 0.0
  since = time.monotonic()
  steps = run.train_steps - start
  trace = Profile(
    folder.path / 'profile',
    steps=profile if multihost.is_main_process() else 0,
    start=start,
    end=run.train_steps,
  )

  def write_log() -> str:
    """Logs the steps since the last call; returns the text of the progress bar."""
    nonlocal logged, since, waits, saves
    entry = log.flush(done, learning_rate=float(rate(done - 1)))
    now = time.monotonic()
    goodput.add('step', now - since - waits - saves, **{'from': logged, 'to': done})
    if waits:
      goodput.add('data wait', waits)
    logged, since, waits, saves = done, now, 0.0, 0.0
    return metric_writer.summary(entry)

  def evaluate() -> None:
    tuned = state.params
    if run.lora.rank:
      tuned = lora_lib.merge(frozen, tuned, lora=run.lora)
    with stop.at_once(), goodput.span('evaluation'):
      evaluation.during(tuned, step=done)

  def save() -> None:
    if multihost.is_main_process():
      folder.push()  # first the log, which may be ahead of the checkpoints
    checkpoints.save(state, step=done, metadata={**metadata, 'step': done})

  def evaluation_due() -> bool:
    eval_period = run.evaluate.eval_period
    return bool(evaluation and eval_period and done) and done % eval_period == 0

  with (
    contextlib.closing(log),
    contextlib.closing(trace),
    progress.bar('train', steps, unit='steps') as bar,
    Watchdog(run.hang_s) as dog,
  ):
    if evaluation_due() and not evaluation.has_evaluated(done):
      evaluate()
      dog.beat()
    since = time.monotonic()
    while True:
      with trace.step(done + 1):
        state, metrics = compiled(state, batch, *rest)
      digests = loader.digests(done, sequences)  # while the device computes
      done += 1
      dog.beat()
      if trace.after(done, metrics):
        progress.line(f'steps {trace.first} to {trace.last} traced: {trace.folder}')
      waited = time.monotonic()
      last = done == run.train_steps
      if not last:
        sequences = next(batches)
        batch = mesh_lib.put_batch(sequences, sharding, shape=shape)
      waited = time.monotonic() - waited
      waits += waited
      log.add(metrics, digests=digests, wait_s=waited)
      text = ''
      ends = stop.asked() or last
      save_due = ends or done % run.checkpoint_period == 0
      if save_due or done % run.log_period == 0:
        text = write_log()
      bar.advance(1, text)
      if save_due:
        saving = time.monotonic()
        save()
        saves = time.monotonic() - saving
        goodput.add('save', saves)
        log.pause()
      if ends:
        break
      if evaluation_due():
        evaluating = time.monotonic()
        try:
          evaluate()
        except Stopped:  # during the evaluation: the step is done
          if logged < done:
            write_log()
          save()
          break
        evaluating = time.monotonic() - evaluating
        since += evaluating
        log.pause(evaluating)
        dog.beat()
  return state, done
