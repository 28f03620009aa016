"""The families of models that can be brought here and taken away, a table each.

To add one (in `llama`, `gemma`, `gpt` or a module of its own): what its config fields
mean (`rules`), and where each of our parameters lies in its files (`tensors`). A
parameter that our decoder has for the config and no line names, or a tensor that no
line takes, is an error, so a table cannot be half right.
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
"""By model_type, in the order in which a home for one of our models is sought."""


def get(model_type: object) -> Family:
  """The family of that name.

  Raises:
    InputError: naming the nearest.
  """
  if model_type not in FAMILIES:
    near = did_you_mean(str(model_type), FAMILIES)
    raise InputError(
      f'config.json: model_type: got {model_type!r}; must be one of '
      f'{", ".join(FAMILIES)}{near}'
    )
  return FAMILIES[model_type]


LAYOUT = ('scan_layers', 'remat', 'dtype', 'param_dtype')
"""Fields of ours that say how a model is run, not which one it is."""


def maths(config: DecoderConfig) -> DecoderConfig:
  """`config` without what does not change a logit: equal for the same model."""
  fields = dataclasses.fields(DecoderConfig)
  plain = {f.name: f.default for f in fields if f.name in LAYOUT}
  return canonical(dataclasses.replace(config, **plain))


def home(config: DecoderConfig) -> Family:
  """The first family that says all that `config` does.

  Raises:
    InputError: if there is none, saying what the nearest one cannot say.
  """
  if config.attention != 'causal':
    raise InputError(
      f'DecoderConfig.attention: got {config.attention!r}; no Hugging Face decoder '
      "sees a prefix whole: only 'causal' models can be taken away"
    )
  wanted = maths(config)
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
    f'DecoderConfig: {", ".join(nearest or [])}: no Hugging Face family of '
    f'{", ".join(FAMILIES)} says that'
  )
