"""Runs gcloud as a subprocess and turns its failures into clear errors.

This module keeps no state and schedules nothing: Cloud TPU does, through the user's
signed-in `gcloud`. Standard library only.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flan_jax.errors import InputError
from flan_jax.runtime import network

DROPPED = 255
"""Exit code of ssh, and therefore of gcloud, when the connection is lost."""


class Failed(Exception):
  """A failure that a retry would not fix; the message is one line."""


class NoCapacity(Failed):
  """The zone has no free slice of this type at the moment."""


class Result(NamedTuple):
  """Exit code, standard output and standard error of a command."""

  code: int
  out: str
  err: str

  @property
  def dropped(self) -> bool:
    """Returns True if the connection was lost, not if the command failed."""
    return self.code == DROPPED or 'exited with return code [255]' in self.err


class Gcloud:
  """Runs gcloud, or with `dry_run` only prints the commands.

  Attributes:
    dry_run: print every command on standard output instead of running it.
  """

  def __init__(self, *, dry_run: bool = False):
    self.dry_run = dry_run

  def run(self, *arguments: str, dry_output: str = '') -> Result:
    """Runs `gcloud ARGUMENTS` to completion.

    Args:
      arguments: arguments of gcloud.
      dry_output: standard output to assume in a dry run.

    Raises:
      InputError: if gcloud is not installed.
    """
    return self.local('gcloud', *arguments, dry_output=dry_output)

  def local(self, *command: str, dry_output: str = '') -> Result:
    """Runs a local command to completion; see `run`."""
    if self.dry_run:
      print(shell(command))
      return Result(0, dry_output, '')
    try:
      with network.waiting(lambda: shell(command[:4])):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
      raise _missing(command[0]) from None
    return Result(done.returncode, done.stdout, done.stderr)

  def stream(self, *arguments: str, line: Callable[[str], None]) -> Result:
    """Runs `gcloud ARGUMENTS` and passes each line of its output to `line`."""
    command = ('gcloud', *arguments)
    if self.dry_run:
      print(shell(command))
      return Result(0, '', '')
    try:
      process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        errors='replace',
      )
    except FileNotFoundError:
      raise _missing(command[0]) from None
    assert process.stdout is not None  # a pipe
    try:
      for text in process.stdout:
        line(text.rstrip('\n'))
    finally:
      process.stdout.close()
      if process.poll() is None and sys.exc_info()[0] is not None:
        process.terminate()
      process.wait()
    return Result(process.returncode, '', '')


def shell(command: Sequence[str]) -> str:
  """Quotes a command as one line for a shell."""
  return shlex.join(command)


def parse(result: Result, what: str) -> dict[str, Any] | None:
  """The JSON object of a `describe`; None if the resource does not exist.

  Raises:
    Failed: if gcloud failed for another reason.
  """
  if result.code == 0:
    try:
      return json.loads(result.out) if result.out.strip() else None
    except ValueError:
      raise Failed(f'{what}: gcloud printed no JSON: {result.out[:80]!r}') from None
  if re.search(r'NOT_FOUND|was not found|not found', result.err):
    return None
  raise failure(result, what)


def failure(result: Result, what: str) -> Failed:
  """The exception for a failed command: what happened, then what to do."""
  text = _message(result.err) or f'gcloud ended with exit code {result.code}'
  if re.search(r'no more capacity|[Ii]nsufficient (reserved )?capacity', text):
    return NoCapacity(
      f'{what}: no capacity: {text}; wait with --queued, or try another --zone'
    )
  if re.search(r'[Qq]uota|RESOURCE_EXHAUSTED', text):
    return Failed(
      f'{what}: quota: {text}; request more at console.cloud.google.com/iam-admin/'
      'quotas, or try --spot (which has its own quota), another --type or --zone'
    )
  if re.search(r'auth tokens|active account|UNAUTHENTICATED|reauth', text):
    return Failed(f'{what}: not signed in: {text}; run `gcloud auth login`')
  if re.search(r'PERMISSION_DENIED|[Pp]ermission', text):
    return Failed(
      f'{what}: not allowed: {text}; it needs the role roles/tpu.admin, and the API '
      'tpu.googleapis.com enabled in the project'
    )
  return Failed(f'{what}: {text}')


def _message(text: str) -> str:
  """The line of gcloud's standard error that states the cause."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  errors = [line for line in lines if line.startswith('ERROR:')]
  quota = [line for line in lines if 'uota' in line or '"message"' in line]
  found = (errors or lines[-1:])[:1]
  if found and found[0].rstrip().endswith((':', '{')):
    found += quota[:1]
  return re.sub(r'^ERROR: \(gcloud[\w.-]*\) ', '', ' '.join(found))[:400]


def _missing(name: str) -> InputError:
  where = '; https://cloud.google.com/sdk/docs/install' if name == 'gcloud' else ''
  return InputError(f'{name}: not found on the PATH{where}')
