"""Decode slots: the state of their answers, how a prompt gets in, and the steps."""

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import Decoding
from flan_jax.inference.prefill import Filled
from flan_jax.inference.sampling import choose, replicated
from flan_jax.model import kv_cache
from flan_jax.model.decoder import Decoder


class DecodeState(NamedTuple):
  """State of B decode slots.

  Attributes:
    cache: keys and values of each slot.
    prompt_B: int32, index of the slot's prompt.
    length_B: int32, tokens of that prompt.
    count_B: int32, tokens generated.
    tokens_BxN: int32, generated tokens; EOS from the end of the answer on.
    done_B: bool, True once the answer has ended; slots without a prompt are done.
    nan_B: bool, True once logits were NaN.
    steps: int32, decode steps taken by all slots.
    seed: uint32, seed for sampling.
  """

  cache: kv_cache.Cache
  prompt_B: jax.Array
  length_B: jax.Array
  count_B: jax.Array
  tokens_BxN: jax.Array
  done_B: jax.Array
  nan_B: jax.Array
  steps: jax.Array
  seed: jax.Array


_jitted = functools.partial(
  jax.jit,
  static_argnames=('config', 'eos_id', 'decoding', 'sharding'),
  donate_argnames=('state',),
)


@_jitted
def insert(
  params: Any,
  state: DecodeState,
  filled: Filled,
  prompt_Q: jax.Array,
  length_Q: jax.Array,
  row_Q: jax.Array,
  places_QxP: jax.Array,
  slots_Q: jax.Array,
  *,
  config: DecoderConfig,
  eos_id: int,
  decoding: Decoding,
  sharding: NamedSharding | None = None,
) -> DecodeState:
  """Puts Q prefilled prompts into slots that are done; generates their first tokens.

  Args:
    params: parameters of `Decoder(config)`.
    state: state of B slots, with room for P tokens or more in the cache.
    filled: packed prompts after their forward pass.
    prompt_Q: int32, indices of the prompts.
    length_Q: int32, tokens of each prompt.
    row_Q: int32, packed sequence of each prompt.
    places_QxP: int32, places of its tokens there, padded on the right.
    slots_Q: int32, slots to fill; B for padding.
    config: model config.
    eos_id: id of the token that ends an answer.
    decoding: sampling settings.
    sharding: sharding of the prompts on a mesh, or None.
  """
  P = places_QxP.shape[1]
  last_Qx1 = jnp.take_along_axis(
    places_QxP, jnp.maximum(length_Q[:, None] - 1, 0), axis=1
  )
  logits_Qx1xV = Decoder(config).apply(
    {'params': params}, filled.hidden_RxLxD[row_Q[:, None], last_Qx1], method='head'
  )
  logits_QxV = cast(jax.Array, logits_Qx1xV)[:, 0]
  count_Q = jnp.zeros_like(length_Q)
  token_Q = choose(
    logits_QxV, decoding=decoding, prompt_B=prompt_Q, count_B=count_Q, seed=state.seed
  )
  nan_Q = jnp.isnan(logits_QxV).any(-1)
  S, N = state.cache.positions.shape[1], state.tokens_BxN.shape[1]
  tokens_QxN = jnp.full((len(slots_Q), N), eos_id, jnp.int32).at[:, 0].set(token_Q)
  position_S = jnp.arange(S, dtype=jnp.int32)
  positions_QxS = jnp.where(position_S < length_Q[:, None], position_S, -1)

  def put(old, new):
    return old.at[slots_Q].set(new, mode='drop')

  def copied(old, new):
    own = jnp.take_along_axis(new[:, row_Q], places_QxP[None, :, None, :, None], axis=3)
    return old.at[:, slots_Q, :, :P].set(own, mode='drop')

  cache = state.cache.map(copied, filled.cache)
  cache = cache._replace(positions=put(cache.positions, positions_QxS))
  rest = state._replace(
    cache=None,
    prompt_B=put(state.prompt_B, prompt_Q),
    length_B=put(state.length_B, length_Q),
    count_B=put(state.count_B, count_Q + 1),
    tokens_BxN=put(state.tokens_BxN, tokens_QxN),
    done_B=put(state.done_B, (token_Q == eos_id) | nan_Q | (N == 1)),
    nan_B=put(state.nan_B, nan_Q),
  )
  return replicated(rest, sharding)._replace(cache=cache)


@_jitted
def decode(
  params: Any,
  state: DecodeState,
  min_done: jax.Array,
  max_steps: jax.Array,
  *,
  config: DecoderConfig,
  eos_id: int,
  decoding: Decoding,
  sharding: NamedSharding | None = None,
) -> DecodeState:
  """Generates token by token until enough slots are done.

  Args:
    params: parameters of `Decoder(config)`.
    state: state of B slots.
    min_done: int32, number of slots that must be done to stop.
    max_steps: int32, limit on the steps.
    config: model config.
    eos_id: id of the token that ends an answer.
    decoding: sampling settings.
    sharding: sharding of the prompts on a mesh, or None.
  """
  N = state.tokens_BxN.shape[1]
  last = state.steps + max_steps

  def unfinished(state: DecodeState) -> jax.Array:
    return (state.done_B.sum() < min_done) & (state.steps < last)

  def advance(state: DecodeState) -> DecodeState:
    before_Bx1 = state.count_B[:, None] - 1
    logits_Bx1xV, cache = Decoder(config).apply(
      {'params': params},
      jnp.take_along_axis(state.tokens_BxN, jnp.maximum(before_Bx1, 0), axis=1),
      positions_BxL=state.length_B[:, None] + before_Bx1,
      segment_ids_BxL=(~state.done_B).astype(jnp.int32)[:, None],
      cache=state.cache,
    )
    logits_BxV = logits_Bx1xV[:, 0]
    token_B = choose(
      logits_BxV,
      decoding=decoding,
      prompt_B=state.prompt_B,
      count_B=state.count_B,
      seed=state.seed,
    )
    at_B = jnp.where(state.done_B, N, state.count_B)  # N: dropped
    slots_B = jnp.arange(len(at_B))
    count_B = jnp.where(state.done_B, state.count_B, state.count_B + 1)
    return state._replace(
      cache=cache,
      count_B=count_B,
      tokens_BxN=state.tokens_BxN.at[slots_B, at_B].set(token_B, mode='drop'),
      done_B=state.done_B | (token_B == eos_id) | (count_B == N),
      nan_B=state.nan_B | (jnp.isnan(logits_BxV).any(-1) & ~state.done_B),
      steps=state.steps + 1,
    )

  state = jax.lax.while_loop(unfinished, advance, state)
  return replicated(state._replace(cache=None), sharding)._replace(cache=state.cache)
