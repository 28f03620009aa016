"""Beam search: extends several answers to a prompt in parallel, and keeps the best."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import Decoding
from flan_jax.inference.sampling import (
  padded_length,
  placed,
  prefill,
  replicated,
  shards,
)
from flan_jax.model.decoder import Decoder
from flan_jax.model.kv_cache import Cache
from flan_jax.runtime import metering


class Found(NamedTuple):
  """Results of `search`, with the fields of generate.Generated."""

  tokens: list[list[int]]
  nan: list[bool]
  prefill_tokens: int
  generated_tokens: int


class _Beams(NamedTuple):
  """W live and W ended beams for each of B prompts, best first.

  Beams that do not exist have a score of -inf.
  """

  step: jax.Array
  cache: Cache  # batch of B * W
  tokens_BxWxN: jax.Array
  logp_BxW: jax.Array
  ended_BxWxN: jax.Array
  score_BxW: jax.Array
  nan_B: jax.Array


@functools.partial(
  jax.jit,
  static_argnames=('config', 'eos_id', 'max_tokens', 'decoding', 'sharding'),
)
def search_batch(
  params: Any,
  prompts_BxL: jax.Array,
  lengths_B: jax.Array,
  *,
  config: DecoderConfig,
  eos_id: int,
  max_tokens: int,
  decoding: Decoding,
  sharding: NamedSharding | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Finds the best answer to each prompt that ends in EOS or at full length.

  An answer's score is its log-probability over the length penalty of its tokens, EOS
  included. The search ends once no live beam can beat the best ended one; a finished
  prompt does not change while others continue.

  Args:
    params: parameters of `Decoder(config)`.
    prompts_BxL: int32, padded on the right.
    lengths_B: int32, real tokens of each prompt; 0 for padding.
    config: model config.
    eos_id: id of the token that ends an answer.
    max_tokens: limit on the tokens of an answer, EOS included.
    decoding: beams and length penalty.
    sharding: sharding of the prompts on a mesh, or None; the results are replicated.

  Returns:
    int32 [B, max_tokens], EOS from the end of the answer on; bool [B], True if
    logits were NaN; int32, number of steps.
  """
  B, L = prompts_BxL.shape
  W, N, V = decoding.beams, max_tokens, config.vocab_size
  batch_Bx1 = jnp.arange(B)[:, None]
  empty_B = lengths_B == 0

  def penalty(length):
    return ((5.0 + length) / 6.0) ** decoding.length_penalty

  def grow(logits_BxWxV, state: _Beams) -> _Beams:
    logp_BxWxV = state.logp_BxW[..., None] + jax.nn.log_softmax(logits_BxWxV)
    logp_BxWxV = jnp.where(jnp.isnan(logp_BxWxV), -jnp.inf, logp_BxWxV)
    # Up to W of the candidates end, and W live ones are needed: 2 W hold both.
    best_BxC, at_BxC = jax.lax.top_k(logp_BxWxV.reshape(B, W * V), 2 * W)
    beam_BxC, token_BxC = at_BxC // V, at_BxC % V
    tokens_BxCxN = state.tokens_BxWxN[batch_Bx1, beam_BxC]
    tokens_BxCxN = tokens_BxCxN.at[:, :, state.step].set(token_BxC)
    step = state.step + 1
    ends_BxC = (token_BxC == eos_id) | (step == N)
    score_BxC = jnp.where(ends_BxC, best_BxC / penalty(step), -jnp.inf)
    score_BxW, kept_BxW = jax.lax.top_k(
      jnp.concatenate([state.score_BxW, score_BxC], axis=1), W
    )
    ended_BxWxN = jnp.concatenate([state.ended_BxWxN, tokens_BxCxN], axis=1)
    logp_BxW, on_BxW = jax.lax.top_k(jnp.where(ends_BxC, -jnp.inf, best_BxC), W)
    source_R = (batch_Bx1 * W + beam_BxC[batch_Bx1, on_BxW]).reshape(-1)
    cache = state.cache.map(lambda x: x[:, source_R])._replace(
      positions=state.cache.positions[source_R],
    )
    broken_B = jnp.isnan(logits_BxWxV).any((1, 2)) & ~finished(state) & ~empty_B
    return _Beams(
      step=step,
      cache=cache,
      tokens_BxWxN=tokens_BxCxN[batch_Bx1, on_BxW],
      logp_BxW=logp_BxW,
      ended_BxWxN=ended_BxWxN[batch_Bx1, kept_BxW],
      score_BxW=score_BxW,
      nan_B=state.nan_B | broken_B,
    )

  def finished(state: _Beams) -> jax.Array:
    possible_B = state.logp_BxW[:, 0] / penalty(N)
    return empty_B | (state.score_BxW[:, 0] >= possible_B)

  def unfinished(state: _Beams) -> jax.Array:
    return (state.step < N) & ~finished(state).all()

  def advance(state: _Beams) -> _Beams:
    before = state.step - 1
    last_BxWx1 = jax.lax.dynamic_slice_in_dim(state.tokens_BxWxN, before, 1, axis=2)
    position_B = jnp.repeat(lengths_B + before, W)
    logits_RxTxV, cache = Decoder(config).apply(
      {'params': params},
      last_BxWx1.reshape(B * W, 1),
      positions_BxL=position_B[:, None],
      segment_ids_BxL=jnp.ones((B * W, 1), jnp.int32),
      cache=state.cache,
    )
    return grow(logits_RxTxV.reshape(B, W, V), state._replace(cache=cache))

  logits_BxV, cache = prefill(
    params, prompts_BxL, lengths_B, config=config, cache_length=L + N
  )
  cache = cache.map(lambda x: jnp.repeat(x, W, axis=1))._replace(
    positions=jnp.repeat(cache.positions, W, axis=0),
  )
  first_W = jnp.where(jnp.arange(W) == 0, 0.0, -jnp.inf)  # one beam to begin with
  state = _Beams(
    step=jnp.int32(0),
    cache=cache,
    tokens_BxWxN=jnp.full((B, W, N), eos_id, jnp.int32),
    logp_BxW=jnp.broadcast_to(first_W, (B, W)),
    ended_BxWxN=jnp.full((B, W, N), eos_id, jnp.int32),
    score_BxW=jnp.full((B, W), -jnp.inf),
    nan_B=jnp.zeros(B, bool),
  )
  logits_BxWxV = jnp.broadcast_to(logits_BxV[:, None], (B, W, V))
  state = jax.lax.while_loop(unfinished, advance, grow(logits_BxWxV, state))
  return replicated((state.ended_BxWxN[:, 0], state.nan_B, state.step), sharding)


def search(
  params: Any,
  sequences: Sequence[np.ndarray],
  *,
  config: DecoderConfig,
  eos_id: int,
  decoding: Decoding,
  max_tokens: int,
  batch_size: int,
  sharding: NamedSharding | None = None,
  on_batch: Callable[[], None] = lambda: None,
) -> Found:
  """Finds the best answer to each prompt, in the caller's order.

  Args:
    params: parameters of `Decoder(config)`.
    sequences: prompts with BOS and EOS, int32 [n] each.
    config: model config.
    eos_id: id of the token that ends an answer.
    decoding: beams and length penalty.
    max_tokens: limit on the tokens of an answer, EOS included.
    batch_size: beams of a batch, of all its prompts together. Batches are formed by
      length, the longest first.
    sharding: sharding of [batch, length] arrays on the mesh of `params`.
    on_batch: called before each batch.
  """
  parts = shards(sharding)
  num_prompts = max(1, batch_size // decoding.beams // parts) * parts
  order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
  tokens: list[list[int]] = [[] for _ in sequences]
  nan = [False] * len(sequences)
  prefilled = generated = 0
  for start in range(0, len(order), num_prompts):
    batch = order[start : start + num_prompts]
    width = padded_length(len(sequences[batch[0]]))
    prompts_BxL = np.zeros((num_prompts, width), np.int32)
    lengths_B = np.zeros(num_prompts, np.int32)
    for b, index in enumerate(batch):
      lengths_B[b] = len(sequences[index])
      prompts_BxL[b, : lengths_B[b]] = sequences[index]
    on_batch()
    out_BxN, nan_B, steps = jax.device_get(
      search_batch(
        params,
        placed(prompts_BxL, sharding),
        lengths_B,
        config=config,
        eos_id=eos_id,
        max_tokens=max_tokens,
        decoding=decoding,
        sharding=sharding,
      )
    )
    prefilled += prompts_BxL.size
    decoded = num_prompts * decoding.beams * int(steps)
    generated += decoded
    metering.computed(len(batch), prompts_BxL.size + decoded)
    for b, index in enumerate(batch):
      ids = out_BxN[b].tolist()
      tokens[index] = ids[: ids.index(eos_id)] if eos_id in ids else ids
      nan[index] = bool(nan_B[b])
  return Found(tokens, nan, prefilled, generated)
