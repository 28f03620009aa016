"""Model source: a model folder, a step of a run, or a model to convert first."""

import pathlib
from collections.abc import Sequence

from flan_jax.checkpoints import model_dir
from flan_jax.errors import InputError
from flan_jax.evaluate import load_model
from flan_jax.interop.huggingface import conversion_cache, packages
from flan_jax.runtime import atomic_file, multihost, object_store
from flan_jax.runtime.progress import Progress
from flan_jax.train import step_model

CONVERTED = 'converted'
"""Folder of converted models, beside the folder of the report."""


def check(path: str) -> None:
  """Checks that `path` is a model; cheap, so it runs first.

  Raises:
    InputError: if it is not a model.
  """
  if conversion_cache.needs_conversion(path):
    return
  if step_model.find(path) is None:
    model_dir.config(path)


def is_step(path: str) -> bool:
  """Returns whether `path` names a step of a run."""
  return step_model.find(path) is not None


def expanded(paths: str | Sequence[str]) -> tuple[str, ...]:
  """The checkpoints of CHECKPOINTS, each once; `runs/x@*` is every step of a run."""
  given = (paths,) if isinstance(paths, str) else paths
  return tuple(
    dict.fromkeys(each for path in given for each in step_model.expand(path))
  )


def identity(path: str) -> str:
  """Digest that differs for other weights at `path`; quick for weights of any size."""
  if conversion_cache.needs_conversion(path):
    return conversion_cache.digest(packages.find(path))
  step = step_model.find(path)
  return load_model.digest(path) if step is None else step_model.identity(step)


def discard(path: str) -> None:
  """Removes what `model_folder` copied of a step; anything else stays."""
  if (step := step_model.find(path)) is not None:
    step_model.discard(step)


def here(name: str, path: str | None) -> str | None:
  """Returns a local path for a model that may lie in an object store.

  A step of a run stays where it is: Orbax reads it there.

  Args:
    name: name of the setting, for errors.
    path: the model, or None.
  """
  if path is not None and step_model.find(path) is not None:
    return path
  return object_store.here(name, path)


def modules(path: str) -> list[str]:
  """Names of the user's modules that the model at `path` was trained with."""
  step = step_model.find(path)
  return model_dir.modules(path) if step is None else step_model.modules(step)


def model_folder(path: str, *, out: pathlib.Path, progress: Progress) -> str:
  """Returns a model folder for `path`: a step or a foreign model is copied first.

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
