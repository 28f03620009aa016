"""Files as a source: JSON Lines, CSV and Parquet, local or gs://, read as a stream.

A path may be a pattern, as `data/*.jsonl`, and compressed with gzip (`.gz`). `{split}`
in it stands for `train`; `validation`, `valid`, `val` or `dev`; and `test`. A path
without it is the split `train`. A relative path begins at the folder of the module that
declares it, or else at the current one.
"""

import abc
import contextlib
import csv
import dataclasses
import functools
import glob
import gzip
import hashlib
import io
import itertools
import json
import os
import pathlib
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple, cast

from flan_jax.catalog.fields import Record
from flan_jax.errors import InputError
from flan_jax.runtime import input_file
from flan_jax.runtime.input_file import NotJson

SPLITS = ('train', 'validation', 'valid', 'val', 'dev', 'test')
"""Names of splits that `{split}` stands for."""

_BLOCK = 1 << 20

_LONGEST_VALUE = 1 << 24
"""Maximum characters of a value in CSV: more is a quote that nothing closes."""

_LONGEST_LINE = 1 << 26
"""Maximum characters of a line, or of an object in an array of JSON."""


class _State(NamedTuple):
  path: str
  size: int
  changed: str


@dataclasses.dataclass(frozen=True)
class Files(abc.ABC):
  """Files of one format.

  Attributes:
    path: path or pattern, or split -> path or pattern.
    folder: start of relative paths; by default the folder of the declaring module.
  """

  path: str | Mapping[str, str]
  folder: str = dataclasses.field(default='', kw_only=True)

  def __post_init__(self):
    paths = self.path.values() if isinstance(self.path, Mapping) else [self.path]
    for path in paths:
      if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise InputError(
          f'{type(self).__name__}: path {path!r}; must be a path or a pattern, as '
          "'data/{split}.jsonl'"
        )
    if not self.folder:
      object.__setattr__(self, 'folder', declaring_folder())

  def __str__(self) -> str:
    path = self.path
    return path if isinstance(path, str) else ', '.join(map(str, path.values()))

  def files(self) -> dict[str, list[_State]]:
    """Split -> its files, sorted by path.

    Raises:
      InputError: if no file is found.
    """
    if isinstance(self.path, Mapping):
      patterns = {split: os.fspath(path) for split, path in self.path.items()}
    elif '{split}' in os.fspath(self.path):
      path = os.fspath(self.path)
      patterns = {split: path.replace('{split}', split) for split in SPLITS}
    else:
      patterns = {'train': os.fspath(self.path)}
    found = {split: _matching(path, self.folder) for split, path in patterns.items()}
    absent = [split for split, files in found.items() if not files]
    if len(absent) == len(found) or (absent and isinstance(self.path, Mapping)):
      path = patterns[absent[0]]
      raise InputError(
        f'{type(self).__name__}: no file {path!r}; looked in {self.folder or "."}'
        + (f' and {os.getcwd()}' if self.folder not in ('', os.getcwd()) else '')
      )
    return {split: files for split, files in found.items() if files}

  def sizes(self) -> Mapping[str, int]:
    """Split -> number of its records."""
    return {
      split: sum(_count(type(self), self._options(), file) for file in files)
      for split, files in self.files().items()
    }

  def records(self, split: str) -> Iterator[tuple[str, Record]]:
    """Yields (id, record) of a split; the id is `split.file.row`."""
    for index, file in enumerate(self.files()[split]):
      for row, (_, record) in enumerate(self.read(file.path)):
        yield f'{split}.{index}.{row}', record

  def where(self, example_id: str) -> str:
    """File and line (of Parquet, row) of a record."""
    split, index, row = example_id.split('.')
    file = self.files()[split][int(index)]
    for number, (line, _) in enumerate(self.read(file.path)):
      if number == int(row):
        return f'{file.path}:{line}'
    return file.path

  def stamp(self) -> str:
    """Digest (hex) of the names, sizes and times of the files."""
    return hashlib.sha256(json.dumps(self.files()).encode()).hexdigest()

  def digest(self) -> str:
    """Digest (hex) of the contents of the files, by split."""
    found = hashlib.sha256(json.dumps(self._options()).encode())
    for split, files in self.files().items():
      found.update(split.encode() + b'\0')
      for file in files:
        found.update(bytes.fromhex(content_digest(file)))
    return found.hexdigest()

  def _options(self) -> tuple:
    """Settings that change the records, beside the files."""
    return ()

  @abc.abstractmethod
  def read(self, path: str) -> Iterator[tuple[int, Record]]:
    """Yields (line or row, record) of a file; both count from 1."""


@dataclasses.dataclass(frozen=True)
class Json(Files):
  """JSON Lines, or JSON files that hold one array of objects."""

  def read(self, path: str) -> Iterator[tuple[int, Record]]:
    with _opened(path) as file, _text(file, path) as lines:
      yield from self.parsed(lines, path)

  @staticmethod
  def parsed(lines: Iterator[str], path: str) -> Iterator[tuple[int, Record]]:
    """Yields (line, record) of a text; `path` names it in errors."""
    for row, (number, line) in enumerate(_filled(lines)):
      if row == 0 and line.startswith('['):
        yield from _array(line, lines, path)
        return
      yield number, _object(line, path, number)


@dataclasses.dataclass(frozen=True)
class Lines(Files):
  """Plain text, one prompt a line; empty lines are left out."""

  def read(self, path: str) -> Iterator[tuple[int, Record]]:
    with _opened(path) as file, _text(file, path) as lines:
      yield from self.parsed(lines, path)

  @staticmethod
  def parsed(lines: Iterator[str], path: str) -> Iterator[tuple[int, Record]]:
    """Yields (line, record) of a text."""
    del path  # every line is a prompt
    yield from ((number, {'prompt': line}) for number, line in _filled(lines))


def _filled(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
  """Yields (number, line) of the lines that are not blank, without blanks around."""
  stripped = ((number, line.strip()) for number, line in enumerate(lines, 1))
  return ((number, line) for number, line in stripped if line)


@dataclasses.dataclass(frozen=True)
class Csv(Files):
  """CSV with a header line.

  Attributes:
    delimiter: between columns; None for a tab in `.tsv` files and else a comma.
  """

  delimiter: str | None = dataclasses.field(default=None, kw_only=True)

  def _options(self) -> tuple:
    return (self.delimiter,)

  def read(self, path: str) -> Iterator[tuple[int, Record]]:
    delimiter = self.delimiter or (
      '\t' if '.tsv' in pathlib.PurePath(path.lower()).suffixes else ','
    )
    with _opened(path) as file, _text(file, path, newline='') as lines:
      yield from _rows(lines, path, delimiter)


def _rows(
  lines: Iterable[str], path: str, delimiter: str
) -> Iterator[tuple[int, Record]]:
  """Yields (line, record) of CSV; the line is that where the record begins."""
  csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_VALUE))
  reader = csv.reader(lines, delimiter=delimiter, strict=True)
  header: list[str] = []
  while True:
    line = reader.line_num + 1
    try:
      row = next(reader)
    except StopIteration:
      return
    except csv.Error as error:
      raise InputError(f'{path}:{line}: {error}') from None
    if not row:
      continue
    if not header:
      header = row
      if twice := _first_twice(filter(None, header)):
        raise InputError(
          f'{path}:{line}: two columns {twice!r}; must have different names'
        )
      continue
    if len(row) != len(header):
      raise InputError(
        f'{path}:{line}: {len(row)} values; must be {len(header)}, as in the header'
      )
    yield line, dict(zip(header, row, strict=True))


@dataclasses.dataclass(frozen=True)
class Parquet(Files):
  """Parquet, read in batches."""

  def read(self, path: str) -> Iterator[tuple[int, Record]]:
    row = 0
    with _opened(path, decompress=False) as file:
      opened = _parquet(file, path)
      batches = opened.iter_batches(batch_size=1024)
      while True:
        with _whole(path):
          batch = next(batches, None)
          records = [] if batch is None else batch.to_pylist()
        if batch is None:
          break
        for record in records:
          row += 1
          yield row, record
      if row != opened.metadata.num_rows:
        raise InputError(
          f'{path}: has {row:,} rows; must have the {opened.metadata.num_rows:,} that '
          'its own header says'
        )


def _parquet(file: IO[bytes], path: str) -> Any:
  try:
    from pyarrow import parquet
  except ModuleNotFoundError as error:
    raise InputError(
      f'module {error.name!r}: not installed; Parquet needs it: pip install '
      "'flan_jax[parquet]'"
    ) from None
  with _whole(path):
    return parquet.ParquetFile(file)


@contextlib.contextmanager
def _whole(path: str) -> Iterator[None]:
  """Turns what pyarrow raises about a damaged file into one line."""
  try:
    yield
  except (
    ValueError,
    OSError,
    NotImplementedError,
    ArithmeticError,
    MemoryError,
    LookupError,
  ) as error:
    why = (str(error).splitlines() or [type(error).__name__])[0]
    raise InputError(f'{path}: not Parquet, or damaged ({why:.200})') from None


def state(path: str) -> _State:
  """Name, size and time of a local file."""
  status = os.stat(path)
  return _State(path, status.st_size, str(status.st_mtime_ns))


def declaring_folder() -> str:
  """Folder of the first module up the stack that is not of this package."""
  frame = sys._getframe(1)
  while frame is not None:
    name = frame.f_globals.get('__name__', '')
    file = frame.f_globals.get('__file__')
    if not name.startswith('flan_jax.') and name != 'dataclasses':
      return str(pathlib.Path(file).resolve().parent) if file else ''
    frame = frame.f_back
  return ''


def _is_remote(path: str) -> bool:
  return '://' in path


def _matching(pattern: str, folder: str) -> list[_State]:
  """Files of a pattern, sorted: in `folder`, or else in the current one."""
  if _is_remote(pattern):
    return _remote(pattern)
  for start in dict.fromkeys((folder, '')):
    path = os.path.join(start, pattern)
    # A name such as `own[1].jsonl` may be meant as it is.
    paths = [path] if os.path.isfile(path) else glob.glob(path, recursive=True)
    files = sorted(path for path in paths if os.path.isfile(path))
    if files:
      return [state(path) for path in files]
    for one in paths if not os.path.lexists(path) else [path]:
      input_file.check_plain(one)
  return []


def _remote(pattern: str) -> list[_State]:
  import fsspec

  try:
    system, path = fsspec.core.url_to_fs(pattern)
    found = system.glob(path, detail=True)
  except (ImportError, ValueError, OSError) as error:
    raise InputError(f'{pattern!r}: {error}') from None
  scheme = pattern.partition('://')[0]
  return [
    _State(f'{scheme}://{name}', int(about['size'] or 0), str(about.get('mtime', '')))
    for name, about in sorted(found.items())
    if about['type'] == 'file'
  ]


@contextlib.contextmanager
def _opened(path: str, *, decompress: bool = True) -> Iterator[IO[bytes]]:
  with contextlib.ExitStack() as stack:
    if _is_remote(path):
      import fsspec

      file: Any = stack.enter_context(cast(Any, fsspec.open(path, 'rb')))
    else:
      file = stack.enter_context(input_file.opened(path))
    if decompress and path.lower().endswith('.gz'):
      file = stack.enter_context(gzip.GzipFile(fileobj=file))
    yield file


class _text(io.TextIOWrapper):
  """Text of a file in UTF-8; what is no text is an InputError."""

  def __init__(self, file: IO[bytes], path: str, *, newline: str | None = None):
    super().__init__(file, encoding='utf-8-sig', newline=newline)
    self._path = path

  def __next__(self) -> str:
    try:
      line = self.readline(_LONGEST_LINE + 1)
    except UnicodeDecodeError as error:
      raise InputError(f'{self._path}: not text in UTF-8 ({error})') from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
      raise InputError(f'{self._path}: not a whole gzip file ({error})') from None
    if not line:
      raise StopIteration
    if len(line) > _LONGEST_LINE:
      raise InputError(
        f'{self._path}: a line of more than {_LONGEST_LINE:,} characters; must be '
        'shorter'
      )
    return line


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    twice = _first_twice(key for key, _ in pairs)
    raise NotJson(f'key {twice!r} twice in an object; must be there once')
  return found


def _first_twice(names: Iterable[str]) -> str | None:
  """The first name that was there before; None if all differ."""
  seen = set()
  return next((name for name in names if name in seen or seen.add(name)), None)


_JSON = json.JSONDecoder(object_pairs_hook=_unique)


def _object(text: str, path: str, number: int) -> Record:
  try:
    found, end = input_file.parse_next(text, 0, _JSON)
    if end < len(text):
      raise json.JSONDecodeError('Extra data', text, end)
  except json.JSONDecodeError as error:
    raise InputError(f'{path}:{number}: not JSON: {error.msg}') from None
  except NotJson as error:
    raise InputError(f'{path}:{number}: {error}') from None
  if not isinstance(found, dict):
    raise InputError(
      f'{path}:{number}: got {str(found)[:40]!r}; must be an object, as '
      '{"inputs": "...", "targets": "..."}'
    )
  return found


def _array(first: str, lines: Iterator[str], path: str) -> Iterator[tuple[int, Record]]:
  """Yields the objects of one array, without holding all of it."""
  text, position, row, ahead = first, 1, 0, 256
  while True:
    while position < len(text) and text[position] in ' \t\r\n,':
      position += 1
    if text[position : position + 1] == ']':
      return
    try:
      if position == len(text):
        raise json.JSONDecodeError('the array does not end', '', 0)
      found, position = input_file.parse_next(text, position, _JSON)
      ahead = 256
    except json.JSONDecodeError as error:
      more = ''.join(itertools.islice(lines, ahead))
      text, position, ahead = text[position:] + more, 0, 2 * ahead
      if not more or len(text) > _LONGEST_LINE:
        raise InputError(f'{path}: object {row + 1}: not JSON: {error.msg}') from None
      continue
    except NotJson as error:
      raise InputError(f'{path}: element {row + 1}: {error}') from None
    row += 1
    if not isinstance(found, dict):
      raise InputError(f'{path}: element {row} {str(found)[:40]!r}; must be an object')
    yield row, found


@functools.lru_cache(maxsize=4096)
def _count(kind: type[Files], options: tuple, file: _State) -> int:
  """Number of records of a file, counted once for each state of it."""
  names = [field.name for field in dataclasses.fields(kind)][2:]
  reader = kind(file.path, folder='.', **dict(zip(names, options, strict=True)))
  if isinstance(reader, Parquet):
    with _opened(file.path, decompress=False) as opened:
      return _parquet(opened, file.path).metadata.num_rows
  return sum(1 for _ in reader.read(file.path))


@functools.lru_cache(maxsize=4096)
def content_digest(file: _State) -> str:
  """sha256 (hex) of the bytes of a file, read once for each state of it."""
  found = hashlib.sha256()
  with _opened(file.path, decompress=False) as opened:
    while block := opened.read(_BLOCK):
      found.update(block)
  return found.hexdigest()
