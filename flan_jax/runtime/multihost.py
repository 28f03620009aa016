"""Multi-process runs: start-up, barriers, broadcasts, and the loss of a process.

All processes run the same program in the same order. Process 0, the main process,
writes what is written once.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import os
import pathlib
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from flan_jax import __version__
from flan_jax.errors import InputError, one_line
from flan_jax.runtime import network, signals
from flan_jax.runtime.preemption import INTERRUPTED

JOIN_S = 300.0
"""Seconds that a process waits for the others at the start: hosts boot one by one."""

HEARTBEAT_S = 30
"""Seconds without a heartbeat after which a process counts as lost."""

MAX_PROCESSES = 100_000
"""Maximum number of processes."""

SKEW_S = 60.0
"""Maximum difference of two processes' clocks, in seconds, without a warning."""

_BARRIER_TIMEOUT_MS = 24 * 3600 * 1000
"""Timeout of a barrier; long, since building a store may take one process hours."""

_barriers = itertools.count()

_PEER_LOSS = (
  'Gloo', 'Connection closed', 'Connection reset', 'coordination', 'Coordination',
  'heartbeat', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'ABORTED', 'Broken pipe',
)  # fmt: skip


def initialize(where: str) -> None:
  """Joins the other processes; call it before any use of a device.

  Args:
    where: `auto` on a cluster that assigns process ids (TPU slices, GKE, Slurm), else
      `ADDRESS:PORT,HOSTS,HOST`.

  Raises:
    InputError: if `where` is neither, or `auto` finds no cluster.
  """
  arguments = {} if where == 'auto' else _parsed(where)
  limit = network.limit_s(JOIN_S)
  others = 'the other processes'
  if arguments:
    others = (
      f'process {arguments["process_id"]} of {arguments["num_processes"]} at the '
      f'coordinator {arguments["coordinator_address"]}'
    )
  try:
    with network.or_exit(f'--multihost: {others}', limit=limit):
      jax.distributed.initialize(
        heartbeat_timeout_seconds=HEARTBEAT_S,
        # JAX aborts with a stack trace at its own limit.
        initialization_timeout=int(limit) + 60,
        **arguments,
      )
  except ValueError as error:
    raise InputError(
      f'--multihost: no cluster found ({str(error).splitlines()[0]}); give '
      '--multihost=ADDRESS:PORT,HOSTS,HOST'
    ) from None


def _parsed(where: str) -> dict[str, Any]:
  """Arguments of jax.distributed.initialize, of `ADDRESS:PORT,HOSTS,HOST`.

  Raises:
    InputError: if it is none, or a number is out of range.
  """
  found = re.fullmatch(r'([^\s,/]+):(\d{1,9}),(\d{1,9}),(\d{1,9})', where, re.ASCII)
  if found is None:
    raise InputError(
      f'--multihost: got {where!r}; must be ADDRESS:PORT,HOSTS,HOST, as '
      '10.0.0.2:8476,4,0, or no value on a cluster that assigns them'
    )
  address, *numbers = found.groups()
  port, count, index = map(int, numbers)
  for name, got, low, high in (
    ('PORT', port, 1, 65_535),
    ('HOSTS', count, 1, MAX_PROCESSES),
    ('HOST', index, 0, count - 1),
  ):
    if not low <= got <= high:
      raise InputError(
        f'--multihost: got {name} {got} in {where!r}; must be {low} to {high:,}'
      )
  return {
    'coordinator_address': f'{address}:{port}',
    'num_processes': count,
    'process_id': index,
  }


def is_single_process() -> bool:
  """Returns whether this is the only process."""
  return jax.process_count() == 1


def is_main_process() -> bool:
  """Returns whether this is process 0, which writes what is written once."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Waits for every process; all must call it, in the same order.

  Processes wait at the coordination service as long as all of them are alive: a
  collective would time out after half a minute (gloo).
  """
  if not is_single_process():
    import orbax.checkpoint as ocp  # not needed by a single process

    key = f'{name} {next(_barriers)}'
    ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=_BARRIER_TIMEOUT_MS)


def broadcast(value: bytes | None) -> bytes | None:
  """Returns process 0's `value` on every process; all must call it.

  Starts with a barrier, so that a slow process does not time out the collective.
  """
  if is_single_process():
    return value
  barrier('broadcast')
  size = np.int32(-1 if value is None or not is_main_process() else len(value))
  size = int(multihost_utils.broadcast_one_to_all(size))
  if size <= 0:
    return None if size else b''
  data = np.zeros(size, np.uint8)
  if is_main_process() and value is not None:
    data[:] = np.frombuffer(value, np.uint8)
  return np.asarray(multihost_utils.broadcast_one_to_all(data)).tobytes()


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
  """Runs the block on process 0 first, then on the others.

  An InputError of process 0 is raised on all of them. The block must not wait for
  another process.

  Raises:
    InputError: process 0's own.
  """
  if not is_main_process() and (error := broadcast(None)) is not None:
    message, field = json.loads(error)
    raise InputError(message, field=field)
  try:
    yield
  except InputError as error:
    if is_main_process():
      broadcast(json.dumps([str(error), error.field]).encode())
    raise
  if is_main_process():
    broadcast(None)


def broadcast_from_main(read: Callable[[], Any]) -> Any:
  """Returns what process 0 reads on every process; all must call it.

  Args:
    read: called on process 0 alone; returns a JSON value.

  Raises:
    InputError: process 0's own.
  """
  found = None
  with main_process_first():
    if is_main_process():
      found = json.dumps(read()).encode()
  sent = broadcast(found)
  assert sent is not None  # a JSON value is never empty
  return json.loads(sent)


def facts(settings: Any) -> dict[str, Any]:
  """Name -> value of all that processes must agree on before they compute.

  Args:
    settings: a settings class. Its fields are facts, and so are code and versions.
  """
  versions = [f'flan_jax {__version__}']
  for name in ('jax', 'jaxlib', 'orbax-checkpoint'):
    versions.append(f'{name} {importlib.metadata.version(name)}')
  kind = getattr(settings, 'SELECTOR', type(settings).__name__)
  values = {
    f'{kind}.{field.name}': getattr(settings, field.name)
    for field in dataclasses.fields(settings)
  }
  code = source_digest()[:12]
  return {'the version': ', '.join(versions), 'the code': code, **values}


def assert_same_on_all(facts: Mapping[str, object]) -> list[str]:
  """Checks that the facts are equal on every process; all must call it.

  Args:
    facts: name -> value; processes with other names run other code, and are named.

  Returns:
    Warnings about clocks that differ.

  Raises:
    InputError: if a fact differs; names each one, the processes that differ from
      process 0, and the difference.
  """
  if is_single_process():
    return []
  barrier('assert_same_on_all')
  # Compare the names first: processes that agree on them gather equally many digests.
  # Without x64, JAX gathers nothing wider than 32 bits.
  clock = np.array([int(time.time()) % 1_000_000], np.int32)
  every = multihost_utils.process_allgather(np.append(clock, _words(tuple(facts))))
  others = disagreements(every[:, None, 1:], ('the code',))
  if not others:
    mine = np.stack([_words(value) for value in facts.values()])
    others = disagreements(multihost_utils.process_allgather(mine), tuple(facts))
  if others:
    differences = [
      _disagreement(name, processes, facts.get(name))
      for name, processes in others.items()
    ]
    raise InputError(
      f'processes disagree: {"; ".join(differences)}; start all of them with the same '
      'code and settings'
    )
  spread = int(every[:, 0].max() - every[:, 0].min())
  if spread > SKEW_S:
    return [
      f'clocks of the processes differ by {spread} s, and so will logs and goodput'
    ]
  return []


def disagreements(
  every: np.ndarray, names: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
  """Facts that differ: name -> processes that differ from process 0.

  Args:
    every: digests [processes, facts, words].
    names: names of the facts.
  """
  differ = (every != every[:1]).any(-1)
  found = {
    name: tuple(int(process) for process in np.flatnonzero(differ[:, i]))
    for i, name in enumerate(names)
  }
  return {name: processes for name, processes in found.items() if processes}


def _disagreement(name: str, processes: tuple[int, ...], value: object) -> str:
  """Describes one fact that differs; all processes must call it."""
  text = np.zeros(8_192, np.uint8)
  own = repr(value).encode()[: len(text)]
  text[: len(own)] = np.frombuffer(own, np.uint8)
  every = multihost_utils.process_allgather(text)
  texts = [row.tobytes().rstrip(b'\0').decode(errors='ignore') for row in every]
  parts = dict.fromkeys(first_difference(texts[0], texts[i]) for i in processes)
  what = '; '.join(parts)
  numbers = ', '.join(map(str, processes))
  return f'{name} of process {numbers} is not that of process 0{what and f" ({what})"}'


def first_difference(expected: str, got: str) -> str:
  """First part in which two values' texts differ, `GOT, not EXPECTED`; '' if equal."""
  parts = [re.split(r', |(?<=\w)\(', text.rstrip(')')) for text in (expected, got)]
  for one, other in itertools.zip_longest(*parts, fillvalue='nothing'):
    if one != other:
      return f'{other}, not {one}'
  return ''


def source_digest() -> str:
  """sha256 (hex) of this package's Python files, the code of this process."""
  digest = hashlib.sha256()
  root = pathlib.Path(__file__).parents[1]
  for path in sorted(root.rglob('*.py')):
    digest.update(f'{path.relative_to(root)}\0'.encode() + path.read_bytes())
  return digest.hexdigest()


def _words(value: object) -> np.ndarray:
  """A digest of a value's text as [4] int32 of 16 bits each."""
  digest = hashlib.sha256(repr(value).encode()).digest()[:8]
  return np.frombuffer(digest, '<u2').astype(np.int32)


def union(digests: Mapping[int, str]) -> dict[int, str]:
  """Unites the digests of all processes; all must call it, with equally many digests.

  Args:
    digests: number (below 2**31) -> sha256 (hex), of this process.

  Returns:
    Number -> sha256 (hex), by number; processes may hold the same ones.
  """
  if is_single_process() or not digests:
    return dict(digests)
  words = [[k, *np.frombuffer(bytes.fromhex(d), '<i4')] for k, d in digests.items()]
  every = multihost_utils.process_allgather(np.array(words, np.int32))
  found = {
    int(row[0]): row[1:].astype('<i4').tobytes().hex() for row in every.reshape(-1, 9)
  }
  return dict(sorted(found.items()))


def run_and_exit(run: Callable[[], int]) -> NoReturn:
  """Runs this process's part, then exits with its exit code.

  An ordinary exit is a barrier with the other processes: one that is lost, or waits in
  a collective for this one, never reaches it.
  """
  code = 1
  try:
    code = run()
  except InputError as error:
    print(f'flan: error: {one_line(str(error))}', file=sys.stderr)
    code = 2
  except (KeyboardInterrupt, signals.Terminated):
    code = signals.exit_code() or 130
    print('flan: stopped; rerun the same command on all hosts', file=sys.stderr)
  except Exception as error:
    if is_peer_loss(error):
      first_line = str(error).splitlines()[0]
      print(
        f'flan: process {jax.process_index()}: lost another process '
        f'({first_line[:200]}); rerun the same command on all hosts to resume',
        file=sys.stderr,
      )
      code = INTERRUPTED
    else:
      traceback.print_exc()
  else:
    jax.distributed.shutdown()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def is_peer_loss(error: BaseException | None) -> bool:
  """Returns whether a JAX error means that another process was lost."""
  return not is_single_process() and any(word in str(error) for word in _PEER_LOSS)
