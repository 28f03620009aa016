"""A model to start from or to take away: weights, config and tokenizer in a folder."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from jax.experimental import multihost_utils

from flan_jax.data import tokenizer as tokenizer_lib
from flan_jax.data.tokenizer import Tokenizer
from flan_jax.errors import InputError
from flan_jax.model import weights
from flan_jax.model.config import DecoderConfig

PROVENANCE = 'training.json'
"""What a run says of the model it wrote: mixture, clusters, rows seen."""


SHIPPED = pathlib.Path(__file__).parents[1] / 'microworld' / 'base'


def find(path: str | os.PathLike) -> pathlib.Path:
  """The model folder at `path`: the folder itself, or MODEL_DIR/model of a run.

  The word `microworld` names the base LM that ships with the package.
  """
  folder = SHIPPED if str(path) == 'microworld' else pathlib.Path(path)
  inner = folder / 'model'
  if (inner / 'config.json').is_file() and not (folder / 'config.json').is_file():
    return inner
  return folder


def config(path: str, *, asked: DecoderConfig | None = None) -> DecoderConfig:
  """The shape of the model at `path`.

  Args:
    path: a model folder, or the MODEL_DIR of a finished run.
    asked: the shape that the run names; its layout and dtypes win, its sizes must be
      those of the checkpoint.

  Raises:
    InputError: if there is no model, or `asked` has other sizes.
  """
  found = weights.load_config(find(path))
  if asked is None:
    return found
  free = ('scan_layers', 'remat', 'dtype', 'param_dtype', 'attention')
  for field in dataclasses.fields(DecoderConfig):
    got, want = getattr(asked, field.name), getattr(found, field.name)
    if field.name not in free and got != want:
      raise InputError(
        f'DecoderConfig.{field.name}: got {got!r}; the checkpoint {path!r} has {want!r}'
      )
  return asked


def load(path: str, *, config: DecoderConfig, shapes: Any) -> Any:
  """Parameters (numpy) of the model at `path`, in the layout of `config`.

  Raises:
    InputError: naming tensors that are missing, too many, or of another shape.
  """
  params = weights.load(find(path), config)
  weights.check(params, shapes, where=path)
  return params


def tokenizer_file(path: str) -> str:
  """The tokenizer that belongs to the model at `path`.

  Raises:
    InputError: if the folder has none.
  """
  folder = find(path)
  found = _tokenizer(folder)
  if found is None:
    raise InputError(
      f'checkpoint {path!r}: no tokenizer.model or tokenizer.json in {folder}; '
      'give TOKENIZER'
    )
  return found


def tokenizer_digest(path: str) -> str | None:
  """Digest (hex) of the model's own tokenizer; None where its folder has none."""
  found = _tokenizer(find(path))
  return None if found is None else tokenizer_lib.load(found).digest


def _tokenizer(folder: pathlib.Path) -> str | None:
  for name in ('tokenizer.model', 'tokenizer.json'):
    if (folder / name).is_file():
      return str(folder / name)
  if (folder / 'tokenizer.bytes').is_file():
    return tokenizer_lib.BYTES
  return None


def save(
  folder: pathlib.Path,
  params: Any,
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  provenance: Mapping[str, Any] | None = None,
  dtype: str | None = None,
) -> None:
  """Writes a model folder; with several hosts all must call it, and host 0 writes.

  The parameters are gathered whole in the memory of every host.

  Args:
    folder: made if absent.
    params: the parameter tree.
    config: of the decoder.
    tokenizer: of the model.
    provenance: what trained it, kept beside it.
    dtype: of the stored tensors; None keeps the parameters' own.
  """
  if jax.process_count() > 1:
    params = multihost_utils.process_allgather(params, tiled=True)
    if jax.process_index():
      return
  folder.mkdir(parents=True, exist_ok=True)
  if tokenizer.filename:
    tokenizer.save(folder / tokenizer.filename)
  else:
    (folder / 'tokenizer.bytes').touch()
  if provenance is not None:
    text = json.dumps(dict(provenance), indent=2) + '\n'
    (folder / PROVENANCE).write_text(text, encoding='utf-8')
  weights.save(folder, jax.device_get(params), config=config, dtype=dtype)
