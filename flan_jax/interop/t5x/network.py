"""The Decoder as the flax module that `t5x.models.DecoderOnlyModel` calls.

t5x shifts every example right by one and prepends id 0 (seqio's BOS). Our sequences
begin with the first token, or with the tokenizer's own BOS. The network therefore
removes that id from every example, or replaces it by the BOS, so that the decoder gets
the same tokens at the same positions as in our trainer.

Names and order of the module's arguments are t5x's.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from flax.linen import partitioning

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.model import kv_cache
from flan_jax.model.decoder import Decoder
from flan_jax.model.kv_cache import Cache

AXES: Mapping[str, str] = {
  'embed': 'embed',
  'vocab': 'vocab',
  'mlp': 'mlp',
  'heads': 'heads',
  'kv_heads': 'heads',
  'kv': 'kv',
  'layers': 'layers',
  'relpos_buckets': 'relpos_buckets',
  'norm': 'embed',
}
"""Logical axis name -> name in t5x's standard partitioning and factoring rules.

A parameter whose only axis is t5x's `embed` (our `norm`) is never factored.
"""


class Tokens(NamedTuple):
  """Inputs of the decoder: int32 [B, L] each, see `Decoder.__call__`."""

  ids: jax.Array
  positions: jax.Array
  segment_ids: jax.Array


class Network(nn.Module):
  """`DecoderOnlyModel.module`: parameters in `params`, their axes in `params_axes`.

  Attributes:
    config: decoder config.
    bos_id: the tokenizer's BOS, which replaces seqio's at the start of every example;
      None if it has none, as in the models that we train. A model without BOS predicts
      nothing before its first token: train it on mixtures that have inputs.

  Raises:
    InputError: if `config.attention` and t5x's `inputs_bidirectional_attention`
      disagree.
  """

  config: DecoderConfig
  bos_id: int | None = None

  def setup(self):
    self.decoder = Decoder(self.config)

  @nn.nowrap
  def init(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Initializes as flax does; returns unboxed parameters beside their axes."""
    boxed = super().init(*args, **kwargs)['params']
    return {'params': nn.meta.unbox(boxed), 'params_axes': params_axes(boxed)}

  def __call__(
    self,
    decoder_input_tokens: jax.Array,
    decoder_target_tokens: jax.Array,
    decoder_segment_ids: jax.Array | None = None,
    decoder_positions: jax.Array | None = None,
    decoder_causal_attention: jax.Array | None = None,
    *,
    enable_dropout: bool = False,
    decode: bool = False,
    prefill: bool = False,
    prefill_lengths: jax.Array | None = None,
    max_decode_length: int | None = None,
  ) -> jax.Array:
    """Returns logits, float32 [B, L, V].

    Args:
      decoder_input_tokens: int32 [B, L], each example after a BOS of 0.
      decoder_target_tokens: int32 [B, L], the same unshifted; 0 in padding.
      decoder_segment_ids: int32 [B, L], 1.. per packed example; None if each sequence
        is one example.
      decoder_positions: int32 [B, L], within the example, its BOS at 0; or None.
      decoder_causal_attention: [B, L], 1 on the tokens of a prefix-LM's prefix, BOS
        and separator included.
      enable_dropout: ignored: the decoder has none.
      decode: decode one token per sequence after those in the cache; without a cache,
        only create an empty one for sequences of L tokens.
      prefill: write the prompts into the cache.
      prefill_lengths: int32 [B], tokens of each prompt without BOS.
      max_decode_length: ignored: the cache has a fixed length.
    """
    del enable_dropout, max_decode_length
    # t5x.eval and t5x.infer initialize the module with float tokens.
    decoder_input_tokens = jnp.asarray(decoder_input_tokens, jnp.int32)
    if decode:
      if not self.has_variable('cache', 'cache_index'):
        return self._make_cache(decoder_input_tokens)
      return self._decode(decoder_input_tokens)
    if prefill:
      return self._prefill(
        decoder_input_tokens, prefill_lengths, decoder_causal_attention
      )
    if not self.is_initializing():
      self._check_attention(decoder_causal_attention)
    if decoder_segment_ids is None:
      decoder_segment_ids = (decoder_target_tokens > 0).astype(jnp.int32)
    if decoder_positions is None:
      decoder_positions = _positions(decoder_input_tokens)
    tokens = self._tokens(decoder_input_tokens, decoder_positions, decoder_segment_ids)
    prefix_BxL = self._prefix(decoder_causal_attention, tokens.segment_ids)
    return cast(jax.Array, self._forward(tokens, prefix_BxL))  # without a cache

  def _tokens(self, ids_BxL, positions_BxL, segment_ids_BxL) -> Tokens:
    """Removes or replaces seqio's BOS at position 0 of every example."""
    bos_BxL = positions_BxL <= 0
    if self.bos_id is None:
      positions_BxL = jnp.maximum(positions_BxL - 1, 0)
      return Tokens(ids_BxL, positions_BxL, jnp.where(bos_BxL, 0, segment_ids_BxL))
    ids_BxL = jnp.where(bos_BxL, self.bos_id, ids_BxL)
    return Tokens(ids_BxL, positions_BxL, segment_ids_BxL)

  def _forward(self, tokens: Tokens, prefix_BxL=None, cache: Cache | None = None):
    return self.decoder(
      tokens.ids,
      positions_BxL=tokens.positions,
      segment_ids_BxL=tokens.segment_ids,
      prefix_BxL=prefix_BxL,
      cache=cache,
    )

  def _prefix(self, causal_attention_BxL, segment_ids_BxL):
    if causal_attention_BxL is None or self.config.attention != 'prefix':
      return None
    return (causal_attention_BxL > 0) & (segment_ids_BxL > 0)

  def _check_attention(self, causal_attention_BxL) -> None:
    configured = self.config.attention
    given = 'causal' if causal_attention_BxL is None else 'prefix'
    if configured != given:
      raise InputError(
        f'DecoderConfig.attention: got {configured!r}; t5x runs a {given} model; must '
        f'be {given!r}, or DecoderOnlyModel.inputs_bidirectional_attention = '
        f'{configured == "prefix"}',
        field='DecoderConfig.attention',
      )

  def _make_cache(self, ids_BxL) -> jax.Array:
    batch, length = ids_BxL.shape
    cache = kv_cache.init(self.config, batch=batch, length=length)
    self._put_cache(cache, jnp.zeros((), jnp.int32))
    return jnp.zeros((batch, length, self.config.vocab_size), jnp.float32)

  def _prefill(self, ids_BxL, lengths_B, causal_attention_BxL) -> jax.Array:
    self._check_attention(causal_attention_BxL)
    positions_BxL = _positions(ids_BxL)
    read_BxL = (positions_BxL <= lengths_B[:, None]).astype(jnp.int32)
    tokens = self._tokens(ids_BxL, positions_BxL, read_BxL)
    prefix_BxL = self._prefix(causal_attention_BxL, tokens.segment_ids)
    logits_BxLxV, cache = self._forward(tokens, prefix_BxL, self._get_cache())
    self._put_cache(cache, lengths_B)
    return logits_BxLxV

  def _decode(self, ids_Bx1) -> jax.Array:
    cache = self._get_cache()
    index_B = self.get_variable('cache', 'cache_index')
    index_Bx1 = jnp.broadcast_to(index_B, ids_Bx1.shape[:1])[:, None]
    tokens = self._tokens(ids_Bx1, index_Bx1, jnp.ones_like(ids_Bx1))
    # t5x decodes the last token of a prompt again: drop its earlier cache entry.
    kept_BxS = cache.positions < tokens.positions
    cache = cache._replace(positions=jnp.where(kept_BxS, cache.positions, -1))
    logits_Bx1xV, cache = self._forward(tokens, cache=cache)
    self._put_cache(cache, index_B + 1)
    return logits_Bx1xV

  def _get_cache(self) -> Cache:
    get = functools.partial(self.get_variable, 'cache')
    keys, values = (get(name).swapaxes(0, 1) for name in ('keys', 'values'))
    return Cache(keys, values, get('positions'))

  def _put_cache(self, cache: Cache, index: jax.Array) -> None:
    """Stores the cache with the batch axis first, on which t5x expands its beams."""
    self.put_variable('cache', 'keys', cache.keys.swapaxes(0, 1))
    self.put_variable('cache', 'values', cache.values.swapaxes(0, 1))
    self.put_variable('cache', 'positions', cache.positions)
    self.put_variable('cache', 'cache_index', index)


def _positions(ids_BxL: jax.Array) -> jax.Array:
  return jnp.broadcast_to(jnp.arange(ids_BxL.shape[1]), ids_BxL.shape)


def params_axes(boxed: Any) -> dict[str, Any]:
  """Returns t5x's collection `params_axes` of boxed parameters.

  Raises:
    InputError: if a parameter has an axis that t5x's rules do not know.
  """
  specs: dict[Any, Any] = traverse_util.flatten_dict(nn.get_partition_spec(boxed))
  found = {}
  for path, spec in specs.items():
    for axis in spec:
      if axis not in AXES:
        raise InputError(
          f'{"/".join(path)}: logical axis {axis!r} has no name in t5x; must be one of '
          f'{", ".join(AXES)}'
        )
    names = tuple(AXES[axis] for axis in spec)
    found[*path[:-1], f'{path[-1]}_axes'] = partitioning.AxisMetadata(names=names)
  return traverse_util.unflatten_dict(found)
