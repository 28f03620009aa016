"""Rules for rotary embeddings, in the config format of transformers 4 and of 5.

Version 4 has `rope_theta` and `rope_scaling`. Version 5 has `rope_parameters`: one
dictionary, or one per layer type. Both formats are read; the older one is written,
because both versions read it.
"""

from collections.abc import Mapping
from typing import Any

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.interop.huggingface.config_rules import Fields, Rule, custom

_SCALINGS = {
  'linear': {'factor': 'rope_factor'},
  'llama3': {
    'factor': 'rope_factor',
    'low_freq_factor': 'rope_low_factor',
    'high_freq_factor': 'rope_high_factor',
    'original_max_position_embeddings': 'rope_original_length',
  },
}


def _scaling(scaling: Mapping[str, Any]) -> Fields:
  kind = scaling.get('rope_type', scaling.get('type', 'default'))
  known = {'rope_type', 'type', 'rope_theta', 'partial_rotary_factor'}
  if kind not in ('default', *_SCALINGS):
    legal = ', '.join(map(repr, ('default', *_SCALINGS)))
    raise InputError(f'config.json: rope_type: got {kind!r}; must be one of {legal}')
  names = _SCALINGS.get(kind, {})
  for key in scaling:
    if key not in known and key not in names and scaling[key] is not None:
      raise InputError(
        f'config.json: rope scaling {kind!r}: {key}={scaling[key]!r} is not known'
      )
  missing = [key for key in names if scaling.get(key) is None]
  if missing:
    raise InputError(f'config.json: rope scaling {kind!r}: no {missing[0]!r}')
  if kind == 'default':
    return {}
  values = {field: scaling[key] for key, field in names.items()}
  out = {k: int(v) if k.endswith('length') else float(v) for k, v in values.items()}
  return {'rope_scaling': kind, **out}


def _write_scaling(config: DecoderConfig) -> Fields:
  if config.rope_scaling == 'none':
    return {}
  names = _SCALINGS[config.rope_scaling]
  values = {key: getattr(config, field) for key, field in names.items()}
  return {'rope_scaling': {'rope_type': config.rope_scaling, **values}}


def rotary(
  *, base: float = 10_000.0, base_key: str = 'rope_theta', fraction_key: str = '',
  fraction: float = 1.0,
) -> Rule:  # fmt: skip
  """Rotary embeddings that all layers share."""

  def read(hf_config, fields):
    parameters = {
      **(hf_config.get('rope_scaling') or {}),
      **(hf_config.get('rope_parameters') or {}),
    }
    theta = parameters.get('rope_theta') or hf_config.get('rope_theta')
    theta = theta or hf_config.get(base_key) or base
    portion = parameters.get('partial_rotary_factor')
    portion = portion or hf_config.get('partial_rotary_factor')
    portion = portion or hf_config.get(fraction_key) or fraction
    if fraction == 1 and not fraction_key and portion != 1:
      raise InputError(
        f'config.json: partial_rotary_factor: got {portion}; this family rotates all '
        'channels: must be 1'
      )
    return {
      'positions': 'rotary',
      'rope_base': float(theta),
      'rotary_fraction': float(portion),
      **_scaling(parameters),
    }

  def write(config):
    out = {base_key: config.rope_base, **_write_scaling(config)}
    return {**out, fraction_key: config.rotary_fraction} if fraction_key else out

  keys = ['rope_theta', 'rope_scaling', 'rope_parameters', 'partial_rotary_factor']
  keys += [base_key, *([fraction_key] if fraction_key else [])]
  return custom(keys, read, write)


def rotary_by_layer(*, base: float = 1e6, local: float = 1e4) -> Rule:
  """Rotary embeddings with separate bases for global and local layers (Gemma 3)."""

  def read(hf_config, fields):
    parameters = hf_config.get('rope_parameters') or {}
    global_rope = {**(hf_config.get('rope_scaling') or {})}
    global_rope |= parameters.get('full_attention') or {}
    local_rope = parameters.get('sliding_attention') or {}
    if local_rope.get('rope_type', 'default') != 'default':
      raise InputError(
        'config.json: rope_type of sliding_attention: got '
        f'{local_rope["rope_type"]!r}; '
        "the decoder does not scale local layers: must be 'default'"
      )
    theta = global_rope.get('rope_theta') or hf_config.get('rope_theta') or base
    local_theta = local_rope.get('rope_theta')
    local_theta = local_theta or hf_config.get('rope_local_base_freq') or local
    return {
      'positions': 'rotary',
      'rope_base': float(theta),
      'rope_local_base': float(local_theta),
      **_scaling(global_rope),
    }

  def write(config):
    local_theta = config.rope_local_base
    local_theta = config.rope_base if local_theta is None else local_theta
    return {
      'rope_theta': config.rope_base,
      'rope_local_base_freq': local_theta,
      **_write_scaling(config),
    }

  keys = ('rope_theta', 'rope_scaling', 'rope_parameters', 'rope_local_base_freq')
  return custom(keys, read, write)
