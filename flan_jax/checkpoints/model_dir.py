"""The model folder, to start from or to export: weights, config and tokenizer."""

import dataclasses
import functools
import os
import pathlib
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import NamedSharding, PartitionSpec

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import safetensors_writer, weights
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data import chat_template as chat_template_lib
from flan_jax.data import tokenizers
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.runtime import (
  atomic_file,
  checksums,
  input_file,
  multihost,
  renamed_keys,
)
from flan_jax.runtime.renamed_keys import upgraded

PROVENANCE = 'training.json'
"""Written beside a model: its mixture, clusters, examples seen and lineage."""

GENERATION = 'generation_config.json'
"""Kept beside a model that answers in its own chat template: what stops it."""

SHIPPED = pathlib.Path(__file__).parents[1] / 'microworld' / 'base'


def find(path: str | os.PathLike) -> pathlib.Path:
  """The model folder at `path`: the folder itself, or MODEL_DIR/model of a run.

  `microworld` names the base LM that ships with the package.
  """
  folder = SHIPPED if str(path) == 'microworld' else pathlib.Path(path)
  inner = folder / 'model'
  if (inner / 'config.json').is_file() and not (folder / 'config.json').is_file():
    return inner
  return folder


def config(path: str, *, requested: DecoderConfig | None = None) -> DecoderConfig:
  """The decoder config of the model at `path`.

  Args:
    path: a model folder, or the MODEL_DIR of a finished run.
    requested: the config that the run names; its layout and dtypes win, its sizes must
      be those of the checkpoint.

  Raises:
    InputError: if there is no model, or `requested` has other sizes.
  """
  found = weights.load_config(find(path))
  if requested is None:
    return found
  free = ('scan_layers', 'remat', 'dtype', 'param_dtype', 'attention')
  for field in dataclasses.fields(DecoderConfig):
    got, want = getattr(requested, field.name), getattr(found, field.name)
    if field.name not in free and got != want:
      raise InputError(
        f'DecoderConfig.{field.name}: got {got!r}; the checkpoint {path!r} has '
        f'{want!r}',
        field=f'DecoderConfig.{field.name}',
      )
  return requested


def load(
  path: str, *, config: DecoderConfig, shapes: Any, shardings: Any = None
) -> Any:
  """Parameters of the model at `path`, in the layout of `config`.

  Args:
    path: a model folder, or the MODEL_DIR of a finished run.
    config: decoder config.
    shapes: shapes of the parameters.
    shardings: the same tree of shardings; each process reads what its own devices hold.
      None for whole numpy arrays.

  Raises:
    InputError: naming tensors that are missing, superfluous, or of another shape.
  """
  if shardings is not None:
    return weights.load_onto(find(path), config, shapes=shapes, shardings=shardings)
  params = weights.load(find(path), config)
  weights.check(params, shapes, where=path)
  return params


def chat_template(path: str | os.PathLike) -> str | None:
  """The chat template of the model at `path`; None if it keeps none."""
  file = find(path) / chat_template_lib.FILE
  return input_file.read_text(file) if file.is_file() else None


def digest(path: str | None) -> str | None:
  """Digest of the weights at `path`, for processes to compare; None for no path."""
  return None if path is None else weights.digest(find(path))


def checksum(path: str | os.PathLike) -> str:
  """Checksum of every byte of the weights at `path`; reads the whole file."""
  stored = weights.SafetensorsFile(find(path))
  return weights.checksum(stored.tensors, stored.read)


def lineage(path: str | os.PathLike) -> Lineage:
  """The lineage of the model at `path`: its training data, and its ancestors'.

  If the weights are not those that training.json describes, they were tuned elsewhere
  since: their history is unknown from there on.

  Raises:
    InputError: if training.json is malformed.
  """
  folder = find(path)
  model = _name(folder)
  path = folder / PROVENANCE
  if not path.is_file():
    return Lineage((lineage_lib.unknown(model),))
  metadata = upgraded(weights.read_object(path), renamed_keys.TRAINING)
  if 'lineage' not in metadata:
    parent = _started_from(folder, metadata)
    return lineage_lib.of_record(metadata, parent=parent, model=model)
  found = lineage_lib.of_json(metadata['lineage'], where=str(path))
  if metadata.get('weights') != _current(folder):
    changed = 'its weights differ from those recorded in training.json'
    return found.then(lineage_lib.unknown(model, changed))
  return found


def _current(folder: pathlib.Path) -> str:
  """Like `checksum`; if the blocks are those that were written, it is known.

  Raises:
    InputError: if the weights are damaged.
  """
  known = checksums.of(folder)
  if known is None or _WEIGHTS not in known.notes:
    return checksum(folder)
  known.open(weights.WEIGHTS).check()
  return known.notes[_WEIGHTS]


_WEIGHTS = 'weights'
"""Note beside the checksums of a model folder: the `checksum` of its weights."""


def finish(folder: pathlib.Path, *, checksum: str) -> None:
  """Writes the checksums of a model folder, once all its files are there."""
  checksums.record(folder, notes={_WEIGHTS: checksum})


def unchecked(path: str | os.PathLike) -> str | None:
  """A line for a model without checksums; None if it has them."""
  folder = find(path)
  if checksums.of(folder) is not None:
    return None
  return (
    f'{folder}: has no checksums (an older version, or another program, wrote it): '
    'damage to it would not be noticed'
  )


def modules(path: str | os.PathLike) -> list[str]:
  """Names of the user's modules that the model at `path` was trained with."""
  try:
    found = weights.read_object(find(path) / PROVENANCE).get('modules', ())
    return [entry['module'] for entry in found]
  except (InputError, OSError, KeyError, TypeError):
    return []


def _name(folder: pathlib.Path) -> str:
  """The name of a model: that of the MODEL_DIR of its run, or of its folder."""
  if folder == SHIPPED:
    return 'microworld'
  folder = folder.absolute()
  return folder.parent.name if folder.name == 'model' else folder.name


def _started_from(folder: pathlib.Path, metadata: Mapping[str, Any]) -> Lineage:
  """The lineage of a parent that an old run, without a lineage, started from."""
  base = metadata.get('lora', {}).get('base')
  settings = folder.parent / 'run.json'
  if base is None and folder.name == 'model' and settings.is_file():
    base = weights.read_object(settings).get('initial_checkpoint', '')
    if base is None:
      return lineage_lib.RANDOM  # random parameters
  if base == 'microworld':
    return lineage(base)
  model = pathlib.PurePath(base).name if base else f'what {_name(folder)} started from'
  return Lineage((lineage_lib.unknown(model),))


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
  """Digest (hex) of the model's own tokenizer; None if its folder has none."""
  found = _tokenizer(find(path))
  return None if found is None else tokenizers.load(found).digest


def _tokenizer(folder: pathlib.Path) -> str | None:
  for name in ('tokenizer.model', 'tokenizer.json'):
    if (folder / name).is_file():
      return str(folder / name)
  if (folder / 'tokenizer.bytes').is_file():
    return tokenizers.BYTES
  return None


def save(
  folder: pathlib.Path,
  params: Any,
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  provenance: Mapping[str, Any] | None = None,
  dtype: str | None = None,
  beside: Mapping[str, str] = types.MappingProxyType({}),
) -> str:
  """Writes a model folder; every process must call it, and process 0 writes.

  One matrix of one layer is gathered at a time, so every device and process 0 need room
  for that. The file is the same, to the byte, on any mesh and number of processes.

  Args:
    folder: created if absent.
    params: the parameter tree.
    config: decoder config.
    tokenizer: the model's tokenizer.
    provenance: metadata of the training, written with the checksum of the weights,
      which is also put into the last training of its `lineage`. None if unknown.
    dtype: dtype of the stored tensors; None keeps the parameters' own.
    beside: name -> text of further files.

  Returns:
    The checksum on process 0; '' on the others.
  """
  tensors, chunks = _chunked(params, dtype)
  if not multihost.is_main_process():
    for name in safetensors_writer.order(tensors):
      for chunk in chunks[name]:
        _gather(chunk)
    return ''
  return write(
    folder,
    params,
    config=config,
    tokenizer=tokenizer,
    provenance=provenance,
    dtype=dtype,
    beside=beside,
  )


def write(
  folder: pathlib.Path,
  params: Any,
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  provenance: Mapping[str, Any] | None = None,
  dtype: str | None = None,
  beside: Mapping[str, str] = types.MappingProxyType({}),
) -> str:
  """Writes a model folder from this process; `save` describes the arguments.

  Returns:
    The checksum.
  """
  tensors, chunks = _chunked(params, dtype)
  folder.mkdir(parents=True, exist_ok=True)
  checksums.remove(folder)
  if tokenizer.filename:
    tokenizer.save(folder / tokenizer.filename)
  else:
    (folder / 'tokenizer.bytes').touch()
  for name, text in beside.items():
    atomic_file.write_text(folder / name, text)
  with atomic_file.replacing(folder / 'model.safetensors') as draft:
    safetensors_writer.write(
      draft,
      tensors,
      (
        (name, map(_gather, chunks[name])) for name in safetensors_writer.order(tensors)
      ),
    )
  found = checksum(folder)
  (folder / PROVENANCE).unlink(missing_ok=True)  # of earlier weights
  if provenance is not None:
    write_provenance(folder, provenance, checksum=found)
  weights.save_config(folder, config)
  finish(folder, checksum=found)
  return found


def write_provenance(
  folder: pathlib.Path, provenance: Mapping[str, Any], *, checksum: str
) -> None:
  """Writes training.json.

  Args:
    folder: the model folder.
    provenance: metadata of the training.
    checksum: checksum of the weights.
  """
  metadata = {**provenance, 'weights': checksum}
  if metadata.get('lineage'):
    *before, last = metadata['lineage']
    metadata['lineage'] = [*before, {**last, 'digest': checksum}]
  atomic_file.write_json(folder / PROVENANCE, metadata)
  checksums.update(folder, PROVENANCE)


class _Chunk(NamedTuple):
  """A parameter, or one layer of it."""

  array: Any
  layer: int | None = None


def _chunked(
  params: Any, dtype: str | None
) -> tuple[dict[str, weights.TensorInfo], dict[str, list[_Chunk]]]:
  """The tensors of a file of these parameters, and the chunks to write each in."""
  found: dict[str, dict[int | None, Any]] = {}
  for path, leaf in traverse_util.flatten_dict(params, sep='/').items():
    name, layer = weights.locate(path)
    found.setdefault(name, {})[layer] = leaf
  tensors, chunks = {}, {}
  for name, parts in found.items():
    leaf = next(iter(parts.values()))
    kind, stacked = np.dtype(dtype or leaf.dtype), None not in parts
    shape = (len(parts), *leaf.shape) if stacked else leaf.shape
    tensors[name] = weights.TensorInfo(shape, kind)
    if stacked:
      chunks[name] = [_Chunk(parts[layer]) for layer in range(len(parts))]
    elif name.startswith('layers/') and not _is_addressable(leaf):
      chunks[name] = [_Chunk(leaf, layer) for layer in range(len(leaf))]
    else:
      chunks[name] = [_Chunk(leaf)]
  return tensors, chunks


def _is_addressable(array: Any) -> bool:
  return not isinstance(array, jax.Array) or array.is_fully_addressable


def _gather(chunk: _Chunk) -> np.ndarray:
  """Copies a chunk to host memory; every process must call it."""
  if _is_addressable(chunk.array):
    return np.asarray(chunk.array)
  multihost.barrier('piece')  # process 0 writes in between
  layer = None if chunk.layer is None else np.int32(chunk.layer)
  replicated = NamedSharding(chunk.array.sharding.mesh, PartitionSpec())
  return np.asarray(_replicate(chunk.array, layer, replicated).addressable_data(0))


@functools.partial(jax.jit, static_argnames=('sharding',))
def _replicate(
  array: jax.Array, layer: jax.Array | None, sharding: NamedSharding
) -> jax.Array:
  if layer is not None:
    array = jax.lax.dynamic_index_in_dim(array, layer, keepdims=False)
  return jax.lax.with_sharding_constraint(array, sharding)
