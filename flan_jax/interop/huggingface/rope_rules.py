"""Rules for the rotary part of a config, in the spelling of either generation.

Until transformers 4 the base is `rope_theta` and a scaling is `rope_scaling`; from 5 on
both stand in `rope_parameters`, one a type of layer where there are two. Read are both;
written is the older one, which both read.
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
  values = {ours: scaling[key] for key, ours in names.items()}
  out = {k: int(v) if k.endswith('length') else float(v) for k, v in values.items()}
  return {'rope_scaling': kind, **out}


def _write_scaling(config: DecoderConfig) -> Fields:
  if config.rope_scaling == 'none':
    return {}
  names = _SCALINGS[config.rope_scaling]
  values = {key: getattr(config, ours) for key, ours in names.items()}
  return {'rope_scaling': {'rope_type': config.rope_scaling, **values}}


def rotary(
  *, base: float = 10_000.0, base_key: str = 'rope_theta', fraction_key: str = '',
  fraction: float = 1.0,
) -> Rule:  # fmt: skip
  """One kind of layer."""

  def read(theirs, sofar):
    parameters = {
      **(theirs.get('rope_scaling') or {}),
      **(theirs.get('rope_parameters') or {}),
    }
    theta = parameters.get('rope_theta') or theirs.get('rope_theta')
    theta = theta or theirs.get(base_key) or base
    share = parameters.get('partial_rotary_factor')
    share = share or theirs.get('partial_rotary_factor')
    share = share or theirs.get(fraction_key) or fraction
    if fraction == 1 and not fraction_key and share != 1:
      raise InputError(
        f'config.json: partial_rotary_factor: got {share}; heads of this family turn '
        'whole'
      )
    return {
      'positions': 'rotary',
      'rope_base': float(theta),
      'rotary_fraction': float(share),
      **_scaling(parameters),
    }

  def write(config):
    out = {base_key: config.rope_base, **_write_scaling(config)}
    return {**out, fraction_key: config.rotary_fraction} if fraction_key else out

  keys = ['rope_theta', 'rope_scaling', 'rope_parameters', 'partial_rotary_factor']
  keys += [base_key, *([fraction_key] if fraction_key else [])]
  return custom(keys, read, write)


def rotary_by_layer(*, base: float = 1e6, local: float = 1e4) -> Rule:
  """Global and local layers turn at speeds of their own (Gemma 3)."""

  def read(theirs, sofar):
    parameters = theirs.get('rope_parameters') or {}
    far = {**(theirs.get('rope_scaling') or {})}
    far |= parameters.get('full_attention') or {}
    near = parameters.get('sliding_attention') or {}
    if near.get('rope_type', 'default') != 'default':
      raise InputError(
        f'config.json: rope_type of sliding_attention: got {near["rope_type"]!r}; '
        "local layers are not scaled: must be 'default'"
      )
    theta = far.get('rope_theta') or theirs.get('rope_theta') or base
    slow = near.get('rope_theta') or theirs.get('rope_local_base_freq') or local
    return {
      'positions': 'rotary',
      'rope_base': float(theta),
      'rope_local_base': float(slow),
      **_scaling(far),
    }

  def write(config):
    slow = config.rope_local_base
    slow = config.rope_base if slow is None else slow
    return {
      'rope_theta': config.rope_base,
      'rope_local_base_freq': slow,
      **_write_scaling(config),
    }

  keys = ('rope_theta', 'rope_scaling', 'rope_parameters', 'rope_local_base_freq')
  return custom(keys, read, write)
