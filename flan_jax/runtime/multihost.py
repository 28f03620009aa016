"""Hosts: processes that compute together. Found, agreed, told, missed when one is gone.

All of them train, evaluate, or whatever is done, in the same order; what is written
once is written by the first.
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
from flan_jax.errors import InputError
from flan_jax.runtime.preemption import INTERRUPTED

HEARTBEAT_S = 30
"""Seconds without a sign of life after which a host counts as gone."""

SKEW_S = 60.0
"""Most seconds that the clocks of two hosts may differ by without a warning."""

_PATIENCE_MS = 24 * 3600 * 1000
"""How long hosts wait for one that is alive: data may take it hours to make."""

_barriers = itertools.count()

_GONE = (
  'Gloo', 'Connection closed', 'Connection reset', 'coordination', 'Coordination',
  'heartbeat', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'ABORTED', 'Broken pipe',
)  # fmt: skip


def initialize(where: str) -> None:
  """Joins the other hosts; to be called before any device is looked at.

  Args:
    where: `auto` where the cluster says who is who (TPU slices, GKE, Slurm), else
      `ADDRESS:PORT,HOSTS,HOST`.

  Raises:
    InputError: if `where` is neither, or nothing says who is who.
  """
  arguments = {}
  if where != 'auto':
    try:
      address, count, index = where.split(',')
      arguments = {
        'coordinator_address': address,
        'num_processes': int(count),
        'process_id': int(index),
      }
    except ValueError:
      raise InputError(
        f'--multihost: got {where!r}; must be ADDRESS:PORT,HOSTS,HOST, as '
        '10.0.0.2:8476,4,0, or nothing where the cluster knows'
      ) from None
  try:
    jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_S, **arguments)
  except ValueError as error:
    raise InputError(
      f'--multihost: no cluster found ({str(error).splitlines()[0]}); give '
      '--multihost=ADDRESS:PORT,HOSTS,HOST'
    ) from None


def alone() -> bool:
  """Whether this is the only host."""
  return jax.process_count() == 1


def is_main_process() -> bool:
  """Whether this is host 0, which writes what is written once."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Returns once every host is here; all must call it, and in the same order.

  Hosts wait for each other at the coordination service, as long as all of them are
  alive: a collective would give up after half a minute (gloo).
  """
  if not alone():
    import orbax.checkpoint as ocp  # one process does without it

    key = f'{name} {next(_barriers)}'
    ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=_PATIENCE_MS)


def broadcast(value: bytes | None) -> bytes | None:
  """What host 0 has in `value`, on every host; all must call it.

  They wait for each other first, however long one takes to get here.
  """
  if alone():
    return value
  barrier('told')
  size = np.int32(-1 if value is None or not is_main_process() else len(value))
  size = int(multihost_utils.broadcast_one_to_all(size))
  if size <= 0:
    return None if size else b''
  data = np.zeros(size, np.uint8)
  if is_main_process():
    data[:] = np.frombuffer(value, np.uint8)
  return np.asarray(multihost_utils.broadcast_one_to_all(data)).tobytes()


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
  """What is done in here host 0 does before the others begin.

  Bad input that host 0 meets is said on all of them. Nothing in here may wait for
  another host.

  Raises:
    InputError: host 0's own.
  """
  if not is_main_process() and (error := broadcast(None)) is not None:
    raise InputError(error.decode())
  try:
    yield
  except InputError as error:
    if is_main_process():
      broadcast(str(error).encode())
    raise
  if is_main_process():
    broadcast(None)


def broadcast_from_main(read: Callable[[], Any]) -> Any:
  """What host 0 reads, on every host; all must call it.

  Args:
    read: called on host 0 alone; gives what JSON can say.

  Raises:
    InputError: host 0's own.
  """
  found = None
  with main_process_first():
    if is_main_process():
      found = json.dumps(read()).encode()
  return json.loads(broadcast(found))


def facts(settings: Any) -> dict[str, Any]:
  """What hosts must know alike before anything is computed, by the names errors use.

  Args:
    settings: a dataclass; its fields, and the code and versions that read them.
  """
  versions = [f'flan_jax {__version__}']
  for name in ('jax', 'jaxlib', 'orbax-checkpoint'):
    versions.append(f'{name} {importlib.metadata.version(name)}')
  kind = type(settings).__name__
  values = {
    f'{kind}.{field.name}': getattr(settings, field.name)
    for field in dataclasses.fields(settings)
  }
  code = source_digest()[:12]
  return {'the version': ', '.join(versions), 'the code': code, **values}


def assert_same_on_all(facts: Mapping[str, object]) -> list[str]:
  """Checks that every host knows the same facts; all hosts must call it.

  Args:
    facts: name -> value; hosts with other names run other code, and are named.

  Returns:
    Warnings: clocks that differ.

  Raises:
    InputError: naming every fact that differs, the hosts that differ from host 0, and
      what differs in it.
  """
  if alone():
    return []
  barrier('agree')
  # The names first: only hosts that agree on them gather as many digests. Without x64,
  # JAX gathers nothing wider than 32 bits.
  clock = np.array([int(time.time()) % 1_000_000], np.int32)
  every = multihost_utils.process_allgather(np.append(clock, _words(tuple(facts))))
  others = disagreements(every[:, None, 1:], ('the code',))
  if not others:
    mine = np.stack([_words(value) for value in facts.values()])
    others = disagreements(multihost_utils.process_allgather(mine), tuple(facts))
  if others:
    said = [_disagreement(name, who, facts.get(name)) for name, who in others.items()]
    raise InputError(
      f'hosts disagree: {"; ".join(said)}; they must all be started alike'
    )
  spread = int(every[:, 0].max() - every[:, 0].min())
  if spread > SKEW_S:
    return [f'clocks of the hosts differ by {spread} s: logs and ledgers will too']
  return []


def disagreements(
  every: np.ndarray, names: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
  """Which facts differ: name -> hosts that differ from host 0.

  Args:
    every: digests [hosts, facts, words].
    names: of the facts.
  """
  differ = (every != every[:1]).any(-1)
  hosts = {
    name: tuple(int(h) for h in np.flatnonzero(differ[:, i]))
    for i, name in enumerate(names)
  }
  return {name: who for name, who in hosts.items() if who}


def _disagreement(name: str, who: tuple[int, ...], value: object) -> str:
  """One fact that differs, in words; all hosts must call it."""
  text = np.zeros(8_192, np.uint8)
  own = repr(value).encode()[: len(text)]
  text[: len(own)] = np.frombuffer(own, np.uint8)
  every = multihost_utils.process_allgather(text)
  texts = [row.tobytes().rstrip(b'\0').decode(errors='ignore') for row in every]
  what = '; '.join(dict.fromkeys(first_difference(texts[0], texts[h]) for h in who))
  hosts = ', '.join(map(str, who))
  return f'{name} of host {hosts} is not that of host 0{what and f" ({what})"}'


def first_difference(ours: str, theirs: str) -> str:
  """Where two values' texts part: `THEIRS, not OURS`; '' where they do not."""
  pieces = [re.split(r', |(?<=\w)\(', text.rstrip(')')) for text in (ours, theirs)]
  for one, other in itertools.zip_longest(*pieces, fillvalue='nothing'):
    if one != other:
      return f'{other}, not {one}'
  return ''


def source_digest() -> str:
  """sha256 (hex) of this package's Python files: what code this host runs."""
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
  """The digests of all hosts; all must call it, with as many digests each.

  Args:
    digests: number (below 2**31) -> sha256 (hex), of this host.

  Returns:
    Number -> sha256 (hex), by number; hosts may hold the same ones.
  """
  if alone() or not digests:
    return dict(digests)
  words = [[k, *np.frombuffer(bytes.fromhex(d), '<i4')] for k, d in digests.items()]
  every = multihost_utils.process_allgather(np.array(words, np.int32))
  found = {
    int(row[0]): row[1:].astype('<i4').tobytes().hex() for row in every.reshape(-1, 9)
  }
  return dict(sorted(found.items()))


def guarded(run: Callable[[], int]) -> NoReturn:
  """Runs one host's part and ends the process with its exit code.

  An ordinary exit would wait for the other hosts to say goodbye, which those that are
  gone, or wait in a collective for this one, never do.
  """
  code = 1
  try:
    code = run()
  except InputError as error:
    print(f'flan: error: {" ".join(str(error).split())}', file=sys.stderr)
    code = 2
  except Exception as error:
    if is_gone(error):
      first_line = str(error).splitlines()[0]
      print(
        f'flan: host {jax.process_index()}: another host does not answer any more '
        f'({first_line[:200]}); start all of them again to go on from what is saved',
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


def is_gone(error: BaseException | None) -> bool:
  """Whether an error of JAX's says that another host does not answer any more."""
  return not alone() and any(word in str(error) for word in _GONE)
