"""Parses the text of a compiled TPU program: instructions, run counts, transfers.

XLA's TPU compiler annotates scheduled instructions with its estimate of cycles, but
counts the body of a loop once. Here every instruction counts as often as it runs.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

COLLECTIVES = (
  'all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute',
  'collective-broadcast', 'ragged-all-to-all',
)  # fmt: skip
_BITS = {
  'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16, 'bf16': 16,
  'f16': 16, 's32': 32, 'u32': 32, 'f32': 32, 's64': 64, 'u64': 64, 'f64': 64,
  'f8e4m3fn': 8, 'f8e5m2': 8, 'c64': 64,
}  # fmt: skip
_HEAD = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$')
_LINE = re.compile(r'^\s+(ROOT )?%?([\w.\-]+) = (.*)$')
_ARRAY = re.compile(r'\b([a-z]\w*)\[([\d,]*)\]')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(
  r'\b(calls|body|condition|to_apply|async_execution_thread|called_computations|'
  r'true_computation|false_computation|branch_computations)='
  r'(?:\{([^}]*)\}|%?([\w.\-]+))'
)
_NAME = re.compile(r'op_name="([^"]*)"')


class Array(NamedTuple):
  """Type and shape of one array."""

  dtype: str
  shape: tuple[int, ...]

  @property
  def bytes(self) -> int:
    """Size without the padding of the layout."""
    return math.prod(self.shape) * _BITS.get(self.dtype, 0) // 8


class Instruction(NamedTuple):
  """One line of a computation.

  Attributes:
    name: name of the result.
    opcode: operation, e.g. 'fusion'.
    arrays: arrays of the result, the elements if it is a tuple.
    called: kind of call -> names of computations.
    text: the whole line.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  called: dict[str, tuple[str, ...]]
  text: str

  @property
  def cycles(self) -> int:
    """XLA's estimate of one execution."""
    found = _CYCLES.search(self.text)
    return int(found[1]) if found else 0

  @property
  def op_name(self) -> str:
    """Origin of the instruction in the traced function."""
    found = _NAME.search(self.text)
    return found[1] if found else ''


class Collective(NamedTuple):
  """A transfer between devices.

  Attributes:
    kind: one of COLLECTIVES.
    groups: int [groups, members], indices into the device assignment; for a permutation
      [pairs, 2] of source and target.
    bytes: bytes of one member: its output in an all-gather, else its input.
    times: number of executions in a step.
    op_name: origin of the transfer in the traced function.
  """

  kind: str
  groups: np.ndarray
  bytes: int
  times: int
  op_name: str


class Loop(NamedTuple):
  """A while loop: its trip count and the arrays that it carries."""

  name: str
  trips: int
  carried: tuple[Array, ...]


class Module:
  """A compiled module.

  Attributes:
    computations: name of a computation -> its instructions, in order.
    entry: name of the entry computation.
  """

  def __init__(self, text: str):
    self.computations: dict[str, list[Instruction]] = {}
    self.entry = ''
    current: list[Instruction] = []
    for line in text.splitlines():
      head = _HEAD.match(line)
      if head and not line.startswith(' '):
        current = self.computations.setdefault(head[2], [])
        if head[1]:
          self.entry = head[2]
        continue
      found = _LINE.match(line)
      if found:
        current.append(_instruction(found[2], found[3]))
    self._has_products: dict[str, bool] = {}

  def runs(self) -> Iterator[tuple[Instruction, int]]:
    """Yields every instruction outside fusions and its number of executions."""
    yield from self._runs(self.entry, 1)

  def _runs(self, computation: str, times: int) -> Iterator[tuple[Instruction, int]]:
    for line in self.computations.get(computation, ()):
      yield line, times
      if line.opcode == 'while':
        (body,) = line.called['body']
        yield from self._runs(body, times * self.trips(line))
      elif line.opcode == 'conditional':
        branches = [
          name
          for kind in ('branch_computations', 'true_computation', 'false_computation')
          for name in line.called.get(kind, ())
        ]
        if branches:
          yield from self._runs(max(branches, key=self._cycles_in), times)
      elif line.opcode in ('call', 'async-start'):
        kinds = ('to_apply', 'calls', 'called_computations')
        for name in (n for kind in kinds for n in line.called.get(kind, ())):
          yield from self._runs(name, times)

  def _cycles_in(self, computation: str) -> int:
    return sum(i.cycles * n for i, n in self._runs(computation, 1))

  def trips(self, loop: Instruction) -> int:
    """Trip count of a while loop; 1 if it is not known at compile time."""
    found = _TRIPS.search(loop.text)
    if found:
      return int(found[1])
    (condition,) = loop.called['condition']
    lines = self.computations.get(condition, ())
    bounds = [
      int(m[1])
      for line in lines
      if (m := re.search(r'constant\((\d+)\)', line.text)) and line.opcode == 'constant'
    ]
    return bounds[0] if len(bounds) == 1 and bounds[0] > 0 else 1

  def loops(self) -> Iterator[Loop]:
    """Yields the while loops that run, outer ones first."""
    for line, _ in self.runs():
      if line.opcode == 'while':
        yield Loop(line.name, self.trips(line), line.arrays)

  def has_products(self, line: Instruction) -> bool:
    """Returns True if the instruction or its fusion multiplies matrices."""
    if line.opcode in ('convolution', 'dot'):
      return True
    if line.opcode != 'fusion':
      return False
    (name,) = line.called.get('calls', ('',))
    if name not in self._has_products:
      self._has_products[name] = False
      self._has_products[name] = any(
        self.has_products(inner) for inner in self.computations.get(name, ())
      )
    return self._has_products[name]

  def collectives(self) -> Iterator[Collective]:
    """Yields each transfer of a step once, including those inside fusions."""
    seen: set[tuple[str, str]] = set()
    for line, times in self.runs():
      for inner in self._inside(line):
        kind = inner.opcode.removesuffix('-start')
        if kind not in COLLECTIVES:
          continue
        channel = re.search(r'channel_id=(\d+)', inner.text)
        # Start, body and end of an asynchronous fusion contain the same transfer.
        key = (kind, channel[1] if channel else inner.name)
        if key in seen:
          continue
        seen.add(key)
        size = _transfer_bytes(kind, inner)
        if kind == 'all-reduce' and any(
          'reduce-scatter' in name for name in line.called.get('calls', ())
        ):
          kind = 'reduce-scatter'  # fused: all-reduce, then a slice
        yield Collective(
          kind, groups(inner.text), size, times, inner.op_name or line.op_name
        )

  def _inside(self, line: Instruction) -> Iterator[Instruction]:
    yield line
    if line.opcode == 'fusion':
      for name in line.called.get('calls', ()):
        for inner in self.computations.get(name, ()):
          yield from self._inside(inner)


def _instruction(name: str, rest: str) -> Instruction:
  depth = end = 0
  if rest.startswith('('):
    for end, letter in enumerate(rest):  # noqa: B007
      depth += (letter == '(') - (letter == ')')
      if not depth:
        break
    kind, remainder = rest[: end + 1], rest[end + 1 :]
  else:
    kind, _, remainder = rest.partition(' ')
  opcode = remainder.strip().partition('(')[0]
  arrays = tuple(
    Array(dtype, tuple(int(n) for n in dims.split(',') if n))
    for dtype, dims in _ARRAY.findall(kind)
    if dtype in _BITS
  )
  called: dict[str, tuple[str, ...]] = {}
  for call_kind, many, one in _CALLED.findall(remainder):
    names = [one] if one else [n.strip().lstrip('%') for n in many.split(',')]
    called[call_kind] = tuple(names)
  return Instruction(name, opcode, arrays, called, rest)


def _transfer_bytes(kind: str, line: Instruction) -> int:
  """Bytes of one member: its output in an all-gather, else its input."""
  sizes = [array.bytes for array in line.arrays]
  if line.opcode.endswith('-start') and len(sizes) > 1 and kind != 'all-reduce':
    # (operands, results, contexts): the largest is the output of a gather.
    return max(sizes)
  total = sum(sizes)
  if kind == 'reduce-scatter':
    return total * groups(line.text).shape[1]
  return total


def groups(text: str) -> np.ndarray:
  """The groups of a collective, int [groups, members].

  Parses all formats of XLA: a list, `{{0,1},{2,3}}`; an iota, `[4,2]<=[2,4]T(1,0)`
  (count, reshape, transpose, reshape); and axes of a mesh, `mesh['a'=2,'b'=4] {'b'}`,
  or a part of an axis, `'b':(2)2`, whose sizes are (outer)size. The order of devices in
  the mesh is `device_ids=([4,2]T(1,0))`.
  """
  listed = re.search(r'source_target_pairs=\{(\{[\d,{}]*\})\}', text)
  listed = listed or re.search(r'replica_groups=\{(\{[\d,{}]*\})\}', text)
  if listed:
    listed_groups = re.findall(r'\{([\d,]*)\}', listed[1])
    return np.array([[int(n) for n in group.split(',')] for group in listed_groups])
  named = re.search(
    r'replica_groups=mesh\[([^\]]*)\]'
    r'(?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}',
    text,
  )
  if named:
    return _by_axes(*named.groups())
  short = re.search(
    r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text
  )
  if short:
    shape, dims = ([int(n) for n in short[i].split(',')] for i in (1, 2))
    flat = np.arange(math.prod(dims)).reshape(dims)
    if short[3]:
      flat = flat.transpose([int(n) for n in short[3].split(',')])
    return flat.reshape(shape)
  return np.zeros((1, 1), int)


def _by_axes(
  mesh: str, dims: str | None, transpose: str | None, over: str
) -> np.ndarray:
  sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
  flat = np.arange(math.prod(sizes.values()))
  if dims:
    flat = flat.reshape([int(n) for n in dims.split(',')])
    if transpose:
      flat = flat.transpose([int(n) for n in transpose.split(',')])
  parts = {}  # axis -> (outer, used, inner) sizes, if used in part
  wanted = []
  for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", over):
    if size:
      rest = sizes[name] // (int(before) * int(size))
      parts[name] = [int(before), int(size), rest]
      wanted.append((name, 1))
    else:
      wanted.append((name, 0))
  shape, labels = [], []
  for name, size in sizes.items():
    for i, part in enumerate(parts.get(name, [size])):
      shape.append(part)
      labels.append((name, i))
  inside = [labels.index(label) for label in wanted]
  outside = [i for i in range(len(labels)) if i not in inside]
  members = math.prod(shape[i] for i in inside)
  return flat.reshape(shape).transpose([*outside, *inside]).reshape(-1, members)
