"""CPU milliseconds of one decode step, ours and `transformers`' in turn.

  taskset -c 0 python benchmarks/decode_step.py
  taskset -c 0 python benchmarks/decode_step.py --batches 1 8 32 --rounds 6

Both sides generate with SmolLM2-135M's shape in float32, drawn at random, after prompts
of 128 tokens. A step is the least of the rounds, in CPU seconds: a shared machine
disturbs it less. `transformers` needs torch (`make torch`).
"""

import argparse
import time

import figures
import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from flan_jax.checkpoints import decoding_weights
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import GREEDY
from flan_jax.inference import generate, sampling
from flan_jax.model import params as params_lib

PROMPT, STEPS, LENGTH = 128, 8, 192
CONFIG = DecoderConfig(
  vocab_size=49152, num_layers=30, d_model=576, d_ff=1536, num_heads=9, num_kv_heads=3,
  head_dim=64, activation='swiglu', positions='rotary', rope_base=100000.0,
  max_positions=8192, norm_epsilon=1e-5, scaled_head=False,
)  # fmt: skip


class Ours:
  """Steps of `generate.decode`, the program of `flan ask`, `infer` and `eval`."""

  def __init__(self):
    drawn = params_lib.init_params(CONFIG, seed=0)
    self.weight_bytes = sum(x.nbytes for x in jax.tree.leaves(drawn))
    self.params, config = decoding_weights.for_decoding(drawn, CONFIG)
    self.config = config
    self.static = generate.static_arguments(config, -1, GREEDY, None)

  def step(self, batch: int) -> float:
    """CPU seconds of one step."""
    state = jax.block_until_ready(self._state(batch))
    began = time.process_time()
    jax.block_until_ready(
      generate.decode(
        self.params, state, np.int32(batch), np.int32(STEPS), **self.static
      )
    )
    return (time.process_time() - began) / STEPS

  def _state(self, batch: int) -> generate.DecodeState:
    """Slots that have read a prompt and written one token each."""
    cache = sampling.empty_cache(self.config, batch=batch, length=LENGTH, sharding=None)
    places = np.arange(LENGTH)
    positions = np.where(places < PROMPT, places, -1)[None].repeat(batch, 0)
    return generate.DecodeState(
      cache=cache._replace(positions=jnp.asarray(positions, jnp.int32)),
      prompt_B=jnp.zeros(batch, jnp.int32),
      length_B=jnp.full(batch, PROMPT, jnp.int32),
      count_B=jnp.ones(batch, jnp.int32),
      tokens_BxN=jnp.asarray(_tokens(batch, LENGTH - PROMPT), jnp.int32),
      done_B=jnp.zeros(batch, bool),
      nan_B=jnp.zeros(batch, bool),
      steps=jnp.int32(0),
      seed=jnp.uint32(0),
    )


class Torch:
  """Steps of `generate` of transformers: a longer call less a shorter one."""

  def __init__(self):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
      vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
      num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
      rope_theta=1e5, max_position_embeddings=8192,
    )  # fmt: skip
    self.model = transformers.LlamaForCausalLM(config).eval()

  def step(self, batch: int) -> float:
    """CPU seconds of one step."""
    return (self._call(batch, STEPS + 1) - self._call(batch, 1)) / STEPS

  @torch.no_grad()
  def _call(self, batch: int, tokens: int) -> float:
    ids = torch.tensor(_tokens(batch, PROMPT + 1))
    cache = transformers.DynamicCache()
    shape = (batch, CONFIG.num_kv_heads, PROMPT, CONFIG.head_dim)
    for layer in range(CONFIG.num_layers):  # the prompts are read
      cache.update(torch.zeros(shape), torch.zeros(shape), layer)
    began = time.process_time()
    self.model.generate(
      ids, attention_mask=torch.ones_like(ids), past_key_values=cache,
      max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0,
      eos_token_id=49151,
    )  # fmt: skip
    return time.process_time() - began


def bandwidth() -> float:
  """Bytes that one core reads in a second."""
  values = np.ones(64 << 20, np.float32)
  least = float('inf')
  for _ in range(7):
    began = time.process_time()
    np.dot(values, values)
    least = min(least, time.process_time() - began)
  return values.nbytes / least


def _tokens(batch: int, length: int) -> np.ndarray:
  return np.random.default_rng(0).integers(5, 1000, (batch, length))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--batches', type=int, nargs='+', default=[1, 8, 32])
  parser.add_argument('--rounds', type=int, default=5)
  figures.add_flag(parser)
  options = parser.parse_args()
  sides = {'ours': Ours(), 'torch': Torch()}
  print(f'memory: {bandwidth() / 1e9:.1f} GB/s')
  print('batch  ours, ms  torch, ms  torch / ours  weights read by ours, GB/s')
  for batch in options.batches:
    sides['ours'].step(batch)  # compiles
    found = {name: float('inf') for name in sides}
    for _ in range(options.rounds):
      for name, side in sides.items():
        found[name] = min(found[name], side.step(batch))
    ours, other = found['ours'], found['torch']
    print(
      f'{batch:>5}  {ours * 1e3:>8.1f}  {other * 1e3:>9.1f}  {other / ours:>12.2f}  '
      f'{sides["ours"].weight_bytes / ours / 1e9:>26.1f}',
      flush=True,
    )
    figures.add(
      f'decode step of {batch}', ours * 1e3, 'CPU ms', peer='transformers',
      peer_value=other * 1e3, lower_is_better=True,
    )  # fmt: skip
  figures.write(options.json)


if __name__ == '__main__':
  main()
