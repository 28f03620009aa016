"""Atomic files: whole or not at all, whatever happens to the process that writes."""

import ast
import errno
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import pytest

import flan_jax
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file
from flan_jax.runtime.atomic_file import Draft

OLD, NEW = 'old\n' * 9, 'new\n' * 20_000


@pytest.fixture
def path(tmp_path) -> pathlib.Path:
  """An existing file."""
  path = tmp_path / 'report.json'
  path.write_text(OLD)
  return path


def names(folder) -> list[str]:
  return sorted(os.listdir(folder))


def killed(code: str, *arguments) -> None:
  """Runs `code` in a process that is killed when it prints."""
  command = [sys.executable, '-c', code, *map(str, arguments)]
  with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)


KILLED_IN_A_FILE = """
import sys, time
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file
with atomic_file.writing(sys.argv[1]) as file:
  file.write('half')
  file.flush()
  print(flush=True)
  time.sleep(60)
"""

KILLED_IN_A_FOLDER = """
import sys, time
from flan_jax.runtime.atomic_file import Draft
with Draft(sys.argv[1], folder=True) as draft:
  (draft.path / 'weights').write_text('half')
  print(flush=True)
  time.sleep(60)
"""


# Readers.


def test_a_reader_sees_the_old_content_until_the_new_one_is_whole(path):
  with atomic_file.writing(path) as file:
    file.write(NEW[:100])
    file.flush()
    assert path.read_text() == OLD
  assert path.read_text() == NEW[:100]
  assert names(path.parent) == [path.name]


def test_a_reader_never_sees_half(path):
  seen = set()
  done = threading.Event()

  def read():
    while not done.is_set():
      seen.add(path.read_text())

  reader = threading.Thread(target=read)
  reader.start()
  for text in [NEW, OLD] * 50:
    atomic_file.write_text(path, text)
  done.set()
  reader.join()
  assert seen <= {OLD, NEW}


def test_every_writer_writes_the_bytes_it_was_given(tmp_path):
  value = {'b': [1, 'ü'], 'a': 2}
  atomic_file.write_text(tmp_path / 'deep' / 'text', 'a\r\nü\n')
  atomic_file.write_bytes(tmp_path / 'bytes', b'\x00\r\n')
  atomic_file.write_json(tmp_path / 'json', value)
  atomic_file.write_json(tmp_path / 'plain', value, sort_keys=True, ensure_ascii=False)
  assert (tmp_path / 'deep' / 'text').read_bytes() == 'a\r\nü\n'.encode()
  assert (tmp_path / 'bytes').read_bytes() == b'\x00\r\n'
  assert (tmp_path / 'json').read_text() == json.dumps(value, indent=2) + '\n'
  assert '"ü"' in (tmp_path / 'plain').read_text(encoding='utf-8')


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
  (tmp_path / 'plain').touch()
  (tmp_path / 'folder').mkdir()
  atomic_file.write_text(tmp_path / 'file', '')
  with Draft(tmp_path / 'made', folder=True) as draft:
    draft.keep()
  for ours, plain in ('file', 'plain'), ('made', 'folder'):
    assert (tmp_path / ours).stat().st_mode == (tmp_path / plain).stat().st_mode


# Interrupted writers.


def test_an_error_leaves_the_old_content_and_no_draft(path):
  def stopped():
    with atomic_file.writing(path) as file:
      file.write('half')
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    stopped()
  assert path.read_text() == OLD
  assert names(path.parent) == [path.name]


def test_a_value_that_is_no_json_leaves_the_old_content(path):
  with pytest.raises(TypeError):
    atomic_file.write_json(path, {'a': object()})
  assert path.read_text() == OLD
  assert names(path.parent) == [path.name]


def test_a_full_disk_leaves_the_old_content_and_no_draft(path):
  code = """
import resource, signal, sys
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
  atomic_file.write_text(sys.argv[1], 'x' * 9999)
except OSError as error:
  print(error.strerror)
"""
  command = [sys.executable, '-c', code, str(path)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert done.stdout == 'File too large\n'
  assert path.read_text() == OLD
  assert names(path.parent) == [path.name]


def test_a_kill_leaves_the_old_content_and_the_next_writer_clears_the_draft(path):
  killed(KILLED_IN_A_FILE, path)
  assert path.read_text() == OLD
  (left,) = set(names(path.parent)) - {path.name}
  assert left.startswith(f'.{path.name}.')
  assert atomic_file.is_temporary(left)
  atomic_file.write_text(path, NEW)
  assert path.read_text() == NEW
  assert names(path.parent) == [path.name]


def test_a_kill_leaves_no_half_folder_and_the_next_writer_clears_the_draft(tmp_path):
  out = tmp_path / 'model'
  killed(KILLED_IN_A_FOLDER, out)
  (left,) = names(tmp_path)
  assert atomic_file.is_temporary(left)
  with Draft(out, folder=True) as draft:
    (draft.path / 'weights').write_text('whole')
    draft.keep()
  assert names(tmp_path) == ['model']
  assert (out / 'weights').read_text() == 'whole'


@pytest.mark.parametrize('blocked', ['file', 'file/below'])
def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path, blocked):
  (tmp_path / 'file').touch()
  with pytest.raises(NotADirectoryError):
    atomic_file.write_text(tmp_path / blocked / 'report.json', '')


# Folders.


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
  out = tmp_path / 'new' / 'plan'
  with Draft(out, folder=True) as draft:
    (draft.path / 'plan.json').write_text('{}')
    assert not out.exists()
    draft.keep()
  assert names(out) == ['plan.json']
  with Draft(tmp_path / 'other', folder=True) as draft:
    (draft.path / 'plan.json').write_text('{}')  # and is not kept
  assert names(tmp_path) == ['new']


def test_a_folder_replaces_an_empty_one_and_no_other(tmp_path):
  out = tmp_path / 'out'
  out.mkdir()
  with Draft(out, folder=True) as first, Draft(out, folder=True) as second:
    (first.path / 'first').touch()
    (second.path / 'second').touch()
    first.keep()
    with pytest.raises(OSError):
      second.keep()
  assert names(out) == ['first']
  assert names(tmp_path) == ['out']


# Several writers.


def test_of_two_writers_at_once_the_last_wins_whole(path):
  """They may be of one process, or of two that see each other's drafts."""
  with Draft(path) as one, Draft(path) as two:
    assert one.path != two.path
    one.path.write_text('one')
    two.path.write_text(NEW)
    two.keep()
    assert path.read_text() == NEW
    one.keep()
  assert path.read_text() == 'one'
  assert names(path.parent) == [path.name]


def test_processes_that_write_at_once_leave_one_whole_content(path):
  code = """
import sys
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file
for _ in range(200):
  atomic_file.write_text(sys.argv[1], sys.argv[2] * 50_000)
"""
  processes = [
    subprocess.Popen([sys.executable, '-c', code, str(path), letter])
    for letter in 'abc'
  ]
  seen = set()
  while any(process.poll() is None for process in processes):
    seen.add(path.read_text())
  assert not any(process.returncode for process in processes)
  assert seen <= {OLD, *(letter * 50_000 for letter in 'abc')}
  assert names(path.parent) == [path.name]


def test_without_locks_files_are_whole_and_no_draft_is_taken_away(path, monkeypatch):
  def flock(descriptor, operation):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', flock)
  with Draft(path) as live:
    atomic_file.write_text(path, NEW)
    assert live.path.exists()
  assert path.read_text() == NEW
  assert names(path.parent) == [path.name]


def test_drafts_of_other_files_are_left_alone(tmp_path):
  others = ['.a.b.77.tmp', '.a.tmp', '.a.x.tmp', 'a.77.tmp', '.b.77.tmp', '.a.partial']
  for other in others:
    (tmp_path / other).touch()
  (tmp_path / '.a.77.tmp').touch()
  atomic_file.write_text(tmp_path / 'a', NEW)
  assert names(tmp_path) == sorted(['a', *others])


def test_temporary_names_are_recognized():
  for name in '.report.json.77.tmp', 'model/.model.safetensors.77-1.tmp':
    assert atomic_file.is_temporary(name)
  assert atomic_file.is_temporary('config.json.tmp')  # of an earlier version
  for name in 'report.json', '.hidden', 'tmp', '.store.partial', 'a.tmp.json':
    assert not atomic_file.is_temporary(name)


# One atomic writer.

ALLOWED = {
  'runtime/atomic_file.py': {'os.replace': 'the atomic writer'},
  'train/checkpoint.py': {'.rename': 'puts a checkpoint aside, on gs:// too'},
  'data/bpe.py': {'tempfile.TemporaryDirectory': 'rules that SentencePiece reads'},
  'data/fetch.py': {'tempfile.TemporaryDirectory': 'passes results between processes'},
  'tpu/launch/launch.py': {'tempfile.TemporaryDirectory': 'wheels on their way'},
  'tpu/launch/source_bundle.py': {
    'tempfile.TemporaryDirectory': 'archives to send to a slice'
  },
}
"""Module -> function that it may call itself -> reason."""

MODULES = ('os', 'shutil', 'tempfile')
FUNCTIONS = (
  'os.replace', 'os.rename', 'os.renames', 'shutil.move', 'tempfile.mkstemp',
  'tempfile.mkdtemp', 'tempfile.mktemp', 'tempfile.NamedTemporaryFile',
  'tempfile.TemporaryFile', 'tempfile.TemporaryDirectory',
)  # fmt: skip


def renames(tree: ast.AST) -> set[str]:
  """Functions that a module uses to rename files or to name temporary ones."""
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module in MODULES:
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
      found.add(f'{node.value.id}.{node.attr}')
    match (
      node
    ):  # a string's `replace` takes two arguments, a dataclass none or keywords
      case ast.Call(func=ast.Attribute(value=ast.Name('dataclasses'))):
        pass
      case ast.Call(
        func=ast.Attribute(attr='rename' | 'replace' as name), args=[_], keywords=[]
      ):
        found.add(f'.{name}')
  return found & {*FUNCTIONS, '.rename', '.replace'}


@pytest.mark.parametrize(
  ('code', 'found'),
  [
    ('import os; os.replace(a, b)', {'os.replace'}),
    ('from os import rename', {'os.rename'}),
    ('path.replace(other)', {'.replace'}),
    ('path.with_name(a).rename(b)', {'.rename'}),
    ('import tempfile; tempfile.mkdtemp(dir=a)', {'tempfile.mkdtemp'}),
    ('"a".replace(b, c); dataclasses.replace(run, seed=1)', set()),
  ],
)
def test_a_rename_is_found_however_it_is_spelled(code, found):
  assert renames(ast.parse(code)) == found


def test_no_other_module_renames_files_or_names_temporary_ones():
  root = pathlib.Path(flan_jax.__file__).parent
  found = {
    path.relative_to(root).as_posix(): renames(ast.parse(path.read_text('utf-8')))
    for path in root.rglob('*.py')
  }
  assert {n: calls for n, calls in found.items() if calls} == {
    name: set(why) for name, why in ALLOWED.items()
  }


def special(folder: pathlib.Path) -> list[pathlib.Path]:
  """A FIFO, a socket, links to a file, a folder, a device and to nothing."""
  os.mkfifo(folder / 'fifo')
  with socket.socket(socket.AF_UNIX) as bound:
    bound.bind(str(folder / 'socket'))
  (folder / 'file').write_text(OLD)
  (folder / 'folder').mkdir()
  links = {'to_file': 'file', 'to_folder': 'folder', 'to_device': '/dev/null'}
  for name, target in {**links, 'to_nothing': 'nothing'}.items():
    (folder / name).symlink_to(target)
  return [folder / name for name in ('fifo', 'socket', *links, 'to_nothing')]


def kept(path: pathlib.Path) -> tuple:
  """The fields that a write would change; a look through a link may set a time."""
  of = os.lstat(path)
  return of.st_mode, of.st_dev, of.st_ino, of.st_nlink, of.st_size


@pytest.mark.parametrize(
  'write',
  [
    lambda path: atomic_file.write_text(path, NEW),
    lambda path: atomic_file.write_bytes(path, b'new'),
    lambda path: Draft(path, folder=True),
    lambda path: atomic_file.move(path.with_name('file'), path),
    lambda path: atomic_file.appending(path).__enter__(),
  ],
)
def test_devices_fifos_and_links_are_never_replaced(tmp_path, write):
  paths = [*special(tmp_path), pathlib.Path('/dev/null')]
  before = [kept(path) for path in paths], names(tmp_path)
  for path in paths:
    with pytest.raises(InputError, match='never replaced') as error:
      write(path)
    assert '\n' not in str(error.value)
  assert ([kept(path) for path in paths], names(tmp_path)) == before
  assert (tmp_path / 'file').read_text() == OLD


def test_a_link_named_like_a_draft_is_not_followed(path):
  victim = path.with_name('victim')
  victim.write_text(OLD)
  draft = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  draft.symlink_to(victim)
  atomic_file.write_text(path, NEW)
  assert path.read_text() == NEW
  assert victim.read_text() == OLD
  assert draft.is_symlink()


def test_a_link_put_in_the_place_of_a_draft_is_not_followed(path):
  victim = path.with_name('victim')
  victim.write_text(OLD)
  with Draft(path) as draft:
    draft.path.unlink()
    draft.path.symlink_to(victim)
    with pytest.raises(OSError, match='symbolic'):
      atomic_file._opened(draft.path, os.O_WRONLY)
  assert victim.read_text() == path.read_text() == OLD
