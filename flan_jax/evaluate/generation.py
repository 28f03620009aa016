"""Greedy generation with a key-value cache.

A prompt is read once, as `[BOS] prompt EOS`; then one token at a time is chosen and
read, until every row of the batch has written EOS or has its `max_new_tokens`.
"""

import functools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from flan_jax.data.tokenizer import Tokenizer
from flan_jax.model import cache as cache_lib
from flan_jax.model.config import DecoderConfig
from flan_jax.model.decoder import Decoder


def replicated(tree: Any, sharding: NamedSharding | None) -> Any:
  """`tree` on every device of the mesh of `sharding`; as it is without one."""
  if sharding is None:
    return tree
  everywhere = NamedSharding(sharding.mesh, PartitionSpec())
  return jax.lax.with_sharding_constraint(tree, everywhere)


class Generated(NamedTuple):
  """What `generate` returns.

  Attributes:
    tokens: for each prompt the ids written, without EOS.
    nan: for each prompt, whether the model gave NaN for a token it wrote.
    tokens_read: positions of prompts computed, padding included.
    tokens_written: positions computed one by one, finished rows included.
    seconds: that it took.
  """

  tokens: list[list[int]]
  nan: list[bool]
  tokens_read: int
  tokens_written: int
  seconds: float = 0.0


class _Loop(NamedTuple):
  """State of the loop: tokens_BxN holds what is written, `step` how much of it."""

  step: jax.Array
  tokens_BxN: jax.Array
  done_B: jax.Array
  nan_B: jax.Array
  cache: cache_lib.Cache


@functools.partial(
  jax.jit, static_argnames=('config', 'eos_id', 'max_new_tokens', 'sharding')
)
def greedy(
  params: Any,
  prompts_BxL: jax.Array,
  lengths_B: jax.Array,
  *,
  config: DecoderConfig,
  eos_id: int,
  max_new_tokens: int,
  sharding: NamedSharding | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Continues every prompt by its most probable next token, again and again.

  Args:
    params: of `Decoder(config)`.
    prompts_BxL: int32, padded on the right.
    lengths_B: int32, real tokens of each prompt; 0 makes an empty row.
    config: of the model.
    eos_id: the token that ends an answer.
    max_new_tokens: most tokens to write, EOS included.
    sharding: of the prompts, where there is a mesh; the results are on every device.

  Returns:
    int32 [B, max_new_tokens], EOS from the end of the answer on; bool [B], whether
    NaN was met; int32, the number of steps taken.
  """
  B, L = prompts_BxL.shape
  decoder = Decoder(config)
  variables = {'params': params}
  positions_BxL = jnp.broadcast_to(jnp.arange(L), (B, L))
  real_BxL = positions_BxL < lengths_B[:, None]
  hidden_BxLxD, cache = decoder.apply(
    variables,
    prompts_BxL,
    positions_BxL=positions_BxL,
    segment_ids_BxL=real_BxL.astype(jnp.int32),
    prefix_BxL=real_BxL if config.attention == 'prefix' else None,
    cache=cache_lib.init(config, batch=B, length=L + max_new_tokens),
    method='hidden',
  )
  last_Bx1x1 = jnp.maximum(lengths_B - 1, 0)[:, None, None]
  hidden_Bx1xD = jnp.take_along_axis(hidden_BxLxD, last_Bx1x1, axis=1)
  logits_Bx1xV = decoder.apply(variables, hidden_Bx1xD, method='head')

  def choose(logits_Bx1xV, state: _Loop) -> _Loop:
    token_B = jnp.argmax(logits_Bx1xV[:, 0], axis=-1).astype(jnp.int32)
    token_B = jnp.where(state.done_B, eos_id, token_B)
    nan_B = jnp.isnan(logits_Bx1xV[:, 0]).any(-1) & ~state.done_B
    return state._replace(
      step=state.step + 1,
      tokens_BxN=state.tokens_BxN.at[:, state.step].set(token_B),
      done_B=state.done_B | (token_B == eos_id),
      nan_B=state.nan_B | nan_B,
    )

  def unfinished(state: _Loop) -> jax.Array:
    return (state.step < max_new_tokens) & ~state.done_B.all()

  def advance(state: _Loop) -> _Loop:
    before = state.step - 1
    logits_Bx1xV, cache = decoder.apply(
      variables,
      jax.lax.dynamic_slice_in_dim(state.tokens_BxN, before, 1, axis=1),
      positions_BxL=(lengths_B + before)[:, None],
      segment_ids_BxL=(~state.done_B).astype(jnp.int32)[:, None],
      cache=state.cache,
    )
    return choose(logits_Bx1xV, state._replace(cache=cache))

  state = _Loop(
    step=jnp.int32(0),
    tokens_BxN=jnp.full((B, max_new_tokens), eos_id, jnp.int32),
    done_B=lengths_B == 0,
    nan_B=jnp.zeros(B, bool),
    cache=cache,
  )
  state = jax.lax.while_loop(unfinished, advance, choose(logits_Bx1xV, state))
  return replicated((state.tokens_BxN, state.nan_B, state.step), sharding)


def padded_length(length: int) -> int:
  """`length` rounded up to a power of two or one and a half of it, 32 or more.

  Few different shapes are compiled, and at most a third of a row is padding.
  """
  power = 32
  while power < length:
    if length <= power * 3 // 2:
      return power * 3 // 2
    power *= 2
  return power


def generate(
  params: Any,
  prompts: Sequence[np.ndarray],
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  max_new_tokens: int,
  rows: int = 8,
  sharding: NamedSharding | None = None,
) -> Generated:
  """Greedy continuations of `prompts`, in the caller's order.

  Args:
    params: of `Decoder(config)`.
    prompts: token ids without BOS and EOS, int32 [n] each.
    config: of the model.
    tokenizer: gives BOS and EOS.
    max_new_tokens: most tokens to write, EOS included.
    rows: rows of a batch. Batches are formed by length, the longest first.
    sharding: how [rows, length] arrays lie on a mesh, where `params` do.
  """
  began = time.monotonic()
  head = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  sequences = [
    np.concatenate([head, prompt, [tokenizer.eos_id]]).astype(np.int32)
    for prompt in prompts
  ]
  order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
  tokens: list[list[int]] = [[] for _ in prompts]
  nan = [False] * len(prompts)
  read = written = 0
  for start in range(0, len(order), rows):
    batch = order[start : start + rows]
    width = padded_length(len(sequences[batch[0]]))
    prompts_BxL = np.zeros((rows, width), np.int32)
    lengths_B = np.zeros(rows, np.int32)
    for row, index in enumerate(batch):
      lengths_B[row] = len(sequences[index])
      prompts_BxL[row, : lengths_B[row]] = sequences[index]
    if sharding is not None:
      prompts_BxL = jax.device_put(prompts_BxL, sharding)
    out_BxN, nan_B, steps = jax.device_get(
      greedy(
        params,
        prompts_BxL,
        lengths_B,
        config=config,
        eos_id=tokenizer.eos_id,
        max_new_tokens=max_new_tokens,
        sharding=sharding,
      )
    )
    read += prompts_BxL.size
    written += rows * int(steps)
    for row, index in enumerate(batch):
      ids = out_BxN[row].tolist()
      end = ids.index(tokenizer.eos_id) if tokenizer.eos_id in ids else len(ids)
      tokens[index] = ids[:end]
      nan[index] = bool(nan_B[row])
  return Generated(tokens, nan, read, written, time.monotonic() - began)
