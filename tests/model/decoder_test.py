"""The decoder: which tokens influence which, and equality of all ways to run it.

Influence is measured by gradient: token s reaches position t if the state at t changes
with the embedding of s. All tokens of a sequence are different, so that every row of
the embedding table belongs to one token.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig, parameter_count
from flan_jax.errors import InputError
from flan_jax.model.decoder import Decoder

TINY = DecoderConfig(
  vocab_size=23, num_layers=2, d_model=16, d_ff=24, num_heads=4, num_kv_heads=2,
  head_dim=6, relative_buckets=8, relative_max_distance=20,
)  # fmt: skip
WIDTH = 12  # of every sequence, so that each config is compiled once
POSITIONS = ('rotary', 't5')
AXES = {
  'embed', 'vocab', 'mlp', 'heads', 'kv_heads', 'kv', 'layers', 'relpos_buckets',
  'norm',
}  # fmt: skip

close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def tiny(**changes):
  return dataclasses.replace(TINY, **changes)


def sequence(segments, prefix=None):
  """Different tokens with segments as in '11222' and prefix tokens as in 'pp...'."""
  segments = segments.ljust(WIDTH, '0')
  tokens = np.random.default_rng(0).permutation(TINY.vocab_size)[:WIDTH]
  layout = {
    'positions_BxL': [segments[:i].count(s) for i, s in enumerate(segments)],
    'segment_ids_BxL': [int(s) for s in segments],
  }
  if prefix is not None:
    layout['prefix_BxL'] = [c == 'p' for c in prefix.ljust(WIDTH)]
  return np.array([tokens]), {k: np.array([v]) for k, v in layout.items()}


@functools.cache
def params_of(config):
  """Uniform parameters, which need no compilation of `init`."""
  tokens, layout = sequence('1')
  boxed = jax.eval_shape(Decoder(config).init, jax.random.key(0), tokens, **layout)
  draw = np.random.default_rng(0).uniform
  return jax.tree.map(
    lambda leaf: draw(-0.5, 0.5, leaf.shape).astype(leaf.dtype),
    nn.meta.unbox(boxed),
  )


@functools.cache
def compiled(config, method='__call__'):
  return jax.jit(functools.partial(Decoder(config).apply, method=method))


def logits_of(config, tokens, layout):
  return compiled(config)(params_of(config), tokens, **layout)


@functools.partial(jax.jit, static_argnums=1)
def loss_and_gradient(params, config, tokens, layout):
  """Gradient of a weighted sum of all logits but those of padding."""

  def loss(params):
    logits = Decoder(config).apply(params, tokens, **layout)
    weights = np.random.default_rng(1).normal(size=logits.shape).astype(np.float32)
    return jnp.sum(logits * weights * (layout['segment_ids_BxL'] > 0)[..., None])

  return jax.value_and_grad(loss)(params)


@functools.partial(jax.jit, static_argnums=0)
def jacobian(config, params, tokens, layout):
  """Gradient of every hidden state by every embedding, [L, D, V, D]."""

  def states(table):
    changed = {'params': {**params['params'], 'embedding': table}}
    return Decoder(config).apply(changed, tokens, **layout, method='hidden')[0]

  return jax.jacrev(states)(params['params']['embedding'])


def paired(positions, attention, *rest):
  """A case; slow unless attention is the one that goes with these positions here."""
  together = (positions == 't5') == (attention == 'prefix')
  marks = () if together else pytest.mark.slow
  return pytest.param(positions, attention, *rest, marks=marks)


REACH = [
  ('causal', '11111', None, ['#....', '##...', '###..', '####.', '#####']),
  # two packed examples, then padding, which not even padding sees
  ('causal', '1112200', None, [
    '#......', '##.....', '###....', '...#...', '...##..', '.....#.', '......#',
  ]),
  # the prefix of each example sees all of itself, and no target
  ('prefix', '1111222', 'pp..pp.', [
    '##.....', '##.....', '###....', '####...', '....##.', '....##.', '....###',
  ]),
  ('prefix', '1111', '....', ['#...', '##..', '###.', '####']),
]  # fmt: skip


@pytest.mark.parametrize(
  ('positions', 'attention', 'segments', 'prefix', 'expected'),
  [paired(positions, *case) for positions in POSITIONS for case in REACH],
)
def test_each_token_depends_on_exactly_those_it_may_see(
  positions, attention, segments, prefix, expected
):
  config = tiny(positions=positions, attention=attention)
  tokens, layout = sequence(segments, prefix)
  jacobian_LxDxVxD = jacobian(config, params_of(config), tokens, layout)
  reach_LxV = np.abs(np.asarray(jacobian_LxDxVxD)).max(axis=(1, 3))
  reach_LxL = reach_LxV[:, tokens[0]][: len(segments), : len(segments)]
  assert [''.join('#' if x else '.' for x in to) for to in reach_LxL > 0] == expected


@pytest.mark.parametrize(
  ('positions', 'attention'),
  [paired(x, attention) for x in POSITIONS for attention in ('causal', 'prefix')],
)
def test_packed_examples_have_the_logits_of_lone_ones(positions, attention):
  config = tiny(positions=positions, attention=attention)
  prefix = 'pp..pp.pp...' if attention == 'prefix' else None
  tokens, layout = sequence('1111222333', prefix)
  packed = logits_of(config, tokens, layout)
  for start, end in ((0, 4), (4, 7), (7, 10)):
    _, alone = sequence('1' * (end - start), prefix and prefix[start:end])
    lone = logits_of(config, np.roll(tokens, -start, axis=1), alone)
    close(np.asarray(packed)[:, start:end], np.asarray(lone)[:, : end - start])


@pytest.mark.parametrize('positions', POSITIONS)
def test_only_the_distance_between_positions_counts(positions):
  config = tiny(positions=positions)
  tokens, layout = sequence('1' * WIDTH)
  shifted = {**layout, 'positions_BxL': layout['positions_BxL'] + 50}
  close(logits_of(config, tokens, layout), logits_of(config, tokens, shifted))


@pytest.mark.parametrize('positions', POSITIONS)
def test_the_order_of_tokens_counts(positions):
  config = tiny(positions=positions)
  tokens, layout = sequence('1' * WIDTH)
  swapped = tokens[:, [1, 0, *range(2, WIDTH)]]
  last, last_swapped = (
    np.asarray(logits_of(config, t, layout))[0, -1] for t in (tokens, swapped)
  )
  assert np.abs(last - last_swapped).max() > 1e-4


def unrolled(variables):
  """Stacked layers as layers_0, layers_1, ..."""
  rest = dict(variables['params'])
  stacked = rest.pop('layers')
  for i in range(TINY.num_layers):
    rest[f'layers_{i}'] = jax.tree.map(lambda leaf, i=i: leaf[i], stacked)
  return {'params': rest}


@pytest.mark.parametrize(
  'positions', [pytest.param('rotary', marks=pytest.mark.slow), 't5']
)
def test_scanned_layers_equal_unrolled_ones(positions):
  scanned = tiny(positions=positions)
  single = tiny(positions=positions, scan_layers=False)
  params, (tokens, layout) = params_of(scanned), sequence('11122')
  shapes = jax.tree.map(jnp.shape, unrolled(params))
  assert shapes == jax.tree.map(jnp.shape, params_of(single))
  close(
    compiled(scanned)(params, tokens, **layout),
    compiled(single)(unrolled(params), tokens, **layout),
  )


@pytest.mark.parametrize(
  ('scan_layers', 'remat'),
  [
    (True, 'dots'),
    (False, 'full'),
    pytest.param(True, 'full', marks=pytest.mark.slow),
    pytest.param(False, 'none', marks=pytest.mark.slow),
  ],
)
def test_scan_and_remat_do_not_change_the_gradient(scan_layers, remat):
  params, batch = params_of(TINY), sequence('11122')
  _, expected = loss_and_gradient(params, TINY, *batch)
  config = tiny(scan_layers=scan_layers, remat=remat)
  if not scan_layers:
    params, expected = unrolled(params), unrolled(expected)
  jax.tree.map(close, loss_and_gradient(params, config, *batch)[1], expected)


def test_more_rematerialization_saves_less_for_the_backward_pass():
  tokens, layout = sequence('1' * WIDTH)

  def kept(remat):
    apply = Decoder(tiny(remat=remat)).apply
    backward = jax.eval_shape(
      lambda params: jax.vjp(lambda p: apply(p, tokens, **layout), params)[1],
      params_of(TINY),
    )
    return sum(leaf.size for leaf in jax.tree.leaves(backward))

  assert kept('none') > kept('dots') > kept('full')


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'positions': 'rotary', 'activation': 'swiglu', 'tied_embedding': False},
    {'scan_layers': False, 'num_kv_heads': 4},
    {'tied_embedding': False, 'num_kv_heads': 1, 'num_layers': 3},
    # LaMDA-PT 137B, of which nothing is allocated
    {
      'vocab_size': 32_000, 'num_layers': 64, 'd_model': 8192, 'd_ff': 65_536,
      'num_heads': 128, 'num_kv_heads': 128, 'head_dim': 128,
    },
  ],
)  # fmt: skip
def test_every_parameter_is_counted_and_named(changes):
  config = tiny(**changes)
  tokens, layout = sequence('1')
  shapes = jax.eval_shape(Decoder(config).init, jax.random.key(0), tokens, **layout)
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
    tokens, layout = sequence('1' * WIDTH)
    params = params_of(config)
    hidden = compiled(config, 'hidden')(params, tokens, **layout)
    assert hidden.shape == (1, WIDTH, 16)
    some = compiled(config, 'head')(params, hidden[:, 2:5])
    close(some, logits_of(config, tokens, layout)[:, 2:5])


@pytest.mark.parametrize(
  ('positions', 'tied', 'within'), [('t5', True, 0.2), ('rotary', False, 0.7)]
)
def test_an_untrained_model_is_near_the_uniform_loss(positions, tied, within):
  config = tiny(
    vocab_size=2000, d_model=64, d_ff=128, positions=positions, tied_embedding=tied
  )
  tokens = np.random.default_rng(0).integers(0, 2000, (1, 65))
  layout = {
    'positions_BxL': np.arange(64)[None],
    'segment_ids_BxL': np.ones((1, 64), np.int32),
  }

  @jax.jit
  def first_logits(key):
    return Decoder(config).init_with_output(key, tokens[:, :-1], **layout)[0]

  losses = optax.softmax_cross_entropy_with_integer_labels(
    first_logits(jax.random.key(0)), tokens[:, 1:]
  )
  assert abs(losses.mean() - np.log(2000)) < within


def test_bfloat16_is_for_activations_alone():
  config = tiny(dtype='bfloat16')
  tokens, layout = sequence('11122')
  logits = logits_of(config, tokens, layout)
  assert logits.dtype == np.float32
  np.testing.assert_allclose(logits, logits_of(TINY, tokens, layout), atol=0.1)
  _, gradient = jax.eval_shape(
    lambda params: loss_and_gradient(params, config, tokens, layout), params_of(config)
  )
  assert {leaf.dtype.name for leaf in jax.tree.leaves(gradient)} == {'float32'}
  for dtype in ('float32', 'bfloat16'):
    params = jax.eval_shape(
      Decoder(tiny(param_dtype=dtype)).init, jax.random.key(0), tokens, **layout
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}


def test_a_token_outside_the_vocabulary_is_nan():
  tokens, layout = sequence('111')
  tokens[0, 1] = 23
  assert np.isnan(logits_of(TINY, tokens, layout)[0, 1]).all()


def test_a_causal_model_refuses_a_prefix():
  tokens, layout = sequence('111', 'pp.')
  with pytest.raises(InputError) as caught:
    logits_of(TINY, tokens, layout)
  assert str(caught.value) == (
    "prefix_BxL: got a mask, but config.attention is 'causal'; must be None, or "
    "config.attention 'prefix'"
  )
