"""A model to start from or to take away: weights, config and tokenizer in a folder."""

import dataclasses
import functools
import os
import pathlib
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
from flan_jax.data import tokenizers
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, multihost, renamed_keys
from flan_jax.runtime.renamed_keys import upgraded

PROVENANCE = 'training.json'
"""What a run says of the model it wrote: mixture, clusters, rows seen, its lineage."""


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
        f'DecoderConfig.{field.name}: got {got!r}; the checkpoint {path!r} has '
        f'{want!r}',
        field=f'DecoderConfig.{field.name}',
      )
  return asked


def load(
  path: str, *, config: DecoderConfig, shapes: Any, shardings: Any = None
) -> Any:
  """Parameters of the model at `path`, in the layout of `config`.

  Args:
    path: a model folder, or the MODEL_DIR of a finished run.
    config: of the decoder.
    shapes: of its parameters.
    shardings: the same tree; each host reads what its own devices hold. None for the
      whole as numpy arrays.

  Raises:
    InputError: naming tensors that are missing, too many, or of another shape.
  """
  if shardings is not None:
    return weights.load_onto(find(path), config, shapes=shapes, shardings=shardings)
  params = weights.load(find(path), config)
  weights.check(params, shapes, where=path)
  return params


def digest(path: str | None) -> str | None:
  """Names the weights at `path`, for hosts to compare; None where there are none."""
  return None if path is None else weights.digest(find(path))


def checksum(path: str | os.PathLike) -> str:
  """Names the weights at `path` by every byte of them; reads the whole file."""
  stored = weights.Stored(find(path))
  return weights.checksum(stored.tensors, stored.read)


def lineage(path: str | os.PathLike) -> Lineage:
  """What the model at `path` was trained on, and its ancestors.

  Weights that are not those which training.json is of were tuned elsewhere since: their
  history is unknown from there on.

  Raises:
    InputError: if training.json is not as a run wrote it.
  """
  folder = find(path)
  model = _name(folder)
  record = folder / PROVENANCE
  if not record.is_file():
    return Lineage((lineage_lib.unknown(model),))
  said = upgraded(weights.read_object(record), renamed_keys.TRAINING)
  if 'lineage' not in said:
    return lineage_lib.of_record(said, parent=_started_from(folder, said), model=model)
  found = lineage_lib.of_json(said['lineage'], where=str(record))
  if said.get('weights') != checksum(folder):
    changed = 'its weights are not those that training.json is of'
    return found.then(lineage_lib.unknown(model, changed))
  return found


def _name(folder: pathlib.Path) -> str:
  """What to call a model: MODEL_DIR of a run, or its folder."""
  if folder == SHIPPED:
    return 'microworld'
  folder = folder.absolute()
  return folder.parent.name if folder.name == 'model' else folder.name


def _started_from(folder: pathlib.Path, said: Mapping[str, Any]) -> Lineage:
  """What a run of before there were lineages says that it started from."""
  base = said.get('lora', {}).get('base')
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
  """Digest (hex) of the model's own tokenizer; None where its folder has none."""
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
) -> str:
  """Writes a model folder; with several hosts all must call it, and host 0 writes.

  One matrix of one layer is gathered at a time: so much room is needed on every device,
  and on host 0. The file is the same, to the byte, on any mesh and number of hosts.

  Args:
    folder: made if absent.
    params: the parameter tree.
    config: of the decoder.
    tokenizer: of the model.
    provenance: what trained it, kept beside it with the checksum of the weights, which
      is also put into the last training of its `lineage`. None where nobody knows.
    dtype: of the stored tensors; None keeps the parameters' own.

  Returns:
    The checksum on host 0; '' on the others.
  """
  held, pieces = _stored(params, dtype)
  if not multihost.is_main_process():
    for name in safetensors_writer.order(held):
      for piece in pieces[name]:
        _whole(piece)
    return ''
  folder.mkdir(parents=True, exist_ok=True)
  if tokenizer.filename:
    tokenizer.save(folder / tokenizer.filename)
  else:
    (folder / 'tokenizer.bytes').touch()
  with atomic_file.replacing(folder / 'model.safetensors') as draft:
    safetensors_writer.write(
      draft,
      held,
      ((name, map(_whole, pieces[name])) for name in safetensors_writer.order(held)),
    )
  found = checksum(folder)
  (folder / PROVENANCE).unlink(missing_ok=True)  # of weights that were here before
  if provenance is not None:
    record(folder, provenance, checksum=found)
  weights.save_config(folder, config)
  return found


def record(
  folder: pathlib.Path, provenance: Mapping[str, Any], *, checksum: str
) -> None:
  """Writes training.json.

  Args:
    folder: of the model.
    provenance: what trained it.
    checksum: of its weights.
  """
  said = {**provenance, 'weights': checksum}
  if said.get('lineage'):
    *before, last = said['lineage']
    said['lineage'] = [*before, {**last, 'digest': checksum}]
  atomic_file.write_json(folder / PROVENANCE, said)


class _Piece(NamedTuple):
  """A parameter, or one layer of it."""

  array: Any
  layer: int | None = None


def _stored(
  params: Any, dtype: str | None
) -> tuple[dict[str, weights.Held], dict[str, list[_Piece]]]:
  """What a file of these parameters holds, and the pieces that it is written in."""
  found: dict[str, dict[int | None, Any]] = {}
  for path, leaf in traverse_util.flatten_dict(params, sep='/').items():
    name, layer = weights.place(path)
    found.setdefault(name, {})[layer] = leaf
  held, pieces = {}, {}
  for name, parts in found.items():
    leaf = next(iter(parts.values()))
    kind, stacked = np.dtype(dtype or leaf.dtype), None not in parts
    shape = (len(parts), *leaf.shape) if stacked else leaf.shape
    held[name] = weights.Held(shape, kind)
    if stacked:
      pieces[name] = [_Piece(parts[layer]) for layer in range(len(parts))]
    elif name.startswith('layers/') and not _here(leaf):
      pieces[name] = [_Piece(leaf, layer) for layer in range(len(leaf))]
    else:
      pieces[name] = [_Piece(leaf)]
  return held, pieces


def _here(array: Any) -> bool:
  return not isinstance(array, jax.Array) or array.is_fully_addressable


def _whole(piece: _Piece) -> np.ndarray:
  """A piece in host memory; with several hosts all must ask for it."""
  if _here(piece.array):
    return np.asarray(piece.array)
  multihost.barrier('piece')  # host 0 writes in between
  layer = None if piece.layer is None else np.int32(piece.layer)
  everywhere = NamedSharding(piece.array.sharding.mesh, PartitionSpec())
  return np.asarray(_one(piece.array, layer, everywhere).addressable_data(0))


@functools.partial(jax.jit, static_argnames=('where',))
def _one(array: jax.Array, layer: jax.Array | None, where: NamedSharding) -> jax.Array:
  if layer is not None:
    array = jax.lax.dynamic_index_in_dim(array, layer, keepdims=False)
  return jax.lax.with_sharding_constraint(array, where)
