"""`flan launch`: runs a job on every host of a TPU VM slice until it is done.

The slice is created or reused, flan_jax and the user's packages are installed on every
host, the job starts on all hosts, and the log of host 0 is shown. The job is detached
from its ssh connection: after a lost connection, the log continues at the next line.
The job is restarted if its exit code asks for it (143: a checkpoint is saved) or if the
slice was preempted.

Files on a host are under ~/flan:
  ID/               wheels, constraints and the virtual environment; ID names them
  run/              working directory of the job: the command's own files, log, pid,
                    exit (code), id (of the job)
"""

import hashlib
import pathlib
import re
import secrets
import shlex
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from flan_jax.errors import InputError
from flan_jax.tpu.launch import installer, own_code, own_files, quoting
from flan_jax.tpu.launch.gcloud import Gcloud, NoCapacity, failure
from flan_jax.tpu.launch.source_bundle import EXTRAS, Bundle, scratch, source
from flan_jax.tpu.launch.tpu_slice import NoSlice, Slice

RESTART = 143
"""Exit code of a job that saved its state and must be restarted."""

_KILLED = (None, 137)
_ABORTED = 134
"""Exit code of the other hosts if host 0 is killed: JAX aborts them (SIGABRT)."""

MULTIHOST = '--multihost'

_INSTALL = """\
set -e
cd ~/flan/{bundle}
if [ ! -f ready ]; then
{install}
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
[ ! -f files ] || xargs -d '\\n' rm -f -- < files
{unpack}
echo {id} > id
export PATH="$HOME/flan/{bundle}/venv/bin:$PATH"
{command} > command
setsid nohup bash -c {inner} > log 2>&1 < /dev/null &
echo $! > pid
echo flan-started"""

_UNPACK = 'tar -x -v --quoting-style=literal -f ~/flan/{bundle}/{archive} > files'

# SIGTERM goes to the process group: the shell outlives the job to write its exit code.
_INNER = 'trap : TERM; . ./command; echo $? > exit.tmp; mv exit.tmp exit'

_FOLLOW = (
  'cd ~/flan/run && tail -s 0.2 -n +{line} -F --pid="$(cat pid)" log 2>/dev/null; '
  'for i in 1 2 3 4 5; do [ -f exit ] && break; sleep 1; done; '
  'echo "flan-exit {mark} $(cat exit 2>/dev/null || echo none)"'
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


class Request(NamedTuple):
  """Modules and files that a command needs.

  Attributes:
    modules: modules that it names, and those of entry points; imported.
    data: (place on the hosts, local file) of the files that its settings name.
    warnings: lines about what does not travel.
  """

  modules: tuple[str, ...] = ()
  data: tuple[tuple[str, pathlib.Path], ...] = ()
  warnings: tuple[str, ...] = ()


class Job(NamedTuple):
  """A command to run on every host.

  Attributes:
    files: its words, e.g. `flan train --gin_file=...`, and local files that they name.
    bundle: packages that the hosts install.
    warnings: lines about what does not travel.
  """

  files: own_files.Files
  bundle: Bundle
  warnings: tuple[str, ...]

  @property
  def command(self) -> tuple[str, ...]:
    """Words of the command on the hosts."""
    return self.files.words

  def describe(self) -> list[str]:
    """Lines that say what is shipped and what is not."""
    lines = self.bundle.describe()
    if self.files.places:
      places = sorted(self.files.places)
      lines.append(f'Ships files beside it: {own_code.listed(places)}')
    return [*lines, *self.warnings]

  def write(self, folder: pathlib.Path) -> dict[str, str]:
    """Writes wheels, constraints and `files/`; returns wheel -> its requirement.

    Raises:
      InputError: if there is something in the folder.
    """
    if folder.is_dir() and any(folder.iterdir()):
      raise InputError(f'--bundle: {str(folder)!r} is not empty; give a new folder')
    with tempfile.TemporaryDirectory(prefix='flan-launch-') as built:
      made = self.bundle.write(pathlib.Path(built))
      (folder / 'files').mkdir(parents=True, exist_ok=True)
      for path in made:
        shutil.copy(path, folder)
    for place, path in self.files.places.items():
      target = folder / 'files' / place
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(path, target)
    return self.bundle.requirements(made)


def make_job(
  words: Sequence[str],
  *,
  gcloud: Gcloud,
  check: Callable[[Sequence[str]], Request],
  extras: Sequence[str] = EXTRAS,
) -> Job:
  """Returns the job of a command, with the user's packages and files.

  Args:
    words: the command.
    gcloud: runner of commands.
    check: called with the command; raises InputError if its settings are invalid.
    extras: extras of flan_jax to install.

  Raises:
    InputError: if there is no command, a word cannot be passed, a gin file does not
      exist, `check` fails, or something cannot be shipped.
  """
  if not words:
    raise InputError(
      'launch: no command; pass it after --, as in `flan launch --tpu NAME --zone Z '
      '--type v3-128 -- flan train --gin_file=gin/runs/flan_137b.gin`'
    )
  quoting.check(words)
  ours = source(gcloud)
  request = check(words)
  packages = own_code.find(request.modules, extras=extras)
  data, warnings = list(request.data), list(request.warnings)
  if request.modules:
    more, unshipped = own_files.declared(package.wheel for package in packages)
    data, warnings = data + more, warnings + unshipped
  files = own_files.find(words, ships=ours.has, data=data)
  return Job(files, Bundle(gcloud, ours, packages, extras), tuple(warnings))


def host_command(words: Sequence[str], count: int) -> list[str]:
  """The command of each of `count` hosts: distributed verbs get --multihost."""
  joins = list(words[:2]) in [['flan', verb] for verb in ('train', 'eval', 'infer')]
  given = any(word.partition('=')[0] == MULTIHOST for word in words)
  return [*words, MULTIHOST] if count > 1 and joins and not given else list(words)


class Launch:
  """One job on one slice."""

  def __init__(
    self,
    slice: Slice,
    gcloud: Gcloud,
    *,
    log: Callable[[str], None] = print,
    on_line: Callable[[str], None] = print,
    max_restarts: int = 20,
    grace_s: int = 120,
    retry_s: float = 10.0,
    capacity_s: float = 300.0,
    extras: Sequence[str] = EXTRAS,
    check: Callable[[Sequence[str]], Request] = lambda words: Request(),
  ):
    """See the class.

    Args:
      slice: the slice to run on.
      gcloud: runner of gcloud commands.
      log: called with each status line.
      on_line: called with each line of host 0's log.
      max_restarts: maximum number of restarts.
      grace_s: seconds that the hosts have to exit after host 0, or after a stop.
      retry_s: seconds before a lost connection is retried.
      capacity_s: seconds before a preempted slice is requested again if the zone has no
        capacity; each request counts as a restart.
      extras: extras of flan_jax to install.
      check: called with the command before the slice is created; raises InputError.
    """
    self._check = check
    self._slice, self._gcloud = slice, gcloud
    self._log, self._on_line = log, on_line
    self._max_restarts = max_restarts
    self._grace_s = grace_s
    self._retry_s = retry_s
    self._capacity_s = capacity_s
    self._extras = extras

  def run(self, words: Sequence[str]) -> int:
    """Runs the command on all hosts to completion.

    Returns:
      The exit code; RESTART if the job still asks for a restart.

    Raises:
      InputError: when the command or its settings are invalid.
      Failed: when gcloud fails and a retry would not help.
    """
    job = make_job(words, gcloud=self._gcloud, check=self._check, extras=self._extras)
    for line in job.describe():
      self._log(line)
    code = RESTART
    for attempt in range(self._max_restarts + 1):
      if attempt:
        self._log(f'Restarting ({attempt} of at most {self._max_restarts})')
      try:
        self._slice.ensure()
        self._install(job)
        self._start(job)
        code = self._follow()
      except NoSlice as error:
        self._log(f'Preempted: {error}')
        continue
      except NoCapacity as error:
        if not attempt:
          raise
        self._log(f'{error}; retrying in {self._capacity_s:.0f} s')
        time.sleep(self._capacity_s)
        continue
      if code != RESTART:
        break
      self._log(f'Exit code {code}: a checkpoint is saved')
      self._retry(_CLEAR)  # a hanging process would block the restart
    return code

  def stop(self) -> int:
    """Sends SIGTERM on every host; returns once the jobs have saved and exited."""
    self._log(f'Stopping the job on TPU {self._slice.name}: it saves a checkpoint')
    result = self._retry(_STOP.format(wait_s=self._grace_s))
    codes = exit_codes(result.out)
    alive = codes.count(None)
    if alive and not self._gcloud.dry_run:
      self._log(f'{alive} of {len(codes)} hosts have no exit code (no job there?)')
    return 0

  def _install(self, job: Job) -> None:
    bundle = job.bundle
    self._log(f'Installing {bundle.source.describe} on {self._slice.hosts} host(s)')
    folder = f'flan/{bundle.name}'
    self._checked(self._retry(f'mkdir -p ~/{folder} ~/flan/run'), 'mkdir')
    ready = self._retry(f'test -f ~/{folder}/ready && echo flan-ready || true')
    built = scratch(self._gcloud)
    try:
      place = pathlib.Path(built.name if built else '/tmp/flan-launch')
      if ready.out.count('flan-ready') < self._slice.hosts:
        self._install_wheels(bundle, place)
      if job.files.places:
        self._copy_files(job.files, bundle.name, place)
    finally:
      if built:
        built.cleanup()

  def _install_wheels(self, bundle: Bundle, place: pathlib.Path) -> None:
    made = bundle.write(place)
    copied = self._copy(*made, to=f'~/flan/{bundle.name}/')
    self._checked(copied, 'scp of the wheels')
    wheels = installer.quoted(bundle.requirements(made), './')
    script = _INSTALL.format(
      bundle=bundle.name,
      install=textwrap.indent(installer.install(wheels, 'venv'), '  '),
    )
    self._checked(self._retry(script), 'pip install')

  def _copy_files(self, files: own_files.Files, name: str, place: pathlib.Path) -> None:
    if not self._gcloud.dry_run:
      files.write(place)
    copied = self._copy(str(place / files.archive), to=f'~/flan/{name}/')
    self._checked(copied, 'scp of the files of the command')

  def _start(self, job: Job) -> None:
    bundle = job.bundle
    command = quoting.command_line(host_command(job.command, self._slice.hosts))
    self._log(f'Starting on {self._slice.hosts} host(s): {command}')
    told = f'{bundle.name} {command}{job.files.digest}'
    unpack = _UNPACK.format(bundle=bundle.name, archive=job.files.archive)
    identity = hashlib.sha256(told.encode()).hexdigest()[:12]
    script = _START.format(
      id=identity,
      bundle=bundle.name,
      unpack=unpack if job.files.places else 'rm -f files',
      command=quoting.echoed([command]),
      inner=shlex.quote(_INNER),
    )
    result = self._checked(self._retry(script), 'start')
    if 'flan-busy' in result.out:
      raise InputError(
        f'TPU {self._slice.name}: another job is running; stop it with `flan launch '
        f'--tpu {self._slice.name} --zone {self._slice.zone} --stop`'
      )
    if 'flan-running' in result.out:
      self._log('The job is running already: following its log')

  def _follow(self) -> int:
    """Shows host 0's log until the job ends; returns one exit code for all hosts."""
    lines = 0
    ended: str | None = None
    mark = secrets.token_hex(6)  # a job can print anything else

    def line(text: str) -> None:
      nonlocal lines, ended
      last = re.fullmatch(rf'(.*)flan-exit {mark} (\w+)', text)
      if last:
        text, ended = last.groups()
        if not text:
          return
      lines += 1
      self._on_line(text)

    while ended is None:
      result = self._slice.follow(_FOLLOW.format(line=lines + 1, mark=mark), line=line)
      if self._gcloud.dry_run:
        self._slice.ssh(_CODES.format(wait_s=self._grace_s))
        return 0
      if ended is not None:
        break
      self._check_ready(f'the connection ended with exit code {result.code}')
      self._log(f'Connection lost; resuming the log at line {lines + 1}')
      time.sleep(self._retry_s)
    if ended == 'none':
      self._check_ready('host 0 ended without an exit code')
    result = self._retry(_CODES.format(wait_s=self._grace_s))
    codes = exit_codes(result.out) or [None]
    if codes == [0] * len(codes):
      return 0
    self._check_ready(f'exit codes {codes}')
    if RESTART in codes or (codes[0] in _KILLED and _ABORTED in codes[1:]):
      return RESTART
    bad = [code for code in codes if code != 0]
    shown = ', '.join('killed' if code is None else str(code) for code in codes)
    self._log(f'Exit codes of the hosts: {shown}; each log is ~/flan/run/log')
    return next((code for code in bad if code), 1)

  def _check_ready(self, why: str) -> None:
    """Raises NoSlice if the slice is no longer READY."""
    state = self._slice.state()
    if state != 'READY':
      raise NoSlice(f'TPU {self._slice.name} is {state or "gone"} ({why})')

  def _retry(self, script: str, *, times: int = 5):
    """Runs an idempotent script on every host; retries after a lost connection."""
    return self._with_retries(lambda: self._slice.ssh(script), times=times)

  def _copy(self, *files: str, to: str):
    return self._with_retries(lambda: self._slice.copy(*files, to=to), times=5)

  def _with_retries(self, act: Callable, *, times: int):
    while (result := act()).code and result.dropped and times > 1:
      times -= 1
      self._check_ready('the connection was lost')
      self._log('Connection lost; retrying')
      time.sleep(self._retry_s)
    return result

  def _checked(self, result, what: str):
    if result.code:
      raise failure(result, f'TPU {self._slice.name}: {what}')
    return result


def exit_codes(text: str) -> list[int | None]:
  """Exit codes in the output of all hosts; None for a host without one."""
  found = re.findall(r'flan-exit (\w+)', text)
  return [int(code) if code.isdecimal() else None for code in found]


def log(text: str) -> None:
  """Prints to standard error; standard output has host 0's log or the dry run."""
  print(f'flan launch: {text}', file=sys.stderr, flush=True)
