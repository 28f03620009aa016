"""What a family of models is: rules of its config, places of its tensors."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import window_rules
from flan_jax.interop.huggingface.config_rules import (
  Rule,
  always,
  custom,
  refuse_unknown,
  same,
)
from flan_jax.interop.huggingface.tensor_map import Tensor


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

  Two configs of the same math are then equal.
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
    changes['layer_pattern'] = window_rules.shortest(window_rules.letters(config))
    if config.rope_local_base == config.rope_base:
      changes['rope_local_base'] = None
  if config.query_scale == config.head_dim**-0.5:
    changes['query_scale'] = None
  return dataclasses.replace(config, **changes)


def heads(theirs_key: str, default: Any) -> Rule:
  return same('num_kv_heads', theirs_key, default)


def head_dim(default: Any) -> Rule:
  return same('head_dim', 'head_dim', default)


def share(sofar: Mapping[str, Any]) -> int:
  return sofar['d_model'] // sofar['num_heads']


def divided() -> Rule:
  """Heads that share the width among them, which no field says."""

  def read(theirs, sofar):
    if sofar['d_model'] % sofar['num_heads']:
      raise InputError(
        f'config.json: {sofar["num_heads"]} heads do not divide the width '
        f'{sofar["d_model"]}'
      )
    return {'num_kv_heads': sofar['num_heads'], 'head_dim': share(sofar)}

  return custom([], read, lambda config: {})


def switches(key: str, on: Mapping[str, Any], off: Mapping[str, Any], default: bool):
  """One switch of theirs, several fields of ours."""

  def read(theirs, sofar):
    return dict(on if theirs.get(key, default) else off)

  def write(config):
    return {key: all(getattr(config, name) == value for name, value in on.items())}

  return custom([key], read, write)


GATES = {'silu': 'swiglu', 'swish': 'swiglu', 'gelu_pytorch_tanh': 'geglu',
          'gelu_new': 'geglu'}  # fmt: skip
PLAIN = {'gelu': 'gelu_exact', 'gelu_new': 'gelu', 'gelu_pytorch_tanh': 'gelu',
          'gelu_fast': 'gelu', 'relu': 'relu'}  # fmt: skip
BIAS = {False: 'none', True: 'all'}
SIZES = (
  same('vocab_size', 'vocab_size'),
  same('d_model', 'hidden_size'),
  same('num_layers', 'num_hidden_layers'),
  same('num_heads', 'num_attention_heads'),
)
RMS = (
  same('d_ff', 'intermediate_size'),
  same('norm_epsilon', 'rms_norm_eps', 1e-6, float),
  same('max_positions', 'max_position_embeddings', 2048),
)
UNSCALED = always(scaled_head=False)
UNTIED = same('tied_embedding', 'tie_word_embeddings', False, bool)


def biased(layer: str, lines) -> tuple[Tensor, ...]:
  """Weight and bias of every line: (ours, theirs, turn, turn of the bias, part, of)."""
  return tuple(
    Tensor(f'layers/{ours}{mine}', f'{layer}.{theirs}.{kind}', turn, *rest)
    for ours, theirs, weight, bias, *rest in lines
    for mine, kind, turn in [('', 'weight', weight), ('_bias', 'bias', bias)]
  )
