"""The decoder: who influences whom, and that no way of running it changes the result.

Influence is measured by gradient: token s reaches position t if the state at t changes
with the embedding of s. The tokens of a row are all different, so that every row of the
embedding table stands for one place.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from flan_jax.errors import InputError
from flan_jax.model.config import DecoderConfig, parameter_count
from flan_jax.model.decoder import Decoder

TINY = DecoderConfig(
  vocab_size=23, num_layers=2, d_model=16, d_ff=24, num_heads=4, num_kv_heads=2,
  head_dim=6, relative_buckets=8, relative_max_distance=20,
)  # fmt: skip
POSITIONS = ('rotary', 't5')
AXES = {
  'embed', 'vocab', 'mlp', 'heads', 'kv_heads', 'kv', 'layers', 'relpos_buckets',
  'norm',
}  # fmt: skip


def tiny(**changes):
  return dataclasses.replace(TINY, **changes)


def row(segments, prefix=None, *, seed=0):
  """A row of different tokens: segments as in '1112200', prefix as in 'pp...'."""
  tokens = np.random.default_rng(seed).permutation(TINY.vocab_size)[: len(segments)]
  fields = {
    'positions_BxL': [segments[:i].count(s) for i, s in enumerate(segments)],
    'segment_ids_BxL': [int(s) for s in segments],
  }
  if prefix is not None:
    fields['prefix_BxL'] = [c == 'p' for c in prefix]
  return jnp.array([tokens]), {k: jnp.array([v]) for k, v in fields.items()}


@functools.cache
def boxed(config):
  tokens, places = row('11')
  return jax.jit(Decoder(config).init)(jax.random.key(0), tokens, **places)


def params_of(config):
  return nn.meta.unbox(boxed(config))


@functools.cache
def compiled(config, method='__call__'):
  return jax.jit(functools.partial(Decoder(config).apply, method=method))


def logits_of(config, tokens, places, *, params=None):
  return compiled(config)(params or params_of(config), tokens, **places)


def loss(params, config, tokens, places):
  """A sum that weighs every logit differently, over the tokens that are not padding."""
  logits = Decoder(config).apply(params, tokens, **places)
  weights = np.random.default_rng(1).normal(size=logits.shape).astype(np.float32)
  return jnp.sum(logits * weights * (places['segment_ids_BxL'] > 0)[..., None])


def unrolled(params):
  """Parameters of stacked layers as those of layers_0, layers_1, ..."""
  rest = dict(params['params'])
  stacked = rest.pop('layers')
  for i in range(TINY.num_layers):
    rest[f'layers_{i}'] = jax.tree.map(lambda leaf, i=i: leaf[i], stacked)
  return {'params': rest}


def influence(config, tokens, places):
  """Rows of '#' where the token reaches the position, '.' where its gradient is 0."""
  params = params_of(config)['params']

  def states(table):
    changed = {'params': {**params, 'embedding': table}}
    return compiled(config, 'hidden')(changed, tokens, **places)[0]

  jacobian_LxDxVxD = jax.jit(jax.jacrev(states))(params['embedding'])
  reach_LxV = np.abs(np.asarray(jacobian_LxDxVxD)).max(axis=(1, 3))
  return [''.join('#' if x > 0 else '.' for x in r) for r in reach_LxV[:, tokens[0]]]


@pytest.mark.parametrize('positions', POSITIONS)
@pytest.mark.parametrize(
  ('attention', 'segments', 'prefix', 'expected'),
  [
    ('causal', '11111', None, ['#....', '##...', '###..', '####.', '#####']),
    # two packed examples, then padding, which not even padding reads
    ('causal', '1112200', None, [
      '#......', '##.....', '###....', '...#...', '...##..', '.....#.', '......#',
    ]),
    # the prefix of each example sees itself whole, and nothing of the targets
    ('prefix', '1111222', 'pp..pp.', [
      '##.....', '##.....', '###....', '####...', '....##.', '....##.', '....###',
    ]),
    ('prefix', '1111', None, ['#...', '##..', '###.', '####']),
  ],
)  # fmt: skip
def test_each_position_is_reached_by_exactly_what_it_may_see(
  positions, attention, segments, prefix, expected
):
  config = tiny(positions=positions, attention=attention)
  assert influence(config, *row(segments, prefix)) == expected


@pytest.mark.parametrize('positions', POSITIONS)
@pytest.mark.parametrize('attention', ['causal', 'prefix'])
def test_packed_examples_have_the_logits_of_lone_ones(positions, attention):
  config = tiny(positions=positions, attention=attention)
  prefix = 'pp..pp.pp...' if attention == 'prefix' else None
  tokens, places = row('111122233300', prefix)
  packed = logits_of(config, tokens, places)
  for start, end in ((0, 4), (4, 7), (7, 10)):
    alone = {k: v[:, start:end] for k, v in places.items()}
    alone['segment_ids_BxL'] = jnp.ones((1, end - start), jnp.int32)
    expected = logits_of(config, tokens[:, start:end], alone)
    np.testing.assert_allclose(packed[:, start:end], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('positions', POSITIONS)
def test_only_the_distance_between_positions_counts(positions):
  config = tiny(positions=positions)
  tokens, places = row('1111111')
  shifted = {**places, 'positions_BxL': places['positions_BxL'] + 50}
  np.testing.assert_allclose(
    logits_of(config, tokens, places), logits_of(config, tokens, shifted), atol=1e-5
  )


@pytest.mark.parametrize('positions', POSITIONS)
def test_the_order_of_tokens_counts(positions):
  config = tiny(positions=positions)
  tokens, places = row('1111111')
  swapped = tokens[:, jnp.array([1, 0, 2, 3, 4, 5, 6])]
  last, last_swapped = (logits_of(config, t, places)[0, -1] for t in (tokens, swapped))
  assert np.abs(last - last_swapped).max() > 1e-4


@pytest.mark.parametrize('positions', POSITIONS)
def test_scanned_layers_equal_unrolled_ones(positions):
  scanned = tiny(positions=positions)
  single = dataclasses.replace(scanned, scan_layers=False)
  params = params_of(scanned)
  tokens, places = row('1112220')
  shapes = jax.tree.map(jnp.shape, unrolled(params))
  assert shapes == jax.tree.map(jnp.shape, params_of(single))
  grad = jax.jit(jax.value_and_grad(loss), static_argnums=1)
  value, gradient = grad(params, scanned, tokens, places)
  value_1, gradient_1 = grad(unrolled(params), single, tokens, places)
  np.testing.assert_allclose(value, value_1, rtol=1e-5)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
    unrolled(gradient),
    gradient_1,
  )


@pytest.mark.parametrize('scan_layers', [True, False])
@pytest.mark.parametrize('remat', ['dots', 'full'])
def test_recomputation_changes_no_gradient(remat, scan_layers):
  plain = tiny(scan_layers=scan_layers)
  params = params_of(plain)
  tokens, places = row('1112220')
  grad = jax.jit(jax.grad(loss), static_argnums=1)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
    grad(params, plain, tokens, places),
    grad(params, dataclasses.replace(plain, remat=remat), tokens, places),
  )


def test_what_is_saved_for_the_backward_pass_shrinks_with_remat():
  tokens, places = row('1' * 20)

  def saved(remat):
    config = tiny(remat=remat)
    _, backward = jax.vjp(lambda p: loss(p, config, tokens, places), params_of(config))
    return sum(leaf.size for leaf in jax.tree.leaves(backward))

  assert saved('none') > saved('dots') > saved('full')


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'positions': 'rotary', 'activation': 'swiglu', 'tied_embedding': False},
    {'scan_layers': False, 'num_kv_heads': 4},
    {'tied_embedding': False, 'num_kv_heads': 1, 'num_layers': 3},
    # LaMDA-PT 137B: nothing of it is allocated
    {
      'vocab_size': 32_000, 'num_layers': 64, 'd_model': 8192, 'd_ff': 65_536,
      'num_heads': 128, 'num_kv_heads': 128, 'head_dim': 128,
    },
  ],
)  # fmt: skip
def test_every_parameter_is_counted_and_named(changes):
  config = tiny(**changes)
  tokens, places = row('11')
  shapes = jax.eval_shape(Decoder(config).init, jax.random.key(0), tokens, **places)
  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
  leaves = jax.tree.leaves(shapes, is_leaf=is_box)
  assert all(map(is_box, leaves))
  for leaf in leaves:
    assert len(leaf.names) == len(leaf.value.shape)
    assert set(leaf.names) <= AXES
    assert len(set(leaf.names)) == len(leaf.names)
  assert sum(leaf.value.size for leaf in leaves) == parameter_count(config)


def test_the_head_may_be_applied_to_some_positions():
  for tied in (True, False):
    config = tiny(tied_embedding=tied)
    tokens, places = row('1111111')
    params = params_of(config)
    hidden = compiled(config, 'hidden')(params, tokens, **places)
    assert hidden.shape == (1, 7, 16)
    some = compiled(config, 'head')(params, hidden[:, 2:5])
    expected = logits_of(config, tokens, places)[:, 2:5]
    np.testing.assert_allclose(some, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('positions', POSITIONS)
def test_an_untrained_model_is_near_the_uniform_loss(positions, tied):
  config = tiny(
    vocab_size=2000, d_model=64, d_ff=128, positions=positions, tied_embedding=tied
  )
  tokens = np.random.default_rng(0).integers(0, 2000, (4, 33))
  places = {
    'positions_BxL': np.tile(np.arange(32), (4, 1)),
    'segment_ids_BxL': np.ones((4, 32), np.int32),
  }
  logits = logits_of(config, tokens[:, :-1], places)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
  assert abs(losses.mean() - np.log(2000)) < (0.1 if tied else 0.6)


def test_bfloat16_is_for_activations_alone():
  config = tiny(dtype='bfloat16')
  tokens, places = row('1112220')
  params = params_of(config)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('float32')}
  logits = logits_of(config, tokens, places)
  assert logits.dtype == np.float32
  exact = logits_of(TINY, tokens, places, params=params)
  np.testing.assert_allclose(logits, exact, atol=0.05)
  assert (
    params_of(tiny(param_dtype='bfloat16'))['params']['embedding'].dtype == 'bfloat16'
  )


def test_a_token_outside_the_vocabulary_is_not_read_as_another():
  tokens, places = row('111')
  assert np.isnan(logits_of(TINY, tokens.at[0, 1].set(23), places)[0, 1]).all()


def test_a_causal_model_refuses_a_prefix():
  tokens, places = row('111', 'pp.')
  with pytest.raises(InputError) as caught:
    logits_of(TINY, tokens, places)
  assert str(caught.value) == (
    "prefix_BxL: got a mask, but config.attention is 'causal'; must be None, or "
    "config.attention 'prefix'"
  )
