"""OLMo 2: Llama with norms on outputs, and on whole projections to queries and keys."""

from flan_jax.interop.huggingface import family as base
from flan_jax.interop.huggingface import llama, numpy_reference
from flan_jax.interop.huggingface.config_rules import always, choice, same
from flan_jax.interop.huggingface.rope_rules import rotary
from flan_jax.interop.huggingface.tensor_map import Tensor

_PRE_NORMS = ('layers/attention_norm', 'layers/mlp_norm')
_POST_NORMS = {
  'post_attention_layernorm': 'attention_post_norm',
  'post_feedforward_layernorm': 'mlp_post_norm',
}

OLMO2 = base.ModelFamily(
  'olmo2',
  'Olmo2ForCausalLM',
  (
    *base.SIZES,
    same('d_ff', 'intermediate_size'),
    same('norm_epsilon', 'rms_norm_eps', 1e-5, float),
    same('max_positions', 'max_position_embeddings', 2048),
    base.heads('num_key_value_heads', lambda fields: fields['num_heads']),
    choice('activation', 'hidden_act', base.GATES, 'silu'),
    base.UNSCALED,
    base.UNTIED,
    base.head_dim(base.share),
    rotary(),
    always(pre_norms=False, post_norms=True),
    always(qk_norm=True, qk_norm_width='projection'),
    choice('attention_bias', 'attention_bias', base.BIAS, False),
  ),
  (
    *(t for t in llama.TENSORS if t.param not in _PRE_NORMS),
    *(
      Tensor(f'layers/{param}', f'model.layers.{{}}.{tensor}.weight')
      for tensor, param in _POST_NORMS.items()
    ),
  ),
  numpy_reference.olmo2,
)
