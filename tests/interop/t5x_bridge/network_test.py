"""Parity of the t5x module with our Decoder; t5x itself is not needed.

The tests call the module as t5x does: the same names, in the same order.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, examples, flan_batch, pairs, t5x_features
from flax import traverse_util

from flan_jax.errors import InputError
from flan_jax.interop.t5x import network
from flan_jax.interop.t5x.network import Network
from flan_jax.model import params as params_lib
from flan_jax.model.decoder import Decoder
from flan_jax.train import train_step

LENGTH = 40
# fmt: off
VARIANTS = {
  'causal': {},
  'prefix': {'attention': 'prefix'},
  't5 positions': {'positions': 't5'},
  'unrolled': {'scan_layers': False},
  'other families': {
    'positions': 'learned', 'max_positions': 64, 'norm': 'layer', 'activation': 'gelu',
    'attention_bias': 'all', 'mlp_bias': True, 'layer_pattern': 'GL', 'window': 4,
    'qk_norm': True, 'post_norms': True, 'tied_embedding': False,
  },
}
# fmt: on

TELLING = [('other families', None), ('prefix', None), ('causal', 2)]
"""Variants and BOS ids that together have every difference."""
WITH_BOS = [
  pytest.param(
    name, bos_id, marks=[] if (name, bos_id) in TELLING else pytest.mark.slow
  )
  for name in VARIANTS
  for bos_id in (None, 2)
]


def variant(name: str):
  return dataclasses.replace(TINY, **VARIANTS[name])


def init(module: Network) -> dict:
  ones = jnp.ones((2, LENGTH), jnp.int32)
  return module.init(jax.random.key(0), ones, ones, enable_dropout=False)


@functools.cache
def params_of(config) -> dict:
  """Parameters of a configuration; no BOS changes them."""
  return jax.jit(lambda: init(Network(config))['params'])()


@functools.cache
def compiled(module: Network, mutable, flags):
  return jax.jit(functools.partial(module.apply, mutable=mutable, **dict(flags)))


def apply(module: Network, variables, *tokens, mutable=False, **others):
  """Calls the module as t5x does: flags are static, the rest is compiled."""
  arrays = {name: x for name, x in others.items() if hasattr(x, 'shape')}
  flags = tuple((name, x) for name, x in others.items() if name not in arrays)
  return compiled(module, mutable, flags)(variables, *tokens, **arrays)


def answers(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Logits at the positions of the loss, [N, V]: independent of the shift."""
  return np.asarray(logits)[np.asarray(weights) > 0]


@pytest.mark.parametrize(('name', 'bos_id'), WITH_BOS)
def test_packed_sequences_of_t5x_give_our_logits(name, bos_id):
  config = variant(name)
  groups = pairs()
  batch, features = (
    flan_batch(groups, sequence_length=LENGTH, bos_id=bos_id),
    t5x_features(groups, sequence_length=LENGTH),
  )
  module = Network(config, bos_id=bos_id)
  params = params_of(module.config)
  want = jax.jit(Decoder(config).apply)(
    {'params': params['decoder']},
    batch.tokens,
    positions_BxL=batch.positions,
    segment_ids_BxL=batch.segment_ids,
    prefix_BxL=train_step.prefix_of(batch) if config.attention == 'prefix' else None,
  )
  prefix = features['decoder_causal_attention']
  got = apply(
    module,
    {'params': params},
    features['decoder_input_tokens'],
    features['decoder_target_tokens'],
    decoder_segment_ids=features['decoder_segment_ids'],
    decoder_positions=features['decoder_positions'],
    decoder_causal_attention=prefix if config.attention == 'prefix' else None,
    rngs=None,
    decode=False,
    enable_dropout=False,
  )
  np.testing.assert_allclose(
    answers(got, features['decoder_loss_weights']),
    answers(want, batch.loss_mask),
    atol=2e-6,
  )


def test_a_sequence_of_one_example_needs_neither_segments_nor_positions():
  groups = [[one] for one in examples(4)]
  batch = t5x_features(groups, sequence_length=16)
  module = Network(TINY)
  params = params_of(module.config)
  tokens = batch['decoder_input_tokens'], batch['decoder_target_tokens']
  implicit = apply(module, {'params': params}, *tokens, enable_dropout=False)
  explicit = apply(
    module,
    {'params': params},
    *tokens,
    decoder_segment_ids=batch['decoder_segment_ids'],
    decoder_positions=batch['decoder_positions'],
    enable_dropout=False,
  )
  weights = batch['decoder_loss_weights']
  np.testing.assert_allclose(
    answers(implicit, weights), answers(explicit, weights), atol=1e-6
  )


@pytest.mark.parametrize('name', VARIANTS)
def test_every_parameter_has_axes_that_the_rules_of_t5x_know(name):
  variables = {}
  jax.eval_shape(lambda: variables.update(init(Network(variant(name)))))
  params = traverse_util.flatten_dict(variables['params'], sep='/')
  axes = traverse_util.flatten_dict(variables['params_axes'], sep='/')
  assert {f'{path}_axes' for path in params} == set(axes)
  for path, value in params.items():
    assert isinstance(value, jax.Array)
    names = axes[f'{path}_axes'].names
    assert len(names) == value.ndim
    assert set(names) <= set(network.AXES.values())


def test_the_parameters_are_those_of_our_trainer():
  """t5x.eval initializes them from float tokens."""
  shapes, _ = params_lib.abstract_params(TINY)
  ones = jnp.ones((2, LENGTH), jnp.float32)
  module = Network(TINY)
  made = jax.eval_shape(
    lambda: module.init(jax.random.key(0), ones, ones, enable_dropout=False)['params']
  )
  params = made['decoder']
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)


def test_an_axis_without_a_name_in_t5x_is_refused_with_its_parameter():
  boxed = {'adapter': {'a': jax.ShapeDtypeStruct((2, 3), 'float32')}}
  boxed['adapter']['a'] = network.nn.LogicallyPartitioned(
    jnp.zeros((2, 3)), ('embed', 'rank')
  )
  with pytest.raises(InputError, match="adapter/a: logical axis 'rank'"):
    network.params_axes(boxed)


@pytest.mark.parametrize(('attention', 'given'), [('prefix', False), ('causal', True)])
def test_conflicting_prefix_settings_are_refused(attention, given):
  config = dataclasses.replace(TINY, attention=attention)
  batch = t5x_features(pairs(), sequence_length=LENGTH)
  module = Network(config)
  params = params_of(module.config)
  with pytest.raises(InputError, match='inputs_bidirectional_attention'):
    apply(
      module,
      {'params': params},
      batch['decoder_input_tokens'],
      batch['decoder_target_tokens'],
      decoder_causal_attention=batch['decoder_causal_attention'] if given else None,
    )


@pytest.mark.parametrize(('name', 'bos_id'), WITH_BOS)
def test_decoding_with_the_cache_equals_one_forward_pass(name, bos_id):
  """Prefill of prompts of different lengths, then decoding token by token, as t5x."""
  config = variant(name)
  prefix = config.attention == 'prefix'
  batch = t5x_features([[one] for one in examples(4)], sequence_length=16)
  tokens, given = batch['decoder_input_tokens'], batch['decoder_causal_attention']
  module = Network(config, bos_id=bos_id)
  params = params_of(module.config)
  whole = apply(
    module,
    {'params': params},
    tokens,
    batch['decoder_target_tokens'],
    decoder_causal_attention=given if prefix else None,
    enable_dropout=False,
  )
  ones = jnp.ones_like(tokens)
  _, made = apply(
    module,
    {'params': params},
    ones,
    ones,
    enable_dropout=False,
    decode=True,
    mutable=('cache',),
  )
  assert made['cache']['cache_index'].shape == ()
  prompts = tokens * given
  lengths = np.sum(prompts[:, 1:] != 0, axis=-1)
  _, read = apply(
    module,
    {'params': params, 'cache': made['cache']},
    decoder_input_tokens=prompts,
    decoder_target_tokens=given,
    decoder_causal_attention=given if prefix else None,
    mutable=('cache',),
    enable_dropout=False,
    prefill=True,
    prefill_lengths=lengths,
  )
  cache = read['cache']
  np.testing.assert_array_equal(cache['cache_index'], lengths)
  batch_index = np.arange(len(lengths))
  for offset in range(3):
    index = np.minimum(lengths + offset, tokens.shape[1] - 1)
    ids = tokens[batch_index, index][:, None]
    logits, new = apply(
      module,
      {'params': params, 'cache': cache},
      ids,
      ids,
      enable_dropout=False,
      decode=True,
      max_decode_length=16,
      mutable=('cache',),
    )
    cache = new['cache']
    inside = batch['decoder_loss_weights'][batch_index, index] > 0
    assert inside.any()
    np.testing.assert_allclose(
      logits[:, 0][inside], whole[batch_index, index][inside], atol=2e-5
    )


def test_every_array_of_the_cache_has_the_batch_axis_first():
  module = Network(TINY)
  params = params_of(module.config)
  ones = jnp.ones((3, 16), jnp.int32)
  _, made = apply(
    module, {'params': params}, ones, ones, decode=True, mutable=('cache',)
  )
  arrays = dict(made['cache'])
  assert arrays.pop('cache_index').shape == ()
  assert {name: array.shape[0] for name, array in arrays.items()} == {
    'keys': 3,
    'values': 3,
    'positions': 3,
  }
