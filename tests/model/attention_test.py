"""Attention, its masks and its two position encodings, as pure functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flan_jax.model import attention
from flan_jax.model.attention import Layout


def random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def layout(segments, prefix=None):
  """A sequence of segments, as in '1112200'; prefix tokens as in 'pp.p...'."""
  ids = [int(s) for s in segments]
  positions = [segments[:i].count(s) for i, s in enumerate(segments)]
  return Layout(
    positions=jnp.array([positions]),
    segment_ids=jnp.array([ids]),
    prefix=None if prefix is None else jnp.array([[c == 'p' for c in prefix]]),
  )


def drawn(mask_BxTxS):
  return [''.join('#' if x else '.' for x in row) for row in np.asarray(mask_BxTxS[0])]


@pytest.mark.parametrize(
  ('segments', 'prefix', 'expected'),
  [
    ('1111', None, ['#...', '##..', '###.', '####']),
    ('1122', None, ['#...', '##..', '..#.', '..##']),
    ('1100', None, ['#...', '##..', '....', '....']),
    ('1111', 'pp..', ['##..', '##..', '###.', '####']),
    ('11222', 'p.pp.', ['#....', '##...', '..##.', '..##.', '..###']),
    ('1110', 'pp.p', ['##..', '##..', '###.', '....']),
    ('1111', '....', ['#...', '##..', '###.', '####']),
    ('1111', '.pp.', ['#...', '###.', '###.', '####']),
  ],
)
def test_masks(segments, prefix, expected):
  tokens = layout(segments, prefix)
  assert drawn(attention.attention_mask(tokens, tokens)) == expected


@pytest.mark.parametrize(
  ('prefix', 'expected'),
  [
    (
      None,
      ['#......', '##.....', '###....', '##.#...', '##.##..', '.....#.', '.......'],
    ),
    (
      'pp.....',
      ['##.....', '##.....', '###....', '##.#...', '##.##..', '.....#.', '.......'],
    ),
  ],
)
def test_in_a_tree_a_token_sees_its_ancestors(prefix, expected):
  """Two tokens, then a branch of one and a branch of two; another tree; padding."""
  plain = layout('1111120', prefix)
  tokens = plain._replace(
    positions=jnp.array([[0, 1, 2, 2, 3, 0, 0]]),
    subtree_end=jnp.array([[5, 5, 3, 5, 5, 6, 0]]),
  )
  assert drawn(attention.attention_mask(tokens, tokens)) == expected


def test_positions_give_the_order_not_the_index_in_the_array():
  query = Layout(positions=jnp.array([[2]]), segment_ids=jnp.array([[1]]))
  stored = Layout(
    positions=jnp.array([[3, 0, -1, 2, 1]]), segment_ids=jnp.array([[1, 1, 0, 1, 1]])
  )
  assert drawn(attention.attention_mask(query, stored)) == ['.#.##']


def test_attention_equals_the_formula_with_keys_repeated():
  B, T, S, H, K, C = 2, 5, 7, 6, 2, 4
  query, key, value = random(B, T, H, C), random(B, S, K, C), random(B, S, K, C, seed=1)
  bias = random(B, H, T, S, seed=2)
  mask = random(B, T, S, seed=3) > -0.5
  mask[1, 2] = False
  got = attention.dot_product_attention(
    query, key, value, mask_BxTxS=mask, bias_BxHxTxS=bias
  )
  for b, t, h in np.ndindex(B, T, H):
    group = h // (H // K)
    logits = key[b, :, group] @ query[b, t, h] / np.sqrt(C) + bias[b, h, t]
    weights = np.exp(logits) * mask[b, t]
    weights /= max(weights.sum(), 1e-9)
    np.testing.assert_allclose(
      got[b, t, h], weights @ value[b, :, group], rtol=1e-5, atol=1e-6
    )


def test_a_query_without_a_visible_key_gets_zeros_and_finite_gradients():
  x = random(1, 3, 2, 4)
  mask = np.zeros((1, 3, 3), bool)

  def total(x):
    return attention.dot_product_attention(x, x, x, mask_BxTxS=mask).sum()

  value, gradient = jax.jit(jax.value_and_grad(total))(x)
  assert value == 0
  np.testing.assert_array_equal(gradient, np.zeros_like(x))


def test_shared_keys_and_values_are_never_repeated_in_memory():
  """The largest array of a decoding step is the cache, not heads / kv heads of it."""
  B, S, H, K, C = 2, 256, 8, 2, 16
  jaxpr = jax.make_jaxpr(attention.dot_product_attention)(
    random(B, 1, H, C), random(B, S, K, C), random(B, S, K, C),
    mask_BxTxS=np.ones((B, 1, S), bool),
  )  # fmt: skip
  sizes = [out.aval.size for eqn in jaxpr.jaxpr.eqns for out in eqn.outvars]
  assert max(sizes) <= B * S * K * C


def test_logits_and_softmax_are_float32_under_bfloat16():
  """Logits of 100 and 100.25 are one number in bfloat16, two in float32."""
  query = jnp.array([2, 2, 0, 0], jnp.bfloat16).reshape(1, 1, 1, 4)
  key = jnp.array([[100, 0, 0, 0], [100, 0.25, 0, 0]], jnp.bfloat16)
  value = jnp.array([[0], [1]], jnp.bfloat16) * jnp.ones((2, 4), jnp.bfloat16)
  got = attention.dot_product_attention(
    query,
    key.reshape(1, 2, 1, 4),
    value.reshape(1, 2, 1, 4),
    mask_BxTxS=np.ones((1, 1, 2), bool),
  )
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(got.astype(np.float32), 1 / (1 + np.exp(-0.25)), atol=2e-3)


def test_rotary_products_depend_on_the_distance_alone():
  query, key = random(1, 6, 2, 8), random(1, 6, 2, 8, seed=1)
  positions = np.arange(6)[None]

  def products(shift):
    angles = attention.rotary_angles(
      positions + shift, frequencies_c=10_000.0 ** -np.arange(0, 1, 0.25)
    )
    rotated = attention.rotate(query, angles), attention.rotate(key, angles)
    return jnp.einsum('BTHC,BSHC->BHTS', *rotated)

  np.testing.assert_allclose(products(0), products(37), atol=1e-5)
  assert np.abs(products(0) - np.einsum('BTHC,BSHC->BHTS', query, key)).max() > 0.1


def test_rotary_pairs_channel_i_with_channel_i_plus_half():
  """At position 1 the first pair rotates by 1 radian, the second by base ** -0.5."""
  x = np.array([1, 0, 0, 1], np.float32).reshape(1, 1, 1, 4)
  angles = attention.rotary_angles(np.array([[1]]), frequencies_c=np.array([1, 0.1]))
  np.testing.assert_allclose(angles[0, 0], [1, 0.1], rtol=1e-6)
  np.testing.assert_allclose(
    attention.rotate(x, angles)[0, 0, 0],
    [np.cos(1), -np.sin(0.1), np.sin(1), np.cos(0.1)],
    rtol=1e-6,
  )


@pytest.mark.parametrize(
  ('distance', 'bucket'),
  [
    (0, 0), (1, 1), (15, 15), (16, 16), (18, 16), (19, 17), (20, 17), (21, 18),
    (31, 21), (64, 26), (112, 30), (113, 31), (127, 31), (128, 31),
  ],
)  # fmt: skip
def test_the_buckets_are_t5s(distance, bucket):
  buckets = attention.relative_buckets(num_buckets=32, max_distance=128)
  assert buckets[distance] == bucket


@pytest.mark.parametrize(
  ('num_buckets', 'max_distance'), [(2, 3), (8, 20), (32, 128), (64, 5000)]
)
def test_buckets_grow_with_distance_and_stay_in_the_table(num_buckets, max_distance):
  buckets = attention.relative_buckets(
    num_buckets=num_buckets, max_distance=max_distance
  )
  assert buckets.shape == (max_distance + 1,)
  assert (np.diff(buckets) >= 0).all()
  assert buckets[0] == 0
  assert buckets[-1] == num_buckets - 1


def test_the_bias_depends_on_the_distance_back():
  table = np.arange(8, dtype=np.float32)[:, None] * np.array([[1, 100]], np.float32)
  bias = attention.relative_bias(
    jnp.array(table),
    query_positions_BxT=jnp.array([[0, 2, 50]]),
    key_positions_BxS=jnp.array([[0, 1, 2]]),
    max_distance=20,
  )
  assert bias.shape == (1, 2, 3, 3)
  np.testing.assert_array_equal(bias[0, 0], [[0, 0, 0], [2, 1, 0], [7, 7, 7]])
  np.testing.assert_array_equal(bias[0, 1], 100 * np.asarray(bias[0, 0]))


def test_the_bias_is_the_same_by_look_up_and_by_product():
  """Accelerators compile the second variant, CPUs the first; gradients too."""
  table, distance = random(8, 3), np.arange(21).reshape(1, 3, 7)
  cotangent = random(1, 3, 3, 7, seed=1)
  variants = [
    jax.vjp(functools.partial(variant, distance_BxTxS=distance, max_distance=20), table)
    for variant in (attention._bias_by_look_up, attention._bias_by_product)
  ]
  (look_up, look_up_vjp), (product, product_vjp) = variants
  np.testing.assert_array_equal(look_up, product)
  np.testing.assert_allclose(
    look_up_vjp(cotangent)[0], product_vjp(cotangent)[0], rtol=1e-5, atol=1e-6
  )
