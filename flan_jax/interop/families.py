"""The families of models that can be brought here and taken away, a table each.

To add one: what its config fields mean (`rules`), and where each of our parameters lies
in its files (`tensors`). A parameter that our decoder has for the config and no line
names, or a tensor that no line takes, is an error, so a table cannot be half right.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from flan_jax.errors import InputError, did_you_mean
from flan_jax.interop import windows
from flan_jax.interop.rope import rotary, rotary_by_layer
from flan_jax.interop.rules import (
  Rule,
  always,
  custom,
  only,
  refuse_unknown,
  same,
  words,
)
from flan_jax.interop.tensors import Tensor
from flan_jax.model.config import DecoderConfig


class Family(NamedTuple):
  """A kind of model.

  Attributes:
    model_type: as `config.json` has it.
    architecture: the class of transformers that runs it.
    rules: of its config, read in this order.
    tensors: of its files.
    prefix: what names of tensors may begin with, or lack.
    buffers: pattern of tensors that older files hold and no model needs.
  """

  model_type: str
  architecture: str
  rules: tuple[Rule, ...]
  tensors: tuple[Tensor, ...]
  prefix: str = 'model.'
  buffers: str = r'.*\.rotary_emb\.inv_freq'

  def read(self, theirs: Mapping[str, Any]) -> DecoderConfig:
    """Our config of theirs.

    Raises:
      InputError: naming a field that is missing, unknown, or not what we compute.
    """
    refuse_unknown(theirs, self.rules)
    fields: dict[str, Any] = {}
    for rule in self.rules:
      fields |= rule.read(theirs, fields)
    return canonical(DecoderConfig(**fields))

  def write(self, config: DecoderConfig) -> dict[str, Any]:
    """Their config of ours; it means the same only if `read` gives ours back."""
    out: dict[str, Any] = {
      'architectures': [self.architecture],
      'model_type': self.model_type,
    }
    for rule in self.rules:
      out |= rule.write(config)
    return out


def canonical(config: DecoderConfig) -> DecoderConfig:
  """`config` with its fields that have no effect at their defaults.

  Two configs of the same maths are then equal.
  """
  idle: set[str] = set()
  if config.positions != 'rotary':
    idle |= {'rope_base', 'rope_local_base', 'rotary_fraction', 'rope_scaling'}
  if config.positions != 'rotary' or config.rope_scaling == 'none':
    idle |= {'rope_factor', 'rope_low_factor', 'rope_high_factor'}
    idle |= {'rope_original_length'}
  if config.rope_scaling == 'linear':
    idle |= {'rope_low_factor', 'rope_high_factor', 'rope_original_length'}
  if config.positions != 't5':
    idle |= {'relative_buckets', 'relative_max_distance'}
  if config.positions != 'learned':
    idle |= {'position_offset'}
  if not any(config.local_layers):
    idle |= {'window', 'rope_local_base', 'layer_pattern'}
  if not config.tied_embedding:
    idle |= {'scaled_head'}
  defaults = {f.name: f.default for f in dataclasses.fields(DecoderConfig)}
  changes: dict[str, Any] = {name: defaults[name] for name in idle}
  if any(config.local_layers):
    changes['layer_pattern'] = windows.shortest(windows.letters(config))
    if config.rope_local_base == config.rope_base:
      changes['rope_local_base'] = None
  if config.query_scale == config.head_dim**-0.5:
    changes['query_scale'] = None
  return dataclasses.replace(config, **changes)


def _heads(theirs_key: str, default: Any) -> Rule:
  return same('num_kv_heads', theirs_key, default)


def _head_dim(default: Any) -> Rule:
  return same('head_dim', 'head_dim', default)


def _share(sofar: Mapping[str, Any]) -> int:
  return sofar['d_model'] // sofar['num_heads']


def _divided() -> Rule:
  """Heads that share the width among them, which no field says."""

  def read(theirs, sofar):
    if sofar['d_model'] % sofar['num_heads']:
      raise InputError(
        f'config.json: {sofar["num_heads"]} heads do not divide the width '
        f'{sofar["d_model"]}'
      )
    return {'num_kv_heads': sofar['num_heads'], 'head_dim': _share(sofar)}

  return custom([], read, lambda config: {})


def _switches(key: str, on: Mapping[str, Any], off: Mapping[str, Any], default: bool):
  """One switch of theirs, several fields of ours."""

  def read(theirs, sofar):
    return dict(on if theirs.get(key, default) else off)

  def write(config):
    return {key: all(getattr(config, name) == value for name, value in on.items())}

  return custom([key], read, write)


_GATES = {'silu': 'swiglu', 'swish': 'swiglu', 'gelu_pytorch_tanh': 'geglu',
          'gelu_new': 'geglu'}  # fmt: skip
_PLAIN = {'gelu': 'gelu_exact', 'gelu_new': 'gelu', 'gelu_pytorch_tanh': 'gelu',
          'gelu_fast': 'gelu', 'relu': 'relu'}  # fmt: skip
_BIAS = {False: 'none', True: 'all'}

_SIZES = (
  same('vocab_size', 'vocab_size'),
  same('d_model', 'hidden_size'),
  same('num_layers', 'num_hidden_layers'),
  same('num_heads', 'num_attention_heads'),
)
_RMS = (
  same('d_ff', 'intermediate_size'),
  same('norm_epsilon', 'rms_norm_eps', 1e-6, float),
  same('max_positions', 'max_position_embeddings', 2048),
)
_LLAMA = (
  *_SIZES,
  *_RMS,
  _heads('num_key_value_heads', lambda sofar: sofar['num_heads']),
  words('activation', 'hidden_act', _GATES, 'silu'),
)
_UNSCALED = always(scaled_head=False)
_UNTIED = same('tied_embedding', 'tie_word_embeddings', False, bool)

_LLAMA_TENSORS = (
  Tensor('embedding', 'model.embed_tokens.weight'),
  Tensor('final_norm', 'model.norm.weight'),
  Tensor('head', 'lm_head.weight', 'v d -> d v'),
  *(
    Tensor(f'layers/{ours}', f'model.layers.{{}}.{theirs}', turn)
    for ours, theirs, turn in [
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
_POST_NORMS = {
  'layers/attention_post_norm': 'post_attention_layernorm',
  'layers/mlp_norm': 'pre_feedforward_layernorm',
  'layers/mlp_post_norm': 'post_feedforward_layernorm',
}
_GEMMA2_TENSORS = (
  *(t for t in _LLAMA_TENSORS if t.ours not in _POST_NORMS),
  *(Tensor(a, f'model.layers.{{}}.{b}.weight') for a, b in _POST_NORMS.items()),
)

LLAMA = Family(
  'llama',
  'LlamaForCausalLM',
  (
    *_LLAMA,
    _UNSCALED,
    _UNTIED,
    _head_dim(_share),
    rotary(),
    words('attention_bias', 'attention_bias', _BIAS, False),
    same('mlp_bias', 'mlp_bias', False, bool),
  ),
  _LLAMA_TENSORS,
)
MISTRAL = Family(
  'mistral',
  'MistralForCausalLM',
  (*_LLAMA, _UNSCALED, _UNTIED, _head_dim(_share), rotary(), windows.every_layer()),
  _LLAMA_TENSORS,
)
QWEN2 = Family(
  'qwen2',
  'Qwen2ForCausalLM',
  (
    *_LLAMA,
    _UNSCALED,
    _UNTIED,
    _head_dim(_share),
    rotary(),
    windows.qwen(),
    always(attention_bias='qkv'),
    only('use_mrope', False, write=False),
  ),
  _LLAMA_TENSORS,
)
QWEN3 = Family(
  'qwen3',
  'Qwen3ForCausalLM',
  (
    *_LLAMA,
    _UNSCALED,
    _UNTIED,
    _head_dim(128),
    rotary(),
    windows.qwen(),
    always(qk_norm=True),
    words('attention_bias', 'attention_bias', _BIAS, False),
  ),
  _LLAMA_TENSORS,
)


def _granite_scales() -> Rule:
  """Granite's multipliers, as far as they are ours: T5's head, Gemma's embedding."""
  keys = {
    'embedding_multiplier': ('scaled_embedding', 1.0),
    'logits_scaling': ('scaled_head', 1.0),
  }

  def read(theirs, sofar):
    root = math.sqrt(sofar['d_model'])
    out = {}
    for key, (ours, default) in keys.items():
      value = theirs.get(key, default)
      if value not in (1, root):
        raise InputError(
          f'config.json: {key}: got {value!r}; must be 1 or sqrt(hidden_size) = {root}'
        )
      out[ours] = value != 1
    return {**out, 'query_scale': float(theirs.get('attention_multiplier', 1.0))}

  def write(config):
    root = math.sqrt(config.d_model)
    scale = config.query_scale
    out = {k: root if getattr(config, ours) else 1.0 for k, (ours, _) in keys.items()}
    if not config.tied_embedding:
      out['logits_scaling'] = 1.0
    return {
      **out,
      'attention_multiplier': config.head_dim**-0.5 if scale is None else scale,
    }

  return custom([*keys, 'attention_multiplier'], read, write)


GRANITE = Family(
  'granite',
  'GraniteForCausalLM',
  (
    *_LLAMA,
    _UNTIED,
    _head_dim(_share),
    rotary(),
    words('attention_bias', 'attention_bias', _BIAS, False),
    same('mlp_bias', 'mlp_bias', False, bool),
    _granite_scales(),
    only('residual_multiplier', 1.0),
  ),
  _LLAMA_TENSORS,
)

_GEMMA = (
  *_SIZES,
  *_RMS,
  _head_dim(256),
  always(norm_plus_one=True, scaled_embedding=True),
  _UNSCALED,
  same('tied_embedding', 'tie_word_embeddings', True, bool),
  words('attention_bias', 'attention_bias', _BIAS, False),
)


def _query_scalar() -> Rule:
  """Queries are scaled by a number's inverse root (Gemma 2 and 3)."""
  key = 'query_pre_attn_scalar'

  def read(theirs, sofar):
    return {'query_scale': float(theirs.get(key) or 256) ** -0.5}

  def write(config):
    scale = config.head_dim**-0.5 if config.query_scale is None else config.query_scale
    scalar = round(scale**-2)
    return {key: scalar if float(scalar) ** -0.5 == scale else scale**-2}

  return custom([key], read, write)


GEMMA = Family(
  'gemma',
  'GemmaForCausalLM',
  (
    *_GEMMA,
    _heads('num_key_value_heads', 16),
    # `gelu` there always meant its tanh form.
    words(
      'activation', 'hidden_act', {'gelu_pytorch_tanh': 'geglu', 'gelu': 'geglu'},
      'gelu_pytorch_tanh',
    ),
    only('hidden_activation', None, 'gelu_pytorch_tanh', write=False),
    rotary(),
  ),
  _LLAMA_TENSORS,
)  # fmt: skip
_GEMMA2_GATE = words('activation', 'hidden_activation', _GATES, 'gelu_pytorch_tanh')


def _gemma2_caps(attention: float | None, logits: float | None) -> tuple[Rule, ...]:
  def cap(ours, key, default):
    def read(theirs, sofar):
      value = theirs.get(key, default)
      return {ours: None if value is None else float(value)}

    return custom([key], read, lambda config: {key: getattr(config, ours)})

  return (
    cap('attention_softcap', 'attn_logit_softcapping', attention),
    cap('logit_softcap', 'final_logit_softcapping', logits),
  )


GEMMA2 = Family(
  'gemma2',
  'Gemma2ForCausalLM',
  (
    *_GEMMA,
    _heads('num_key_value_heads', 4),
    _GEMMA2_GATE,
    only('hidden_act', 'gelu_pytorch_tanh', write=False),
    rotary(),
    _query_scalar(),
    *_gemma2_caps(50.0, 30.0),
    windows.every_nth_global(2),
    always(post_norms=True),
  ),
  _GEMMA2_TENSORS,
)
GEMMA3 = Family(
  'gemma3_text',
  'Gemma3ForCausalLM',
  (
    *_GEMMA,
    _heads('num_key_value_heads', 4),
    _GEMMA2_GATE,
    rotary_by_layer(),
    _query_scalar(),
    *_gemma2_caps(None, None),
    windows.every_nth_global(6),
    always(post_norms=True, qk_norm=True),
  ),
  _GEMMA2_TENSORS,
)

_FULL = always(norm='layer', attention_bias='all', mlp_bias=True)


def _biased(layer: str, lines) -> tuple[Tensor, ...]:
  """Weight and bias of every line: (ours, theirs, turn, turn of the bias, part, of)."""
  return tuple(
    Tensor(f'layers/{ours}{mine}', f'{layer}.{theirs}.{kind}', turn, *rest)
    for ours, theirs, weight, bias, *rest in lines
    for mine, kind, turn in [('', 'weight', weight), ('_bias', 'bias', bias)]
  )


GPT_NEOX = Family(
  'gpt_neox',
  'GPTNeoXForCausalLM',
  (
    *_SIZES,
    _divided(),
    same('d_ff', 'intermediate_size'),
    same('norm_epsilon', 'layer_norm_eps', 1e-5, float),
    same('max_positions', 'max_position_embeddings', 2048),
    words('activation', 'hidden_act', _PLAIN, 'gelu'),
    _UNTIED,
    _UNSCALED,
    always(norm='layer', mlp_bias=True),
    words('attention_bias', 'attention_bias', _BIAS, True),
    same('parallel_residual', 'use_parallel_residual', True, bool),
    rotary(base_key='rotary_emb_base', fraction_key='rotary_pct', fraction=0.25),
  ),
  (
    Tensor('embedding', 'gpt_neox.embed_in.weight'),
    Tensor('final_norm', 'gpt_neox.final_layer_norm.weight'),
    Tensor('final_norm_bias', 'gpt_neox.final_layer_norm.bias'),
    Tensor('head', 'embed_out.weight', 'v d -> d v'),
    *_biased('gpt_neox.layers.{}', [
      ('attention_norm', 'input_layernorm', '', ''),
      *(
        (ours, 'attention.query_key_value', '(h n c) d -> n d h c',
         '(h n c) -> n h c', part, 3)
        for part, ours in enumerate(('query', 'key', 'value'))
      ),
      ('output', 'attention.dense', 'd (h c) -> h c d', ''),
      ('mlp_norm', 'post_attention_layernorm', '', ''),
      ('up', 'mlp.dense_h_to_4h', 'f d -> d f', ''),
      ('down', 'mlp.dense_4h_to_h', 'd f -> f d', ''),
    ]),
  ),
  prefix='gpt_neox.',
  buffers=r'.*\.(rotary_emb\.inv_freq|attention\.(masked_)?bias)',
)  # fmt: skip


def _opt_positions() -> Rule:
  """OPT's table begins with two rows that no token has."""
  key = 'max_position_embeddings'

  def read(theirs, sofar):
    return {
      'positions': 'learned',
      'position_offset': 2,
      'max_positions': theirs.get(key, 2048) + 2,
    }

  return custom([key], read, lambda config: {key: config.max_positions - 2})


def _opt_width() -> Rule:
  key = 'word_embed_proj_dim'

  def read(theirs, sofar):
    if theirs.get(key) not in (None, sofar['d_model']):
      raise InputError(
        f'config.json: {key}: got {theirs[key]!r}; the decoder has no projection of '
        f'embeddings: must be hidden_size {sofar["d_model"]}'
      )
    return {}

  return custom([key], read, lambda config: {key: config.d_model})


OPT = Family(
  'opt',
  'OPTForCausalLM',
  (
    *_SIZES,
    _divided(),
    same('d_ff', 'ffn_dim'),
    _opt_positions(),
    _opt_width(),
    words('activation', 'activation_function', _PLAIN, 'relu'),
    same('tied_embedding', 'tie_word_embeddings', True, bool),
    _UNSCALED,
    always(norm='layer', norm_epsilon=1e-5),
    _switches(
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
    *_biased('model.decoder.layers.{}', [
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
)  # fmt: skip


def _inner() -> Rule:
  def read(theirs, sofar):
    return {'d_ff': theirs.get('n_inner') or 4 * sofar['d_model']}

  return custom(['n_inner'], read, lambda config: {'n_inner': config.d_ff})


GPT2 = Family(
  'gpt2',
  'GPT2LMHeadModel',
  (
    same('vocab_size', 'vocab_size', 50257),
    same('d_model', 'n_embd', 768),
    same('num_layers', 'n_layer', 12),
    same('num_heads', 'n_head', 12),
    _divided(),
    _inner(),
    same('max_positions', 'n_positions', 1024),
    same('norm_epsilon', 'layer_norm_epsilon', 1e-5, float),
    words('activation', 'activation_function', {'gelu_new': 'gelu', **_PLAIN},
          'gelu_new'),
    same('tied_embedding', 'tie_word_embeddings', True, bool),
    _UNSCALED,
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
    *_biased('transformer.h.{}', [
      ('attention_norm', 'ln_1', '', ''),
      *(
        (ours, 'attn.c_attn', 'd (n h c) -> n d h c', '(n h c) -> n h c', part, 3)
        for part, ours in enumerate(('query', 'key', 'value'))
      ),
      ('output', 'attn.c_proj', '(h c) d -> h c d', ''),
      ('mlp_norm', 'ln_2', '', ''),
      ('up', 'mlp.c_fc', '', ''),
      ('down', 'mlp.c_proj', '', ''),
    ]),
  ),
  prefix='transformer.',
  buffers=r'.*\.attn\.(masked_)?bias',
)  # fmt: skip

FAMILIES: Mapping[str, Family] = {
  family.model_type: family
  for family in (
    LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, GPT_NEOX, OPT, GPT2, GRANITE
  )
}  # fmt: skip
"""By model_type, in the order in which a home for one of our models is sought."""


def get(model_type: object) -> Family:
  """The family of that name.

  Raises:
    InputError: naming the nearest.
  """
  if model_type not in FAMILIES:
    near = did_you_mean(str(model_type), FAMILIES)
    raise InputError(
      f'config.json: model_type: got {model_type!r}; must be one of '
      f'{", ".join(FAMILIES)}{near}'
    )
  return FAMILIES[model_type]


LAYOUT = ('scan_layers', 'remat', 'dtype', 'param_dtype')
"""Fields of ours that say how a model is run, not which one it is."""


def maths(config: DecoderConfig) -> DecoderConfig:
  """`config` without what does not change a logit: equal for the same model."""
  fields = dataclasses.fields(DecoderConfig)
  plain = {f.name: f.default for f in fields if f.name in LAYOUT}
  return canonical(dataclasses.replace(config, **plain))


def home(config: DecoderConfig) -> Family:
  """The first family that says all that `config` does.

  Raises:
    InputError: if there is none, saying what the nearest one cannot say.
  """
  if config.attention != 'causal':
    raise InputError(
      f'DecoderConfig.attention: got {config.attention!r}; no Hugging Face decoder '
      "sees a prefix whole: only 'causal' models can be taken away"
    )
  wanted = maths(config)
  nearest: list[str] | None = None
  for family in FAMILIES.values():
    try:
      found = family.read(family.write(wanted))
    except InputError:
      continue
    different = [
      f'{f.name}={getattr(wanted, f.name)!r}'
      for f in dataclasses.fields(DecoderConfig)
      if getattr(found, f.name) != getattr(wanted, f.name)
    ]
    if not different:
      return family
    if nearest is None or len(different) < len(nearest):
      nearest = different
  raise InputError(
    f'DecoderConfig: {", ".join(nearest or [])}: no Hugging Face family of '
    f'{", ".join(FAMILIES)} says that'
  )
