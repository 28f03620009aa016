"""What the gin files of `gin/t5x/` ask for: the model's shape, BOS, schedule, paths."""

import os
from collections.abc import Callable

import jax

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
  """The shape of the decoder, from where our own runs have it.

  Args:
    model: a model folder of ours, or `microworld`.
    gin_files: in its place, gin files of ours that bind `DecoderConfig`, as
      `gin/models/10m.gin`.
    flags: `NAME=VALUE` for them, as on our command line.

  Raises:
    InputError: both or none of them are given, or they do not describe a decoder.
  """
  if (model is None) == (not gin_files):
    raise InputError(
      f'decoder: got model {model!r} and gin_files {tuple(gin_files)!r}; must be one '
      "of the two, as model = 'microworld'"
    )
  if model is not None:
    return model_dir.config(model)
  return gin.load(list(gin_files), list(flags)).build('DecoderConfig')


def tokenizer_file(tokenizer: str | None) -> str:
  """The file of a tokenizer, or `bytes`.

  Args:
    tokenizer: a `.model` or `tokenizer.json`, `bytes`, or a model folder of ours (or
      `microworld`), which holds its own.

  Raises:
    InputError: none is given, or the folder has none.
  """
  if tokenizer is None:
    raise InputError(
      "TOKENIZER: not set, nor DECODER; must be a model folder, a .model or 'bytes'"
    )
  if tokenizer == tokenizers.BYTES or tokenizer.endswith(('.model', '.json')):
    return tokenizer
  return model_dir.tokenizer_file(tokenizer)


def bos_id(tokenizer: str | None) -> int | None:
  """The BOS that starts our rows under a tokenizer; None where it has none."""
  return tokenizers.load(tokenizer_file(tokenizer)).bos_id


def learning_rate(
  rate: float = 3e-5, schedule: str = 'constant', warmup_steps: int = 0
) -> Callable[[int], jax.Array]:
  """The schedule of our `OptimizerConfig`, as `Trainer.learning_rate_fn`."""
  return optimizer.schedule(
    optimizer_config.OptimizerConfig(
      learning_rate=rate, schedule=schedule, warmup_steps=warmup_steps
    )
  )


def absolute(path: str) -> str:
  """Makes a path absolute, as Orbax wants it of t5x; a bucket's stays as it is."""
  return path if '://' in path else os.path.abspath(path)
