"""A decoder so small that every evaluation test can have its own."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from flan_jax.checkpoints import model_dir
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data import tokenizers
from flan_jax.model.decoder import Decoder

TINY = DecoderConfig(
  vocab_size=tokenizers.load('bytes').vocab_size, num_layers=2, d_model=32, d_ff=48,
  num_heads=4, num_kv_heads=2, head_dim=8, positions='rotary',
)  # fmt: skip


@functools.cache
def _parameters(config: DecoderConfig):
  """Parameters filled by numpy, so that nothing is compiled for them."""
  tokens = jnp.zeros((1, 4), jnp.int32)
  init = functools.partial(
    Decoder(config).init, positions_BxL=tokens, segment_ids_BxL=tokens
  )
  shapes = meta.unbox(jax.eval_shape(init, jax.random.key(0), tokens)['params'])
  generator = np.random.default_rng(0)

  def fill(path, leaf):
    if 'norm' in jax.tree_util.keystr(path):
      return jnp.ones(leaf.shape, leaf.dtype)
    return jnp.asarray(generator.normal(0, 0.3, leaf.shape), leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, shapes)


@functools.cache
def _forward(config: DecoderConfig):
  return jax.jit(Decoder(config).apply)


class TinyModel:
  """A random decoder, with a simple reference for its logits.

  Attributes:
    config: configuration of the decoder.
    params: parameters of the decoder.
  """

  def __init__(self, **changes):
    self.config = dataclasses.replace(TINY, **changes)
    self.params = _parameters(self.config)

  def save(self, folder: pathlib.Path) -> None:
    """Saves a model folder with the tokenizer of bytes."""
    bytes_ = tokenizers.load('bytes')
    model_dir.save(folder, self.params, config=self.config, tokenizer=bytes_)

  def logits(self, sequence, *, prefix: int, width: int) -> np.ndarray:
    """Logits float64 [len(sequence), V] of one sequence, padded to `width`."""
    positions = np.arange(width)[None]
    tokens = np.zeros((1, width), np.int32)
    tokens[0, : len(sequence)] = sequence
    logits = _forward(self.config)(
      {'params': self.params},
      tokens,
      positions_BxL=positions,
      segment_ids_BxL=(positions < len(sequence)).astype(np.int32),
      prefix_BxL=positions < prefix if self.config.attention == 'prefix' else None,
    )
    return np.asarray(logits)[0, : len(sequence)].astype(np.float64)


@pytest.fixture(scope='session')
def tiny_model():
  """Makes a TinyModel; keyword arguments change its DecoderConfig."""
  return TinyModel
