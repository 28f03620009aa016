"""GPT-NeoX, OPT and GPT-2: layer norms, biases, ungated feed-forward."""

from flan_jax.errors import InputError
from flan_jax.interop.huggingface import family as base
from flan_jax.interop.huggingface import numpy_reference
from flan_jax.interop.huggingface.config_rules import (
  Rule,
  always,
  choice,
  custom,
  only,
  same,
)
from flan_jax.interop.huggingface.rope_rules import rotary
from flan_jax.interop.huggingface.tensor_map import Tensor

_FULL = always(norm='layer', attention_bias='all', mlp_bias=True)

GPT_NEOX = base.ModelFamily(
  'gpt_neox',
  'GPTNeoXForCausalLM',
  (
    *base.SIZES,
    base.divided(),
    same('d_ff', 'intermediate_size'),
    same('norm_epsilon', 'layer_norm_eps', 1e-5, float),
    same('max_positions', 'max_position_embeddings', 2048),
    choice('activation', 'hidden_act', base.PLAIN, 'gelu'),
    base.UNTIED,
    base.UNSCALED,
    always(norm='layer', mlp_bias=True),
    choice('attention_bias', 'attention_bias', base.BIAS, True),
    same('parallel_residual', 'use_parallel_residual', True, bool),
    rotary(base_key='rotary_emb_base', fraction_key='rotary_pct', fraction=0.25),
  ),
  (
    Tensor('embedding', 'gpt_neox.embed_in.weight'),
    Tensor('final_norm', 'gpt_neox.final_layer_norm.weight'),
    Tensor('final_norm_bias', 'gpt_neox.final_layer_norm.bias'),
    Tensor('head', 'embed_out.weight', 'v d -> d v'),
    *base.biased('gpt_neox.layers.{}', [
      ('attention_norm', 'input_layernorm', '', ''),
      *(
        (param, 'attention.query_key_value', '(h n c) d -> n d h c',
         '(h n c) -> n h c', part, 3)
        for part, param in enumerate(('query', 'key', 'value'))
      ),
      ('output', 'attention.dense', 'd (h c) -> h c d', ''),
      ('mlp_norm', 'post_attention_layernorm', '', ''),
      ('up', 'mlp.dense_h_to_4h', 'f d -> d f', ''),
      ('down', 'mlp.dense_4h_to_h', 'd f -> f d', ''),
    ]),
  ),
  numpy_reference.neox,
  prefix='gpt_neox.',
  buffers=r'.*\.(rotary_emb\.inv_freq|attention\.(masked_)?bias)',
)  # fmt: skip


def _opt_positions() -> Rule:
  """Learned positions; the first two rows of OPT's table are unused."""
  key = 'max_position_embeddings'

  def read(hf_config, fields):
    return {
      'positions': 'learned',
      'position_offset': 2,
      'max_positions': hf_config.get(key, 2048) + 2,
    }

  return custom([key], read, lambda config: {key: config.max_positions - 2})


def _opt_width() -> Rule:
  key = 'word_embed_proj_dim'

  def read(hf_config, fields):
    if hf_config.get(key) not in (None, fields['d_model']):
      raise InputError(
        f'config.json: {key}: got {hf_config[key]!r}; the decoder has no projection of '
        f'embeddings: must be hidden_size {fields["d_model"]}'
      )
    return {}

  return custom([key], read, lambda config: {key: config.d_model})


OPT = base.ModelFamily(
  'opt',
  'OPTForCausalLM',
  (
    *base.SIZES,
    base.divided(),
    same('d_ff', 'ffn_dim'),
    _opt_positions(),
    _opt_width(),
    choice('activation', 'activation_function', base.PLAIN, 'relu'),
    same('tied_embedding', 'tie_word_embeddings', True, bool),
    base.UNSCALED,
    always(norm='layer', norm_epsilon=1e-5),
    base.switches(
      'enable_bias',
      {'attention_bias': 'all', 'mlp_bias': True},
      {'attention_bias': 'none', 'mlp_bias': False},
      True,
    ),
    only('do_layer_norm_before', True),
    only('_remove_final_layer_norm', False),
    only('layer_norm_elementwise_affine', True),
  ),
  (
    Tensor('embedding', 'model.decoder.embed_tokens.weight'),
    Tensor('position_embedding', 'model.decoder.embed_positions.weight'),
    Tensor('final_norm', 'model.decoder.final_layer_norm.weight'),
    Tensor('final_norm_bias', 'model.decoder.final_layer_norm.bias'),
    Tensor('head', 'lm_head.weight', 'v d -> d v'),
    *base.biased('model.decoder.layers.{}', [
      ('attention_norm', 'self_attn_layer_norm', '', ''),
      ('query', 'self_attn.q_proj', '(h c) d -> d h c', '(h c) -> h c'),
      ('key', 'self_attn.k_proj', '(h c) d -> d h c', '(h c) -> h c'),
      ('value', 'self_attn.v_proj', '(h c) d -> d h c', '(h c) -> h c'),
      ('output', 'self_attn.out_proj', 'd (h c) -> h c d', ''),
      ('mlp_norm', 'final_layer_norm', '', ''),
      ('up', 'fc1', 'f d -> d f', ''),
      ('down', 'fc2', 'd f -> f d', ''),
    ]),
  ),
  numpy_reference.opt,
)  # fmt: skip


def _inner() -> Rule:
  def read(hf_config, fields):
    return {'d_ff': hf_config.get('n_inner') or 4 * fields['d_model']}

  return custom(['n_inner'], read, lambda config: {'n_inner': config.d_ff})


GPT2 = base.ModelFamily(
  'gpt2',
  'GPT2LMHeadModel',
  (
    same('vocab_size', 'vocab_size', 50257),
    same('d_model', 'n_embd', 768),
    same('num_layers', 'n_layer', 12),
    same('num_heads', 'n_head', 12),
    base.divided(),
    _inner(),
    same('max_positions', 'n_positions', 1024),
    same('norm_epsilon', 'layer_norm_epsilon', 1e-5, float),
    choice('activation', 'activation_function', {'gelu_new': 'gelu', **base.PLAIN},
          'gelu_new'),
    same('tied_embedding', 'tie_word_embeddings', True, bool),
    base.UNSCALED,
    _FULL,
    always(positions='learned'),
    only('scale_attn_weights', True),
    only('scale_attn_by_inverse_layer_idx', False),
    only('add_cross_attention', False),
  ),
  (
    Tensor('embedding', 'transformer.wte.weight'),
    Tensor('position_embedding', 'transformer.wpe.weight'),
    Tensor('final_norm', 'transformer.ln_f.weight'),
    Tensor('final_norm_bias', 'transformer.ln_f.bias'),
    Tensor('head', 'lm_head.weight', 'v d -> d v'),
    *base.biased('transformer.h.{}', [
      ('attention_norm', 'ln_1', '', ''),
      *(
        (param, 'attn.c_attn', 'd (n h c) -> n d h c', '(n h c) -> n h c', part, 3)
        for part, param in enumerate(('query', 'key', 'value'))
      ),
      ('output', 'attn.c_proj', '(h c) d -> h c d', ''),
      ('mlp_norm', 'ln_2', '', ''),
      ('up', 'mlp.c_fc', '', ''),
      ('down', 'mlp.c_proj', '', ''),
    ]),
  ),
  numpy_reference.gpt2,
  prefix='transformer.',
  buffers=r'.*\.attn\.(masked_)?bias',
)  # fmt: skip
