"""OLMo 2: its public configs and its gin file; logits are in families_test."""

import pytest

from flan_jax.config import gin
from flan_jax.config.decoder import parameter_count
from flan_jax.interop.huggingface import families

PUBLIC = {
  'OLMo-2-0425-1B': (2048, 8192, 16, 16, 16, 1.48),
  'OLMo-2-1124-7B': (4096, 11008, 32, 32, 32, 7.30),
  'OLMo-2-1124-13B': (5120, 13824, 40, 40, 40, 13.7),
  'OLMo-2-0325-32B': (5120, 27648, 64, 40, 8, 32.2),
}
"""Model -> width, feed-forward width, layers, heads, KV heads, 10^9 parameters."""


def public_config(name):
  d_model, d_ff, layers, heads, kv_heads, _ = PUBLIC[name]
  return {
    'architectures': ['Olmo2ForCausalLM'], 'model_type': 'olmo2',
    'vocab_size': 100352, 'hidden_size': d_model, 'intermediate_size': d_ff,
    'num_hidden_layers': layers, 'num_attention_heads': heads,
    'num_key_value_heads': kv_heads, 'max_position_embeddings': 4096,
    'rope_theta': 500000, 'rope_scaling': None, 'rms_norm_eps': 1e-6,
    'hidden_act': 'silu', 'attention_bias': False, 'attention_dropout': 0.0,
    'tie_word_embeddings': False, 'use_cache': True, 'initializer_range': 0.02,
    'eos_token_id': 100257, 'pad_token_id': 100277,
  }  # fmt: skip


@pytest.mark.parametrize('name', PUBLIC)
def test_public_configs_have_the_published_sizes(name):
  config = families.get('olmo2').read(public_config(name))
  assert parameter_count(config) / 1e9 == pytest.approx(PUBLIC[name][-1], rel=4e-3)
  assert config.head_dim == 128
  assert families.matching_family(config).model_type == 'olmo2'


def test_the_gin_file_says_what_the_public_config_says():
  loaded = gin.load(['gin/runs/base.gin', 'gin/models/olmo2_1b.gin'], [])
  bound = loaded.build('DecoderConfig')
  expected = families.get('olmo2').read(public_config('OLMo-2-0425-1B'))
  assert families.architecture(bound) == families.architecture(expected)
