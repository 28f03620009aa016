"""The decoder's shape: what is refused, and what a shape costs."""

import pytest

from flan_jax.config.decoder import DecoderConfig, flops_per_token, parameter_count
from flan_jax.errors import InputError

SHAPE = {
  'vocab_size': 100, 'num_layers': 2, 'd_model': 16, 'd_ff': 32, 'num_heads': 8,
  'num_kv_heads': 4, 'head_dim': 8,
}  # fmt: skip

# LaMDA-PT, the model that FLAN tuned (Thoppilan et al. 2022, arXiv 2201.08239).
LAMDA_137B = DecoderConfig(
  vocab_size=32_000, num_layers=64, d_model=8192, d_ff=65_536, num_heads=128,
  num_kv_heads=128, head_dim=128, activation='geglu', positions='t5',
)  # fmt: skip


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('num_layers', 0, 'num_layers: got 0; must be 1 or more; the nearest is 1'),
    ('d_ff', -4, 'd_ff: got -4; must be 1 or more; the nearest is 1'),
    ('d_model', 16.0, 'd_model: got 16.0; must be a whole number, 1 or more'),
    ('head_dim', True, 'head_dim: got True; must be a whole number, 1 or more'),
    (
      'num_kv_heads',
      3,
      'num_kv_heads: got 3; must divide num_heads=8; the nearest is 2',
    ),
    (
      'num_kv_heads',
      16,
      'num_kv_heads: got 16; must divide num_heads=8; the nearest is 8',
    ),
    ('norm_epsilon', 0.0, 'norm_epsilon: got 0.0; must be a finite number above 0'),
    ('rope_base', '1e4', "rope_base: got '1e4'; must be a finite number above 0"),
    ('rope_base', float('nan'), 'rope_base: got nan; must be a finite number above 0'),
    ('scan_layers', 1, 'scan_layers: got 1; must be True or False'),
    ('tied_embedding', 'no', "tied_embedding: got 'no'; must be True or False"),
    (
      'activation',
      'gegelu',
      "activation: got 'gegelu'; must be one of 'geglu', 'swiglu', 'gelu', "
      "'gelu_exact', 'relu'; did you mean 'geglu' or 'gelu'",
    ),
    ('positions', 'T5', "positions: got 'T5'; must be one of 'rotary', 't5'"),
    (
      'attention',
      'prefixed',
      "attention: got 'prefixed'; must be one of 'causal', 'prefix'; "
      "did you mean 'prefix'?",
    ),
    ('remat', None, "REMAT: got None; must be one of 'none', 'dots', 'full'"),
    ('dtype', 'float16', "dtype: got 'float16'; must be one of 'float32', 'bfloat16'"),
    ('param_dtype', 'int8', "param_dtype: got 'int8'; must be one of 'float32'"),
    (
      'relative_buckets',
      7,
      'relative_buckets: got 7; half of them hold one distance each, so it must be '
      'even; the nearest is 8',
    ),
    (
      'relative_max_distance',
      16,
      'relative_max_distance: got 16; must exceed half of relative_buckets=32; '
      'the nearest is 17',
    ),
  ],
)
def test_a_bad_field_gets_one_line(field, value, message):
  with pytest.raises(InputError) as caught:
    DecoderConfig(**{**SHAPE, field: value})
  assert str(caught.value).startswith(message)
  assert '\n' not in str(caught.value)


def test_rotary_positions_need_an_even_head_dim():
  DecoderConfig(**{**SHAPE, 'head_dim': 7}, positions='t5')
  with pytest.raises(InputError, match='head_dim: got 7; .* the nearest is 8'):
    DecoderConfig(**{**SHAPE, 'head_dim': 7}, positions='rotary')


def test_the_buckets_of_a_bias_that_is_not_there_do_not_matter():
  DecoderConfig(**SHAPE, positions='rotary', relative_buckets=7)


def test_lamda_has_137_billion_parameters_outside_the_embedding():
  layers = 64 * (4 * 8192 * 128 * 128 + 3 * 8192 * 65_536)
  norms = (2 * 64 + 1) * 8192
  assert parameter_count(LAMDA_137B) == layers + norms + 32_000 * 8192 + 32 * 128
  assert round(layers / 1e9, 1) == 137.4


def test_flops_are_two_a_parameter_and_four_a_query_and_key():
  config = DecoderConfig(**SHAPE, positions='t5')
  layer = 16 * 8 * (8 + 8 + 4 + 4) + 3 * 16 * 32
  products = 2 * layer + 100 * 16
  forward, train = flops_per_token(config, 10)
  assert forward == 2 * products + 4 * 2 * 10 * (8 * 8)
  assert train == 3 * forward


def test_an_untied_head_adds_parameters_but_no_flops():
  tied = DecoderConfig(**SHAPE)
  untied = DecoderConfig(**SHAPE, tied_embedding=False)
  assert parameter_count(untied) - parameter_count(tied) == 100 * 16
  assert flops_per_token(untied, 10) == flops_per_token(tied, 10)
