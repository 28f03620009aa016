"""A model family: the rules of its config and the table of its tensors."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flan_jax.config.decoder import MAX_LAYERS, DecoderConfig
from flan_jax.errors import InputError, did_you_mean, said
from flan_jax.interop.huggingface import window_rules
from flan_jax.interop.huggingface.config_rules import (
  Rule,
  always,
  custom,
  refuse_unknown,
  same,
)
from flan_jax.interop.huggingface.tensor_map import Tensor

if TYPE_CHECKING:
  from flan_jax.interop.huggingface.numpy_reference import Files

Reference = Callable[['Files', Sequence[np.ndarray], int], list[np.ndarray]]
"""(files, sequences of token ids, kept) -> logits [kept, V] of last tokens."""


_ODD = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
"""Errors of a rule on values of another type than its family has."""


class ModelFamily(NamedTuple):
  """A model family, as `transformers` defines it.

  Attributes:
    model_type: `model_type` of config.json.
    architecture: class of `transformers` that runs the model.
    rules: rules of its config, read in this order.
    tensors: table of the tensors in its files.
    reference: its forward pass in numpy, which the logit check compares with where
      `transformers` cannot run the model; None: it is not converted there.
    prefix: prefix that the tensor names in a file may lack.
    buffers: pattern of buffers in older files, which no model needs.
  """

  model_type: str
  architecture: str
  rules: tuple[Rule, ...]
  tensors: tuple[Tensor, ...]
  reference: Reference | None = None
  prefix: str = 'model.'
  buffers: str = r'.*\.rotary_emb\.inv_freq'

  def read(self, hf_config: Mapping[str, Any]) -> DecoderConfig:
    """Returns the DecoderConfig of a Hugging Face config.

    Raises:
      InputError: if a field is missing, unknown, of another type, or not supported by
        the decoder.
    """
    refuse_unknown(hf_config, self.rules)
    fields: dict[str, Any] = {}
    for rule in self.rules:
      try:
        fields |= rule.read(hf_config, fields)
      except InputError:
        raise
      except _ODD as error:
        got = {key: hf_config[key] for key in rule.keys if key in hf_config}
        shown = ', '.join(f'{key}={value!r:.60}' for key, value in got.items())
        raise InputError(
          f'config.json: {shown or "its sizes"}: not as {self.model_type!r} has it '
          f'({said(error)})'
        ) from None
      layers = fields.get('num_layers')
      if isinstance(layers, int) and layers > MAX_LAYERS:
        raise InputError(
          f'config.json: {layers:,} layers; must have {MAX_LAYERS:,} at most'
        )
    self._check_fields(fields)
    return canonical(DecoderConfig(**fields))

  def _check_fields(self, fields: Mapping[str, Any]) -> None:
    known = {f.name: f.default for f in dataclasses.fields(DecoderConfig)}
    required = [name for name in known if known[name] is dataclasses.MISSING]
    unset = [name for name in required if name not in fields]
    wrong = [name for name in fields if name not in known]
    if unset or wrong:
      what = f'set no {", ".join(unset)}' if unset else f'set {wrong[0]!r}'
      near = did_you_mean(wrong[0], known) if wrong and not unset else ''
      raise InputError(
        f'model family {self.model_type!r}: its rules {what}; must set fields of '
        f'DecoderConfig, the sizes among them{near}'
      )

  def write(self, config: DecoderConfig) -> dict[str, Any]:
    """The Hugging Face config of `config`; lossless only if `read` returns `config`."""
    out: dict[str, Any] = {
      'architectures': [self.architecture],
      'model_type': self.model_type,
    }
    for rule in self.rules:
      out |= rule.write(config)
    return out


def canonical(config: DecoderConfig) -> DecoderConfig:
  """Resets the fields of `config` that have no effect to their defaults.

  Two configs of the same architecture then compare equal.
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


def heads(key: str, default: Any) -> Rule:
  return same('num_kv_heads', key, default)


def head_dim(default: Any) -> Rule:
  return same('head_dim', 'head_dim', default)


def share(fields: Mapping[str, Any]) -> int:
  return fields['d_model'] // fields['num_heads']


def divided() -> Rule:
  """Heads of size d_model / num_heads, which no field states."""

  def read(hf_config, fields):
    if fields['d_model'] % fields['num_heads']:
      raise InputError(
        f'config.json: {fields["num_heads"]} heads do not divide the width '
        f'{fields["d_model"]}'
      )
    return {'num_kv_heads': fields['num_heads'], 'head_dim': share(fields)}

  return custom([], read, lambda config: {})


def switches(key: str, on: Mapping[str, Any], off: Mapping[str, Any], default: bool):
  """One Hugging Face flag that sets several DecoderConfig fields."""

  def read(hf_config, fields):
    return dict(on if hf_config.get(key, default) else off)

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


def biased(layer: str, entries) -> tuple[Tensor, ...]:
  """Weight and bias of every entry.

  An entry is (param, tensor, pattern, pattern of the bias, part, num_parts).
  """
  return tuple(
    Tensor(f'layers/{param}{suffix}', f'{layer}.{tensor}.{kind}', pattern, *rest)
    for param, tensor, weight, bias, *rest in entries
    for suffix, kind, pattern in [('', 'weight', weight), ('_bias', 'bias', bias)]
  )
