"""The Hugging Face families that can be imported and exported, one table each.

To add a family (in `llama`, `gemma`, `gpt` or its own module), define the meaning of
its config fields (`rules`) and the tensor of each decoder parameter (`tensors`). A
parameter without an entry is an error, and so is a tensor that no entry uses: an
incomplete table cannot pass.
"""

import dataclasses
from collections.abc import Mapping

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError, did_you_mean
from flan_jax.interop.huggingface import gemma, gpt, llama
from flan_jax.interop.huggingface.family import Family, canonical

FAMILIES: Mapping[str, Family] = {
  family.model_type: family
  for family in (
    *(llama.LLAMA, llama.MISTRAL, llama.QWEN2, llama.QWEN3),
    *(gemma.GEMMA, gemma.GEMMA2, gemma.GEMMA3),
    *(gpt.GPT_NEOX, gpt.OPT, gpt.GPT2),
    llama.GRANITE,
  )
}
"""model_type -> family, in the order in which `matching_family` tries them."""


def get(model_type: object) -> Family:
  """The family of a model_type.

  Raises:
    InputError: if it is not a key of FAMILIES; names the nearest.
  """
  if not isinstance(model_type, str) or model_type not in FAMILIES:
    near = did_you_mean(str(model_type), FAMILIES)
    raise InputError(
      f'config.json: model_type: got {model_type!r}; must be one of '
      f'{", ".join(FAMILIES)}{near}'
    )
  return FAMILIES[model_type]


LAYOUT = ('scan_layers', 'remat', 'dtype', 'param_dtype')
"""DecoderConfig fields that affect how a model runs, not what it computes."""


def architecture(config: DecoderConfig) -> DecoderConfig:
  """`config` with the LAYOUT fields at their defaults: equal for equal logits."""
  fields = dataclasses.fields(DecoderConfig)
  plain = {f.name: f.default for f in fields if f.name in LAYOUT}
  return canonical(dataclasses.replace(config, **plain))


def matching_family(config: DecoderConfig) -> Family:
  """The first family that can express the architecture of `config`.

  Raises:
    InputError: if no family can; names the fields that the nearest one lacks.
  """
  if config.attention != 'causal':
    raise InputError(
      f'DecoderConfig.attention: got {config.attention!r}; no Hugging Face decoder has '
      "bidirectional attention on a prefix: must be 'causal'",
      field='DecoderConfig.attention',
    )
  wanted = architecture(config)
  nearest: list[str] | None = None
  for family in FAMILIES.values():
    try:
      found = family.read(family.write(wanted))
    except InputError:
      continue
    different = [
      f'{f.name}={getattr(wanted, f.name)!r}'
      for f in dataclasses.fields(DecoderConfig)
      if getattr(found, f.name) != getattr(wanted, f.name)
    ]
    if not different:
      return family
    if nearest is None or len(different) < len(nearest):
      nearest = different
  raise InputError(
    f'DecoderConfig: {", ".join(nearest or [])}: no Hugging Face family supports that; '
    f'must match one of {", ".join(FAMILIES)}'
  )
