"""`flan launch`: one run on every host of a TPU VM slice, until it is done.

The slice is made or reused, this very commit is installed on every host, the run is
started on all of them and host 0 is shown. A run is detached from the connection that
started it: a dropped ssh is taken up again at the next line. It starts again where its
exit code asks for it (143: a checkpoint is saved) and where the slice was preempted.

On a host, all lies under ~/flan:
  COMMIT/           wheel, constraints and the environment they were installed into
  run/              where the run works: log, pid, exit (its code), id (what it is)
"""

import hashlib
import pathlib
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from flan_jax.errors import InputError
from flan_jax.tpu.launch.gcloud import Gcloud, NoCapacity, failure
from flan_jax.tpu.launch.source_bundle import Commit, scratch
from flan_jax.tpu.launch.tpu_slice import NoSlice, Slice

RESTART = 143
"""Exit code of a run that saved its state and asks to be started again."""

_KILLED = (None, 137)
_ABORTED = 134
"""Exit code of the others where host 0 was killed: JAX ends them by SIGABRT."""

MULTIHOST = '--multihost'
PYTHON = '3.12'

_INSTALL = """\
set -e
cd ~/flan/{commit}
if [ ! -f ready ]; then
  if [ ! -x ~/.local/bin/uv ]; then curl -LsSf https://astral.sh/uv/install.sh | sh; fi
  ~/.local/bin/uv venv --quiet --clear --python {python} venv
  ~/.local/bin/uv pip install --quiet --python venv/bin/python \
--constraint constraints.txt "flan_jax[{extras}] @ file://$PWD/{wheel}"
  touch ready
fi
venv/bin/flan --version"""

_START = """\
set -e
mkdir -p ~/flan/run
cd ~/flan/run
if [ -f pid ] && [ ! -f exit ] && kill -0 "$(cat pid)" 2>/dev/null; then
  if [ "$(cat id)" = {id} ]; then echo flan-running; else echo flan-busy; fi
  exit 0
fi
rm -f exit
echo {id} > id
export PATH="$HOME/flan/{commit}/venv/bin:$PATH"
cat > command <<'FLAN-END'
{command}
FLAN-END
setsid nohup bash -c {inner} > log 2>&1 < /dev/null &
echo $! > pid
echo flan-started"""

# SIGTERM goes to the whole group: the shell outlives the run to write its exit code.
_INNER = 'trap : TERM; . ./command; echo $? > exit.tmp; mv exit.tmp exit'

_FOLLOW = (
  'cd ~/flan/run && tail -s 0.2 -n +{line} -F --pid="$(cat pid)" log 2>/dev/null; '
  'for i in 1 2 3 4 5; do [ -f exit ] && break; sleep 1; done; '
  'echo "flan-exit $(cat exit 2>/dev/null || echo none)"'
)

_CODES = (
  'cd ~/flan/run && for i in $(seq {wait_s}); do [ -f exit ] && break; sleep 1; done; '
  'echo "flan-exit $(cat exit 2>/dev/null || echo none)"'
)

_STOP = (
  'cd ~/flan/run 2>/dev/null || exit 0; '
  '[ -f pid ] && [ ! -f exit ] && kill -TERM -- "-$(cat pid)" 2>/dev/null; '
  'for i in $(seq {wait_s}); do [ -f exit ] && break; '
  'kill -0 "$(cat pid)" 2>/dev/null || break; sleep 1; done; '
  'echo "flan-exit $(cat exit 2>/dev/null || echo none)"'
)

_CLEAR = (
  'cd ~/flan/run 2>/dev/null && [ -f pid ] && [ ! -f exit ] && '
  'kill -KILL -- "-$(cat pid)" 2>/dev/null; true'
)


class Job(NamedTuple):
  """What is run on every host.

  Attributes:
    command: its words, as `flan train --gin_file=...`.
    files: files of this machine that it names and the commit does not hold.
  """

  command: tuple[str, ...]
  files: tuple[str, ...]


def job(
  words: Sequence[str], *, commit: Commit, check: Callable[[Sequence[str]], None]
) -> Job:
  """The command to run, its local gin files turned into copies beside the run.

  Args:
    words: the command.
    commit: what is installed there.
    check: given the words; raises InputError at settings that cannot run.

  Raises:
    InputError: if there is no command, a gin file is nowhere, or `check` refuses.
  """
  given, words = words, list(words)
  if not words:
    raise InputError(
      'launch: no command; give it after --, as in `flan launch --tpu NAME --zone Z '
      '--type v3-128 -- flan train --gin_file=gin/runs/flan_137b.gin`'
    )
  files = []
  for i, word in enumerate(words):
    name, equals, value = word.partition('=')
    before = i and words[i - 1] == '--gin_file'
    path = value if name == '--gin_file' and equals else word if before else None
    if path is None or commit.has(path):
      continue
    if not pathlib.Path(path).is_file():
      raise InputError(f'--gin_file: {path!r} is no file here, nor in the commit')
    files.append(path)
    copied = pathlib.Path(path).name
    words[i] = copied if before else f'{name}={copied}'
  check(given)
  return Job(tuple(words), tuple(files))


def on_hosts(words: Sequence[str], count: int) -> list[str]:
  """The command as each of `count` hosts runs it: verbs that join say so."""
  joins = list(words[:2]) in (['flan', 'train'], ['flan', 'eval'])
  said = any(word.partition('=')[0] == MULTIHOST for word in words)
  return [*words, MULTIHOST] if count > 1 and joins and not said else list(words)


class Launch:
  """One job on one slice."""

  def __init__(
    self,
    slice: Slice,
    gcloud: Gcloud,
    *,
    say: Callable[[str], None] = print,
    show: Callable[[str], None] = print,
    max_restarts: int = 20,
    grace_s: int = 120,
    retry_s: float = 10.0,
    capacity_s: float = 300.0,
    extras: str = 'tpu',
    check: Callable[[Sequence[str]], None] = lambda words: None,
  ):
    """See the class.

    Args:
      slice: where.
      gcloud: what runs the commands.
      say: told what is happening.
      show: given each line of host 0's log.
      max_restarts: how often the job may be started again.
      grace_s: seconds that hosts have to end after host 0 did, or after a stop.
      retry_s: seconds before a dropped connection is tried again.
      capacity_s: seconds before a preempted slice that the zone has no room for is
        asked for again; each time counts as a restart.
      extras: of the package, to install.
      check: given the command before anything is paid for; raises InputError.
    """
    self._check = check
    self._slice, self._gcloud = slice, gcloud
    self._say, self._show = say, show
    self._max_restarts = max_restarts
    self._grace_s = grace_s
    self._retry_s = retry_s
    self._capacity_s = capacity_s
    self._extras = extras

  def run(self, words: Sequence[str]) -> int:
    """Runs the command on all hosts to its end.

    Returns:
      Its exit code; RESTART where it still asks to be started again.

    Raises:
      InputError, Failed: before it starts, or where gcloud fails for good.
    """
    commit = Commit(self._gcloud)
    what = job(words, commit=commit, check=self._check)
    code = RESTART
    for attempt in range(self._max_restarts + 1):
      if attempt:
        self._say(f'Starting again ({attempt} of at most {self._max_restarts})')
      try:
        self._slice.ensure()
        self._install(commit, what)
        self._start(commit, what)
        code = self._follow()
      except NoSlice as error:
        self._say(f'Preempted: {error}')
        continue
      except NoCapacity as error:
        if not attempt:
          raise
        self._say(f'{error}; trying again in {self._capacity_s:.0f} s')
        time.sleep(self._capacity_s)
        continue
      if code != RESTART:
        break
      self._say(f'Exit code {code}: its state is saved')
      self._retry(_CLEAR)  # hosts that hang would not take part in the next start
    return code

  def stop(self) -> int:
    """SIGTERM on every host; returns once the runs have saved and ended."""
    self._say(f'Stopping the run on TPU {self._slice.name}: it saves a checkpoint')
    result = self._retry(_STOP.format(wait_s=self._grace_s))
    codes = exit_codes(result.out)
    alive = codes.count(None)
    if alive and not self._gcloud.dry_run:
      self._say(f'{alive} of {len(codes)} hosts have no exit code (nothing ran there?)')
    return 0

  def _install(self, commit: Commit, what: Job) -> None:
    self._say(f'Installing commit {commit.name} on {self._slice.hosts} host(s)')
    folder = f'flan/{commit.name}'
    self._must(self._retry(f'mkdir -p ~/{folder} ~/flan/run'), 'mkdir')
    there = self._retry(f'test -f ~/{folder}/ready && echo flan-ready || true')
    if there.out.count('flan-ready') < self._slice.hosts:
      built = scratch(self._gcloud)
      try:
        place = pathlib.Path(built.name if built else '/tmp/flan-launch')
        files = commit.wheel(place)
        self._must(self._copy(*files, to=f'~/{folder}/'), 'scp of the wheel')
      finally:
        if built:
          built.cleanup()
      wheel = pathlib.Path(files[0]).name
      script = _INSTALL.format(
        commit=commit.name, wheel=wheel, extras=self._extras, python=PYTHON
      )
      self._must(self._retry(script), 'pip install')
    if what.files:
      self._must(self._copy(*what.files, to='~/flan/run/'), 'scp of gin files')

  def _start(self, commit: Commit, what: Job) -> None:
    command = shlex.join(on_hosts(what.command, self._slice.hosts))
    self._say(f'Starting on {self._slice.hosts} host(s): {command}')
    identity = hashlib.sha256(f'{commit.name} {command}'.encode()).hexdigest()[:12]
    script = _START.format(
      id=identity,
      commit=commit.name,
      command=command,
      inner=shlex.quote(_INNER),
    )
    result = self._must(self._retry(script), 'start')
    if 'flan-busy' in result.out:
      raise InputError(
        f'TPU {self._slice.name}: another run is going on there; `flan launch --tpu '
        f'{self._slice.name} --zone {self._slice.zone} --stop` stops it'
      )
    if 'flan-running' in result.out:
      self._say('It is running already: following it')

  def _follow(self) -> int:
    """Shows host 0's log until the run ends; returns the exit code of all hosts."""
    lines = 0
    ended: str | None = None

    def line(text: str) -> None:
      nonlocal lines, ended
      if text.startswith('flan-exit '):
        ended = text.split()[1]
        return
      lines += 1
      self._show(text)

    while ended is None:
      result = self._slice.follow(_FOLLOW.format(line=lines + 1), line=line)
      if self._gcloud.dry_run:
        self._slice.ssh(_CODES.format(wait_s=self._grace_s))
        return 0
      if ended is not None:
        break
      self._there(f'the connection ended with exit code {result.code}')
      self._say(f'Connection lost; taking it up again at line {lines + 1}')
      time.sleep(self._retry_s)
    if ended == 'none':
      self._there('host 0 ended without an exit code')
    result = self._retry(_CODES.format(wait_s=self._grace_s))
    codes = exit_codes(result.out) or [None]
    if codes == [0] * len(codes):
      return 0
    self._there(f'exit codes {codes}')
    if RESTART in codes or (codes[0] in _KILLED and _ABORTED in codes[1:]):
      return RESTART
    bad = [code for code in codes if code != 0]
    shown = ', '.join('killed' if code is None else str(code) for code in codes)
    self._say(f'Exit codes of the hosts: {shown}; the log is ~/flan/run/log on each')
    return next((code for code in bad if code), 1)

  def _there(self, why: str) -> None:
    """Raises NoSlice if the slice is not READY any more."""
    state = self._slice.state()
    if state != 'READY':
      raise NoSlice(f'TPU {self._slice.name} is {state or "gone"} ({why})')

  def _retry(self, script: str, *, times: int = 5):
    """A script on every host; a dropped connection is tried again: scripts allow it."""
    return self._again(lambda: self._slice.ssh(script), times=times)

  def _copy(self, *files: str, to: str):
    return self._again(lambda: self._slice.copy(*files, to=to), times=5)

  def _again(self, act: Callable, *, times: int):
    while (result := act()).code and result.dropped and times > 1:
      times -= 1
      self._there('the connection was dropped')
      self._say('Connection lost; trying again')
      time.sleep(self._retry_s)
    return result

  def _must(self, result, what: str):
    if result.code:
      raise failure(result, f'TPU {self._slice.name}: {what}')
    return result


def exit_codes(text: str) -> list[int | None]:
  """Exit codes in the output of all hosts; None for a host that has none."""
  found = re.findall(r'flan-exit (\w+)', text)
  return [int(code) if code.isdecimal() else None for code in found]


def say(text: str) -> None:
  """A line on standard error: standard output is host 0's, or a dry run's commands."""
  print(f'flan launch: {text}', file=sys.stderr, flush=True)
