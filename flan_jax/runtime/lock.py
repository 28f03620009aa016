"""Locks: one process writes to a MODEL_DIR, an OUTPUT_DIR or a store at a time.

The lock of a folder is a file in it, `.flan.lock`, that names its process: host, PID,
and start time since boot, so that a recycled PID is not taken for the owner. The file
is locked (flock), which a killed process no longer does, and removed at the end. Its
owner touches it every few seconds: where that does not reach, as after a kill on
another host, a start watches the file, and takes it over once it no longer changes.

In an object store there is no flock: the lock is an object, made only if absent.
Readers take no lock. Standard library only, but for object stores.
"""

import contextlib
import datetime
import fcntl
import functools
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flan_jax.errors import InputError
from flan_jax.runtime import network

FILE = '.flan.lock'
"""Name of the lock in its folder."""

BEAT_S = 5.0
"""Seconds between two signs of life; in an object store, three times that."""

PATIENCE_S = 60.0
"""Seconds without a sign of life after which a process of another host counts as dead.
"""

_CONFIRM_S = 0.5
"""Seconds after which a lock that no system call guards is read again."""


class Owner(NamedTuple):
  """The process that a lock belongs to.

  Attributes:
    host: host name.
    boot: id of the boot of its kernel; '' if unknown.
    pid: process id.
    started: start time of the process, in ticks since boot; 0 if unknown.
    since: time at which it took the lock, for messages.
    token: differs from that of any other lock.
    beat: number of signs of life, in an object store.
  """

  host: str
  boot: str
  pid: int
  started: int
  since: str
  token: str
  beat: int = 0

  @classmethod
  def this(cls) -> 'Owner':
    """Describes this process."""
    now = datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M:%S UTC')
    pid = os.getpid()
    return cls(socket.gethostname(), _boot(), pid, _started(pid), now, uuid.uuid4().hex)

  def is_here(self) -> bool:
    """Returns whether its process numbers are those that this process sees."""
    return (self.host, self.boot) == (socket.gethostname(), _boot()) and self.boot != ''

  def is_alive(self) -> bool:
    """Returns whether the process still runs, if it `is_here`."""
    return self.started != 0 and _started(self.pid) == self.started

  def to_bytes(self) -> bytes:
    return json.dumps(self._asdict()).encode() + b'\n'


def parse(data: bytes) -> Owner | None:
  """Reads a lock; None if it is empty, torn, or of another form."""
  try:
    found = Owner(**json.loads(data))
  except (ValueError, TypeError):
    return None
  kinds = {name: type(value) for name, value in found._asdict().items()}
  return found if kinds == Owner.__annotations__ else None


@functools.cache
def _boot() -> str:
  try:
    return pathlib.Path('/proc/sys/kernel/random/boot_id').read_text('ascii').strip()
  except OSError:
    return ''


def _started(pid: int) -> int:
  """Start time of a process in ticks since boot; 0 if it has ended, or is unknown."""
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text('utf-8', 'replace')
  except OSError:
    return 0
  state, *fields = stat.rpartition(')')[2].split()  # the name may have blanks
  return 0 if state in 'ZX' else int(fields[18])


@contextlib.contextmanager
def held(
  name: str, folder: str | os.PathLike, *, beside: bool = False
) -> Iterator[None]:
  """Holds the lock of a folder in the block; makes the folder if absent.

  Args:
    name: name of the setting, for messages.
    folder: a folder, or gs://BUCKET/PATH.
    beside: whether the lock stands beside the folder, which must appear whole.

  Raises:
    InputError: if another process holds it, or the folder cannot be written to.
  """
  given = os.fspath(folder)
  kind = _Object if '://' in given else _File
  lock = kind(name, given, beside=beside)
  with contextlib.ExitStack() as stack:
    stack.callback(lock.release)
    lock.take()
    stack.enter_context(_beating(lock))
    yield


def sweep(folder: str | os.PathLike) -> None:
  """Removes the lock beside a finished folder, if its process was killed."""
  path = pathlib.Path(folder).absolute()
  if '://' not in os.fspath(folder) and path.with_name(f'.{path.name}.lock').exists():
    with contextlib.suppress(InputError), held('lock', folder, beside=True):
      pass


@contextlib.contextmanager
def held_by_main(name: str, *folders: str | os.PathLike) -> Iterator[None]:
  """Holds locks for all processes of a run: process 0 takes them; all must call it.

  Raises:
    InputError: on every process, if process 0 cannot take one.
  """
  from flan_jax.runtime import multihost  # imports JAX

  with contextlib.ExitStack() as stack:
    with multihost.main_process_first():
      if multihost.is_main_process():
        for folder in dict.fromkeys(str(folder) for folder in folders):
          stack.enter_context(held(name, folder))
    yield


@contextlib.contextmanager
def _beating(lock: '_File | _Object') -> Iterator[None]:
  """Gives signs of life in the block."""
  ended = threading.Event()

  def beat() -> None:
    while not ended.wait(lock.period_s):
      with contextlib.suppress(Exception):  # the next one may succeed
        lock.beat()

  thread = threading.Thread(target=beat, daemon=True, name='lock')
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()


def _in_use(name: str, folder: str, owner: Owner | None) -> InputError:
  who = 'another process'
  if owner is not None:
    who = f'process {owner.pid} of host {owner.host}, since {owner.since}'
  return InputError(
    f'{name} {folder!r}: is in use by {who}; wait until it ends, or stop it, then '
    'rerun the same command'
  )


def _ends(sign: Callable[[], Any], name: str, owner: Owner) -> bool:
  """Watches the lock of another host: returns True if it gives no sign of life."""
  first, deadline = sign(), time.monotonic() + PATIENCE_S
  what = f'a sign of life of process {owner.pid} of host {owner.host} in {name}'
  with network.waiting(lambda: what):
    while time.monotonic() < deadline:
      time.sleep(min(BEAT_S / 4, PATIENCE_S / 10))
      if sign() != first:
        return False
  return True


class _File:
  """A lock in a file system."""

  def __init__(self, name: str, folder: str, *, beside: bool):
    self._name, self._given = name, folder
    path = pathlib.Path(folder).absolute()
    self._path = path.with_name(f'.{path.name}.lock') if beside else path / FILE
    self._descriptor: int | None = None
    self._made: list[pathlib.Path] = []
    self._token = ''
    self.period_s = BEAT_S

  def take(self) -> None:
    try:
      self._made = [path for path in self._path.parents if not path.exists()]
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._descriptor, guarded = self._open()
      self._claim(guarded)
    except OSError as error:
      raise InputError(
        f'{self._name} {self._given!r}: cannot be written to ({error.strerror}); must '
        'be a folder, made if absent',
        field=self._name,
      ) from None

  def beat(self) -> None:
    assert self._descriptor is not None
    os.utime(self._descriptor)

  def release(self) -> None:
    """Removes the file, and the folders that were made here and are empty."""
    descriptor, self._descriptor = self._descriptor, None
    if descriptor is None:
      return
    try:
      owner = parse(os.pread(descriptor, 4096, 0))
      taken = owner is not None and owner.token != self._token
      if not taken and _is_at(descriptor, self._path):
        self._path.unlink(missing_ok=True)
      for path in self._made:
        path.rmdir()
    except OSError:
      pass  # it is not empty, or has become read-only
    finally:
      os.close(descriptor)

  def _open(self) -> tuple[int, bool]:
    """(descriptor of the file, whether flock guards it)."""
    while True:
      flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
      descriptor = os.open(self._path, flags, 0o666)
      try:
        guarded = _flock(descriptor)
        if _is_at(descriptor, self._path):  # else its owner has just removed it
          return descriptor, guarded
      except BlockingIOError:
        owner = parse(os.pread(descriptor, 4096, 0))
        os.close(descriptor)
        raise _in_use(self._name, self._given, owner) from None
      os.close(descriptor)

  def _claim(self, guarded: bool) -> None:
    """Writes this process into the file, once that of another host has ended."""
    descriptor = self._descriptor
    assert descriptor is not None
    before = parse(os.pread(descriptor, 4096, 0))
    if before is not None and not self._has_ended(before, guarded):
      self._descriptor = None  # it is not ours to remove
      os.close(descriptor)
      raise _in_use(self._name, self._given, before)
    own = Owner.this()
    self._token = own.token
    try:
      os.ftruncate(descriptor, 0)
      os.pwrite(descriptor, own.to_bytes(), 0)
    except OSError:
      if not guarded:
        raise
      return  # a full disk: the name is for messages
    if not guarded:
      time.sleep(_CONFIRM_S)
      last = parse(os.pread(descriptor, 4096, 0))
      if last is not None and last.token != own.token:
        self._descriptor = None
        os.close(descriptor)
        raise _in_use(self._name, self._given, last)

  def _has_ended(self, owner: Owner, guarded: bool) -> bool:
    if owner.is_here():
      return guarded or not owner.is_alive()
    if owner.host == socket.gethostname() or (guarded and owner.boot == _boot()):
      return True  # before a restart of this machine, or in a container of it
    return _ends(self._sign, self._name, owner)

  def _sign(self) -> Any:
    # Opened again: a network file system then asks its server.
    with open(self._path, 'rb') as file:
      return file.read(4096), os.fstat(file.fileno()).st_mtime_ns


class _Object:
  """A lock in an object store.

  It is made only if absent, and read again a little later: of two starts that take
  over a dead process's lock in one moment, the last one to write has it.
  """

  def __init__(self, name: str, folder: str, *, beside: bool):
    self._name, self._given = name, folder
    above, _, last = folder.rstrip('/').rpartition('/')
    self._path = f'{above}/.{last}.lock' if beside else f'{above}/{last}/{FILE}'
    self._store: Any = None
    self._own = Owner.this()
    self._held = False
    self.period_s = 3 * BEAT_S

  def take(self) -> None:
    with network.answers(self._name, self._given):
      import fsspec

      self._store, self._path = fsspec.url_to_fs(self._path)
      before = self._read()
      if before is not None:
        if not self._has_ended(before):
          raise _in_use(self._name, self._given, before)
        self._remove()
      self._create()
      self._held = True
      if before is not None:
        time.sleep(_CONFIRM_S)
        if (last := self._read()) is not None and last.token != self._own.token:
          self._held = False
          raise _in_use(self._name, self._given, last)

  def beat(self) -> None:
    found = self._read()
    if found is not None and found.token == self._own.token:
      self._own = self._own._replace(beat=self._own.beat + 1)
      self._store.pipe_file(self._path, self._own.to_bytes())

  def release(self) -> None:
    if self._held:
      with contextlib.suppress(Exception):  # the next start watches it
        found = self._read()
        if found is not None and found.token == self._own.token:
          self._remove()

  def _read(self) -> Owner | None:
    try:
      return parse(self._store.cat_file(self._path))
    except FileNotFoundError:
      return None

  def _remove(self) -> None:
    with contextlib.suppress(FileNotFoundError):
      self._store.rm_file(self._path)

  def _create(self) -> None:
    """Makes the object.

    Raises:
      InputError: if another start has made it meanwhile.
    """
    try:
      self._store.pipe_file(self._path, self._own.to_bytes(), mode='create')
    except FileExistsError:
      raise _in_use(self._name, self._given, self._read()) from None

  def _has_ended(self, owner: Owner) -> bool:
    if owner.is_here():
      return not owner.is_alive()
    return _ends(self._read, self._name, owner)


def _flock(descriptor: int) -> bool:
  """Locks a file; returns False on a file system without locks.

  Raises:
    BlockingIOError: if another process has it.
  """
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    raise
  except OSError:
    return False
  return True


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(descriptor), os.lstat(path))
  except FileNotFoundError:
    return False
