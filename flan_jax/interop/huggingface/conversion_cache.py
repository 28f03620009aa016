"""A cache of models from elsewhere: each is brought here once, then found again."""

import hashlib
import json
import os
import pathlib

from flan_jax.errors import InputError
from flan_jax.interop.huggingface import packages
from flan_jax.runtime.progress import Progress


def is_theirs(path: str | os.PathLike) -> bool:
  """Whether `path` is a Hugging Face folder, a GGUF file, or the word for one."""
  source = pathlib.Path(path)
  if source.suffix == '.gguf' or (
    str(path) in packages.SHIPPED and not source.exists()
  ):
    return True
  try:
    text = (source / 'config.json').read_text(encoding='utf-8')
    return 'model_type' in json.loads(text)
  except (OSError, ValueError, TypeError):
    return False


def ours(
  path: str | os.PathLike, *, cache: pathlib.Path, progress: Progress
) -> pathlib.Path:
  """The model at `path` as a folder of ours; a model of ours is left where it is.

  Args:
    path: a model of anybody's.
    cache: folder of conversions. One of them belongs to the files as they are: of the
      same names, sizes and dates.
    progress: where to say what goes on.

  Raises:
    InputError: if the model is not one that the decoder computes, or the logits of the
      two sides differ.
  """
  if not is_theirs(path):
    return pathlib.Path(path)
  from flan_jax.interop.huggingface import convert

  source = packages.find(str(path))
  name = source.stem if source.is_file() else source.name
  folder = cache / f'{name}-{_digest(source)}'
  if not (folder / 'config.json').is_file():
    progress.stage(f'Converting {path}')
    found = convert.to_ours(source, folder, progress=progress).agreement
    if not found.passed:
      raise InputError(
        f'{path}: converted, its logits differ from those of {found.method} by '
        f'{found.max_difference:.2g}; must be at most {found.allowed:.2g}'
      )
  return folder


def _digest(source: pathlib.Path) -> str:
  """A short name of what the files are called, how large and how old they are."""
  files = sorted(source.iterdir()) if source.is_dir() else [source]
  stats = [(file, file.stat()) for file in files if file.is_file()]
  seen = [(file.name, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
  digest = hashlib.blake2b(
    json.dumps([str(source.resolve()), seen]).encode(), digest_size=6
  )
  return digest.hexdigest()
