"""gcloud as a subprocess: its commands as lists, its failures in words.

Nothing here schedules or keeps state: Cloud TPU and the `gcloud` that the user has
signed in with do. Standard library only.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flan_jax.errors import InputError

DROPPED = 255
"""Exit code of ssh, and so of gcloud, when the connection was lost."""


class Failed(Exception):
  """A command failed in a way that trying again will not mend; one line says why."""


class NoCapacity(Failed):
  """The zone has no free slice of this type now."""


class Result(NamedTuple):
  """What a command said: exit code, standard output and standard error."""

  code: int
  out: str
  err: str

  @property
  def dropped(self) -> bool:
    """Whether a connection was lost, rather than the command having failed."""
    return self.code == DROPPED or 'exited with return code [255]' in self.err


class Gcloud:
  """Runs gcloud, or with `dry_run` only says what it would run.

  Attributes:
    dry_run: nothing is run; every command is printed on standard output.
  """

  def __init__(self, *, dry_run: bool = False):
    self.dry_run = dry_run

  def run(self, *arguments: str, dry: str = '') -> Result:
    """Runs `gcloud ARGUMENTS` to its end.

    Args:
      arguments: of gcloud.
      dry: what standard output is taken to be in a dry run.

    Raises:
      InputError: if there is no gcloud.
    """
    return self.local('gcloud', *arguments, dry=dry)

  def local(self, *command: str, dry: str = '') -> Result:
    """Runs any command of this machine to its end; see `run`."""
    if self.dry_run:
      print(shell(command))
      return Result(0, dry, '')
    try:
      done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
      raise _missing(command[0]) from None
    return Result(done.returncode, done.stdout, done.stderr)

  def stream(self, *arguments: str, line: Callable[[str], None]) -> Result:
    """Runs `gcloud ARGUMENTS`, giving each line of its output to `line` as it comes."""
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
  """A command as a line that a shell would read back as the same words."""
  return shlex.join(command)


def parse(result: Result, what: str) -> dict[str, Any] | None:
  """The JSON object of a `describe`; None where the thing does not exist.

  Raises:
    Failed: on any other failure.
  """
  if result.code == 0:
    try:
      return json.loads(result.out) if result.out.strip() else None
    except ValueError:
      raise Failed(f'{what}: gcloud answered no JSON: {result.out[:80]!r}') from None
  if re.search(r'NOT_FOUND|was not found|not found', result.err):
    return None
  raise failure(result, what)


def failure(result: Result, what: str) -> Failed:
  """A failed command as the exception to raise: what happened and what helps."""
  text = _message(result.err) or f'gcloud ended with exit code {result.code}'
  if re.search(r'no more capacity|[Ii]nsufficient (reserved )?capacity', text):
    return NoCapacity(
      f'{what}: no capacity: {text}; --queued waits for it, another --zone may have it'
    )
  if re.search(r'[Qq]uota|RESOURCE_EXHAUSTED', text):
    return Failed(
      f'{what}: quota: {text}; ask for more at console.cloud.google.com/iam-admin/'
      'quotas, or give --spot (which has a quota of its own), --type or --zone'
    )
  if re.search(r'auth tokens|active account|UNAUTHENTICATED|reauth', text):
    return Failed(f'{what}: not signed in: {text}; run `gcloud auth login`')
  if re.search(r'PERMISSION_DENIED|[Pp]ermission', text):
    return Failed(
      f'{what}: not allowed: {text}; the role is roles/tpu.admin, and the API '
      'tpu.googleapis.com must be enabled in the project'
    )
  return Failed(f'{what}: {text}')


def _message(text: str) -> str:
  """The one line of gcloud's standard error that says what went wrong."""
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
