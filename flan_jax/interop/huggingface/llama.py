"""Llama and related families: RMS norms, gated feed-forward, rotary positions."""

import math

from flan_jax.errors import InputError
from flan_jax.interop.huggingface import family as base
from flan_jax.interop.huggingface import numpy_reference, window_rules
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

_LLAMA = (
  *base.SIZES,
  *base.RMS,
  base.heads('num_key_value_heads', lambda fields: fields['num_heads']),
  choice('activation', 'hidden_act', base.GATES, 'silu'),
)
TENSORS = (
  Tensor('embedding', 'model.embed_tokens.weight'),
  Tensor('final_norm', 'model.norm.weight'),
  Tensor('head', 'lm_head.weight', 'v d -> d v'),
  *(
    Tensor(f'layers/{param}', f'model.layers.{{}}.{tensor}', pattern)
    for param, tensor, pattern in [
      ('attention_norm', 'input_layernorm.weight', ''),
      ('query', 'self_attn.q_proj.weight', '(h c) d -> d h c'),
      ('key', 'self_attn.k_proj.weight', '(k c) d -> d k c'),
      ('value', 'self_attn.v_proj.weight', '(k c) d -> d k c'),
      ('output', 'self_attn.o_proj.weight', 'd (h c) -> h c d'),
      ('query_bias', 'self_attn.q_proj.bias', '(h c) -> h c'),
      ('key_bias', 'self_attn.k_proj.bias', '(k c) -> k c'),
      ('value_bias', 'self_attn.v_proj.bias', '(k c) -> k c'),
      ('output_bias', 'self_attn.o_proj.bias', ''),
      ('query_norm', 'self_attn.q_norm.weight', ''),
      ('key_norm', 'self_attn.k_norm.weight', ''),
      ('mlp_norm', 'post_attention_layernorm.weight', ''),
      ('gate', 'mlp.gate_proj.weight', 'f d -> d f'),
      ('up', 'mlp.up_proj.weight', 'f d -> d f'),
      ('down', 'mlp.down_proj.weight', 'd f -> f d'),
      ('gate_bias', 'mlp.gate_proj.bias', ''),
      ('up_bias', 'mlp.up_proj.bias', ''),
      ('down_bias', 'mlp.down_proj.bias', ''),
    ]
  ),
)

LLAMA = base.ModelFamily(
  'llama',
  'LlamaForCausalLM',
  (
    *_LLAMA,
    base.UNSCALED,
    base.UNTIED,
    base.head_dim(base.share),
    rotary(),
    choice('attention_bias', 'attention_bias', base.BIAS, False),
    same('mlp_bias', 'mlp_bias', False, bool),
  ),
  TENSORS,
  numpy_reference.llama,
)

MISTRAL = base.ModelFamily(
  'mistral',
  'MistralForCausalLM',
  (
    *_LLAMA,
    base.UNSCALED,
    base.UNTIED,
    base.head_dim(base.share),
    rotary(),
    window_rules.every_layer(),
  ),
  TENSORS,
  numpy_reference.llama,
)

QWEN2 = base.ModelFamily(
  'qwen2',
  'Qwen2ForCausalLM',
  (
    *_LLAMA,
    base.UNSCALED,
    base.UNTIED,
    base.head_dim(base.share),
    rotary(),
    window_rules.qwen(),
    always(attention_bias='qkv'),
    only('use_mrope', False, write=False),
  ),
  TENSORS,
  numpy_reference.llama,
)

QWEN3 = base.ModelFamily(
  'qwen3',
  'Qwen3ForCausalLM',
  (
    *_LLAMA,
    base.UNSCALED,
    base.UNTIED,
    base.head_dim(128),
    rotary(),
    window_rules.qwen(),
    always(qk_norm=True),
    choice('attention_bias', 'attention_bias', base.BIAS, False),
  ),
  TENSORS,
  numpy_reference.llama,
)


def _granite_scales() -> Rule:
  """Granite's multipliers, where they equal T5's head or Gemma's embedding scale."""
  keys = {
    'embedding_multiplier': ('scaled_embedding', 1.0),
    'logits_scaling': ('scaled_head', 1.0),
  }

  def read(hf_config, fields):
    root = math.sqrt(fields['d_model'])
    out = {}
    for key, (field, default) in keys.items():
      value = hf_config.get(key, default)
      if value not in (1, root):
        raise InputError(
          f'config.json: {key}: got {value!r}; must be 1 or sqrt(hidden_size) = {root}'
        )
      out[field] = value != 1
    return {**out, 'query_scale': float(hf_config.get('attention_multiplier', 1.0))}

  def write(config):
    root = math.sqrt(config.d_model)
    scale = config.query_scale
    out = {k: root if getattr(config, f) else 1.0 for k, (f, _) in keys.items()}
    if not config.tied_embedding:
      out['logits_scaling'] = 1.0
    return {
      **out,
      'attention_multiplier': config.head_dim**-0.5 if scale is None else scale,
    }

  return custom([*keys, 'attention_multiplier'], read, write)


GRANITE = base.ModelFamily(
  'granite',
  'GraniteForCausalLM',
  (
    *_LLAMA,
    base.UNTIED,
    base.head_dim(base.share),
    rotary(),
    choice('attention_bias', 'attention_bias', base.BIAS, False),
    same('mlp_bias', 'mlp_bias', False, bool),
    _granite_scales(),
    only('residual_multiplier', 1.0),
  ),
  TENSORS,
  numpy_reference.llama,
)
