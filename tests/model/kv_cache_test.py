"""A forward pass in parts with a cache equals one of the whole sequence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.model import kv_cache
from flan_jax.model.attention import Layout
from flan_jax.model.decoder import Decoder

LENGTHS = (5, 2, 7)  # of the three prompts
STEPS = 4
WIDTH = max(LENGTHS)  # of every call but single steps, so that it is compiled once
LENGTH = WIDTH + STEPS  # of every cache, likewise
TOKENS = np.random.default_rng(0).integers(0, 19, (3, LENGTH))


def config_of(**changes):
  return DecoderConfig(
    vocab_size=19, num_layers=2, d_model=16, d_ff=24, num_heads=4, num_kv_heads=2,
    head_dim=6, relative_buckets=8, relative_max_distance=20, **changes,
  )  # fmt: skip


@functools.cache
def model(config):
  """(parameters, the jitted forward pass)."""
  one = jnp.ones((1, 1), jnp.int32)
  boxed = jax.eval_shape(
    Decoder(config).init, jax.random.key(0), one, positions_BxL=one, segment_ids_BxL=one
  )
  draw = np.random.default_rng(0).uniform
  params = jax.tree.map(lambda x: draw(-0.5, 0.5, x.shape), nn.meta.unbox(boxed))
  return jax.tree.map(np.float32, params), jax.jit(Decoder(config).apply)


@functools.cache
def whole(config):
  """Logits [3, L, V] of all sequences, in one forward pass without a cache."""
  params, apply = model(config)
  positions = np.tile(np.arange(TOKENS.shape[1]), (3, 1))
  prefix = positions < np.array(LENGTHS)[:, None]
  return apply(
    params,
    TOKENS,
    positions_BxL=positions,
    segment_ids_BxL=np.ones_like(positions),
    prefix_BxL=prefix if config.attention == 'prefix' else None,
  )


def forward(config, cache, starts, ends, *, width):
  """Runs TOKENS[b, start:end] of every sequence b, padded on the right to `width`."""
  params, apply = model(config)
  positions = np.array(starts)[:, None] + np.arange(width)
  real = positions < np.array(ends)[:, None]
  tokens = np.take_along_axis(TOKENS, np.minimum(positions, TOKENS.shape[1] - 1), 1)
  in_prompt = real & (positions < np.array(LENGTHS)[:, None])
  prefix = in_prompt if config.attention == 'prefix' and width > 1 else None
  return apply(
    params,
    np.where(real, tokens, 18),
    positions_BxL=np.where(real, positions, 0),
    segment_ids_BxL=real * np.array([[1], [2], [3]]),  # any but 0 is a token
    prefix_BxL=prefix,
    cache=cache,
  )


@pytest.mark.parametrize(
  'changes',
  [
    {'positions': 'rotary'},
    {
      'positions': 't5',
      'attention': 'prefix',
      'tied_embedding': False,
      'scan_layers': False,
    },
    *(
      pytest.param(changes, marks=pytest.mark.slow)
      for changes in (
        {'positions': 't5'},
        {'positions': 'rotary', 'scan_layers': False},
        {'positions': 'rotary', 'attention': 'prefix'},
        {'positions': 't5', 'attention': 'prefix', 'tied_embedding': False},
      )
    ),
  ],
)
def test_a_prompt_then_one_token_at_a_time_gives_the_logits_of_the_whole(changes):
  config = config_of(**changes)
  cache = kv_cache.init(config, batch=3, length=LENGTH)
  logits, cache = forward(config, cache, [0] * 3, LENGTHS, width=WIDTH)
  steps = [logits]
  for i in range(STEPS):
    starts = [n + i for n in LENGTHS]
    logits, cache = forward(config, cache, starts, [n + 1 for n in starts], width=1)
    steps.append(logits)
  for b, length in enumerate(LENGTHS):
    got = [steps[0][b, :length], *(step[b] for step in steps[1:])]
    expected = whole(config)[b, : length + STEPS]
    np.testing.assert_allclose(np.concatenate(got), expected, rtol=1e-5, atol=1e-5)


def test_a_prompt_may_be_prefilled_in_parts_whose_padding_takes_no_slot():
  config = config_of(positions='rotary')
  cache = kv_cache.init(config, batch=3, length=LENGTH)
  _, cache = forward(config, cache, [0] * 3, [3, 1, 2], width=WIDTH)
  logits, cache = forward(config, cache, [3, 1, 2], LENGTHS, width=WIDTH)
  for b, (start, end) in enumerate(zip([3, 1, 2], LENGTHS, strict=True)):
    expected = whole(config)[b, start:end]
    np.testing.assert_allclose(logits[b, : end - start], expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(
    np.asarray(cache.positions)[:, :8],
    [
      [0, 1, 2, 3, 4, -1, -1, -1],
      [0, 1, -1, -1, -1, -1, -1, -1],
      [0, 1, 2, 3, 4, 5, 6, -1],
    ],
  )
  assert (np.asarray(cache.positions)[:, 8:] == -1).all()


def test_a_finished_sequence_waits_while_the_others_continue():
  config = config_of(positions='rotary')
  cache = kv_cache.init(config, batch=3, length=LENGTH)
  _, cache = forward(config, cache, [0] * 3, [4, 2, 2], width=WIDTH)
  _, later = forward(config, cache, [4, 2, 2], [4, 3, 3], width=1)
  later, cache = jax.device_get((later, cache))
  np.testing.assert_array_equal(later.keys[:, 0], cache.keys[:, 0])
  np.testing.assert_array_equal(later.positions[0], cache.positions[0])
  assert (later.positions[1:, 2] == 2).all()


def test_a_decoding_step_is_compiled_once():
  config = config_of(positions='rotary')
  params, _ = model(config)
  traces = []

  @jax.jit
  def step(cache, tokens, positions):
    traces.append(1)
    return Decoder(config).apply(
      params, tokens, positions_BxL=positions, segment_ids_BxL=tokens * 0 + 1,
      cache=cache,
    )  # fmt: skip

  cache = kv_cache.init(config, batch=3, length=LENGTH)
  for i in range(4):
    _, cache = step(cache, TOKENS[:, i : i + 1], np.full((3, 1), i))
  assert len(traces) == 1


def test_tokens_take_the_next_slots_and_padding_none():
  cache = kv_cache.init(config_of(), batch=2, length=4)
  new = Layout(jnp.array([[0, 1, 2], [0, 0, 0]]), jnp.array([[1, 1, 1], [1, 0, 0]]))
  cache, slots = kv_cache.reserve(cache, new)
  np.testing.assert_array_equal(slots, [[0, 1, 2], [0, 4, 4]])
  new = Layout(jnp.array([[3], [1]]), jnp.array([[1], [1]]))
  cache, slots = kv_cache.reserve(cache, new)
  np.testing.assert_array_equal(slots, [[3], [1]])
  np.testing.assert_array_equal(cache.positions, [[0, 1, 2, 3], [0, 1, -1, -1]])


def test_a_cache_shorter_than_the_call_is_refused():
  config = config_of()
  cache = kv_cache.init(config, batch=3, length=6)
  with pytest.raises(InputError) as caught:
    forward(config, cache, [0] * 3, LENGTHS, width=7)
  assert str(caught.value) == (
    'cache length: got 6; must hold the 7 tokens of one call; the nearest is 7'
  )
