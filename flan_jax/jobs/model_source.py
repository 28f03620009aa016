"""Model source: a model folder, or a foreign model that is converted first."""

import pathlib

from flan_jax.checkpoints import model_dir
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import conversion_cache
from flan_jax.runtime import atomic_file, multihost
from flan_jax.runtime.progress import Progress

CONVERTED = 'converted'
"""Folder of converted models, beside the folder of the report."""


def check(path: str) -> None:
  """Checks that `path` is a model; cheap, so it runs first.

  Raises:
    InputError: if it is not a model.
  """
  if not conversion_cache.needs_conversion(path):
    model_dir.config(path)


def model_folder(path: str, *, out: pathlib.Path, progress: Progress) -> str:
  """Returns a model folder for `path`, which may be a foreign model.

  A Hugging Face folder or a GGUF file is converted once, into `converted` beside `out`.
  Processes with a shared disk use what the main process wrote.

  Raises:
    InputError: if the model cannot be converted.
  """
  with multihost.main_process_first():
    cache = out.absolute().parent / CONVERTED
    return str(conversion_cache.import_cached(path, cache=cache, progress=progress))


def make_writable(out: pathlib.Path) -> None:
  """Makes the folder OUTPUT_DIR, and checks that files can be written to it.

  Raises:
    InputError: if they cannot.
  """
  try:
    out.mkdir(parents=True, exist_ok=True)
    atomic_file.write_text(out / 'writable', '')
    (out / 'writable').unlink()
  except OSError as error:
    raise InputError(
      f'OUTPUT_DIR {str(out)!r}: cannot be written to ({error.strerror}); must be a '
      'folder, made if absent',
      field='OUTPUT_DIR',
    ) from None
