"""A file and nothing else: a dataset without any declaration.

It has two columns, prompts and answers, or one of conversations (`catalog.chats`).
"""

import dataclasses
import itertools
import math
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flan_jax.catalog import chats, registry
from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field
from flan_jax.catalog.template import Template
from flan_jax.data.sources.files import SPLITS, Csv, Files, Json, Parquet
from flan_jax.errors import InputError, did_you_mean

INPUTS, TARGETS = 'inputs', 'targets'
"""Usual names of the columns."""

_declared: dict[str, Dataset] = {}
_arguments: dict[str, dict[str, Any]] = {}


def carried() -> tuple[Dataset, ...]:
  """Datasets that a worker process must be given: no module declares them."""
  return tuple(_declared.values())


def recorded(names: Iterable[str]) -> dict[str, Any]:
  """The entry of a manifest that `restore` declares such datasets from; {} for none."""
  found = {name: _arguments[name] for name in names if name in _arguments}
  return {'file_tasks': found} if found else {}


def restore(manifest: Mapping[str, Any]) -> None:
  """Declares the datasets of files alone that a store was made of, unless declared.

  Raises:
    InputError: as `declare`.
  """
  for name, arguments in manifest.get('file_tasks', {}).items():
    if registry.find(name) is None:
      declare(**arguments)


def as_stored(manifest: Mapping[str, Any]) -> None:
  """Declares a file that is not here as conversations, if a store holds it as those."""
  for name, arguments in manifest.get('file_tasks', {}).items():
    found = _declared.get(name)
    if 'messages' in arguments and found is not None and not found.messages:
      declare(**arguments, stored=True)


FORMATS: dict[str, type[Files]] = {
  '.jsonl': Json,
  '.json': Json,
  '.csv': Csv,
  '.tsv': Csv,
  '.parquet': Parquet,
}
"""Suffix of a file -> its source; `.gz` may follow it."""


def is_file(name: str) -> bool:
  """Returns whether the name of a mixture or dataset is that of a file."""
  return _format(name) is not None


def resolve(
  name: str, *, setting: str, inputs: str = INPUTS, targets: str = TARGETS, **more: Any
) -> str:
  """Declares the dataset of a file; returns its name, or any other name as it is.

  Args:
    name: name of a mixture, task or dataset; or a file or pattern.
    setting: setting or flag that holds the name, for messages.
    inputs: column of the prompt.
    targets: column of the answer.
    **more: further arguments of `declare`.

  Raises:
    InputError: as `declare`; or if it is a file of another format.
  """
  if is_file(name):
    found = declare(name, inputs=inputs, targets=targets, setting=setting, **more)
    return found.name
  if pathlib.Path(name).is_file():
    raise InputError(
      f'{setting} {name!r}: a file of another format; must be one of '
      f'{", ".join(FORMATS)}, with a column of prompts and one of answers',
      field=setting,
    )
  return name


def declare(
  path: str,
  *,
  inputs: str = INPUTS,
  targets: str = TARGETS,
  messages: str | None = None,
  validation: str | float | None = None,
  split: str = 'train',
  setting: str = 'MIXTURE_OR_TASK_NAME',
  columns: Sequence[str] = ('INPUTS', 'TARGETS', 'MESSAGES'),
  stored: bool = False,
) -> Dataset:
  """Declares and registers a file, or several by a pattern, as a dataset.

  Its name is that of the file, or of its folder if the file is named after a split; of
  a registered dataset's or mixture's name, `NAME_file`.

  Args:
    path: file or pattern, as `data/train.jsonl` or `data/own.{split}.csv`.
    inputs: column of the prompt.
    targets: column of the answer.
    messages: column of conversations, in place of the two; None for `messages` if the
      first record has that and lacks the two.
    validation: file or pattern of the examples that do not train; or the share of the
      examples of `path`, or their number, taken from its end; None for those that
      `{split}` finds.
    split: split that the examples of a path without `{split}` are.
    setting: setting that holds the path, for messages.
    columns: settings that name the columns, for messages.
    stored: whether a store holds the examples; the file may then be absent.

  Raises:
    InputError: if there is no such file, a column is missing, or the share is none.
  """
  kind = _format(path)
  assert kind is not None, path
  here = os.getcwd()
  source = kind(path if split == 'train' else {split: path}, folder=here)
  if '{split}' in path:
    source = kind(path, folder=here)
  train = dev = None
  unread = stored and not _is_there(source)
  if unread:
    train, dev = 'train', 'validation'
  elif isinstance(validation, str):
    source = _with_validation(kind, path, validation, folder=here)
  elif validation is not None:
    count = _set_aside(source, path, validation)
    train, dev = f'train[:-{count}]', f'train[-{count}:]'
  if not unread and messages is None:
    messages = _messages(source, (inputs, targets))
  if not unread:
    named = dict(zip(columns, (inputs, targets), strict=False))
    if messages is not None:
      named = {columns[-1]: messages}
    apart = 'VALIDATION' if isinstance(validation, str) else setting
    _check_columns(
      source, path, named, setting=setting, settings={'validation': apart},
      messages='' if messages is not None else columns[-1],
    )  # fmt: skip
  name = _name(path)
  taken = registry.find(name) is not None or registry.is_mixture(name)
  if name not in _declared and taken:
    name = f'{name}_file'
  shared: dict[str, Any] = {'name': name, 'source': source, 'train': train, 'dev': dev}
  if messages is not None:
    dataset = chats.chat(messages=messages, **shared)
  else:
    dataset = _of_columns(inputs, targets, **shared)
  registry.register(dataset, replace=True)
  _declared[name] = dataset
  others = validation if isinstance(validation, str) else None
  _arguments[name] = {
    'path': _absolute(path),
    'inputs': inputs,
    'targets': targets,
    'validation': validation if others is None else _absolute(others),
    **({} if messages is None else {'messages': messages}),
  }
  return dataset


def _of_columns(inputs: str, targets: str, *, name: str, **shared: Any) -> Dataset:
  """The dataset of a column of prompts and one of answers."""
  return Dataset(
    name=name,
    cluster=name,
    fields={
      name: Field(column, _NotNull(column))
      for name, column in (('inputs', inputs), ('targets', targets))
    },
    answer=Text('{targets}'),
    metric='exact_match',
    templates=(Template('{inputs}', '{targets}'),),
    **shared,
  )


def _messages(source: Files, columns: Sequence[str]) -> str | None:
  """`messages` if the first record has that column and none of `columns`."""
  for split in source.files():
    for _, record in itertools.islice(source.records(split), 1):
      if chats.MESSAGES in record and not any(column in record for column in columns):
        return chats.MESSAGES
  return None


@dataclasses.dataclass(frozen=True)
class _NotNull:
  """Refuses null and NaN, which other fields take as a text.

  Attributes:
    column: name of the column, for the message.
  """

  column: str

  def __call__(self, value: Any) -> Any:
    if value is None:
      raise InputError(f'column {self.column!r}: null; must be a text')
    if isinstance(value, float) and not math.isfinite(value):
      raise InputError(f'column {self.column!r}: got {value}; must be a text')
    return value


def _is_there(source: Files) -> bool:
  try:
    return bool(source.files())
  except InputError:
    return False


def _set_aside(source: Files, path: str, validation: float) -> int:
  """Number of examples of a file that do not train."""
  size = source.sizes().get('train', 0)
  whole = isinstance(validation, int)
  count = validation if whole else round(size * validation)
  if isinstance(validation, bool) or not 0 < count < size:
    stands = '' if whole or not 0 < validation < 1 else f', {count:,} examples'
    raise InputError(
      f'VALIDATION: got {validation}{stands}; {path!r} has {size:,} examples, of which '
      'one or more must be set aside and one or more must train: a number, as 1, or a '
      'share, as 0.05',
      field='VALIDATION',
    )
  return count


def _with_validation(
  kind: type[Files], path: str, validation: str, *, folder: str
) -> Files:
  """The source of a file and of another one of validation examples."""
  if _format(validation) is not kind:
    raise InputError(
      f'VALIDATION {validation!r}: must be a file of the same format as {path!r}, '
      'or the share of its examples, as 0.05',
      field='VALIDATION',
    )
  try:
    kind({'validation': validation}, folder=folder).files()
  except InputError as error:
    raise InputError(f'VALIDATION: {error}', field='VALIDATION') from None
  train = path.replace('{split}', 'train')
  source = kind({'train': train, 'validation': validation}, folder=folder)
  if not source.sizes()['validation']:
    raise InputError(
      f'VALIDATION {validation!r}: no record; must have at least one',
      field='VALIDATION',
    )
  return source


def _format(name: str) -> type[Files] | None:
  suffixes = [suffix.lower() for suffix in pathlib.PurePath(name).suffixes]
  suffixes = [suffix for suffix in suffixes if suffix != '.gz']
  return FORMATS.get(suffixes[-1]) if suffixes else None


def _absolute(path: str) -> str:
  return path if '://' in path else os.path.abspath(path)


def _name(path: str) -> str:
  """A dataset's name, of the letters of the file's."""
  pure = pathlib.PurePath(path.replace('{split}', ''))
  stem = pure.name.partition('.')[0]
  if stem in ('', '*', *SPLITS):
    stem = pathlib.Path(path).absolute().parent.name
  return re.sub(r'\W+', '_', stem).strip('_') or 'own'


def _check_columns(
  source: Files,
  path: str,
  columns: Mapping[str, str],
  *,
  setting: str,
  settings: Mapping[str, str],
  messages: str,
) -> None:
  """Refuses columns that the first record of a split lacks.

  Args:
    source: the files.
    path: path of the files, for messages.
    columns: setting that names a column -> the column.
    setting: setting that holds the path.
    settings: split -> the setting that holds its path, if another one does.
    messages: setting that names a column of conversations; '' if it is given.
  """
  for split in source.files():
    example_id, record = next(source.records(split), ('', None))
    holder = settings.get(split, setting)
    if record is None:
      raise InputError(
        f'{path}: no record of {split}; must have at least one', field=holder
      )
    for macro, column in columns.items():
      if column not in record:
        raise InputError(
          f'{source.where(example_id)}: no column {column!r}; must be one of '
          f'{", ".join(map(str, record))}, named by {macro}'
          f'{did_you_mean(column, map(str, record)) or _talks(record, messages)}',
          field=holder if column in (INPUTS, TARGETS) else macro,
        )


def _talks(record: Mapping[str, Any], setting: str) -> str:
  """The end of a refusal that names the column of conversations, if there is one."""
  for column, value in record.items():
    first = value[0] if isinstance(value, list) and value else None
    if setting and isinstance(first, Mapping):
      return f'; conversations, as in {column!r}, are named by {setting}'
  return ''
