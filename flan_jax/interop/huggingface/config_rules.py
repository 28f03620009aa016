"""How one field of another project's config is read as ours, and written back.

A family is a list of such rules. What no rule reads is refused by name, since it may
change the math; what cannot (dropout, token ids, the version that wrote it) is named
in HARMLESS, and what is switched off (null or false) is let pass.
"""

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
  'reorder_and_upcast_attn', 'resid_pdrop', 'return_dict', 'summary_activation',
  'summary_first_dropout', 'summary_proj_to_labels', 'summary_type',
  'summary_use_proj', 'task_specific_params', 'tokenizer_class', 'torch_dtype',
  'transformers.js_config', 'transformers_version', 'unk_token_id', 'use_cache',
})  # fmt: skip
"""Fields that leave the logits as they are."""


class Rule(NamedTuple):
  """A few of their fields and what they mean.

  Attributes:
    keys: of their config.
    read: (their config, ours so far) -> our fields.
    write: our config -> their fields.
  """

  keys: tuple[str, ...]
  read: Callable[[Mapping[str, Any], Fields], Fields]
  write: Callable[[DecoderConfig], Fields]


def take(theirs: Mapping[str, Any], key: str, default: Any) -> Any:
  """A field, or its default; `...` has none.

  Raises:
    InputError: if it is absent and must be given.
  """
  value = theirs.get(key)
  if value is None:
    value = default
  if value is ...:
    raise InputError(f'config.json: no {key!r}; the size of the model is unknown')
  return value


def same(ours: str, key: str, default: Any = ..., kind: type = int) -> Rule:
  """A number or a switch that both have under names of their own."""

  def read(theirs, sofar):
    value = take(theirs, key, default)
    value = default(sofar) if callable(value) else value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    legal = isinstance(value, bool) if kind is bool else number and kind(value) == value
    if value is not None and not legal:
      raise InputError(f'config.json: {key}: got {value!r}; must be {_KINDS[kind]}')
    return {ours: value if value is None else kind(value)}

  return Rule((key,), read, lambda config: {key: getattr(config, ours)})


_KINDS = {int: 'a whole number', float: 'a number', bool: 'true or false'}


def words(ours: str, key: str, meaning: Mapping[Any, Any], default: Any = ...) -> Rule:
  """A choice; the first of their words for one of ours is the one that is written."""

  def read(theirs, sofar):
    value = take(theirs, key, default)
    if value not in meaning:
      legal = ', '.join(map(repr, meaning))
      near = did_you_mean(str(value), [k for k in meaning if isinstance(k, str)])
      raise InputError(
        f'config.json: {key}: got {value!r}; must be one of {legal}{near}'
      )
    return {ours: meaning[value]}

  def write(config):
    back = {mine: word for word, mine in reversed(meaning.items())}
    value = getattr(config, ours)
    return {key: back[value]} if value in back else {}

  return Rule((key,), read, write)


def always(**fields: Any) -> Rule:
  """What every model of a family has, without a word in its config."""
  return Rule((), lambda theirs, sofar: fields, lambda config: {})


def only(key: str, *legal: Any, write: bool = True) -> Rule:
  """A field that may hold only what this decoder computes; the first is the default."""

  def read(theirs, sofar):
    value = theirs.get(key, legal[0])
    if value not in legal:
      want = ' or '.join(map(repr, legal))
      raise InputError(
        f'config.json: {key}: got {value!r}; the decoder computes only {want}'
      )
    return {}

  return Rule((key,), read, lambda config: {key: legal[0]} if write else {})


def custom(keys: Sequence[str], read, write) -> Rule:
  return Rule(tuple(keys), read, write)


def refuse_unknown(theirs: Mapping[str, Any], rules: Sequence[Rule]) -> None:
  """Checks that every field is known, harmless or switched off.

  Raises:
    InputError: naming the fields that are not.
  """
  known = HARMLESS.union(*(rule.keys for rule in rules))
  unknown = [
    name
    for name, value in theirs.items()
    if name not in known and value is not None and value is not False
  ]
  if unknown:
    shown = ', '.join(f'{name}={theirs[name]!r:.60}' for name in sorted(unknown)[:4])
    raise InputError(
      f'config.json: {shown}: not known to this family; a field that may change the '
      'math is never passed over'
    )
