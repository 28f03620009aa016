"""Gemma 1 to 3: Llama's tensors with Gemma's own scales, norms and windows."""

from flan_jax.interop.huggingface import family as base
from flan_jax.interop.huggingface import llama, numpy_reference, window_rules
from flan_jax.interop.huggingface.config_rules import (
  Rule,
  always,
  choice,
  custom,
  only,
  same,
)
from flan_jax.interop.huggingface.rope_rules import rotary, rotary_by_layer
from flan_jax.interop.huggingface.tensor_map import Tensor

_GEMMA = (
  *base.SIZES,
  *base.RMS,
  base.head_dim(256),
  always(norm_plus_one=True, scaled_embedding=True),
  base.UNSCALED,
  same('tied_embedding', 'tie_word_embeddings', True, bool),
  choice('attention_bias', 'attention_bias', base.BIAS, False),
)
_POST_NORMS = {
  'layers/attention_post_norm': 'post_attention_layernorm',
  'layers/mlp_norm': 'pre_feedforward_layernorm',
  'layers/mlp_post_norm': 'post_feedforward_layernorm',
}
_GEMMA2_TENSORS = (
  *(t for t in llama.TENSORS if t.param not in _POST_NORMS),
  *(Tensor(a, f'model.layers.{{}}.{b}.weight') for a, b in _POST_NORMS.items()),
)


def _query_scalar() -> Rule:
  """Query scale, stored as its inverse square (Gemma 2 and 3)."""
  key = 'query_pre_attn_scalar'

  def read(hf_config, fields):
    return {'query_scale': float(hf_config.get(key) or 256) ** -0.5}

  def write(config):
    scale = config.head_dim**-0.5 if config.query_scale is None else config.query_scale
    scalar = round(scale**-2)
    return {key: scalar if float(scalar) ** -0.5 == scale else scale**-2}

  return custom([key], read, write)


GEMMA = base.ModelFamily(
  'gemma',
  'GemmaForCausalLM',
  (
    *_GEMMA,
    base.heads('num_key_value_heads', 16),
    # In Gemma 1 configs, `gelu` means the tanh approximation.
    choice(
      'activation', 'hidden_act', {'gelu_pytorch_tanh': 'geglu', 'gelu': 'geglu'},
      'gelu_pytorch_tanh',
    ),
    only('hidden_activation', None, 'gelu_pytorch_tanh', write=False),
    rotary(),
  ),
  llama.TENSORS,
  numpy_reference.llama,
)  # fmt: skip
_GEMMA2_GATE = choice(
  'activation', 'hidden_activation', base.GATES, 'gelu_pytorch_tanh'
)


def _gemma2_caps(attention: float | None, logits: float | None) -> tuple[Rule, ...]:
  def cap(field, key, default):
    def read(hf_config, fields):
      value = hf_config.get(key, default)
      return {field: None if value is None else float(value)}

    return custom([key], read, lambda config: {key: getattr(config, field)})

  return (
    cap('attention_softcap', 'attn_logit_softcapping', attention),
    cap('logit_softcap', 'final_logit_softcapping', logits),
  )


GEMMA2 = base.ModelFamily(
  'gemma2',
  'Gemma2ForCausalLM',
  (
    *_GEMMA,
    base.heads('num_key_value_heads', 4),
    _GEMMA2_GATE,
    only('hidden_act', 'gelu_pytorch_tanh', write=False),
    rotary(),
    _query_scalar(),
    *_gemma2_caps(50.0, 30.0),
    window_rules.every_nth_global(2),
    always(post_norms=True),
  ),
  _GEMMA2_TENSORS,
  numpy_reference.llama,
)

GEMMA3 = base.ModelFamily(
  'gemma3_text',
  'Gemma3ForCausalLM',
  (
    *_GEMMA,
    base.heads('num_key_value_heads', 4),
    _GEMMA2_GATE,
    rotary_by_layer(),
    _query_scalar(),
    *_gemma2_caps(None, None),
    window_rules.every_nth_global(6),
    always(post_norms=True, qk_norm=True),
  ),
  _GEMMA2_TENSORS,
  numpy_reference.llama,
)
