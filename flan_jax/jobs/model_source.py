"""Model source: a model folder, a step of a run, or a model to convert first."""

import pathlib
from collections.abc import Sequence

from flan_jax.checkpoints import model_dir
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.evaluate import load_model
from flan_jax.interop.huggingface import conversion_cache, packages, source_files
from flan_jax.runtime import multihost, object_store
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


def discard(path: str, *, out: pathlib.Path) -> None:
  """Removes the private copy of a step that `model_folder` made; all else stays."""
  if (step := step_model.find(path)) is not None:
    step_model.discard(step, _converted(out))


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


def chat_template(path: str) -> str | None:
  """The chat template of the model at `path`; None if it keeps none."""
  if conversion_cache.needs_conversion(path):
    return source_files.template_of(packages.find(path))
  step = step_model.find(path)
  return (
    model_dir.chat_template(path) if step is None else step_model.chat_template(step)
  )


def tokenizer(path: str, given: str | None) -> Tokenizer | None:
  """The tokenizer that the model at `path` is evaluated with, before it is loaded.

  None if only the conversion of the model tells.

  Raises:
    InputError: if TOKENIZER, `given`, is another one than the model's.
  """
  if conversion_cache.needs_conversion(path):
    return None
  step = step_model.find(path)
  if step is not None:
    return step_model.tokenizer(step)
  return load_model.open_tokenizer(path, given)


def model_folder(
  path: str, *, out: pathlib.Path, progress: Progress, private: bool = False
) -> str:
  """Returns a model folder for `path`: a step or a foreign model is copied first.

  A Hugging Face folder or a GGUF file is converted once, into `converted` beside `out`.
  Processes with a shared disk use what the main process wrote.

  Args:
    path: a model of any format.
    out: folder of the report.
    progress: progress output.
    private: whether a step is copied there too, for `discard`; else into the cache.

  Raises:
    InputError: if the model cannot be converted.
  """
  with multihost.main_process_first():
    cache = _converted(out)
    if private and is_step(path):
      return step_model.model_folder(path, progress=progress, private=cache)
    return str(conversion_cache.import_cached(path, cache=cache, progress=progress))


def _converted(out: pathlib.Path) -> pathlib.Path:
  return out.absolute().parent / CONVERTED
