"""Training beside its peers: t5x, t5x with our Decoder, torch and transformers.

  python benchmarks/train.py                       # the step, engines in turn
  python benchmarks/train.py --rows 2 --steps 2 --rounds 3
  python benchmarks/train.py --whole --steps 20    # whole commands: flan and t5x.train
  python benchmarks/train.py --startup --cores 1   # launch to first step, and resume

Every engine trains the same 10.8M-parameter decoder (t5x's decoder_only example: 384
wide, 6 layers, 6 heads of 64, gated GELU of 1,024, T5 relative positions, embedding of
384 tokens on both ends) on the same packed sequences with the same Adafactor, in
float32, without dropout. torch has a Llama of those sizes, rotary and SwiGLU, since
`transformers` has no such decoder. An engine without its packages is named and skipped.

Each engine is a child process. They start one after another, then run their steps in
turn: on a shared machine read the ratios, and CPU seconds before wall seconds. `--cores
1` pins everything to one core.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import figures
import numpy as np
import startup
from startup import HEADS, LAYERS, VOCAB, C, D, F

ENGINES = ('flan_jax', 't5x', 't5x, our Decoder', 'torch')
RATE = 1e-3
EXAMPLES = 5
"""Examples packed in a sequence."""


def shape(**changes):
  """The decoder of every engine; unrolled, which is faster on a CPU."""
  from flan_jax.config.decoder import DecoderConfig

  sizes = {
    'vocab_size': VOCAB, 'num_layers': LAYERS, 'd_model': D, 'd_ff': F,
    'num_heads': HEADS, 'num_kv_heads': HEADS, 'head_dim': C,
  }  # fmt: skip
  return DecoderConfig(**sizes, positions='t5', scan_layers=False, **changes)


def groups(batch_size: int, length: int):
  """Examples that fill every sequence, with their seqio BOS."""
  from flan_jax.data.batch import TokenizedExample

  rng = np.random.default_rng(0)
  size = length // EXAMPLES

  def example():
    inputs = rng.integers(3, VOCAB, int(size * 0.75) - 1, np.int32)
    return TokenizedExample(
      inputs, rng.integers(3, VOCAB, size - len(inputs) - 2, np.int32)
    )

  return [[example() for _ in range(EXAMPLES)] for _ in range(batch_size)]


def packed_batch(batch_size: int, length: int):
  from flan_jax.data import batch as batch_lib

  return batch_lib.stack([
    batch_lib.assemble(group, sequence_length=length, bos_id=None, eos_id=1)
    for group in groups(batch_size, length)
  ])  # fmt: skip


def seqio_batch(batch_size: int, length: int) -> dict[str, np.ndarray]:
  """The same sequences with seqio's BOS of 0 before every example."""
  names = ('target_tokens', 'input_tokens', 'loss_weights', 'segment_ids', 'positions')
  out = {f'decoder_{name}': np.zeros((batch_size, length), np.int32) for name in names}
  for b, group in enumerate(groups(batch_size, length)):
    start = 0
    for segment, (inputs, targets) in enumerate(group, start=1):
      tokens = np.concatenate([inputs, [1], targets, [1]])
      stop = start + len(tokens)
      out['decoder_target_tokens'][b, start:stop] = tokens
      out['decoder_input_tokens'][b, start + 1 : stop] = tokens[:-1]
      out['decoder_loss_weights'][b, start + len(inputs) + 1 : stop] = 1
      out['decoder_segment_ids'][b, start:stop] = segment
      out['decoder_positions'][b, start:stop] = np.arange(len(tokens))
      start = stop
  return out


def flan_jax(batch_size: int, length: int) -> Callable[[], float]:
  from flan_jax.runtime import malloc

  malloc.keep()  # as `flan train` does
  import jax

  from flan_jax.config import mesh as mesh_config
  from flan_jax.config import optimizer as optimizer_config
  from flan_jax.model import params as params_lib
  from flan_jax.partitioning import mesh as mesh_lib
  from flan_jax.train import optimizer as optimizer_lib
  from flan_jax.train import state as state_lib
  from flan_jax.train import train_step

  config, run = shape(), mesh_config.MeshConfig()
  mesh = mesh_lib.build(run)
  shapes, axes = params_lib.abstract_params(config)
  optimizer = optimizer_lib.make_optimizer(
    optimizer_config.OptimizerConfig(learning_rate=RATE),
    config=config,
    logical_axes=axes,
  )
  layout = state_lib.layout(
    config, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=run.rules
  )
  params = params_lib.init_params(config, seed=0, shardings=layout.shardings.params)
  state = state_lib.create(params, optimizer, layout=layout)
  step = train_step.make(config, optimizer, layout=layout, mesh=mesh, rules=run.rules)
  sharding = mesh_lib.batch_sharding(mesh, run.rules)
  batch = packed_batch(batch_size, length)

  def advance() -> float:
    nonlocal state
    with train_step.sharded(mesh, run.rules):
      state, metrics = step(state, mesh_lib.put_batch(batch, sharding))
    return float(jax.device_get(metrics.loss / metrics.weight))

  return advance


def t5x(batch_size: int, length: int, *, network: str = 't5x') -> Callable[[], float]:
  import jax
  import jax.numpy as jnp
  import seqio
  from t5x import adafactor, models, partitioning, trainer, utils

  if network == 't5x':
    from t5x.examples.decoder_only import network as example

    module = example.DecoderWrapper(
      config=example.TransformerConfig(
        vocab_size=VOCAB, emb_dim=D, num_heads=HEADS, num_layers=LAYERS, head_dim=C,
        mlp_dim=F, mlp_activations=('gelu', 'linear'), dropout_rate=0.0,
        logits_via_embedding=True,
      )
    )  # fmt: skip
  else:
    from flan_jax.interop.t5x.network import Network

    module = Network(shape())
  model = models.DecoderOnlyModel(
    module=module,
    vocabulary=seqio.ByteVocabulary(),
    optimizer_def=adafactor.Adafactor(
      decay_rate=0.8,
      step_offset=0,
      logical_factor_rules=adafactor.standard_logical_factor_rules(),
    ),
    loss_normalizing_factor='NUM_REAL_TARGET_TOKENS',
  )
  partitioner = partitioning.PjitPartitioner(
    num_partitions=1, logical_axis_rules=partitioning.standard_logical_axis_rules()
  )
  batch = seqio_batch(batch_size, length)
  initializer = utils.TrainStateInitializer(
    optimizer_def=model.optimizer_def,
    init_fn=model.get_initial_variables,
    input_shapes={name: value.shape for name, value in batch.items()},
    input_types={name: value.dtype for name, value in batch.items()},
    partitioner=partitioner,
  )
  key = jax.random.PRNGKey(0)
  engine_trainer = trainer.Trainer(
    model=model,
    train_state=initializer.from_scratch(key),
    partitioner=partitioner,
    eval_names=[],
    summary_dir=None,
    train_state_axes=initializer.train_state_axes,
    rng=key,
    learning_rate_fn=lambda step: jnp.asarray(RATE),
    num_microbatches=None,
  )

  def advance() -> float:
    engine_trainer.train_state, metrics = engine_trainer._partitioned_train_step(
      engine_trainer.train_state, batch
    )
    return float(metrics['loss'].compute())

  return advance


def torch(batch_size: int, length: int) -> Callable[[], float]:
  import torch as torch_lib
  import transformers

  torch_lib.manual_seed(0)
  torch_lib.set_num_threads(len(os.sched_getaffinity(0)))
  model = transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=VOCAB, hidden_size=D, intermediate_size=F, num_hidden_layers=LAYERS,
      num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=C,
      tie_word_embeddings=True,
    )
  )  # fmt: skip
  optimizer = torch_lib.optim.Adafactor(model.parameters(), lr=RATE)
  batch = packed_batch(batch_size, length)
  tokens = torch_lib.tensor(batch.tokens, dtype=torch_lib.long)
  targets = torch_lib.tensor(batch.targets, dtype=torch_lib.long)
  targets[torch_lib.tensor(batch.loss_mask) == 0] = -100
  positions = torch_lib.tensor(batch.positions, dtype=torch_lib.long)
  segments = torch_lib.tensor(batch.segment_ids)
  visible = (segments[:, :, None] == segments[:, None, :]) & torch_lib.ones(
    length, length, dtype=torch_lib.bool
  ).tril()
  visible |= torch_lib.eye(length, dtype=torch_lib.bool)  # padding sees itself: no NaN
  mask = torch_lib.zeros(visible.shape).masked_fill(~visible, float('-inf'))[:, None]

  def advance() -> float:
    logits = model(input_ids=tokens, attention_mask=mask, position_ids=positions).logits
    loss = torch_lib.nn.functional.cross_entropy(
      logits.reshape(-1, VOCAB), targets.reshape(-1)
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()

  return advance


MAKERS: dict[str, Callable[[int, int], Callable[[], float]]] = {
  'flan_jax': flan_jax,
  't5x': t5x,
  't5x, our Decoder': lambda batch_size, length: t5x(
    batch_size, length, network='flan_jax'
  ),
  'torch': torch,
}


def matmul_peak() -> float:
  """GFLOP per CPU second of a float32 product of 2,048, best of five."""
  import jax

  x = jax.numpy.ones((2048, 2048), jax.numpy.float32)
  product = jax.jit(lambda x: x @ x)
  product(x).block_until_ready()
  best = 0.0
  for _ in range(5):
    start = time.process_time()
    product(x).block_until_ready()
    best = max(best, 2 * 2048**3 / 1e9 / (time.process_time() - start))
  return best


def work(engine: str, batch_size: int, length: int) -> None:
  """Builds one engine, runs a step, then the numbers of steps read from stdin."""

  def say(**what) -> None:
    print('BENCH ' + json.dumps(what), flush=True)

  try:
    advance = MAKERS[engine](batch_size, length)
  except ImportError as error:
    say(absent=str(error))
    return
  say(loss=advance(), cpu=time.process_time())
  for line in sys.stdin:
    if line.strip() == 'peak':
      say(peak=matmul_peak())
      continue
    wall, cpu, loss = time.perf_counter(), time.process_time(), 0.0
    for _ in range(int(line)):
      loss = advance()
    say(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu, loss=loss)


class Child:
  """An engine in a process of its own."""

  def __init__(self, engine: str, batch_size: int, length: int):
    self.engine = engine
    start = time.perf_counter()
    command = [sys.executable, __file__, '--worker', engine]
    command += ['--rows', str(batch_size), '--length', str(length)]
    self._process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
      stderr=subprocess.DEVNULL,
    )  # fmt: skip
    self.first = self.reply()
    self.first['wall'] = time.perf_counter() - start
    self.rounds: list[dict] = []

  def reply(self) -> dict:
    for line in self._process.stdout:
      if line.startswith('BENCH '):
        return json.loads(line.removeprefix('BENCH '))
    return {'absent': f'ended with {self._process.wait()}'}

  def request(self, what: str) -> dict:
    self._process.stdin.write(f'{what}\n')
    self._process.stdin.flush()
    return self.reply()

  def end(self) -> float:
    """Ends the process; returns its peak memory, MiB."""
    self._process.stdin.close()
    _, _, usage = os.wait4(self._process.pid, 0)
    return usage.ru_maxrss / 1024


def steps_in_turn(options: argparse.Namespace) -> None:
  children = []
  for engine in options.engines:
    child = Child(engine, options.rows, options.length)
    if 'absent' in child.first:
      print(f'{engine}: left out, {child.first["absent"]}')
    else:
      children.append(child)
  for _ in range(options.rounds):
    for child in children:
      child.rounds.append(child.request(str(options.steps)))
  peak = (
    children[0].request('peak')['peak'] if children[0].engine == 'flan_jax' else None
  )
  tokens = options.rows * options.length

  def per_step(child: Child, key: str) -> float:
    return float(np.median([r[key] for r in child.rounds])) / options.steps

  head = children[0]
  for child in children[1:]:
    ours, theirs = tokens / per_step(head, 'cpu'), tokens / per_step(child, 'cpu')
    figures.add(
      'train step', ours, 'tokens/CPU s', peer=child.engine, peer_value=theirs
    )
  print(
    f'\n{"engine":<18}{"tokens/CPU s":>13}{"tokens/s":>10}{"of the first":>13}'
    f'{"first step CPU s":>18}{"wall s":>8}{"peak MiB":>10}{"loss":>8}'
  )
  for child in children:
    cpu, wall = per_step(child, 'cpu'), per_step(child, 'wall')
    print(
      f'{child.engine:<18}{tokens / cpu:>13,.0f}{tokens / wall:>10,.0f}'
      f'{per_step(head, "cpu") / cpu:>12.2f}x{child.first["cpu"]:>18.1f}'
      f'{child.first["wall"]:>8.1f}{child.end():>10,.0f}{child.rounds[-1]["loss"]:>8.3f}'
    )
  if peak is not None:
    from flan_jax.config.decoder import flops_per_token

    flops = flops_per_token(shape(), options.length).train / 1e9
    share = flops * tokens / per_step(head, 'cpu') / peak
    print(
      f'\nflan_jax: {share:.0%} of the {peak:.0f} GFLOP per CPU second of a float32 '
      'matrix product (6 N + 12 A FLOP a token)'
    )


def whole(options: argparse.Namespace) -> None:
  """Times both commands on the same mixture, base model and steps, in turn."""
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    task, steps = 'microworld_mini_copa', options.steps
    for turn in range(options.rounds):
      commands = {
        'flan train': [
          '-m', 'flan_jax', 'train', '--gin_file=gin/runs/demo.gin',
          f'--gin.MODEL_DIR={folder / f"flan_jax{turn}"}', '--gin.HELD_OUT=()',
          f'--gin.MIXTURE_OR_TASK_NAME={task}', f'--gin.TRAIN_STEPS={steps}',
        ],
        't5x.train': [
          '-m', 't5x.train', '--gin_file=gin/t5x/model.gin',
          '--gin_file=gin/t5x/train.gin', f"--gin.MODEL_DIR='{folder / f't5x{turn}'}'",
          f"--gin.MIXTURE_OR_TASK_NAME='{task}'", f'--gin.TRAIN_STEPS={steps}',
          '--gin.TRAIN_EVAL=None', '--gin.CHECKPOINT_PERIOD=100000',
        ],
      }  # fmt: skip
      for name, command in commands.items():
        start = time.perf_counter()
        process = subprocess.Popen(
          [sys.executable, *command],
          stdout=subprocess.DEVNULL,
          stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        print(
          f'{name:<12} {steps} steps: exit {os.waitstatus_to_exitcode(status)}, '
          f'{time.perf_counter() - start:.1f} s, '
          f'{usage.ru_utime + usage.ru_stime:.1f} CPU s, '
          f'peak {usage.ru_maxrss / 1024:,.0f} MiB',
          flush=True,
        )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', type=int, default=8, help='sequences of a batch')
  parser.add_argument('--length', type=int, default=512)
  parser.add_argument('--steps', type=int, default=3, help='steps of one turn')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--engines', nargs='+', default=ENGINES, choices=ENGINES)
  parser.add_argument('--cores', type=int, help='pin to the first N allowed cores')
  parser.add_argument('--whole', action='store_true', help='whole commands instead')
  parser.add_argument('--startup', action='store_true', help='launch to first step')
  parser.add_argument('--worker', choices=ENGINES, help=argparse.SUPPRESS)
  figures.add_flag(parser)
  options = parser.parse_args()
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  if options.cores:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
  if options.worker:
    work(options.worker, options.rows, options.length)
    return
  cores = len(os.sched_getaffinity(0))
  print(f'{cores} cores allowed, load {os.getloadavg()[0]:.1f} before the start')
  if options.startup:
    print(f'{options.rows} sequences of {options.length} tokens, float32')
    startup.run(options)
  elif options.whole:
    whole(options)
  else:
    print(f'{options.rows} sequences of {options.length} tokens, float32')
    steps_in_turn(options)
  figures.write(options.json)


if __name__ == '__main__':
  main()
