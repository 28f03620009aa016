"""Sampling: prefill, and the choice of the next token."""

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import Decoding
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.model import kv_cache
from flan_jax.model.decoder import Decoder
from flan_jax.model.kv_cache import Cache


def context(
  prompt: np.ndarray, tokenizer: Tokenizer, *, separator: bool = True
) -> np.ndarray:
  """Returns the context of an answer: `[BOS] prompt EOS`, int32 [n].

  Without the separator EOS is left out, unless the context would be empty.
  """
  head = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
  nothing = not head and not len(prompt)
  tail = [tokenizer.eos_id] if separator or nothing else []
  return np.concatenate([head, prompt, tail]).astype(np.int32)


def replicated(tree: Any, sharding: NamedSharding | None) -> Any:
  """Replicates `tree` over the mesh of `sharding`; does nothing without one."""
  if sharding is None:
    return tree
  whole = NamedSharding(sharding.mesh, PartitionSpec())
  return jax.lax.with_sharding_constraint(tree, whole)


def shards(sharding: NamedSharding | None) -> int:
  """Number of parts that a mesh splits a batch into."""
  if sharding is None or not sharding.spec:
    return 1
  over = sharding.spec[0]
  axes = (over,) if isinstance(over, str) else tuple(over or ())
  return math.prod(sharding.mesh.shape[axis] for axis in axes)


def placed(tree: Any, sharding: NamedSharding | None) -> Any:
  """Shards Numpy arrays that every process holds whole; without communication."""
  if sharding is None:
    return tree
  if sharding.is_fully_addressable:
    return jax.device_put(tree, sharding)
  return jax.tree.map(
    lambda x: jax.make_array_from_callback(x.shape, sharding, lambda part: x[part]),
    tree,
  )


def empty_cache(
  config: DecoderConfig, *, batch: int, length: int, sharding: NamedSharding | None
) -> Cache:
  """Makes an empty cache, its batch axis sharded as `sharding` shards a batch.

  Heads are sharded over the axis `model` if it divides them, so that no device holds
  the whole cache.
  """
  if sharding is None:
    return _empty_cache(config, batch, length, None)()
  mesh, batch_axes = sharding.mesh, (sharding.spec or (None,))[0]
  heads = 'model' if config.num_kv_heads % mesh.shape.get('model', 1) == 0 else None
  over = NamedSharding(mesh, PartitionSpec(None, batch_axes, heads))
  # A tree of shardings, of the structure of a cache.
  shardings = Cache(over, over, sharding)  # pyright: ignore[reportArgumentType]
  make = _empty_cache(config, batch, length, shardings)
  return make()


@functools.lru_cache(maxsize=64)
def _empty_cache(
  config: DecoderConfig, batch: int, length: int, shardings: Cache | None
) -> Callable[[], Cache]:
  init = functools.partial(_new_cache, config, batch=batch, length=length)
  return jax.jit(init, out_shardings=shardings)


def _new_cache(config: DecoderConfig, *, batch: int, length: int) -> Cache:
  by_layer = not config.scan_layers
  return kv_cache.init(config, batch=batch, length=length, by_layer=by_layer)


def padded_length(length: int) -> int:
  """Rounds `length` up to a power of two or 5, 6 or 7 quarters of one, at least 32.

  Few shapes are compiled, and at most a fifth of the longest sequence is padding.
  """
  power = 32
  while 2 * power <= length:
    power *= 2
  quarter = power // 4
  return max(power, -(-length // quarter) * quarter)


def prefill(
  params: Any,
  prompts_BxL: jax.Array,
  lengths_B: jax.Array,
  *,
  config: DecoderConfig,
  cache_length: int,
) -> tuple[jax.Array, Cache]:
  """Computes the logits after each prompt, float32 [B, V], and the cache.

  Args:
    params: parameters of `Decoder(config)`.
    prompts_BxL: int32, padded on the right.
    lengths_B: int32, real tokens of each prompt; 0 for padding.
    config: model config.
    cache_length: tokens that the cache has room for.
  """
  B, L = prompts_BxL.shape
  decoder = Decoder(config)
  positions_BxL = jnp.broadcast_to(jnp.arange(L), (B, L))
  real_BxL = positions_BxL < lengths_B[:, None]
  out = decoder.apply(
    {'params': params},
    prompts_BxL,
    positions_BxL=positions_BxL,
    segment_ids_BxL=real_BxL.astype(jnp.int32),
    prefix_BxL=real_BxL if config.attention == 'prefix' else None,
    cache=_new_cache(config, batch=B, length=cache_length),
    method='hidden',
  )
  hidden_BxLxD, cache = cast(tuple[jax.Array, Cache], out)
  last_Bx1x1 = jnp.maximum(lengths_B - 1, 0)[:, None, None]
  hidden_Bx1xD = jnp.take_along_axis(hidden_BxLxD, last_Bx1x1, axis=1)
  logits_Bx1xV = decoder.apply({'params': params}, hidden_Bx1xD, method='head')
  return cast(jax.Array, logits_Bx1xV)[:, 0], cache


def choose(
  logits_BxV: jax.Array,
  *,
  decoding: Decoding,
  prompt_B: jax.Array,
  count_B: jax.Array,
  seed: jax.Array | int = 0,
) -> jax.Array:
  """Chooses the next token of each slot, int32 [B].

  Args:
    logits_BxV: float32.
    decoding: sampling settings; its seed is ignored.
    prompt_B: int32, index of each slot's prompt.
    count_B: int32, tokens that the slot has generated.
    seed: uint32, seed of the draws; traced, so that another one needs no compilation.
  """
  if not decoding.temperature:
    return _greatest(logits_BxV)
  logits_BxV = likely(logits_BxV / decoding.temperature, decoding=decoding)
  root = jax.random.key(seed)

  def draw(logits_V, prompt, count):
    key = jax.random.fold_in(jax.random.fold_in(root, prompt), count)
    return jax.random.categorical(key, logits_V)

  return jax.vmap(draw)(logits_BxV, prompt_B, count_B).astype(jnp.int32)


def _greatest(logits_BxV: jax.Array) -> jax.Array:
  """The first greatest logit of each slot, int32 [B]; any token if all are NaN.

  Two simple reductions: a CPU takes a sixth of the time of an argmax for them.
  """
  V = logits_BxV.shape[-1]
  best_Bx1 = logits_BxV.max(axis=-1, keepdims=True)
  token_V = jnp.arange(V, dtype=jnp.int32)
  return jnp.where(logits_BxV == best_Bx1, token_V, V - 1).min(axis=-1)


def likely(logits_BxV: jax.Array, *, decoding: Decoding) -> jax.Array:
  """Returns `logits_BxV` with -inf for tokens that top_k and top_p exclude."""
  V = logits_BxV.shape[-1]
  if decoding.top_k is not None and decoding.top_k < V:
    least_B = jax.lax.top_k(logits_BxV, decoding.top_k)[0][:, -1]
    logits_BxV = jnp.where(logits_BxV < least_B[:, None], -jnp.inf, logits_BxV)
  if decoding.top_p is not None and decoding.top_p < 1:
    sorted_BxV = jnp.sort(logits_BxV, axis=-1, descending=True)
    chance_BxV = jax.nn.softmax(sorted_BxV, axis=-1)
    before_BxV = jnp.cumsum(chance_BxV, axis=-1) - chance_BxV
    kept_BxV = jnp.where(before_BxV < decoding.top_p, sorted_BxV, jnp.inf)
    least_B = kept_BxV.min(axis=-1)
    logits_BxV = jnp.where(logits_BxV < least_B[:, None], -jnp.inf, logits_BxV)
  return logits_BxV
