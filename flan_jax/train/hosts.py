"""The hosts of a run: found, agreed with each other, and missed when one is gone."""

import contextlib
import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from flan_jax.errors import InputError
from flan_jax.train.stop import INTERRUPTED

HEARTBEAT_S = 30
"""Seconds without a sign of life after which a host counts as gone."""

SKEW_S = 60.0
"""Most seconds that the clocks of two hosts may differ by without a warning."""

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


def first() -> bool:
  """Whether this is host 0, which writes what is written once."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Returns once every host is here."""
  if not alone():
    multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def first_first(name: str) -> Iterator[None]:
  """What is done in here host 0 does before the others begin."""
  if not first():
    barrier(name)
  yield
  if first():
    barrier(name)


def agree(facts: Mapping[str, object]) -> list[str]:
  """Checks that every host knows the same facts; all hosts must call it.

  Args:
    facts: name -> value, the same names in the same order on every host.

  Returns:
    Warnings: clocks that differ.

  Raises:
    InputError: naming every fact that differs and the hosts that differ from host 0.
  """
  if alone():
    return []
  # Each digest as four 16-bit words, and the clock apart: without x64, JAX gathers
  # nothing wider than 32 bits.
  digests = [
    hashlib.sha256(repr(value).encode()).digest()[:8] for value in facts.values()
  ]
  words = np.frombuffer(b''.join(digests), '<u2').astype(np.int32)
  clock = np.array([int(time.time()) % 1_000_000, len(facts)], np.int32)
  every = multihost_utils.process_allgather(np.concatenate([clock, words]))
  found = disagreements(every[:, 2:].reshape(len(every), -1, 4), tuple(facts))
  if found:
    raise InputError(
      f'hosts disagree: {"; ".join(found)}; they must all be started alike'
    )
  spread = int(every[:, 0].max() - every[:, 0].min())
  if spread > SKEW_S:
    return [f'clocks of the hosts differ by {spread} s: logs and ledgers will too']
  return []


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


def disagreements(every: np.ndarray, names: tuple[str, ...]) -> list[str]:
  """What differs, in words.

  Args:
    every: digests [hosts, facts, words].
    names: of the facts.
  """
  out = []
  for i, name in enumerate(names):
    others = [h for h in range(len(every)) if (every[h, i] != every[0, i]).any()]
    if others:
      who = ', '.join(map(str, others))
      out.append(f'{name} of host {who} is not that of host 0')
  return out


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
        f'({first_line[:200]}); start all of them again to go on from the last '
        'checkpoint',
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
