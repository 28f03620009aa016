"""A cache of imported models: each one is converted once."""

import hashlib
import json
import os
import pathlib

from flan_jax.errors import InputError
from flan_jax.interop.huggingface import packages
from flan_jax.runtime import input_file
from flan_jax.runtime.progress import Progress

FOLDER = pathlib.Path('~/.cache/flan_jax/converted')
"""Folder of converted models."""


def needs_conversion(path: str | os.PathLike) -> bool:
  """Returns True for a Hugging Face folder, a GGUF file, or a name of SHIPPED."""
  source = pathlib.Path(path)
  if source.suffix == '.gguf' or (
    str(path) in packages.SHIPPED and not source.exists()
  ):
    return True
  try:
    return 'model_type' in input_file.read_object(source / 'config.json')
  except (OSError, InputError):
    return False


def import_cached(
  path: str | os.PathLike, *, cache: pathlib.Path, progress: Progress
) -> pathlib.Path:
  """Returns a model folder for `path`: the one resolver of all verbs.

  Args:
    path: a model of any format, converted if necessary, or a step of a run, as
      `runs/x@200`; a flan_jax model folder is returned as it is.
    cache: folder of conversions. Each is keyed by the names, sizes and modification
      times of the source's files.
    progress: receiver of status lines.

  Raises:
    InputError: if the decoder does not support the model, or the logits of source and
      conversion differ.
  """
  if not needs_conversion(path):
    if '@' not in str(path):
      folder = pathlib.Path(path)
      # `./microworld` is a folder of the user's, `microworld` the one that ships.
      return folder.absolute() if str(folder) == 'microworld' != str(path) else folder
    from flan_jax.train import step_model  # imports Orbax, which takes a while

    return pathlib.Path(step_model.model_folder(str(path), progress=progress))
  from flan_jax.interop.huggingface import convert

  source = packages.find(str(path))
  name = source.stem if source.is_file() else source.name
  folder = cache / f'{name}-{digest(source)}'
  if not (folder / 'config.json').is_file():
    progress.stage(f'Converting {path}')
    try:
      found = convert.import_model(source, folder, progress=progress).agreement
    except InputError:
      if (folder / 'config.json').is_file():  # converted by another process meanwhile
        return folder
      raise
    if not found.passed:
      raise InputError(
        f'{path}: after conversion the logits differ from those of {found.method} by '
        f'{found.max_difference:.2g}; must be at most {found.allowed:.2g}'
      )
  return folder


def digest(source: pathlib.Path) -> str:
  """A short digest of the files' names, sizes and modification times."""
  files = sorted(source.iterdir()) if source.is_dir() else [source]
  stats = [(file, file.stat()) for file in files if file.is_file()]
  seen = [(file.name, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
  found = hashlib.blake2b(
    json.dumps([str(source.resolve()), seen]).encode(), digest_size=6
  )
  return found.hexdigest()
