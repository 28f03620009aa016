"""MFU of the train step of a gin model on the local accelerator.

  python benchmarks/accelerator.py --gin_file gin/models/2b.gin --tokens 32768 \
    --variant 'Run.attention_kernel=cudnn' --variant 'Run.attention_kernel=xla'

Each variant is a list of gin settings, compiled and run in a process of its own, on the
same packed sequences of random examples (about 250 tokens each, as FLAN's), from random
parameters with Adafactor: the step that `flan train` runs. A bfloat16 matrix product in
the same process is the reference.

MFU is (6 N + 6 A) FLOP a token over the peak of the chip, with N and A as in
flan_jax.config.decoder.flops_per_token: the parameters that a token is multiplied by,
and the half of attention that a causal model needs. Recomputation does not count.
"""

import argparse
import json
import subprocess
import sys
import time

import figures
import numpy as np

PEAK = {
  'H100': 989e12, 'H200': 989e12, 'A100': 312e12,
  'TPU v4': 275e12, 'TPU v5 lite': 197e12,
}  # fmt: skip
"""Dense bfloat16 FLOP/s of a chip, by its name in JAX; from data sheets."""

ROUNDS, STEPS = 3, 4


def groups(batch_size: int, length: int, vocabulary: int):
  """Yields the examples of each sequence: log-normal lengths, packed in order."""
  from flan_jax.data import batch as batch_lib
  from flan_jax.data.batch import TokenizedExample

  rng = np.random.default_rng(0)
  for _ in range(batch_size):
    group, used = [], 0
    while True:
      inputs = int(np.clip(rng.lognormal(5.0, 0.8), 8, 1024))
      targets = int(np.clip(rng.lognormal(2.5, 1.0), 1, 256))
      inputs = min(inputs, length - used - targets - 1)
      if inputs < 8:
        break
      draw = [rng.integers(3, vocabulary, n, np.int32) for n in (inputs, targets)]
      group.append(TokenizedExample(*draw))
      used += batch_lib.length(inputs, targets, None)
    yield group


def ceiling() -> float:
  """FLOP/s of a square bfloat16 product of random numbers, best of five."""
  import jax
  import jax.numpy as jnp

  n = 512 if jax.default_backend() == 'cpu' else 8192
  x = jax.random.normal(jax.random.key(0), (n, n), jnp.bfloat16)
  product = jax.jit(lambda x: x @ x)
  product(x).block_until_ready()
  best = float('inf')
  for _ in range(5):
    start = time.perf_counter()
    for _ in range(10):
      out = product(x)
    out.block_until_ready()
    best = min(best, (time.perf_counter() - start) / 10)
  return 2 * n**3 / best


def measure(files: list[str], settings: list[str], tokens: int, length: int) -> dict:
  """Compiles and runs one variant in this process."""
  import jax

  from flan_jax.config import decoder, gin
  from flan_jax.data import batch as batch_lib
  from flan_jax.model import attention_dispatch
  from flan_jax.model import params as params_lib
  from flan_jax.partitioning import mesh as mesh_lib
  from flan_jax.train import optimizer as optimizer_lib
  from flan_jax.train import state as state_lib
  from flan_jax.train import train_step

  given = {
    'MODEL_DIR': 'none', 'MIXTURE_OR_TASK_NAME': 'flan_all', 'TRAIN_STEPS': '1',
    'BATCH_TOKENS': str(tokens), 'SEQUENCE_LENGTH': str(length),
  }  # fmt: skip
  given |= dict(pair.split('=', 1) for pair in settings)
  overrides = [f'{name}={value}' for name, value in given.items()]
  run = gin.load(['gin/runs/base.gin', *files], overrides).build('Run')
  config, rules = run.model, run.mesh.rules
  device = jax.devices()[0]
  mesh = mesh_lib.build(run.mesh, devices=[device])
  attention_dispatch.check(
    run.attention_kernel, config, sequence_length=length, device_kind=device.device_kind
  )
  shapes, axes = params_lib.abstract_params(config)
  optimizer = optimizer_lib.make_optimizer(
    run.optimizer, config=config, logical_axes=axes
  )
  layout = state_lib.layout(
    config, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=rules
  )
  params = params_lib.init_params(config, seed=0, shardings=layout.shardings.params)
  state = state_lib.create(params, optimizer, layout=layout)
  del params
  batch = batch_lib.stack([
    batch_lib.assemble(group, sequence_length=length, bos_id=None, eos_id=1)
    for group in groups(run.batch_size, length, config.vocab_size)
  ])  # fmt: skip
  batch = mesh_lib.put_batch(batch, mesh_lib.batch_sharding(mesh, rules))
  step = train_step.make(
    config,
    optimizer,
    layout=layout,
    mesh=mesh,
    rules=rules,
    **train_step.options(run.step),
  )
  start = time.perf_counter()
  with train_step.sharded(mesh, rules):
    compiled = step.lower(state, batch).compile()
  compile_s = time.perf_counter() - start
  losses, seconds = [], []
  for _ in range(ROUNDS + 1):  # the first warms up
    start = time.perf_counter()
    for _ in range(STEPS):
      state, metrics = compiled(state, batch)
    losses.append(float(metrics.loss / metrics.weight))  # waits for the steps
    seconds.append((time.perf_counter() - start) / STEPS)
  step_s = float(np.median(seconds[1:]))
  memory = (device.memory_stats() or {}).get('peak_bytes_in_use', 0) / 2**30
  del state
  flops = decoder.flops_per_token(config, length)
  attention = 12 * config.num_layers * length * config.num_heads * config.head_dim
  return {
    'device': device.device_kind,
    'parameters': decoder.parameter_count(config),
    'filled': float((batch.segment_ids > 0).mean()),
    'compile_s': compile_s,
    'step_s': step_s,
    'spread': (max(seconds[1:]) - min(seconds[1:])) / step_s,
    'flop_per_s': (flops.train - attention / 2) * tokens / step_s,
    'with_whole_attention': flops.train * tokens / step_s,
    'peak_gib': memory,
    'losses': losses,
    'ceiling': ceiling(),
  }


def peak(kind: str) -> float | None:
  return next((flops for name, flops in PEAK.items() if name in kind), None)


def keep(model: str, variant: str, tokens: int, found: dict) -> None:
  """Keeps the figures of a variant."""
  name = f'train step of {model}' + (f', {variant}' if variant else '')
  figures.add(name, tokens / found['step_s'], 'tokens/s')
  figures.add(
    name, found['flop_per_s'] / 1e12, 'TFLOP/s', peer='a bfloat16 matrix product',
    peer_value=found['ceiling'] / 1e12,
  )  # fmt: skip
  top = peak(found['device'])
  if top:
    figures.add(name, 100 * found['flop_per_s'] / top, '% MFU')


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--gin_file', nargs='+', required=True)
  parser.add_argument('--tokens', type=int, default=32_768, help='tokens of a step')
  parser.add_argument('--length', type=int, default=2_048, help='sequence length')
  parser.add_argument('--variant', action='append', help='NAME=VALUE NAME=VALUE ...')
  parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
  figures.add_flag(parser)
  options = parser.parse_args()
  variants = options.variant or ['']
  if options.worker:
    found = measure(
      options.gin_file, variants[0].split(), options.tokens, options.length
    )
    print('BENCH ' + json.dumps(found), flush=True)
    return 0
  print(f'{", ".join(options.gin_file)}: {options.tokens:,} tokens a step, '
        f'sequences of {options.length:,}')  # fmt: skip
  print(
    f'{"step ms":>8} {"spread":>7} {"tokens/s":>9} {"TFLOP/s":>8} {"MFU":>6} '
    f'{"of matmul":>9} {"peak GiB":>9} {"compile s":>9} {"loss":>14}  variant'
  )
  failed = 0
  for variant in variants:
    command = [
      sys.executable, __file__, '--worker', '--gin_file', *options.gin_file,
      '--tokens', str(options.tokens), '--length', str(options.length),
      '--variant', variant,
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith('BENCH ')]
    if not lines:
      why = [x for x in run.stderr.strip().splitlines() if x.strip()] or ['no output']
      cause = next((x for x in why if 'RESOURCE_EXHAUSTED' in x), why[-1])
      print(f'failed: {cause[:300]}  {variant}', flush=True)
      failed = 1
      continue
    found = json.loads(lines[0].removeprefix('BENCH '))
    top = peak(found['device'])
    mfu = f'{found["flop_per_s"] / top:.1%}' if top else '?'
    print(
      f'{found["step_s"] * 1e3:>8.1f} {found["spread"]:>7.1%} '
      f'{options.tokens / found["step_s"]:>9,.0f} {found["flop_per_s"] / 1e12:>8.1f} '
      f'{mfu:>6} {found["flop_per_s"] / found["ceiling"]:>9.1%} '
      f'{found["peak_gib"]:>9.1f} {found["compile_s"]:>9.1f} '
      f'{found["losses"][0]:>6.2f} {found["losses"][-1]:>6.2f}  '
      f'{variant or "default"} ({found["device"]}, {found["parameters"]:,} '
      f'parameters, {found["filled"]:.0%} filled)',
      flush=True,
    )
    model = options.gin_file[-1].rpartition('/')[2].removesuffix('.gin')
    keep(model, variant, options.tokens, found)
  figures.write(options.json)
  return failed


if __name__ == '__main__':
  sys.exit(main())
