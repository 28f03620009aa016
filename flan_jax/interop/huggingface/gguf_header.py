"""The header of a GGUF file: its metadata, and where each tensor's data are.

Nothing that the file announces is believed beyond its own length: no count, length,
shape or offset. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import pathlib
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from flan_jax.errors import InputError
from flan_jax.runtime import input_file

VERSIONS = (2, 3)

MAX_ITEMS = 1 << 24
"""Maximum elements of an array of the metadata; vocabularies have 2^18."""

_ALIGNMENT, _MAX_ALIGNMENT = 'general.alignment', 1 << 20
_STRING, _ARRAY = 8, 9
_SCALARS = dict(enumerate('BbHhIif?')) | {10: 'Q', 11: 'q', 12: 'd'}
"""Number of a value's type -> its format in `struct`."""

_SHORTEST_FIELD = 8 + 4 + 1
_SHORTEST_TENSOR = 8 + 4 + 8 + 4 + 8


class TensorData(NamedTuple):
  """A tensor of the file.

  Attributes:
    shape: as in PyTorch: the last axis is contiguous.
    kind: storage type, a GGMLQuantizationType.
    data: its bytes, as `gguf.quants.dequantize` takes them; mapped, not read.
  """

  shape: tuple[int, ...]
  kind: Any
  data: np.ndarray


class _Info(NamedTuple):
  name: str
  shape: tuple[int, ...]
  kind: int
  offset: int


class _Damaged(ValueError):
  """Says in a line what is wrong with the file."""


def read(
  path: pathlib.Path,
) -> tuple[dict[str, Any], dict[str, TensorData]]:
  """Reads a header: (metadata, tensors), both by name.

  Raises:
    InputError: if the file is not GGUF, is truncated, or contradicts itself.
  """
  input_file.check_plain(path)
  try:
    with path.open('rb') as file:
      if not file.read(1):
        raise _Damaged('it is empty')
      mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = _Cursor(mapped)
    fields, infos = _parse(cursor)
    return fields, dict(_placed(mapped, cursor.at, fields, infos))
  except (_Damaged, UnicodeDecodeError) as error:
    raise InputError(f'{path}: not a GGUF file, or a truncated one ({error})') from None


class _Cursor:
  """Reads values one after another, and none past the end of the file."""

  def __init__(self, data: mmap.mmap):
    self._data = data
    self.at = 0

  @property
  def left(self) -> int:
    return len(self._data) - self.at

  def bytes(self, count: int, what: str) -> bytes:
    if count > self.left:
      raise _Damaged(f'{what} of {count:,} bytes, where {self.left:,} are left')
    self.at += count
    return self._data[self.at - count : self.at]

  def scalar(self, form: str, what: str) -> Any:
    (value,) = struct.unpack(f'<{form}', self.bytes(struct.calcsize(f'<{form}'), what))
    return value

  def count(self, what: str, *, size: int) -> int:
    """A count of items that take at least `size` bytes each."""
    found = self.scalar('Q', what)
    if found * size > self.left:
      raise _Damaged(f'{found:,} {what}, where {self.left:,} bytes are left')
    return found

  def text(self, what: str) -> str:
    return self.bytes(self.scalar('Q', what), what).decode('utf-8')

  def value(self, kind: int, name: str) -> Any:
    if kind == _STRING:
      return self.text(name)
    if kind == _ARRAY:
      return self._array(name)
    if kind not in _SCALARS:
      raise _Damaged(f'{name!r:.60} has type {kind}, which is unknown')
    return self.scalar(_SCALARS[kind], name)

  def _array(self, name: str) -> list[Any]:
    kind = self.scalar('I', name)
    if kind != _STRING and kind not in _SCALARS:
      raise _Damaged(f'{name!r:.60} has elements of type {kind}, which is unknown')
    form = _SCALARS.get(kind, '')
    size = struct.calcsize(f'<{form}') if form else 8
    count = self.count(f'elements of {name!r:.60}', size=size)
    if count > MAX_ITEMS:
      raise _Damaged(f'{name!r:.60} has {count:,} elements; at most {MAX_ITEMS:,}')
    if kind == _STRING:
      return [self.text(name) for _ in range(count)]
    return np.frombuffer(self.bytes(count * size, name), f'<{form}').tolist()


def _parse(cursor: _Cursor) -> tuple[dict[str, Any], list[_Info]]:
  if cursor.bytes(4, 'a magic number') != b'GGUF':
    raise _Damaged('its first bytes are not GGUF')
  version = cursor.scalar('I', 'a version')
  if version not in VERSIONS:
    raise _Damaged(f'version {version}; must be 2 or 3, little-endian')
  num_tensors = cursor.count('tensors', size=_SHORTEST_TENSOR)
  num_fields = cursor.count('fields', size=_SHORTEST_FIELD)
  fields: dict[str, Any] = {}
  for _ in range(num_fields):
    name = cursor.text('a name')
    if name in fields:
      raise _Damaged(f'{name!r:.60} is there twice')
    fields[name] = cursor.value(cursor.scalar('I', name), name)
  infos = [_info(cursor) for _ in range(num_tensors)]
  if len({info.name for info in infos}) < num_tensors:
    raise _Damaged('two tensors have one name')
  return fields, infos


def _info(cursor: _Cursor) -> _Info:
  name = cursor.text('a name')
  axes = cursor.scalar('I', name)
  if not 1 <= axes <= 4:
    raise _Damaged(f'tensor {name!r:.60} has {axes:,} axes; must have 1 to 4')
  shape = tuple(cursor.scalar('Q', name) for _ in range(axes))[::-1]
  if 0 in shape:
    raise _Damaged(f'tensor {name!r:.60} has shape {list(shape)}; must have values')
  return _Info(name, shape, cursor.scalar('I', name), cursor.scalar('Q', name))


def _placed(
  mapped: mmap.mmap, start: int, fields: dict[str, Any], infos: Iterable[_Info]
) -> Iterator[tuple[str, TensorData]]:
  """Yields (name, tensor), after a check that the tensors lie apart in the file."""
  import gguf

  align = fields.get(_ALIGNMENT, 32)
  if type(align) is not int or not 0 < align <= _MAX_ALIGNMENT or align & (align - 1):
    raise _Damaged(f'{_ALIGNMENT} is {align!r:.40}; must be a power of two')
  data = np.frombuffer(mapped, np.uint8)
  start = -(-start // align) * align
  end, before = start, ''
  for info in sorted(infos, key=lambda info: info.offset):
    try:
      kind = gguf.GGMLQuantizationType(info.kind)
      block, size = gguf.GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
      raise _Damaged(
        f'tensor {info.name!r:.60} has storage type {info.kind}, which is unknown'
      ) from None
    *rest, width = info.shape
    if width % block:
      raise _Damaged(
        f'tensor {info.name!r:.60} has shape {list(info.shape)}; the last must be a '
        f'multiple of {block}'
      )
    row = width // block * size
    count = row
    for axis in rest:
      count *= axis
    first = start + info.offset
    if first < end:
      raise _Damaged(f'tensors {before!r:.60} and {info.name!r:.60} overlap')
    end, before = first + count, info.name
    if end > len(data):
      raise _Damaged(
        f'truncated: {len(data):,} bytes; tensor {info.name!r:.60} ends at {end:,}'
      )
    found = data[first:end].reshape(*rest, row)
    if kind.name in _PLAIN:
      found = found.view(_PLAIN[kind.name])
    yield info.name, TensorData(info.shape, kind, found)


_PLAIN = {
  'F16': np.float16,
  'F32': np.float32,
  'F64': np.float64,
  'I8': np.int8,
  'I16': np.int16,
  'I32': np.int32,
  'I64': np.int64,
}
"""Storage types that numpy has."""
