"""Rules that map fields of a Hugging Face config to DecoderConfig fields and back.

A family is a list of such rules. A field that no rule reads is refused by name, since
it may change the math. Fields that cannot change it (dropout, token ids, library
version) are listed in HARMLESS; fields that are off (null or false) are accepted.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError, did_you_mean

Fields = dict[str, Any]

HARMLESS = frozenset({
  '_name_or_path', 'activation_dropout', 'architectures', 'attention_dropout',
  'attn_pdrop', 'begin_suppress_tokens', 'bos_token_id', 'cache_implementation',
  'chunk_size_feed_forward', 'classifier_dropout', 'dropout', 'dtype', 'embd_pdrop',
  'eos_token_id', 'flan_jax', 'hidden_dropout', 'id2label', 'init_std',
  'initializer_range', 'is_decoder', 'is_llama_config', 'keys_to_ignore_at_inference',
  'label2id', 'layerdrop', 'max_length', 'model_type', 'n_ctx', 'output_attentions',
  'output_hidden_states', 'pad_token_id', 'prefix', 'pretraining_tp', 'problem_type',
  'reorder_and_upcast_attn', 'resid_pdrop', 'residual_dropout', 'return_dict',
  'summary_activation', 'summary_first_dropout', 'summary_proj_to_labels',
  'summary_type', 'summary_use_proj', 'task_specific_params', 'tokenizer_class',
  'torch_dtype', 'transformers.js_config', 'transformers_version', 'unk_token_id',
  'use_cache',
})  # fmt: skip
"""Fields that do not affect the logits."""


class Rule(NamedTuple):
  """The mapping of a few Hugging Face fields.

  Attributes:
    keys: names of the Hugging Face fields.
    read: (hf_config, DecoderConfig fields read so far) -> DecoderConfig fields.
    write: DecoderConfig -> Hugging Face fields.
  """

  keys: tuple[str, ...]
  read: Callable[[Mapping[str, Any], Fields], Fields]
  write: Callable[[DecoderConfig], Fields]


def take(hf_config: Mapping[str, Any], key: str, default: Any) -> Any:
  """The value of a field, or its default; a default of `...` makes it required.

  Raises:
    InputError: if a required field is absent.
  """
  value = hf_config.get(key)
  if value is None:
    value = default
  if value is ...:
    raise InputError(f'config.json: no {key!r}; the size of the model is unknown')
  return value


def same(field: str, key: str, default: Any = ..., kind: type = int) -> Rule:
  """A number or a flag that both configs have, under different names."""

  def read(hf_config, fields):
    value = take(hf_config, key, default)
    value = default(fields) if callable(value) else value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    legal = (
      isinstance(value, bool)
      if kind is bool
      else number and abs(value) < math.inf and kind(value) == value
    )
    if value is not None and not legal:
      raise InputError(f'config.json: {key}: got {value!r}; must be {_KINDS[kind]}')
    return {field: value if value is None else kind(value)}

  return Rule((key,), read, lambda config: {key: getattr(config, field)})


_KINDS = {int: 'a whole number', float: 'a number', bool: 'true or false'}


def choice(field: str, key: str, meaning: dict[Any, Any], default: Any = ...) -> Rule:
  """A choice; of several spellings of one value, the first one is written."""

  def read(hf_config, fields):
    value = take(hf_config, key, default)
    if isinstance(value, (list, dict)) or value not in meaning:
      legal = ', '.join(map(repr, meaning))
      near = did_you_mean(str(value), [k for k in meaning if isinstance(k, str)])
      raise InputError(
        f'config.json: {key}: got {value!r}; must be one of {legal}{near}'
      )
    return {field: meaning[value]}

  def write(config):
    back = {value: spelling for spelling, value in reversed(meaning.items())}
    value = getattr(config, field)
    return {key: back[value]} if value in back else {}

  return Rule((key,), read, write)


def always(**values: Any) -> Rule:
  """Fields that every model of a family shares and its config does not state."""
  return Rule((), lambda hf_config, fields: values, lambda config: {})


def only(key: str, *legal: Any, write: bool = True) -> Rule:
  """A field restricted to what the decoder computes; `legal[0]` is the default."""

  def read(hf_config, fields):
    value = hf_config.get(key, legal[0])
    if value not in legal:
      want = ' or '.join(map(repr, legal))
      raise InputError(
        f'config.json: {key}: got {value!r}; the decoder supports only {want}'
      )
    return {}

  return Rule((key,), read, lambda config: {key: legal[0]} if write else {})


def custom(keys: Sequence[str], read, write) -> Rule:
  return Rule(tuple(keys), read, write)


def refuse_unknown(hf_config: Mapping[str, Any], rules: Sequence[Rule]) -> None:
  """Checks that every field is known, harmless or off (null or false).

  Raises:
    InputError: if there are other fields; names them.
  """
  known = HARMLESS.union(*(rule.keys for rule in rules))
  unknown = [
    name
    for name, value in hf_config.items()
    if name not in known and value is not None and value is not False
  ]
  if unknown:
    shown = ', '.join(f'{name}={hf_config[name]!r:.60}' for name in sorted(unknown)[:4])
    raise InputError(
      f'config.json: {shown}: not known to this family; a field that may change the '
      'math is never ignored'
    )
