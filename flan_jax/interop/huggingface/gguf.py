"""A GGUF file as a source: its metadata as a Hugging Face config, dequantized tensors.

GGUF differs from Hugging Face in tensor names and layouts: Llama's queries and keys
rotate pairs of neighboring channels, and Gemma's norms already contain the 1 that its
code adds.
"""

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flan_jax.checkpoints.weights import TensorInfo
from flan_jax.errors import InputError, did_you_mean
from flan_jax.interop.huggingface import gguf_header
from flan_jax.interop.huggingface.tensor_map import Tensor

ARCHITECTURES = {
  'llama': 'llama',
  'qwen2': 'qwen2',
  'qwen3': 'qwen3',
  'gemma': 'gemma',
  'gemma2': 'gemma2',
  'gemma3': 'gemma3_text',
  'gptneox': 'gpt_neox',
  'gpt2': 'gpt2',
}
"""GGUF's architecture -> model_type."""

_COMMON = {
  'embedding_length': 'hidden_size',
  'block_count': 'num_hidden_layers',
  'feed_forward_length': 'intermediate_size',
  'attention.head_count': 'num_attention_heads',
  'context_length': 'max_position_embeddings',
}
_RMS = {
  **_COMMON,
  'attention.head_count_kv': 'num_key_value_heads',
  'attention.key_length': 'head_dim',
  'attention.layer_norm_rms_epsilon': 'rms_norm_eps',
  'rope.freq_base': 'rope_theta',
}
_GEMMA2 = {
  **_RMS,
  'attention.sliding_window': 'sliding_window',
  'attn_logit_softcapping': 'attn_logit_softcapping',
  'final_logit_softcapping': 'final_logit_softcapping',
}
_FIELDS = {
  'llama': _RMS,
  'qwen2': _RMS,
  'qwen3': _RMS,
  'gemma': _RMS,
  'gemma2': _GEMMA2,
  'gemma3': _GEMMA2,
  'gptneox': {
    **_COMMON,
    'attention.layer_norm_epsilon': 'layer_norm_eps',
    'rope.freq_base': 'rotary_emb_base',
    'use_parallel_residual': 'use_parallel_residual',
  },
  'gpt2': {
    'embedding_length': 'n_embd',
    'block_count': 'n_layer',
    'feed_forward_length': 'n_inner',
    'attention.head_count': 'n_head',
    'context_length': 'n_positions',
    'attention.layer_norm_epsilon': 'layer_norm_epsilon',
  },
}
_HARMLESS = ('attention.value_length', 'rope.dimension_count', 'vocab_size')

_OPTIONAL = ('head_dim', 'num_key_value_heads', 'rope.dimension_count')
_SIZES = (
  *_OPTIONAL,
  *('hidden_size', 'num_hidden_layers', 'num_attention_heads'),
  *('n_embd', 'n_layer', 'n_head'),
)
"""Fields of config.json that sizes are computed from."""

_MAX_SIZE = 1 << 31

_LAYER = {
  'attention_norm': ('attn_norm', ''),
  'query': ('attn_q', '(h c) d -> d h c'),
  'key': ('attn_k', '(k c) d -> d k c'),
  'value': ('attn_v', '(k c) d -> d k c'),
  'output': ('attn_output', 'd (h c) -> h c d'),
  'query_norm': ('attn_q_norm', ''),
  'key_norm': ('attn_k_norm', ''),
  'attention_post_norm': ('post_attention_norm', ''),
  'mlp_norm': ('ffn_norm', ''),
  'gate': ('ffn_gate', 'f d -> d f'),
  'up': ('ffn_up', 'f d -> d f'),
  'down': ('ffn_down', 'd f -> f d'),
  'mlp_post_norm': ('post_ffw_norm', ''),
}
_BIASES = {
  'query': '(h c) -> h c',
  'key': '(k c) -> k c',
  'value': '(k c) -> k c',
}
_INTERLEAVED = {
  'query': '(h j t) d -> d h (t j)',
  'key': '(k j t) d -> d k (t j)',
}
"""Llama: the file rotates channels 2j and 2j + 1, we rotate j and j + head_dim / 2."""


def tensors(architecture: str) -> tuple[Tensor, ...]:
  """The table of an architecture, like `Family.tensors` for Hugging Face files."""
  gemma = architecture.startswith('gemma')
  out = [
    Tensor('embedding', 'token_embd.weight'),
    Tensor('position_embedding', 'position_embd.weight'),
    Tensor('final_norm', 'output_norm.weight', add=-1.0 if gemma else 0.0),
    Tensor('final_norm_bias', 'output_norm.bias'),
    Tensor('head', 'output.weight', 'v d -> d v'),
  ]
  for param, (tensor, pattern) in _LAYER.items():
    rest: dict[str, Any] = {}
    bias = _BIASES.get(param, '')
    if architecture == 'llama':
      pattern = _INTERLEAVED.get(param, pattern)
    if architecture in ('gpt2', 'gptneox') and param in _BIASES:
      tensor, pattern, bias = 'attn_qkv', '(n h c) d -> n d h c', '(n h c) -> n h c'
      rest = {'part': list(_BIASES).index(param), 'num_parts': 3}
    if gemma and param.endswith('norm'):
      rest = {'add': -1.0}
    name = f'blk.{{}}.{tensor}'
    out += [
      Tensor(f'layers/{param}', f'{name}.weight', pattern, **rest),
      Tensor(f'layers/{param}_bias', f'{name}.bias', bias, **rest),
    ]
  return tuple(out)


def _plain(value: Any) -> Any:
  """A metadata value; a float32 becomes the decimal that it was written from."""
  if isinstance(value, float):
    return float(str(np.float32(value)))
  return value


class File:
  """A `.gguf` file; tensors are read as float32 from any storage type."""

  def __init__(self, path: pathlib.Path):
    if importlib.util.find_spec('gguf') is None:
      raise InputError(f"{path}: needs `gguf`: pip install 'flan_jax[hf]'") from None
    self.where = str(path)
    if not path.is_file():
      raise InputError(f'{path}: no such file')
    self._fields, self._by_name = gguf_header.read(path)
    self.architecture = self.field('general.architecture')
    if str(self.architecture) not in ARCHITECTURES:
      near = did_you_mean(str(self.architecture), ARCHITECTURES)
      raise InputError(
        f'{path}: general.architecture: got {self.architecture!r}; must be one of '
        f'{", ".join(ARCHITECTURES)}{near}'
      )
    self.tensors = {
      name: TensorInfo(tensor.shape, np.dtype(np.float32))
      for name, tensor in self._by_name.items()
    }
    self._check_types()
    self.config = self._config()

  def field(self, name: str, default: Any = None) -> Any:
    """A metadata value."""
    value = self._fields.get(name)
    return default if value is None else value

  def read(self, name: str) -> np.ndarray:
    """Reads and dequantizes one tensor, float32."""
    from gguf import quants

    tensor = self._by_name[name]
    out = quants.dequantize(tensor.data, tensor.kind)
    return np.ascontiguousarray(out, np.float32).reshape(self.tensors[name].shape)

  def _check_types(self) -> None:
    """Dequantizes one row of every storage type, so that an unsupported one fails."""
    from gguf import quants

    for kind, name in {t.kind: n for n, t in self._by_name.items()}.items():
      data = self._by_name[name].data
      try:
        quants.dequantize(data.reshape(-1, data.shape[-1])[:1], kind)
      except (NotImplementedError, ValueError) as error:
        raise InputError(
          f'{self.where}: tensor {name!r} is {kind.name}, which the `gguf` package '
          f'cannot dequantize ({error})'
        ) from None

  def _config(self) -> Mapping[str, Any]:
    architecture = self.architecture
    names = _FIELDS[architecture]
    out: dict[str, Any] = {'model_type': ARCHITECTURES[architecture]}
    prefix = f'{architecture}.'
    for name in self._fields:
      if not name.startswith(prefix):
        continue
      key, value = name.removeprefix(prefix), self.field(name)
      if key in names:
        out[names[key]] = _plain(value)
      elif key == 'rope.scaling.type' and value in ('none', 'linear'):
        if value == 'linear':
          factor = _plain(self.field(f'{prefix}rope.scaling.factor', 1.0))
          out['rope_scaling'] = {'rope_type': 'linear', 'factor': factor}
      elif key not in _HARMLESS and not key.startswith('rope.scaling.f'):
        raise InputError(
          f'{self.where}: {name}: got {value!r:.60}; not known for {architecture!r}: a '
          'field that may change the math is never ignored'
        )
    rotary = self.field(f'{prefix}rope.dimension_count')
    self._check_sizes(out, names)
    heads = out.get('num_attention_heads')
    if rotary is not None and heads and architecture != 'gptneox':
      whole = out.get('head_dim', out['hidden_size'] // heads)
      if rotary != whole:
        raise InputError(
          f'{self.where}: {prefix}rope.dimension_count: got {rotary}; heads of '
          f'{architecture!r} rotate all channels: must be {whole}'
        )
    if 'token_embd.weight' in self.tensors:
      out['vocab_size'] = self.tensors['token_embd.weight'].shape[0]
    out['tie_word_embeddings'] = 'output.weight' not in self.tensors
    if architecture == 'llama':
      out['attention_bias'] = 'blk.0.attn_q.bias' in self.tensors
    for name in ('bos', 'eos', 'padding'):
      value = self.field(f'tokenizer.ggml.{name}_token_id')
      key = 'pad' if name == 'padding' else name
      out[f'{key}_token_id'] = value
    return {**out, **self._implied_fields(out)}

  def _check_sizes(self, config: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Checks the sizes that others are computed from: whole numbers, 1 or more."""
    sizes = {key: ours for key, ours in names.items() if ours in _SIZES}
    sizes['rope.dimension_count'] = 'rope.dimension_count'
    for key, ours in sizes.items():
      name = f'{self.architecture}.{key}'
      value = config.get(ours, self.field(name))
      if value is None and ours in _OPTIONAL:
        continue
      if type(value) is not int or not 0 < value < _MAX_SIZE:
        raise InputError(
          f'{self.where}: {name}: got {value!r:.40}; must be a whole number, 1 to '
          f'{_MAX_SIZE - 1:,}'
        )

  def _implied_fields(self, config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that llama.cpp keeps in its code, not in the file."""
    layers = config.get('num_hidden_layers')
    largest = {'gemma2': 46, 'gemma3': 62}.get(self.architecture)
    if self.architecture in ('gemma2', 'gemma3'):
      width = config.get('hidden_size', 0) // config.get('num_attention_heads', 1)
      scalar = width if layers == largest else config.get('head_dim', 256)
      return {'query_pre_attn_scalar': scalar}
    if self.architecture == 'gptneox':
      head = config['hidden_size'] // config['num_attention_heads']
      rotary = self.field('gptneox.rope.dimension_count', head)
      return {'rotary_pct': rotary / head}
    return {}
