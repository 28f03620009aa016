"""A second implementation of our own families: the forward pass in plain numpy.

It shares no code with the tables or the decoder, so that a mistake would have to be
made twice. It uses the files' own names and layouts (torch's [out, in], GPT-2's
[in, out], NeoX's fused projection, the neighboring channels that Llama's GGUF rotates
as a pair). One layer is in memory at a time. The reference of a user's family may be
built of what is here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  from flan_jax.interop.huggingface.source import Source

_erf = np.vectorize(math.erf, otypes=[np.float32])

_GGUF_NAMES = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  'lm_head': 'output',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'input_layernorm': 'attn_norm',
  'pre_feedforward_layernorm': 'ffn_norm',
  'post_feedforward_layernorm': 'post_ffw_norm',
  # GPT-2 and GPT-NeoX
  'transformer.wte': 'token_embd',
  'transformer.wpe': 'position_embd',
  'transformer.ln_f': 'output_norm',
  'ln_1': 'attn_norm',
  'ln_2': 'ffn_norm',
  'attn.c_attn': 'attn_qkv',
  'attn.c_proj': 'attn_output',
  'mlp.c_fc': 'ffn_up',
  'mlp.c_proj': 'ffn_down',
  'gpt_neox.embed_in': 'token_embd',
  'gpt_neox.final_layer_norm': 'output_norm',
  'embed_out': 'output',
  'attention.query_key_value': 'attn_qkv',
  'attention.dense': 'attn_output',
  'mlp.dense_h_to_4h': 'ffn_up',
  'mlp.dense_4h_to_h': 'ffn_down',
}


class Files:
  """Tensors by their Hugging Face names, from either file format.

  Attributes:
    config: config.json.
    kind: its model_type.
    architecture: GGUF's name of the architecture; '' in a Hugging Face folder.
    gguf: True for a GGUF file.
  """

  def __init__(self, source: 'Source'):
    self.source = source
    self.architecture: str = getattr(source, 'architecture', '')
    self.gguf = bool(self.architecture)
    self.config = source.config
    self.kind = source.config['model_type']

  def _name(self, name: str, part: str) -> str:
    if not self.gguf:
      full = f'{name}.{part}'
      root, _, short = full.partition('.')
      return full if full in self.source.tensors or root == 'lm_head' else short
    parts = name.split('.')
    at = next((i for i, p in enumerate(parts) if p.isdigit()), None)
    if at is None:
      return f'{_GGUF_NAMES[name]}.{part}'
    inner = '.'.join(parts[at + 1 :])
    if inner == 'post_attention_layernorm':
      second = self.kind in ('gemma2', 'gemma3_text')
      short_name = 'post_attention_norm' if second else 'ffn_norm'
    else:
      short_name = _GGUF_NAMES[inner]
    return f'blk.{parts[at]}.{short_name}.{part}'

  def has(self, name: str, part: str = 'weight') -> bool:
    """Returns True if there is such a tensor."""
    return self._name(name, part) in self.source.tensors

  def get(self, name: str, part: str = 'weight') -> np.ndarray:
    """Reads the tensor `name`.`part`, float32."""
    return self.source.read(self._name(name, part)).astype(np.float32)

  def linear(self, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """x -> W x + b; W is [out, in]."""
    weight = self.get(name)
    bias = self.get(name, 'bias') if self.has(name, 'bias') else np.float32(0)
    return lambda x: x @ weight.T + bias


def softmax(x: np.ndarray) -> np.ndarray:
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
  """Root-mean-square norm of the last axis."""
  return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(epsilon)) * weight


def layer_norm(files: Files, name: str, epsilon: float):
  """The layer norm whose weight and bias are named `name`, as a function."""
  weight, bias = files.get(name), files.get(name, 'bias')

  def norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + np.float32(epsilon)
    ) * weight + bias

  return norm


def gelu_tanh(x):
  inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
  return 0.5 * x * (1 + np.tanh(inner))


ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
  'silu': lambda x: x / (1 + np.exp(-x)),
  'swish': lambda x: x / (1 + np.exp(-x)),
  'gelu': lambda x: 0.5 * x * (1 + _erf(x / np.float32(math.sqrt(2)))),
  'gelu_new': gelu_tanh,
  'gelu_fast': gelu_tanh,
  'gelu_pytorch_tanh': gelu_tanh,
  'relu': lambda x: np.maximum(x, 0),
}


def attention(q, k, v, *, scale, window=None, cap=None):
  """Causal attention: q [T, H, C], k and v [T, K, C] -> [T, H * C]."""
  T, H = q.shape[:2]
  group = H // k.shape[1]
  out = np.empty_like(q)
  query, key = np.indices((T, T))
  seen = key <= query
  if window is not None:
    seen &= key > query - window
  for head in range(H):
    scores = q[:, head] @ k[:, head // group].T * np.float32(scale)
    if cap is not None:
      scores = np.float32(cap) * np.tanh(scores / np.float32(cap))
    scores = np.where(seen, scores, np.float32(-np.inf))
    out[:, head] = softmax(scores) @ v[:, head // group]
  return out.reshape(T, -1)


def frequencies_of(
  base: float, dims: int, scaling: Mapping[str, Any] | None
) -> np.ndarray:
  """Angle per position of each pair of channels, `dims` of them rotated."""
  frequencies = base ** (-np.arange(0, dims, 2, dtype=np.float64) / dims)
  scaling = scaling or {}
  kind = scaling.get('rope_type', scaling.get('type', 'default'))
  if kind == 'linear':
    return frequencies / scaling['factor']
  if kind == 'llama3':
    out = []
    length = scaling['original_max_position_embeddings']
    low, high = scaling['low_freq_factor'], scaling['high_freq_factor']
    for f in frequencies:
      wavelength = 2 * math.pi / f
      if wavelength < length / high:
        out.append(f)
      elif wavelength > length / low:
        out.append(f / scaling['factor'])
      else:
        smooth = (length / wavelength - low) / (high - low)
        out.append((1 - smooth) * f / scaling['factor'] + smooth * f)
    return np.array(out)
  return frequencies


def rotate(x: np.ndarray, frequencies: np.ndarray, *, neighbors: bool) -> np.ndarray:
  """Applies rotary embeddings to the first channels of x [T, H, C]."""
  angle = np.arange(len(x))[:, None] * frequencies[None]
  cos, sin = (f(angle).astype(np.float32)[:, None] for f in (np.cos, np.sin))
  out, count = x.copy(), len(frequencies)
  if neighbors:
    first, second = slice(0, 2 * count, 2), slice(1, 2 * count, 2)
  else:
    first, second = slice(0, count), slice(count, 2 * count)
  out[..., first] = x[..., first] * cos - x[..., second] * sin
  out[..., second] = x[..., second] * cos + x[..., first] * sin
  return out


def rope(
  config: Mapping[str, Any], *, local: bool = False
) -> tuple[float, Mapping[str, Any] | None]:
  """Rotary base and scaling of a layer."""
  new = config.get('rope_parameters') or {}
  if 'full_attention' in new or 'sliding_attention' in new:
    new = new['sliding_attention' if local else 'full_attention']
    return new['rope_theta'], new
  three = config['model_type'] == 'gemma3_text'
  if three and local:
    return config.get('rope_local_base_freq', 10_000.0), None
  default = 1e6 if three else 10_000.0
  base = new.get('rope_theta') or config.get('rope_theta', default)
  return base, config.get('rope_scaling') or new


def window_of(config: Mapping[str, Any], layer: int) -> int | None:
  """Window of a layer; None if it is global."""
  kind = config['model_type']
  if kind == 'mistral':
    return config.get('sliding_window', 4096)
  if kind in ('qwen2', 'qwen3') and not config.get('use_sliding_window'):
    return None
  types = config.get('layer_types')
  if types:
    local = types[layer] == 'sliding_attention'
  elif kind in ('qwen2', 'qwen3'):
    local = layer >= config.get('max_window_layers', 28)
  elif kind == 'gemma2':
    local = layer % 2 == 0
  elif kind == 'gemma3_text':
    local = (layer + 1) % config.get('sliding_window_pattern', 6) != 0
  else:
    return None
  return config.get('sliding_window', 4096) if local else None


def llama(files: Files, sequences, kept):
  """Llama, Mistral, Qwen, Gemma and Granite."""
  config, kind = files.config, files.kind
  gemma = kind.startswith('gemma')
  H = config['num_attention_heads']
  K = config.get('num_key_value_heads') or {'gemma': 16, 'gemma2': 4}.get(kind) or H
  C = config.get('head_dim') or (
    256 if gemma else 128 if kind == 'qwen3' else config['hidden_size'] // H
  )
  epsilon = config.get('rms_norm_eps', 1e-6)
  one = np.float32(1 if gemma and not files.gguf else 0)
  scale = C**-0.5
  if kind in ('gemma2', 'gemma3_text'):
    scale = (config.get('query_pre_attn_scalar') or 256) ** -0.5
  if kind == 'granite':
    scale = config.get('attention_multiplier', 1.0)
  cap = config.get('attn_logit_softcapping', 50.0 if kind == 'gemma2' else None)
  name = config.get('hidden_activation') or config.get('hidden_act') or 'silu'
  if gemma and name in ('gelu', 'silu'):
    name = 'gelu_pytorch_tanh'
  activation = ACTIVATIONS[name]
  neighbors = files.architecture == 'llama'
  table = files.get('model.embed_tokens')
  xs = [table[tokens] for tokens in sequences]
  if gemma:
    xs = [x * np.float32(math.sqrt(config['hidden_size'])) for x in xs]
  if kind == 'granite':
    xs = [x * np.float32(config.get('embedding_multiplier', 1.0)) for x in xs]
  del table

  def norm(name):
    weight = files.get(name) + one
    return lambda x: rms_norm(x, weight, epsilon)

  for layer in range(config['num_hidden_layers']):
    at = f'model.layers.{layer}'
    window = window_of(config, layer)
    base, scaling = rope(config, local=window is not None)
    frequencies = frequencies_of(base, C, scaling)
    query, key, value, output = (
      files.linear(f'{at}.self_attn.{p}_proj') for p in ('q', 'k', 'v', 'o')
    )
    gate, up, down = (
      files.linear(f'{at}.mlp.{p}_proj') for p in ('gate', 'up', 'down')
    )
    before, after = (
      norm(f'{at}.input_layernorm'),
      norm(f'{at}.post_attention_layernorm'),
    )
    heads = None
    if files.has(f'{at}.self_attn.q_norm'):
      heads = [norm(f'{at}.self_attn.{p}_norm') for p in ('q', 'k')]
    double = kind in ('gemma2', 'gemma3_text')
    if double:
      inner = norm(f'{at}.pre_feedforward_layernorm')
      last = norm(f'{at}.post_feedforward_layernorm')
    for i, x in enumerate(xs):
      y = before(x)
      q, k = query(y).reshape(len(y), H, C), key(y).reshape(len(y), K, C)
      if heads is not None:
        q, k = heads[0](q), heads[1](k)
      q = rotate(q, frequencies, neighbors=neighbors)
      k = rotate(k, frequencies, neighbors=neighbors)
      v = value(y).reshape(len(y), K, C)
      mixed = output(attention(q, k, v, scale=scale, window=window, cap=cap))
      x = x + (after(mixed) if double else mixed)
      y = inner(x) if double else after(x)
      y = down(activation(gate(y)) * up(y))
      xs[i] = x + (last(y) if double else y)
  tied = config.get('tie_word_embeddings', gemma)
  head = files.get('model.embed_tokens' if tied else 'lm_head')
  final = norm('model.norm')
  out = [final(x[-kept:]) @ head.T for x in xs]
  if kind == 'granite':
    out = [x / np.float32(config.get('logits_scaling', 1.0)) for x in out]
  limit = config.get('final_logit_softcapping', 30.0 if kind == 'gemma2' else None)
  if limit is not None:
    out = [np.float32(limit) * np.tanh(x / np.float32(limit)) for x in out]
  return out


def olmo2(files: Files, sequences: Sequence[np.ndarray], kept: int):
  """OLMo 2: norms on the outputs, and on the whole of a token's queries and keys."""
  config = files.config
  H = config['num_attention_heads']
  K = config.get('num_key_value_heads') or H
  C = config.get('head_dim') or config['hidden_size'] // H
  epsilon = config.get('rms_norm_eps', 1e-5)
  activation = ACTIVATIONS[config.get('hidden_act') or 'silu']
  base, scaling = rope(config)
  frequencies = frequencies_of(base, C, scaling)
  table = files.get('model.embed_tokens')
  xs = [table[tokens] for tokens in sequences]
  for layer in range(config['num_hidden_layers']):
    at = f'model.layers.{layer}'
    query, key, value, output = (
      files.linear(f'{at}.self_attn.{p}_proj') for p in ('q', 'k', 'v', 'o')
    )
    gate, up, down = (
      files.linear(f'{at}.mlp.{p}_proj') for p in ('gate', 'up', 'down')
    )
    q_norm, k_norm, after, last = (
      files.get(f'{at}.{name}')
      for name in (
        *('self_attn.q_norm', 'self_attn.k_norm'),
        *('post_attention_layernorm', 'post_feedforward_layernorm'),
      )
    )
    for i, x in enumerate(xs):
      q = rms_norm(query(x), q_norm, epsilon).reshape(len(x), H, C)
      k = rms_norm(key(x), k_norm, epsilon).reshape(len(x), K, C)
      q, k = (rotate(z, frequencies, neighbors=False) for z in (q, k))
      v = value(x).reshape(len(x), K, C)
      mixed = output(attention(q, k, v, scale=C**-0.5))
      x = x + rms_norm(mixed, after, epsilon)
      wide = activation(gate(x)) * up(x)
      xs[i] = x + rms_norm(down(wide), last, epsilon)
  head = table if config.get('tie_word_embeddings', False) else files.get('lm_head')
  final = files.get('model.norm')
  return [rms_norm(x[-kept:], final, epsilon) @ head.T for x in xs]


def neox(files: Files, sequences, kept):
  config = files.config
  H, D = config['num_attention_heads'], config['hidden_size']
  C = D // H
  epsilon = config.get('layer_norm_eps', 1e-5)
  activation = ACTIVATIONS[config.get('hidden_act', 'gelu')]
  new = config.get('rope_parameters') or {}
  base = new.get('rope_theta') or config.get('rotary_emb_base') or 10_000
  share = new.get('partial_rotary_factor') or config.get('rotary_pct') or 0.25
  scaling = config.get('rope_scaling') or new
  frequencies = frequencies_of(base, int(C * share), scaling)
  table = files.get('gpt_neox.embed_in')
  xs = [table[tokens] for tokens in sequences]
  for layer in range(config['num_hidden_layers']):
    at = f'gpt_neox.layers.{layer}'
    fused, dense = (
      files.linear(f'{at}.attention.{p}') for p in ('query_key_value', 'dense')
    )
    wide, narrow = (files.linear(f'{at}.mlp.dense_{p}') for p in ('h_to_4h', '4h_to_h'))
    first = layer_norm(files, f'{at}.input_layernorm', epsilon)
    second = layer_norm(files, f'{at}.post_attention_layernorm', epsilon)
    for i, x in enumerate(xs):
      y = fused(first(x))
      if files.gguf:  # all queries, all keys, all values
        q, k, v = (p.reshape(len(y), H, C) for p in np.split(y, 3, axis=-1))
      else:  # query, key and value of each head side by side
        y = y.reshape(len(y), H, 3 * C)
        q, k, v = y[..., :C], y[..., C : 2 * C], y[..., 2 * C :]
      q, k = (rotate(z, frequencies, neighbors=False) for z in (q, k))
      mixed = dense(attention(q, k, v, scale=C**-0.5))
      if config.get('use_parallel_residual', True):
        xs[i] = x + mixed + narrow(activation(wide(second(x))))
      else:
        x = x + mixed
        xs[i] = x + narrow(activation(wide(second(x))))
  tied = config.get('tie_word_embeddings', False)
  head = table if tied else files.get('embed_out')
  final = layer_norm(files, 'gpt_neox.final_layer_norm', epsilon)
  return [final(x[-kept:]) @ head.T for x in xs]


def opt(files: Files, sequences, kept):
  config = files.config
  H, D = config['num_attention_heads'], config['hidden_size']
  activation = ACTIVATIONS[config.get('activation_function', 'relu')]
  table = files.get('model.decoder.embed_tokens')
  places = files.get('model.decoder.embed_positions')
  xs = [table[tokens] + places[2 : len(tokens) + 2] for tokens in sequences]
  for layer in range(config['num_hidden_layers']):
    at = f'model.decoder.layers.{layer}'
    query, key, value, output = (
      files.linear(f'{at}.self_attn.{p}_proj') for p in ('q', 'k', 'v', 'out')
    )
    wide, narrow = files.linear(f'{at}.fc1'), files.linear(f'{at}.fc2')
    first = layer_norm(files, f'{at}.self_attn_layer_norm', 1e-5)
    second = layer_norm(files, f'{at}.final_layer_norm', 1e-5)
    for i, x in enumerate(xs):
      y = first(x)
      q, k, v = (f(y).reshape(len(y), H, D // H) for f in (query, key, value))
      x = x + output(attention(q, k, v, scale=(D // H) ** -0.5))
      xs[i] = x + narrow(activation(wide(second(x))))
  head = table if config.get('tie_word_embeddings', True) else files.get('lm_head')
  final = layer_norm(files, 'model.decoder.final_layer_norm', 1e-5)
  return [final(x[-kept:]) @ head.T for x in xs]


def gpt2(files: Files, sequences, kept):
  config = files.config
  H, D = config.get('n_head', 12), config.get('n_embd', 768)
  epsilon = config.get('layer_norm_epsilon', 1e-5)
  activation = ACTIVATIONS[config.get('activation_function', 'gelu_new')]
  table, places = files.get('transformer.wte'), files.get('transformer.wpe')

  def linear(name):
    if files.gguf:  # GGUF stores [out, in]
      return files.linear(name)
    weight, bias = files.get(name), files.get(name, 'bias')
    return lambda x: x @ weight + bias

  xs = [table[tokens] + places[: len(tokens)] for tokens in sequences]
  for layer in range(config.get('n_layer', 12)):
    at = f'transformer.h.{layer}'
    fused, output = linear(f'{at}.attn.c_attn'), linear(f'{at}.attn.c_proj')
    wide, narrow = linear(f'{at}.mlp.c_fc'), linear(f'{at}.mlp.c_proj')
    first, second = (layer_norm(files, f'{at}.ln_{n}', epsilon) for n in (1, 2))
    for i, x in enumerate(xs):
      parts = np.split(fused(first(x)), 3, axis=-1)
      q, k, v = (p.reshape(len(x), H, D // H) for p in parts)
      x = x + output(attention(q, k, v, scale=(D // H) ** -0.5))
      xs[i] = x + narrow(activation(wide(second(x))))
  head = table if config.get('tie_word_embeddings', True) else files.get('lm_head')
  final = layer_norm(files, 'transformer.ln_f', epsilon)
  return [final(x[-kept:]) @ head.T for x in xs]
