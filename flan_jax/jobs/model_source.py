"""Model source: a model of ours, or one from elsewhere that is converted first."""

import pathlib

from flan_jax.checkpoints import model_dir
from flan_jax.interop.huggingface import conversion_cache
from flan_jax.runtime import multihost
from flan_jax.runtime.progress import Progress

CONVERTED = 'converted'
"""Beside the folder of the report: models from elsewhere, as ours."""


def check(path: str) -> None:
  """That there is a model at `path`, before anything that takes time.

  Raises:
    InputError: if there is none.
  """
  if not conversion_cache.needs_conversion(path):
    model_dir.config(path)


def brought(path: str, *, out: pathlib.Path, progress: Progress) -> str:
  """A folder of ours with the model at `path`, which may be a model from elsewhere.

  A Hugging Face folder or a GGUF file is converted into `converted` beside `out`, once.
  Hosts that see one disk share what the first of them wrote.

  Raises:
    InputError: if it is a model that cannot be converted.
  """
  with multihost.main_process_first():
    cache = out.absolute().parent / CONVERTED
    return str(conversion_cache.import_cached(path, cache=cache, progress=progress))
