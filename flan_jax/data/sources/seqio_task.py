"""seqio Tasks as datasets: their examples, texts and tokens, read by seqio itself.

Importing this imports seqio and TensorFlow. The tokens of a task are those of its own
`get_dataset`. A store puts EOS after inputs and after targets itself, so the one EOS
that a feature with `add_eos` ends with is taken off. Examples are named by position.
"""

import functools
import hashlib
import inspect
import itertools
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flan_jax.catalog import registry
from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.source import UNKNOWN_SIZE, SeqioTask
from flan_jax.catalog.template import Template
from flan_jax.data.sources import seqio_vocabulary
from flan_jax.data.tfds_source import plain
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import modules

INPUTS, TARGETS = 'inputs', 'targets'

CHECKED = 32
"""Number of examples that are read twice, to refuse a task that reads differently."""

_ERRORS = (
  tf.errors.OpError,
  ValueError,
  TypeError,
  AttributeError,
  LookupError,
  AssertionError,
  OSError,
)
"""Errors that the functions of a task raise, itself or through TensorFlow."""


class Tokenized(dict[str, Any]):
  """A record with its tokens.

  Attributes:
    tokens: token ids of inputs and of targets, without the EOS of `add_eos`.
  """

  tokens: tuple[np.ndarray, np.ndarray]


def names() -> list[str]:
  """Names of the registered seqio Tasks and Mixtures."""
  return [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]


def get(name: str) -> seqio.Task:
  """The registered seqio Task.

  Raises:
    InputError: if not found; names the nearest.
  """
  if name not in seqio.TaskRegistry.names():
    raise InputError(
      f'seqio task {name!r}: not registered; must be registered by a module that '
      f'--module names{did_you_mean(name, names())}'
    )
  return seqio.TaskRegistry.get(name)


def dataset(name: str) -> Dataset | None:
  """The dataset of a registered seqio Task; None if there is no such task.

  Its cluster is its own name, or that of a registered dataset with this source.

  Raises:
    InputError: if the task has no targets to train on.
  """
  if name not in seqio.TaskRegistry.names():
    return None
  _check(get(name))
  declared = (
    one.cluster
    for one in registry.datasets().values()
    if isinstance(one.source, SeqioTask) and one.source.name == name
  )
  return Dataset(
    name=name,
    cluster=next(declared, name),
    source=SeqioTask(name, tokenized=True),
    fields={INPUTS: INPUTS, TARGETS: TARGETS},
    answer=Text(f'{{{TARGETS}}}'),
    metric='exact_match',
    templates=(Template(f'{{{INPUTS}}}', f'{{{TARGETS}}}'),),
  )


def _check(task: seqio.Task) -> None:
  """Refuses a task whose examples are not token ids of inputs and targets."""
  features = task.output_features
  if TARGETS not in features:
    raise InputError(
      f'seqio task {task.name!r}: output features {", ".join(features)}; must have '
      f'{TARGETS!r} to train on'
    )
  for name, feature in features.items():
    if name not in (INPUTS, TARGETS) and feature.required:
      raise InputError(
        f'seqio task {task.name!r}: output feature {name!r} is not trained on; must be '
        f'{INPUTS!r} and {TARGETS!r}, or {TARGETS!r} alone'
      )
    if name in (INPUTS, TARGETS) and (
      feature.rank != 1 or not feature.dtype.is_integer
    ):
      raise InputError(
        f'seqio task {task.name!r}: feature {name!r} is {feature.dtype.name} of rank '
        f'{feature.rank}; must be token ids, integers of rank 1'
      )


def tokenizer(source: SeqioTask) -> Tokenizer:
  """The tokenizer of a task's features, which have one vocabulary.

  Raises:
    InputError: if they have two, or one that cannot be saved in a store.
  """
  features = get(source.name).output_features
  found = {
    name: seqio_vocabulary.tokenizer_of(features[name].vocabulary)
    for name in (INPUTS, TARGETS)
    if name in features
  }
  mine = found[TARGETS]
  other = found.get(INPUTS, mine)
  if other.digest != mine.digest:
    raise InputError(
      f'seqio task {source.name!r}: vocabulary of digest {other.digest[:12]} in '
      f'{INPUTS!r}, {mine.digest[:12]} in {TARGETS!r}; they must be the same'
    )
  if not seqio_vocabulary.can_be_saved(mine):
    raise InputError(
      f'seqio task {source.name!r}: vocabulary {mine.name}; must be a SentencePiece or '
      'a byte vocabulary'
    )
  return mine


def sizes(source: SeqioTask) -> Mapping[str, int]:
  """Split -> number of its examples.

  One record may give several examples, or none, so they are known once all are read:
  they are counted if the dataset may slice its splits, and unknown otherwise.
  """
  splits = _of_user(source, lambda: list(get(source.name).splits))
  if source.tokenized:
    return dict.fromkeys(splits, UNKNOWN_SIZE)
  return {split: _counted(source, split) for split in splits}


@functools.cache
def _counted(source: SeqioTask, split: str) -> int:
  return sum(1 for _ in _examples(source, split))


def records(source: SeqioTask, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """Yields (`split.position`, record) of a split.

  Raises:
    InputError: if the task fails, or reads differently the second time.
  """
  task = get(source.name)
  size = tokenizer(source).vocab_size if source.tokenized else None
  for example_id, example in examples(source, split):
    record = _record(task, source, example)
    if size is not None and isinstance(record, Tokenized):
      _check_ids(source, example_id, record.tokens, size)
    yield example_id, record


def examples(source: SeqioTask, split: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """Yields (`split.position`, example) of a split, with the features that seqio gives.

  Raises:
    InputError: if the task fails, or reads differently the second time.
  """
  first = list(itertools.islice(_examples(source, split), CHECKED))
  position = -1
  for position, example in enumerate(_examples(source, split)):
    if position < len(first) and not _same(first[position], example):
      raise _unstable(source, split, position)
    yield f'{split}.{position}', example
  if position + 1 < len(first):
    raise _unstable(source, split, position + 1)


def _check_ids(
  source: SeqioTask, example_id: str, tokens: tuple[np.ndarray, ...], size: int
) -> None:
  """Refuses ids that the tokenizer of the store lacks, as extra ids of bytes are."""
  highest = max((int(ids.max()) for ids in tokens if len(ids)), default=0)
  if highest >= size:
    raise InputError(
      f'seqio task {source.name!r}, example {example_id!r}: token id {highest}; the '
      f'vocabulary that a store can hold has {size}: must be {size - 1} or less'
    )


def _unstable(source: SeqioTask, split: str, position: int) -> InputError:
  return InputError(
    f'seqio task {source.name!r}: example {position} of split {split!r} is another one '
    'when it is read again; must be the same: take the seed of '
    'seqio.map_over_dataset(num_seeds=1) for randomness, and shuffle with a seed'
  )


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
  return repr(plain(one)) == repr(plain(other))  # NaN is itself here


def _examples(source: SeqioTask, split: str) -> Iterator[Mapping[str, Any]]:
  """Yields the examples of a split as seqio gives them: feature -> numpy value."""
  iterator = _of_user(source, lambda: _dataset(source, split).as_numpy_iterator())
  end = object()
  while (example := _of_user(source, lambda: next(iterator, end))) is not end:
    yield example


def _of_user(source: SeqioTask, call: Callable[[], Any]) -> Any:
  """Calls what runs a task's own functions; an error of theirs becomes one line."""
  if source.data_dir is not None:
    seqio.set_tfds_data_dir_override(source.data_dir)
  try:
    return call()
  except InputError:
    raise
  except _ERRORS as error:
    raise InputError(f'seqio task {source.name!r}: {_line(error)}') from error


def _line(error: Exception) -> str:
  """The line of an error that tells most: the error in a Python traceback in it."""
  text = str(getattr(error, 'message', error))
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  inner = [line for line in lines if line.partition(':')[0].endswith('Error')]
  return inner[-1] if inner else f'{type(error).__name__}: {"".join(lines[:1])}'


def _dataset(source: SeqioTask, split: str) -> tf.data.Dataset:
  """The examples of a split, in the task's own order."""
  task = _seedless(get(source.name))
  return task.get_dataset(
    sequence_length=lengths(source) or None,
    split=split,
    use_cached=task.requires_caching,
    shuffle=False,
    seed=source.seed,
    try_in_mem_cache=False,
  )


def lengths(source: SeqioTask) -> dict[str, int]:
  """Feature of a task -> its maximum tokens."""
  features, found = get(source.name).output_features, dict(source.lengths)
  if INPUTS not in features and 'text' in found:
    found[TARGETS] = found['text']
  return {name: n for name, n in found.items() if name in features}


def _seedless(task: seqio.Task) -> seqio.Task:
  """The task, with a source that takes no seed if its function has none.

  The seed of the preprocessors is that of `get_dataset` all the same.
  """
  source = task.source
  function = getattr(source, '_dataset_fn', None)
  if function is None or _takes_seed(function):
    return task

  def read(split: str, shuffle_files: bool, seed: int | None = None):
    del seed
    return source.get_dataset(split=split, shuffle=shuffle_files)

  return seqio.Task(
    task.name,
    source=seqio.FunctionDataSource(read, splits=source.splits),
    output_features=task.output_features,
    preprocessors=task.preprocessors,
  )


def _takes_seed(function: Callable[..., Any]) -> bool:
  found = inspect.signature(function).parameters
  return 'seed' in found or any(p.kind is p.VAR_KEYWORD for p in found.values())


def _record(
  task: seqio.Task, source: SeqioTask, example: Mapping[str, Any]
) -> Mapping[str, Any]:
  """The record of an example: plain values, texts, and its tokens if they are kept."""
  ids = {
    name: without_eos(feature, example[name])
    for name, feature in task.output_features.items()
    if name in (INPUTS, TARGETS)
  }
  record = Tokenized({name: plain(value) for name, value in example.items()})
  record[INPUTS] = ''
  for name, values in ids.items():
    text = example.get(f'{name}_pretokenized')
    if not isinstance(text, bytes):
      text = str(task.output_features[name].vocabulary.decode(values.tolist()))
    record[name] = plain(text)
  if not source.tokenized:
    return dict(record)
  record.tokens = (ids.get(INPUTS, np.zeros(0, np.int32)), ids[TARGETS])
  return record


def without_eos(feature: Any, ids: np.ndarray) -> np.ndarray:
  """The ids without the one EOS that the feature ends with."""
  ids = np.asarray(ids, np.int32)
  ends = feature.add_eos and len(ids) and ids[-1] == feature.vocabulary.eos_id
  return ids[:-1] if ends else ids


def stamp(source: SeqioTask) -> str:
  """Stamp of a task on this machine: its code, and the files that it reads."""
  files = []
  for split in _of_user(source, lambda: list(get(source.name).splits)):
    for name in _of_user(source, lambda: get(source.name).source.list_shards(split)):  # noqa: B023
      if os.path.isfile(name):
        status = os.stat(name)
        files.append([name, status.st_size, status.st_mtime_ns])
  return _digest([digest(source), files])


def digest(source: SeqioTask) -> str:
  """Digest of what declares a task: seqio's version, and the files of its functions."""
  task = get(source.name)
  functions = [*task.preprocessors, getattr(task.source, '_dataset_fn', None)]
  found = {_module(function) for function in functions if function is not None}
  return _digest(
    {
      'seqio': seqio.__version__,
      'task': source.name,
      'tokenized': source.tokenized,
      'source': type(task.source).__name__,
      'modules': [entry.get('sha256', '') for entry in modules.provenance()],
      'files': sorted(filter(None, map(_file_digest, found))),
    }
  )


def _digest(value: Any) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _module(function: Any) -> str:
  """Name of the module that a function, or what wraps it, is defined in."""
  while isinstance(function, functools.partial):
    function = function.func
  return str(getattr(function, '__module__', type(function).__module__))


def _file_digest(module: str) -> str:
  path = getattr(sys.modules.get(module), '__file__', None)
  if not path or not pathlib.Path(path).is_file():
    return ''
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
