"""Rules for the sliding window: its size, and the layers that have one."""

from collections.abc import Callable, Mapping
from typing import Any

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.interop.huggingface.config_rules import Fields, Rule, custom, take

_TYPES = {'full_attention': 'G', 'sliding_attention': 'L'}


def shortest(letters: str) -> str:
  """The shortest pattern that gives `letters` when repeated and truncated."""
  for size in range(1, len(letters) + 1):
    repeated = letters[:size] * (len(letters) // size + 1)
    if repeated[: len(letters)] == letters:
      return letters[:size]
  return letters


def letters(config: DecoderConfig) -> str:
  """One letter per layer: L is local (windowed), G is global."""
  return ''.join('L' if local else 'G' for local in config.local_layers)


def _listed(types: Any, layers: int) -> str:
  if not isinstance(types, list) or len(types) != layers or set(types) - set(_TYPES):
    raise InputError(
      f'config.json: layer_types: got {types!r:.80}; must name each of the {layers} '
      f'layers as one of {", ".join(map(repr, _TYPES))}'
    )
  return ''.join(_TYPES[kind] for kind in types)


def _types(config: DecoderConfig) -> list[str]:
  back = {letter: kind for kind, letter in _TYPES.items()}
  return [back[letter] for letter in letters(config)]


def _fields(pattern: str, window: int | None) -> Fields:
  if 'L' not in pattern:
    return {'layer_pattern': 'G', 'window': None}
  if not isinstance(window, int) or isinstance(window, bool):
    raise InputError(
      f'config.json: sliding_window: got {window!r}; with local layers it must be a '
      'whole number'
    )
  return {'layer_pattern': shortest(pattern), 'window': window}


def every_layer() -> Rule:
  """A window in all layers or in none (Mistral)."""

  def read(hf_config, fields):
    window = hf_config.get('sliding_window', 4096)
    return _fields('G' if window is None else 'L', window)

  def write(config):
    return {'sliding_window': config.window if any(config.local_layers) else None}

  return custom(['sliding_window'], read, write)


def some_layers(*, window: int, pattern: Callable[[Mapping[str, Any], int], str],
                keys: tuple[str, ...] = (), write_pattern=None) -> Rule:  # fmt: skip
  """Layers listed in `layer_types`, or given by `pattern` if they are not."""

  def read(hf_config, fields):
    layers = fields['num_layers']
    types = hf_config.get('layer_types')
    found = pattern(hf_config, layers) if types is None else _listed(types, layers)
    return _fields(found, take(hf_config, 'sliding_window', window))

  def write(config):
    extra = write_pattern(config) if write_pattern else {}
    return {
      'layer_types': _types(config),
      'sliding_window': config.window or window,
      **extra,
    }

  return custom(['layer_types', 'sliding_window', *keys], read, write)


def _qwen_pattern(hf_config: Mapping[str, Any], layers: int) -> str:
  if not hf_config.get('use_sliding_window'):
    return 'G'
  full = min(layers, take(hf_config, 'max_window_layers', 28))
  return 'G' * full + 'L' * (layers - full)


def _qwen_fields(config: DecoderConfig) -> Fields:
  found = letters(config)
  return {
    'use_sliding_window': 'L' in found,
    'max_window_layers': found.index('L') if 'L' in found else len(found),
  }


def qwen() -> Rule:
  """Local layers after the first `max_window_layers`, if enabled (Qwen)."""
  return some_layers(
    window=4096,
    pattern=_qwen_pattern,
    keys=('use_sliding_window', 'max_window_layers'),
    write_pattern=_qwen_fields,
  )


def every_nth_global(default: int, *, window: int = 4096) -> Rule:
  """Local layers except every n-th, which is global (Gemma 2 and 3)."""

  def pattern(hf_config, layers):
    every = take(hf_config, 'sliding_window_pattern', default)
    return ''.join('L' if (i + 1) % every else 'G' for i in range(layers))

  keys = ('sliding_window_pattern', '_sliding_window_pattern')
  return some_layers(window=window, pattern=pattern, keys=keys)
