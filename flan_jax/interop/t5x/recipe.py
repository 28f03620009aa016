"""Functions for the gin files of `gin/t5x/`: model shape, BOS, schedule, paths."""

import os

import optax

from flan_jax.checkpoints import model_dir
from flan_jax.config import gin
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.train import optimizer


def decoder(
  model: str | None = None, gin_files: tuple[str, ...] = (), flags: tuple[str, ...] = ()
) -> DecoderConfig:
  """The config of the decoder, from a model folder or from gin files.

  Args:
    model: a flan_jax model folder, or `microworld`.
    gin_files: gin files that bind `DecoderConfig` if `model` is None, e.g.
      `gin/models/10m.gin`.
    flags: `NAME=VALUE` overrides of the gin files, as in `--gin.NAME=VALUE`.

  Raises:
    InputError: if both or neither are given, or they do not describe a decoder.
  """
  if (model is None) == (not gin_files):
    raise InputError(
      f'decoder: got model {model!r} and gin_files {tuple(gin_files)!r}; must be one '
      "of the two, e.g. model = 'microworld'"
    )
  if model is not None:
    return model_dir.config(model)
  return gin.load(list(gin_files), list(flags)).build('DecoderConfig')


def tokenizer_file(tokenizer: str | None) -> str:
  """The file of a tokenizer, or `bytes`.

  Args:
    tokenizer: a `.model` or `tokenizer.json`, `bytes`, or a flan_jax model folder (or
      `microworld`), which has its own.

  Raises:
    InputError: if `tokenizer` is None, or the folder has none.
  """
  if tokenizer is None:
    raise InputError(
      'TOKENIZER: got None, and so is DECODER; must be a model folder, a .model or '
      "'bytes'",
      field='TOKENIZER',
    )
  if tokenizer == tokenizers.BYTES or tokenizer.endswith(('.model', '.json')):
    return tokenizer
  return model_dir.tokenizer_file(tokenizer)


def bos_id(tokenizer: str | None) -> int | None:
  """The BOS id with which sequences start; None if the tokenizer has none."""
  return tokenizers.load(tokenizer_file(tokenizer)).bos_id


def learning_rate(
  rate: float = 3e-5, schedule: str = 'constant', warmup_steps: int = 0
) -> optax.Schedule:
  """The schedule of our `OptimizerConfig`, as `Trainer.learning_rate_fn`."""
  return optimizer.schedule(
    optimizer_config.OptimizerConfig(
      learning_rate=rate, schedule=schedule, warmup_steps=warmup_steps
    )
  )


def absolute(path: str) -> str:
  """Makes a path absolute, as Orbax requires; URLs of buckets are unchanged."""
  return path if '://' in path else os.path.abspath(path)
