"""Registry: the model families that can be imported and exported.

Ours come in by the same call as those of a user's module (`--module`). A family
says the meaning of its config fields (`rules`) and the tensor of each decoder parameter
(`tensors`). A parameter without an entry is an error, and so is a tensor that no entry
uses: an incomplete table cannot pass.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError, did_you_mean
from flan_jax.interop.huggingface import gemma, gpt, llama, olmo
from flan_jax.interop.huggingface.family import ModelFamily, canonical
from flan_jax.runtime import modules

LAYOUT = ('scan_layers', 'remat', 'dtype', 'param_dtype')
"""DecoderConfig fields that affect how a model runs, not what it computes."""


class _Entry(NamedTuple):
  family: ModelFamily
  place: str  # file:line of the registration


_entries: dict[str, _Entry] = {}


def register_model_family(*families: ModelFamily, replace: bool = False) -> None:
  """Registers model families.

  Args:
    *families: families, of one `model_type` each.
    replace: whether they take the place of those of the same `model_type`.

  Raises:
    InputError: if a `model_type` is taken, and by another family; names both places.
  """
  caller = sys._getframe(1)
  place = f'{caller.f_code.co_filename}:{caller.f_lineno}'
  for family in families:
    if not isinstance(family, ModelFamily):
      raise InputError(
        f'register_model_family: got {family!r:.80}; must be a ModelFamily'
      )
    old = _entries.get(family.model_type)
    if old is not None and old.family != family and not replace:
      raise InputError(
        f'model family {family.model_type!r}: registered twice, at {old.place} and at '
        f'{place}; must have another model_type, or be given to '
        'register_model_family(..., replace=True)'
      )
    _entries[family.model_type] = _Entry(family, place)
    modules.note(caller.f_globals['__name__'])


register_model_family(
  *(llama.LLAMA, llama.MISTRAL, llama.QWEN2, llama.QWEN3),
  *(gemma.GEMMA, gemma.GEMMA2, gemma.GEMMA3),
  *(gpt.GPT_NEOX, gpt.OPT, gpt.GPT2),
  *(olmo.OLMO2, llama.GRANITE),
)


@functools.cache
def _load() -> None:
  """Imports the user's modules, which may register families."""
  modules.load()


def registered() -> dict[str, ModelFamily]:
  """model_type -> family, in the order in which `matching_family` tries them."""
  _load()
  return {name: entry.family for name, entry in _entries.items()}


@contextmanager
def restored() -> Iterator[None]:
  """Restores the registry at the end: what is registered inside is forgotten."""
  before = dict(_entries)
  try:
    yield
  finally:
    _entries.clear()
    _entries.update(before)


def get(model_type: Any) -> ModelFamily:
  """The family of a model_type.

  Raises:
    InputError: if none is registered; names the nearest.
  """
  known = registered()
  if not isinstance(model_type, str) or model_type not in known:
    raise InputError(f'config.json: model_type: {_unknown(model_type)}')
  return known[model_type]


def _unknown(model_type: Any) -> str:
  known = registered()
  return (
    f'got {model_type!r}; must be one of {", ".join(known)}, or of a family that '
    f'--module PACKAGE.MODULE registers{did_you_mean(str(model_type), known)}'
  )


def architecture(config: DecoderConfig) -> DecoderConfig:
  """`config` with the LAYOUT fields at their defaults: equal for equal logits."""
  fields = dataclasses.fields(DecoderConfig)
  plain = {f.name: f.default for f in fields if f.name in LAYOUT}
  return canonical(dataclasses.replace(config, **plain))


def matching_family(
  config: DecoderConfig, *, model_type: str | None = None
) -> ModelFamily:
  """The first family that can express the architecture of `config`.

  Args:
    config: config of the model.
    model_type: the only family to try; None tries all.

  Raises:
    InputError: if no family can; names the fields that the nearest one lacks.
  """
  if config.attention != 'causal':
    raise InputError(
      f'DecoderConfig.attention: got {config.attention!r}; no Hugging Face decoder has '
      "bidirectional attention on a prefix: must be 'causal'",
      field='DecoderConfig.attention',
    )
  known = registered()
  if model_type is not None and model_type not in known:
    raise InputError(f'--family: {_unknown(model_type)}')
  names = list(known) if model_type is None else [model_type]
  wanted = architecture(config)
  nearest: list[str] | None = None
  why = ''
  for name in names:
    try:
      found = known[name].read(known[name].write(wanted))
    except InputError as error:
      why = str(error)
      continue
    different = [
      f'{f.name}={getattr(wanted, f.name)!r}'
      for f in dataclasses.fields(DecoderConfig)
      if getattr(found, f.name) != getattr(wanted, f.name)
    ]
    if not different:
      return known[name]
    if nearest is None or len(different) < len(nearest):
      nearest = different
  if model_type is not None:
    lacking = f'has no {", ".join(nearest)}' if nearest else f'cannot say it: {why}'
    raise InputError(f'--family {model_type!r}: {lacking}; leave it out to try all')
  raise InputError(
    f'DecoderConfig: {", ".join(nearest or [])}: no Hugging Face family supports that; '
    f'must match one of {", ".join(known)}, or one that --module registers'
  )
