"""`flan convert`: Hugging Face and GGUF models to model folders, and back.

A conversion writes tensor by tensor into a draft folder beside the destination. The
draft is renamed only after the logits of both models have been compared and agree.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from flan_jax.checkpoints import model_dir, safetensors_writer, weights
from flan_jax.checkpoints.weights import TensorInfo
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data.tokenizers import HuggingFace, Tokenizer
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import (
  chat_template,
  export_tokenizer,
  families,
  logit_check,
  model_card,
  sharded_writer,
  source_files,
  tensor_map,
  tokenizers,
  training_history,
)
from flan_jax.interop.huggingface import gguf as gguf_lib
from flan_jax.interop.huggingface.source import Folder, Source, read_json
from flan_jax.interop.huggingface.tensor_map import Tensor
from flan_jax.model.decoder import Decoder
from flan_jax.runtime import atomic_file
from flan_jax.runtime.progress import Progress
from flan_jax.train import step_model

PROVENANCE = 'conversion.json'
"""File in a converted folder that records its source and the logit check."""

MAX_NEW_TOKENS = 128
"""Tokens of an answer that an exported model generates unless told otherwise."""


class Converted(NamedTuple):
  """The result of a conversion.

  Attributes:
    folder: the destination; it exists only if `agreement.passed`.
    family: model_type.
    config: decoder config of the model.
    agreement: comparison of the logits of both models.
  """

  folder: pathlib.Path
  family: str
  config: DecoderConfig
  agreement: logit_check.Agreement


def parameter_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
  """Path of every decoder parameter -> its shape, layers stacked."""
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  decoder = Decoder(dataclasses.replace(config, scan_layers=True))
  shapes = jax.eval_shape(
    decoder.init, jax.random.key(0), tokens, positions_BxL=tokens,
    segment_ids_BxL=tokens,
  )  # fmt: skip
  flat: dict[str, Any] = traverse_util.flatten_dict(
    nn.meta.unbox(shapes)['params'], sep='/'
  )
  return {name: tuple(leaf.shape) for name, leaf in flat.items()}


def match_tensors(
  table: Sequence[Tensor], config: DecoderConfig
) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
  """Returns the table entries and the shapes of a config's parameters, by path.

  Raises:
    InputError: if the table has no entry for a parameter.
  """
  shapes = parameter_shapes(config)
  entries = {entry.param: entry for entry in table if entry.param in shapes}
  missing = [name for name in shapes if name not in entries]
  if missing:
    raise InputError(f'parameters {", ".join(missing)}: the family has no such tensors')
  return entries, shapes


def tensor_shapes(
  entries: Mapping[str, Tensor],
  shapes: Mapping[str, tuple[int, ...]],
  config: DecoderConfig,
) -> dict[str, tuple[int, ...]]:
  """Name of every tensor in the file -> the shape that it must have."""
  sizes = tensor_map.sizes(config)
  out = {}
  for param, entry in entries.items():
    shape = shapes[param][1:] if entry.layered else shapes[param]
    for layer in range(config.num_layers) if entry.layered else [None]:
      out[entry.name(layer)] = entry.tensor_shape(shape, sizes)
  return out


def _names_in_file(source: Source, prefix: str) -> dict[str, str]:
  """Table name -> name in the file, which may lack the prefix."""
  have = source.tensors
  if not prefix or any(name.startswith(prefix) for name in have):
    return {name: name for name in have}
  return {name if name.startswith('lm_head') else prefix + name: name for name in have}


def _check_tensors(
  source: Source,
  want: Mapping[str, tuple[int, ...]],
  names: Mapping[str, str],
  *,
  buffers: str,
  tied: Sequence[str],
) -> None:
  """Checks names and shapes against the file headers; lists every mismatch."""
  missing = [name for name in want if name not in names]
  extra = [
    name
    for name in names
    if name not in want and name not in tied and not re.fullmatch(buffers, name)
  ]
  wrong = [
    f'{name} is {list(source.tensors[names[name]].shape)}, must be {list(shape)}'
    for name, shape in want.items()
    if name in names and source.tensors[names[name]].shape != shape
  ]
  problems = [
    f'{len(found)} {what}: {"; ".join(found[:6])}{" ..." if len(found) > 6 else ""}'
    for what, found in [('missing', missing), ('unexpected', extra), ('wrong', wrong)]
    if found
  ]
  if problems:
    raise InputError(f'{source.where}: tensors: {". ".join(problems)}')


def _check_tied(source: Source, names: Mapping[str, str], table: str, head: str):
  """Checks that a head stored in a tied model equals the embedding."""
  if head in names and table in names:
    a, b = source.read(names[table]), source.read(names[head])
    if a.shape != b.shape or not np.array_equal(a, b):
      raise InputError(
        f'{source.where}: tensor {head!r} differs from {table!r}, but config.json says '
        'tie_word_embeddings'
      )


def open_source(path: pathlib.Path) -> Source:
  """Opens a Hugging Face folder or a GGUF file.

  Raises:
    InputError: if `path` is neither.
  """
  if path.is_dir():
    return Folder(path)
  if path.suffix == '.gguf':
    return gguf_lib.File(path)
  if not path.exists():
    raise InputError(f'{path}: no such file or folder')
  raise InputError(f'{path}: must be a Hugging Face folder or a .gguf file')


def import_model(
  path: str | os.PathLike, destination: str | os.PathLike, *, progress: Progress
) -> Converted:
  """Imports a model into a folder that INITIAL_CHECKPOINT_PATH accepts.

  Args:
    path: a Hugging Face folder, or a `.gguf` file.
    destination: a folder that does not exist yet, or an empty one.
    progress: receiver of status lines.

  Raises:
    InputError: if the decoder does not support the model, or files are incomplete;
      nothing is written then.
  """
  path, destination = pathlib.Path(path), pathlib.Path(destination)
  _check_destination(destination)
  source = open_source(path)
  lineage = training_history.read(path)
  if 'model_type' not in source.config and 'd_model' in source.config:
    raise InputError(f'{path}: is a flan_jax model already; `--to hf` exports it')
  family = families.get(source.config.get('model_type'))
  config = _with_layout(family.read(source.config), source.config)
  gguf = isinstance(source, gguf_lib.File)
  table = gguf_lib.tensors(source.architecture) if gguf else family.tensors
  names = _names_in_file(source, '' if gguf else family.prefix)
  entries, shapes = match_tensors(table, config)
  heads = [entry.tensor for entry in table if entry.param == 'head']
  heads = [] if 'head' in entries else heads
  want = tensor_shapes(entries, shapes, config)
  _check_tensors(source, want, names, buffers=family.buffers, tied=heads)
  for head in heads:
    _check_tied(source, names, entries['embedding'].tensor, head)
  tokenizer = (
    tokenizers.from_gguf(source)
    if gguf
    else tokenizers.from_folder(path, source.config)
  )
  _check_vocabulary(tokenizer, config)
  _check_disk_space(destination, source, shapes)
  progress.line(f'{family.model_type}, {_count(shapes):,} parameters')
  batch = logit_check.batch(tokenizer, config, bos=source.config.get('bos_token_id'))
  progress.stage('Computing logits of the source')
  reference = logit_check.reference(source, batch)
  with _draft(destination) as draft:
    folder = draft.path
    progress.stage('Writing')
    held = _param_headers(source, entries, shapes, names, config)
    sizes = tensor_map.sizes(config)
    safetensors_writer.write(
      folder / 'model.safetensors',
      held,
      (
        (name, _params(source, entries[name], names, config, sizes))
        for name in safetensors_writer.order(held)
      ),
    )
    weights.save_config(folder, config)
    if tokenizer is not None:
      tokenizers.save(tokenizer, folder)
    else:
      progress.line(_NO_TOKENIZER)
    source_files.keep(source, path, folder)
    progress.stage('Comparing logits')
    agreement = logit_check.compare(folder, config, batch, reference)
    checksum = model_dir.checksum(folder)
    model_dir.write_provenance(
      folder, {'lineage': lineage.as_json()}, checksum=checksum
    )
    said = source_files.described(source, path)
    _write_report(folder, source.where, family.model_type, agreement, **said)
    model_dir.finish(folder, checksum=checksum)
    return _finish(draft, destination, family.model_type, config, agreement)


def _params(source, entry: Tensor, names, config, sizes) -> Iterator[np.ndarray]:
  for layer in range(config.num_layers) if entry.layered else [None]:
    yield entry.to_param(source.read(names[entry.name(layer)]), sizes)


def _param_headers(source, entries, shapes, names, config) -> dict[str, TensorInfo]:
  """Headers; a stacked parameter has its layers' dtype, float32 if they differ."""
  out = {}
  for param, entry in entries.items():
    layers = range(config.num_layers) if entry.layered else [None]
    kinds = {source.tensors[names[entry.name(layer)]].dtype for layer in layers}
    dtype = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)
    out[param] = TensorInfo(shapes[param], dtype)
  return out


def export_model(
  path: str | os.PathLike,
  destination: str | os.PathLike,
  *,
  progress: Progress,
  model_type: str | None = None,
  shard_bytes: int = sharded_writer.SHARD_BYTES,
) -> Converted:
  """Exports a model to a folder that `transformers` loads.

  Args:
    path: a flan_jax model folder, the MODEL_DIR of a finished run, or a step of a run.
    destination: a folder that does not exist yet, or an empty one.
    progress: receiver of status lines.
    model_type: family to export to; None: the first that has the architecture.
    shard_bytes: largest file of weights.

  Raises:
    InputError: if no Hugging Face family has the model's architecture.
  """
  path = model_dir.find(step_model.model_folder(os.fspath(path), progress=progress))
  destination = pathlib.Path(destination)
  _check_destination(destination)
  if (path / 'config.json').is_file() and 'model_type' in read_json(
    path / 'config.json'
  ):
    raise InputError(f'{path}: is a Hugging Face folder; `--to ours` imports it')
  config = weights.load_config(path)
  family = families.matching_family(config, model_type=model_type)
  entries, shapes = match_tensors(family.tensors, families.canonical(config))
  stored = weights.SafetensorsFile(path)
  found = {name: held.shape for name, held in stored.tensors.items()}
  wrong = [
    f'{name} is {found.get(name, "missing")}, must be {shapes.get(name, "absent")}'
    for name in sorted({*found, *shapes})
    if found.get(name) != shapes.get(name)
  ]
  if wrong:
    more = f' (and {len(wrong) - 3} more)' if len(wrong) > 3 else ''
    raise InputError(
      f'{path}: tensors do not fit config.json: {"; ".join(wrong[:3])}{more}'
    )
  lineage = model_dir.lineage(path)
  tuned = bool(lineage.trainings and lineage.trainings[-1].datasets)
  tokenizer = tokenizers.from_model_folder(path)
  # Conversations are tokenized by the model's tokenizer.json as it is; SentencePiece
  # tokenizes what is between control tokens apart, as a prompt and its answer.
  kept = (path / chat_template.FILE).exists() and isinstance(tokenizer, HuggingFace)
  _check_disk_space(destination, stored, shapes)
  progress.line(f'{family.model_type}, {_count(shapes):,} parameters')
  hf_config = {
    **family.write(families.canonical(config)),
    'flan_jax': {**_layout(config), **tokenizers.mark(tokenizer)},
  }
  dtypes = {held.dtype.name for held in stored.tensors.values()}
  hf_config['torch_dtype'] = dtypes.pop() if len(dtypes) == 1 else 'float32'
  hf_config |= tokenizers.special_ids(tokenizer)
  if not tuned:
    hf_config |= source_files.token_ids(path)
  sizes = tensor_map.sizes(config)
  groups = defaultdict(list)
  for param, entry in entries.items():
    for layer in range(config.num_layers) if entry.layered else [None]:
      groups[entry.name(layer)].append((entry, param, layer))
  want = tensor_shapes(entries, shapes, config)
  held = {
    name: TensorInfo(want[name], stored.tensors[parts[0][1]].dtype)
    for name, parts in groups.items()
  }

  def tensors(name):
    parts = sorted(groups[name], key=lambda part: part[0].part or 0)
    arrays = [stored.read(param, layer) for _, param, layer in parts]
    yield parts[0][0].to_tensor(arrays, sizes)

  with _draft(destination) as draft:
    folder = draft.path
    progress.stage('Writing')
    sharded_writer.write(folder, held, tensors, shard_bytes=shard_bytes)
    _write_json(folder / 'config.json', hf_config, sort_keys=True)
    source_files.give_back(path, folder)
    generation = folder / source_files.GENERATION
    if tuned and tokenizer is not None and not generation.exists():
      _write_json(generation, _generation(tokenizer))
    if tokenizer is not None:
      export_tokenizer.save(
        tokenizer, folder, source=path, tuned=tuned and not kept, progress=progress
      )
    else:
      progress.line(_NO_TOKENIZER)
    batch = logit_check.batch(tokenizer, config, bos=hf_config.get('bos_token_id'))
    progress.stage('Computing logits of the destination')
    reference = logit_check.reference(Folder(folder), batch)
    progress.stage('Comparing logits')
    agreement = logit_check.compare(path, config, batch, reference)
    training_history.write(folder, lineage)
    if not (folder / source_files.CARD).exists():
      chat = (folder / chat_template.FILE).exists()
      model_card.write(
        folder,
        path,
        path=destination.name,
        lineage=lineage,
        tuned=tuned,
        tokenizer=tokenizer,
        chat=chat,
      )
    _write_report(folder, str(path), family.model_type, agreement)
    return _finish(draft, destination, family.model_type, config, agreement)


def _generation(tokenizer: Tokenizer) -> dict[str, Any]:
  """generation_config.json of a tuned model: greedy, and EOS stops."""
  ids = tokenizers.special_ids(tokenizer)
  return {**ids, 'do_sample': False, 'max_new_tokens': MAX_NEW_TOKENS}


def _write_json(path: pathlib.Path, value: Mapping[str, Any], **options: Any) -> None:
  text = json.dumps(value, indent=2, **options)
  path.write_text(text + '\n', encoding='utf-8')


def _layout(config: DecoderConfig) -> dict[str, Any]:
  """DecoderConfig fields that a Hugging Face config lacks; none changes the math."""
  plain = families.canonical(config)
  return {
    field.name: getattr(config, field.name)
    for field in dataclasses.fields(config)
    if field.name in families.LAYOUT
    or getattr(config, field.name) != getattr(plain, field.name)
  }


def _with_layout(config: DecoderConfig, hf_config: Mapping[str, Any]) -> DecoderConfig:
  """Restores the fields that `export_model` saved under `flan_jax`, if any.

  Raises:
    InputError: if they contradict the rest of the Hugging Face config.
  """
  layout = hf_config.get('flan_jax')
  if not isinstance(layout, Mapping):
    return config
  names = {field.name for field in dataclasses.fields(config)}
  out = dataclasses.replace(config, **{k: v for k, v in layout.items() if k in names})
  if families.architecture(out) != families.architecture(config):
    raise InputError(
      f'config.json: flan_jax: got {dict(layout)!r:.200}; contradicts the other fields'
    )
  return out


def _count(shapes: Mapping[str, tuple[int, ...]]) -> int:
  return sum(int(np.prod(shape)) for shape in shapes.values())


_NO_TOKENIZER = 'warning: the source has no tokenizer; none is written'


def _check_vocabulary(tokenizer: Tokenizer | None, config: DecoderConfig) -> None:
  if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
    raise InputError(
      f'tokenizer {tokenizer.name!r}: {tokenizer.vocab_size:,} ids; the embedding has '
      f'{config.vocab_size:,} rows; it must have at least as many'
    )


def _check_destination(destination: pathlib.Path) -> None:
  if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
    raise InputError(
      f'{destination}: exists; must be a folder that does not exist yet, or is empty'
    )


def _check_disk_space(destination: pathlib.Path, source: Any, shapes) -> None:
  width = max(held.dtype.itemsize for held in source.tensors.values())
  need = _count(shapes) * width
  parent = next(p for p in destination.absolute().parents if p.exists())
  free = shutil.disk_usage(parent).free
  if need > free:
    raise InputError(
      f'{destination}: needs {need / 1e9:.1f} GB; {parent} has {free / 1e9:.1f} GB free'
    )


@contextlib.contextmanager
def _draft(destination: pathlib.Path) -> Iterator[atomic_file.Draft]:
  """Yields a draft of the destination; it is deleted at the end unless kept."""
  parent = destination.absolute().parent
  try:
    draft = atomic_file.Draft(destination, folder=True)
  except OSError as error:
    raise InputError(f'{parent}: {error.strerror}') from None
  try:
    with draft:
      yield draft
  except OSError as error:
    raise InputError(f'{parent}: cannot be written to ({error.strerror})') from None


def _write_report(
  folder, source: str, family: str, agreement: logit_check.Agreement, **said: Any
) -> None:
  record = {'source': pathlib.Path(source).name, 'family': family, **said}
  _write_json(folder / PROVENANCE, {**record, 'check': agreement.as_json()})


def _finish(draft, destination, family, config, agreement) -> Converted:
  if agreement.passed:
    draft.keep()
  return Converted(destination, family, config, agreement)
