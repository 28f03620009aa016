"""The steps of one start of a run, from the checkpoint it goes on from to its end."""

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
from flan_jax.train.goodput import Goodput
from flan_jax.train.profiler import Profile
from flan_jax.train.run_dir import Folder
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
  about: dict[str, Any],
  folder: Folder,
  goodput: Goodput,
  stop: Stop,
  progress: Progress,
  evaluation: Evaluation | None = None,
) -> tuple[TrainState, int]:
  """Runs steps start .. train_steps, or until a stop is asked for.

  Before a checkpoint is saved the metrics of every step up to it are fetched: a state
  that a bad step has spoilt is never saved. `compiling` is the train step
  (train.ahead), None where no step is left. `evaluation` looks at dev every
  `evaluate.period` steps, where that is set; a look that an earlier start did not come
  to is taken first. `frozen` are the parameters that adapters rest on; None where the
  state holds the whole model. `profile` steps are traced into MODEL_DIR/profile, in the
  first host's process.

  Returns:
    (state, steps done); the checkpoint of the last one has been started.

  Raises:
    BadStep: at a bad step, where the settings say to stop.
  """
  if start >= run.train_steps:
    return state, start
  sharding = mesh_lib.batch_sharding(mesh, run.mesh.rules)
  index, count = mesh_lib.share(sharding, (run.batch_size, run.sequence_length))
  loader = Loader(
    store,
    plan,
    batch_size=run.batch_size,
    start_step=start,
    process_index=index,
    process_count=count,
  )
  batches = iter(loader)
  rate = optimizer.schedule(run.optimizer)
  flops = decoder.flops_per_token(config, run.sequence_length)
  flops = 2 * flops.forward if run.lora.rank else flops.train
  rest = () if frozen is None else (frozen,)
  log = metric_writer.Log(
    folder,
    start_step=start,
    batch_tokens=run.batch_tokens,
    flops_per_token=flops,
    write=multihost.is_main_process(),
    bad_step=run.bad_step,
  )
  shape = (run.batch_size, run.sequence_length)
  progress.stage('Compiling the train step')
  with goodput.span('data wait'):
    rows = next(batches)
    batch = mesh_lib.put_batch(rows, sharding, shape=shape)
  with goodput.span('compile'):
    compiled = compiling.result()
    multihost.barrier('compiled')
  progress.stage(f'Training steps {start + 1:,} to {run.train_steps:,}')
  log.pause()
  done = noted = start
  waits = saves = 0.0
  since = time.monotonic()
  steps = run.train_steps - start
  trace = Profile(
    folder.path / 'profile',
    steps=profile if multihost.is_main_process() else 0,
    start=start,
    end=run.train_steps,
  )

  def note() -> str:
    """Log and ledger of the steps since the last time; what the bar says of them."""
    nonlocal noted, since, waits, saves
    entry = log.flush(done, learning_rate=float(rate(done - 1)))
    now = time.monotonic()
    goodput.add('step', now - since - waits - saves, **{'from': noted, 'to': done})
    if waits:
      goodput.add('data wait', waits)
    noted, since, waits, saves = done, now, 0.0, 0.0
    return metric_writer.note(entry)

  def look() -> None:
    tuned = state.params
    if run.lora.rank:
      tuned = lora_lib.merge(frozen, tuned, lora=run.lora)
    with stop.at_once(), goodput.span('evaluation'):
      evaluation.during(tuned, step=done)

  def save() -> None:
    if multihost.is_main_process():
      folder.send()  # the log first: it may hold steps that no checkpoint has
    checkpoints.save(state, step=done, about={**about, 'step': done})

  def due() -> bool:
    eval_period = run.evaluate.eval_period
    return bool(evaluation and eval_period and done) and done % eval_period == 0

  with (
    contextlib.closing(log),
    contextlib.closing(trace),
    progress.bar('train', steps, unit='steps') as bar,
    Watchdog(run.hang_s) as dog,
  ):
    if due() and not evaluation.has_evaluated(done):
      look()
      dog.beat()
    since = time.monotonic()
    while True:
      with trace.step(done + 1):
        state, metrics = compiled(state, batch, *rest)
      digests = loader.digests(done, rows)  # while the step is computed
      done += 1
      dog.beat()
      if trace.after(done, metrics):
        progress.line(f'steps {trace.first} to {trace.last} traced: {trace.folder}')
      waited = time.monotonic()
      last = done == run.train_steps
      if not last:
        rows = next(batches)
        batch = mesh_lib.put_batch(rows, sharding, shape=shape)
      waited = time.monotonic() - waited
      waits += waited
      log.add(metrics, rows=digests, wait_s=waited)
      text = ''
      ends = stop.asked() or last
      saves_now = ends or done % run.checkpoint_period == 0
      if saves_now or done % run.log_period == 0:
        text = note()
      bar.advance(1, text)
      if saves_now:
        saving = time.monotonic()
        save()
        saves = time.monotonic() - saving
        goodput.add('save', saves)
        log.pause()
      if ends:
        break
      if due():
        looking = time.monotonic()
        try:
          look()
        except Stopped:  # in the middle of it: the step is done
          if noted < done:
            note()
          save()
          break
        looking = time.monotonic() - looking
        since += looking
        log.pause(looking)
        dog.beat()
  return state, done
