"""Variants of other decoders: windows, norms, positions, biases.

tests/interop compares each variant with its family in `transformers`; these properties
hold for any weights.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from flan_jax.config import mesh as mesh_config
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.decoder import DecoderConfig, parameter_count
from flan_jax.data import batch
from flan_jax.data.batch import TokenizedExample
from flan_jax.errors import InputError
from flan_jax.model import attention, decoder, kv_cache
from flan_jax.model import params as params_lib
from flan_jax.model.decoder import Decoder
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from flan_jax.train import train_step

TINY = DecoderConfig(
  vocab_size=31, num_layers=3, d_model=16, d_ff=24, num_heads=4, num_kv_heads=2,
  head_dim=8, positions='rotary', norm_epsilon=1e-5,
)  # fmt: skip
L = 12
VARIANTS = {
  'window': {'layer_pattern': 'LG', 'window': 4, 'rope_local_base': 50.0},
  'window-everywhere': {'layer_pattern': 'L', 'window': 4},
  'layer-norm': {'norm': 'layer', 'attention_bias': 'all', 'mlp_bias': True},
  'gated-biases': {'attention_bias': 'qkv', 'mlp_bias': True},
  'plain': {'activation': 'gelu_exact', 'parallel_residual': True,
            'rotary_fraction': 0.5},
  'learned': {'positions': 'learned', 'max_positions': 14, 'position_offset': 2,
              'activation': 'relu'},
  'gemma': {'norm_plus_one': True, 'qk_norm': True, 'post_norms': True,
            'scaled_embedding': True, 'scaled_head': False, 'query_scale': 0.3,
            'attention_softcap': 2.0, 'logit_softcap': 3.0},
  'llama3': {'rope_scaling': 'llama3', 'rope_factor': 8.0, 'rope_original_length': 8},
  'olmo2': {'qk_norm': True, 'qk_norm_width': 'projection', 'pre_norms': False,
            'post_norms': True, 'tied_embedding': False},
}  # fmt: skip
TOGETHER = (
  ('gemma', 'window'),
  ('layer-norm', 'learned'),
  ('plain', 'gated-biases'),
  ('llama3', 'window-everywhere', 'olmo2'),
)
"""Variants that one model can have; alone they are among the slow tests."""
CASES = [
  *(pytest.param(names, id='-'.join(names)) for names in TOGETHER),
  *(pytest.param((name,), id=name, marks=pytest.mark.slow) for name in VARIANTS),
]


def tiny(**changes):
  return dataclasses.replace(TINY, **changes)


def variant(names) -> DecoderConfig:
  return tiny(**{k: v for name in names for k, v in VARIANTS[name].items()})


def sequence(length=L, start=0):
  tokens = np.random.default_rng(0).permutation(TINY.vocab_size)[:length]
  return np.array([tokens]), {
    'positions_BxL': np.arange(start, start + length)[None],
    'segment_ids_BxL': np.ones((1, length), np.int32),
  }


@functools.cache
def params_of(config):
  tokens, layout = sequence(1)
  boxed = jax.eval_shape(Decoder(config).init, jax.random.key(0), tokens, **layout)
  draw = np.random.default_rng(0).uniform
  return jax.tree.map(
    lambda leaf: draw(-0.5, 0.5, leaf.shape).astype(leaf.dtype),
    nn.meta.unbox(boxed),
  )


@functools.cache
def compiled(config):
  """The forward pass, one program for each shape of its arguments."""
  return jax.jit(Decoder(config).apply)


@pytest.mark.parametrize('names', CASES)
def test_the_parameter_count_is_exact(names):
  config = variant(names)
  assert sum(x.size for x in jax.tree.leaves(params_of(config))) == parameter_count(
    config
  )


@pytest.mark.parametrize('names', [*CASES, pytest.param(('t5',), id='t5')])
def test_parameters_that_start_at_zero_are_known_by_name(names):
  config = tiny(positions='t5') if names == ('t5',) else variant(names)
  found = params_lib.init_params(config, seed=0)
  for path, value in traverse_util.flatten_dict(found, sep='/').items():
    assert decoder.starts_at_zero(path, config) == (not value.any()), path


@pytest.mark.parametrize('names', CASES)
def test_scanned_layers_equal_unrolled_ones(names):
  scanned = variant(names)
  unrolled = dataclasses.replace(scanned, scan_layers=False)
  tokens, layout = sequence()
  params = params_of(scanned)['params']
  split = {k: v for k, v in params.items() if k != 'layers'}
  for i in range(scanned.num_layers):
    split[f'layers_{i}'] = jax.tree.map(lambda x, i=i: x[i], params['layers'])
  first = compiled(scanned)({'params': params}, tokens, **layout)
  second = compiled(unrolled)({'params': split}, tokens, **layout)
  np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize('names', CASES)
def test_token_by_token_with_a_cache_equals_one_forward_pass(names):
  config = variant(names)
  tokens, layout = sequence()
  params = params_of(config)
  whole = compiled(config)(params, tokens, **layout)
  cache = kv_cache.init(config, batch=1, length=L)
  for i in range(L):
    logits, cache = compiled(config)(
      params,
      tokens[:, i : i + 1],
      positions_BxL=np.array([[i]]),
      segment_ids_BxL=np.array([[1]]),
      cache=cache,
    )
    np.testing.assert_allclose(logits[0, 0], whole[0, i], atol=1e-4)


@pytest.mark.parametrize('names', CASES)
def test_packed_examples_have_the_logits_of_lone_ones(names):
  config = variant(names)
  tokens, _ = sequence()
  params = params_of(config)
  layout = {
    'positions_BxL': np.array([[*range(7), *range(5)]]),
    'segment_ids_BxL': np.array([[1] * 7 + [2] * 5]),
  }
  packed = compiled(config)(params, tokens, **layout)
  for start, end in ((0, 7), (7, 12)):
    size = end - start  # padded, so that one program serves all
    lone = compiled(config)(
      params,
      np.pad(tokens[:, start:end], ((0, 0), (0, L - size))),
      positions_BxL=np.arange(L)[None],
      segment_ids_BxL=np.array([[1] * size + [0] * (L - size)]),
    )
    np.testing.assert_allclose(packed[:, start:end], lone[:, :size], atol=1e-4)


def test_a_local_layer_sees_the_last_tokens_of_its_window():
  layout = attention.Layout(np.arange(5)[None], np.ones((1, 5), np.int32))
  seen = attention.attention_mask(layout, layout, window=2)[0]
  picture = [''.join('#' if x else '.' for x in line) for line in seen]
  assert picture == ['#....', '##...', '.##..', '..##.', '...##']


def test_a_prefix_is_seen_no_farther_ahead_than_behind():
  prefix = np.array([[True] * 4 + [False]])
  layout = attention.Layout(np.arange(5)[None], np.ones((1, 5), np.int32), prefix)
  seen = attention.attention_mask(layout, layout, window=2)[0]
  picture = [''.join('#' if x else '.' for x in line) for line in seen]
  assert picture == ['##...', '###..', '.###.', '..##.', '...##']


def test_only_the_global_layers_of_a_pattern_see_everything():
  """One layer, by gradient: the first token reaches the last if the layer is global."""

  def reach(pattern):
    config = tiny(num_layers=1, layer_pattern=pattern, window=4)
    tokens, layout = sequence()
    params = params_of(config)['params']

    def last(table):
      changed = {'params': {**params, 'embedding': table}}
      return Decoder(config).apply(changed, tokens, **layout, method='hidden')[0, -1, 0]

    gradient = jax.jit(jax.grad(last))(params['embedding'])
    return [bool(np.abs(gradient[t]).max() > 0) for t in np.asarray(tokens[0])]

  assert reach('G') == [True] * L
  assert reach('L') == [False] * (L - 4) + [True] * 4


def test_a_position_past_the_table_is_nan_and_never_another_row():
  config = tiny(**VARIANTS['learned'])  # rows for positions 0 to 11
  params = params_of(config)
  tokens, layout = sequence()
  assert np.isfinite(compiled(config)(params, tokens, **layout)).all()
  tokens, layout = sequence(start=1)
  logits = compiled(config)(params, tokens, **layout)
  assert np.isnan(logits[0, -1]).all()


def test_soft_caps_bound_the_logits():
  config = tiny(logit_softcap=0.25)
  tokens, layout = sequence()
  logits = compiled(config)(params_of(config), tokens, **layout)
  assert 0 < np.abs(logits).max() <= 0.25


def test_scaled_frequencies_change_only_long_wavelengths():
  """Llama 3.1: short wavelengths stay, long ones are divided by the factor."""
  config = tiny(
    head_dim=32, rope_scaling='llama3', rope_factor=8.0, rope_original_length=64
  )
  plain = attention.rotary_frequencies(dataclasses.replace(config, rope_scaling='none'))
  scaled = attention.rotary_frequencies(config)
  wavelengths = 2 * np.pi / plain
  np.testing.assert_allclose(scaled[wavelengths < 16], plain[wavelengths < 16])
  np.testing.assert_allclose(scaled[wavelengths > 64], plain[wavelengths > 64] / 8)
  between = (wavelengths > 16) & (wavelengths < 64)
  assert between.any()
  assert (scaled[between] < plain[between]).all()
  assert (scaled[between] > plain[between] / 8).all()


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'layer_pattern': 'GX'}, "layer_pattern: got 'GX'; must be letters 'G'"),
    ({'layer_pattern': ''}, "layer_pattern: got ''"),
    ({'layer_pattern': 'L'}, "window: got None; layer_pattern 'L' has local layers"),
    ({'window': 0}, 'window: got 0; must be 1 or more; the nearest is 1'),
    (
      {'rotary_fraction': 1.5},
      'rotary_fraction: got 1.5; must be above 0 and at most 1; the nearest is 1',
    ),
    ({'rotary_fraction': 0.4}, 'rotary_fraction: got 0.4, 3 of 8 channels'),
    (
      {'position_offset': -1},
      'position_offset: got -1; must be 0 or more; the nearest is 0',
    ),
    (
      {'positions': 'learned', 'max_positions': 2, 'position_offset': 2},
      'position_offset: got 2; must be below max_positions=2; the nearest is 1',
    ),
    ({'norm': 'batch'}, "norm: got 'batch'; must be one of 'rms', 'layer'"),
    ({'pre_norms': False}, 'pre_norms: got False; a layer must normalize its input'),
    (
      {'qk_norm_width': 'projection'},
      "qk_norm_width: got 'projection'; has no effect without qk_norm: must be 'head'",
    ),
    ({'qk_norm_width': 'all'}, "qk_norm_width: got 'all'; must be one of 'head', "),
    ({'logit_softcap': -1.0}, 'logit_softcap: got -1.0; must be a finite number'),
  ],
)
def test_a_bad_field_gets_one_line(fields, message):
  with pytest.raises(InputError) as caught:
    tiny(**fields)
  assert str(caught.value).startswith(message)
  assert '\n' not in str(caught.value)


ALL_PARAMETERS = {
  'layer-norm': VARIANTS['layer-norm'],
  'learned': VARIANTS['learned'],
  'window': VARIANTS['window'],
  'norms': {'qk_norm': True, 'qk_norm_width': 'projection', 'post_norms': True},
}


@pytest.mark.parametrize(
  'parts',
  [
    ALL_PARAMETERS,
    pytest.param({'olmo2': VARIANTS['olmo2']}, marks=pytest.mark.slow),
    *(
      pytest.param({name: VARIANTS[name] for name in names}, marks=pytest.mark.slow)
      for names in TOGETHER[:3]
    ),
  ],
  ids='-'.join,
)
def test_a_training_step_on_a_mesh_has_the_loss_of_one_device(parts):
  """Every new parameter has its logical axes, and learns.

  Norms of whole projections take their mean over heads on four devices.
  """
  config = dataclasses.replace(
    tiny(vocab_size=32, num_layers=2, num_heads=4, num_kv_heads=4),
    **{k: v for part in parts.values() for k, v in part.items()},
  )
  if config.positions == 'learned':
    config = dataclasses.replace(config, max_positions=32, position_offset=2)
  shape = mesh_config.MeshConfig(data=1, fsdp=2, model=4)
  before = params_of(config)['params']
  sequences = _sequences()
  loss, after = _step(config, shape, before, sequences)
  one, _ = jax.jit(functools.partial(train_step.loss_sums, config=config))(
    before, sequences
  )
  assert loss == pytest.approx(float(one), rel=2e-6)
  before = traverse_util.flatten_dict(before, sep='/')
  for name, value in traverse_util.flatten_dict(after, sep='/').items():
    assert (value != before[name]).any(), name


def _sequences():
  draw = np.random.default_rng(0).integers(3, 32, (4, 20), np.int32)
  return batch.stack([
    batch.assemble(
      [TokenizedExample(ids[:8], ids[8:])], sequence_length=24, bos_id=None, eos_id=1
    )
    for ids in draw
  ])  # fmt: skip


def _step(config, shape, params, sequences):
  """(loss, parameters) of one step on as many devices as the mesh has."""
  devices = jax.devices()[: shape.data * shape.fsdp * shape.model]
  mesh = mesh_lib.build(shape, devices=devices)
  shapes, axes = params_lib.abstract_params(config)
  optimizer = optimizer_lib.make_optimizer(
    optimizer_config.OptimizerConfig(learning_rate=0.01),
    config=config,
    logical_axes=axes,
  )
  layout = state_lib.layout(
    config, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=shape.rules
  )
  state = state_lib.create(
    jax.device_put(params, layout.shardings.params), optimizer, layout=layout
  )
  step = train_step.make(
    config, optimizer, layout=layout, mesh=mesh, rules=shape.rules, accumulation=1
  )
  sharding = mesh_lib.batch_sharding(mesh, shape.rules)
  with train_step.sharded(mesh, shape.rules):
    state, metrics = step(state, mesh_lib.put_batch(sequences, sharding))
  return float(metrics.loss), jax.device_get(state.params)
