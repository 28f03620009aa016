"""No value leaves its quoting: any text, every engine, a real shell and a YAML parser.

The programs on the PATH are one script that writes down its arguments.
"""

import json
import os
import pathlib
import shlex
import subprocess
import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flan_jax.cli import dispatch
from flan_jax.errors import InputError
from flan_jax.tpu.launch import (
  cloud_names,
  installer,
  launch,
  manifests,
  own_files,
  quoting,
  source_bundle,
  wheels,
)

NASTY = (
  'a\nFLAN-END\ntouch PWNED\ncat <<FLAN-END\n',
  'a\nresources:\n  use_spot: false\nsetup: touch PWNED',
  '\n---\nsetup: touch PWNED\n',
  "'; touch PWNED; '",
  '"; touch PWNED; "',
  '$(touch PWNED)',
  '`touch PWNED`',
  '\\\ntouch PWNED\nEND\n',
  '$(HOSTNAME) $$(HOSTNAME) {command} %s !!',
  'x\r\ntouch PWNED\x85\u2028\u2029\x1b[2J\x7f\ufeff',
  '😀 é\t- # : & * ? | > @ %',
  '',
  '~',
  '*',
  '-rf',
  'null',
  '0x10',
)
TEXT = st.one_of(
  st.sampled_from(NASTY),
  st.text(st.characters(exclude_characters='\0', exclude_categories=('Cs',))),
)
WORDS = st.lists(TEXT, max_size=4)
MORE = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
FEW = settings(MORE, max_examples=20)
MANY = settings(MORE, max_examples=200)

RECORDER = """\
#!/bin/bash
name=${0##*/}
for word in "$@"; do printf '%s\\0' "$word"; done > "$RECORDS/$name.partial"
mv "$RECORDS/$name.partial" "$RECORDS/$name"
"""


class Machine:
  """A home folder, and a PATH whose programs write down their arguments."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.home, self.records, self.bin = root / 'home', root / 'records', root / 'bin'
    for folder in (self.home, self.records, self.bin):
      folder.mkdir()
    self.add(self.bin, 'docker', 'flan', 'git', 'setsid', 'tar', 'xpk')
    # The job runs in this process group: nothing is left behind.
    (self.bin / 'setsid').write_text('#!/bin/bash\nshift\nexec "$@"\n')

  def add(self, folder: pathlib.Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
      (folder / name).write_text(RECORDER)
      (folder / name).chmod(0o755)

  def run(self, script: str, cwd: pathlib.Path | None = None) -> None:
    environment = {
      'HOME': str(self.home),
      'PATH': f'{self.bin}:{os.environ["PATH"]}',
      'RECORDS': str(self.records),
    }
    done = subprocess.run(
      ['bash', '-c', script], cwd=cwd or self.home, env=environment, text=True,
      capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

  def recorded(self, name: str) -> list[str]:
    """Arguments of the last call of a program, which may be running still."""
    path = self.records / name
    end = time.monotonic() + 20
    while not path.exists():
      assert time.monotonic() < end, f'{name} was not called'
      time.sleep(0.002)
    words = path.read_bytes().decode().split('\0')[:-1]
    path.unlink()
    return words

  def untouched(self) -> bool:
    return not list(self.root.rglob('PWNED'))


@pytest.fixture
def machine(tmp_path):
  made = Machine(tmp_path)
  yield made
  assert made.untouched()


class Hosts:
  """A slice whose hosts are this machine; keeps the scripts."""

  name, zone, hosts = 'pod', 'z-a', 1

  def __init__(self):
    self.scripts: list[str] = []

  def ssh(self, script: str):
    self.scripts.append(script)
    return launch.Gcloud.local(launch.Gcloud(), 'true')


def start_script(words: list[str]) -> str:
  """The script that starts a command on a host of a TPU VM slice."""
  hosts = Hosts()
  job = launch.Launch(hosts, launch.Gcloud(), log=lambda _: None)
  bundle = source_bundle.Bundle(launch.Gcloud(), Source())
  job._start(launch.Job(own_files.Files(tuple(words), {}), bundle, ()))
  return hosts.scripts[-1]


class Source:
  name, describe = 'abc', 'commit abc'


def workload(words, *, zone='z-a', folder=None) -> manifests.Workload:
  return manifests.Workload(
    command=['flan', *words], name='pod', accelerator='v5p-8', zone=zone,
    commit='abc', folder=folder, spot=True,
  )  # fmt: skip


def tpu_vm_holds(machine: Machine, words: list[str]) -> None:
  machine.run(start_script(['flan', *words]))
  assert machine.recorded('flan') == words
  run = machine.home / 'flan' / 'run'
  end = time.monotonic() + 20
  while not (run / 'exit').exists():
    assert time.monotonic() < end
    time.sleep(0.002)
  assert (run / 'exit').read_text() == '0\n'


def skypilot_holds(
  machine: Machine, words: list[str], zone: str, runtime: str, path: str
) -> None:
  """The task has its own keys and values, and its script the command."""
  folder = manifests.Folder(path, {'flan_jax-0-py3-none-any.whl': 'flan_jax[tpu]'})
  task = workload(words, zone=zone, folder=folder)
  found = yaml.safe_load(manifests.skypilot(task, runtime=runtime or 'r'))
  assert list(found) == ['name', 'workdir', 'resources', 'setup', 'run']
  assert found['workdir'] == path
  resources = found['resources']
  assert resources['infra'] == f'gcp/{zone.rpartition("-")[0]}/{zone}'
  assert resources['accelerator_args']['runtime_version'] == (runtime or 'r')
  assert resources['use_spot'] is True
  assert found['setup'] == (
    'set -e\n'
    + installer.install("'./flan_jax-0-py3-none-any.whl[tpu]'", '~/flan-venv')
    + '\n'
  )
  (machine.home / 'files').mkdir(exist_ok=True)
  machine.run(found['run'])
  assert machine.recorded('flan') == words


def xpk_holds(machine: Machine, words: list[str], values: list[str]) -> None:
  """Each flag arrives as it is; the command survives xpk's template and Kubernetes."""
  cluster, image, project, zone = values
  script = manifests.xpk(
    workload(words, zone=zone), cluster=cluster, image=image, project=project or 'p'
  )
  machine.run(script)
  flags = dict(word.split('=', 1) for word in machine.recorded('xpk')[2:])
  assert flags['--cluster'] == cluster
  assert flags['--project'] == (project or 'p')
  assert flags['--zone'] == zone
  assert flags['--docker-image'] == f'{image}:abc'
  assert machine.recorded('docker') == ['push', f'{image}:abc']
  command = flags['--command']
  assert command.isascii()
  assert command.isprintable()
  pod = yaml.safe_load(
    f'command:\n- bash\n- -c\n- |\n  ({command}) & PID=$!;\n  wait\n'
  )
  assert '$(' not in pod['command'][2]  # which Kubernetes would expand
  assert pod['command'][2] == f'({command}) & PID=$!;\nwait\n'
  machine.run(pod['command'][2])
  assert machine.recorded('flan') == words


@FEW
@given(words=WORDS)
def test_a_command_reaches_the_job_of_a_tpu_vm(machine, words):
  tpu_vm_holds(machine, words)


@FEW
@given(words=WORDS, zone=TEXT, runtime=TEXT, path=TEXT)
def test_a_task_of_skypilot_holds_each_value(machine, words, zone, runtime, path):
  skypilot_holds(machine, words, zone, runtime, path)


@FEW
@given(words=WORDS, values=st.lists(TEXT, min_size=4, max_size=4))
def test_a_script_for_xpk_holds_each_value(machine, words, values):
  xpk_holds(machine, words, values)


@pytest.mark.slow
@pytest.mark.timeout(600)
@MANY
@given(words=WORDS, values=st.lists(TEXT, min_size=4, max_size=4))
def test_every_engine_holds_any_value(machine, words, values):
  tpu_vm_holds(machine, words)
  skypilot_holds(machine, words, *values[:3])
  xpk_holds(machine, words, values)


@settings(MORE, max_examples=100)
@given(words=WORDS, text=TEXT)
def test_one_line_of_ascii_and_one_comment(words, text):
  line = quoting.command_line(words)
  assert line.isascii()
  assert line == '' or line.isprintable()
  assert '$(' not in line
  assert '{' not in line
  made = quoting.comment(text)
  assert made.isprintable()
  assert yaml.safe_load(f'{made}\na: 1\n') == {'a': 1}


def refusal(flag: str, text: str) -> str:
  """Message of the refusal of a name; '' if it is legal."""
  try:
    cloud_names.check(flag, text)
  except InputError as error:
    return str(error)
  return ''


@settings(MORE, max_examples=100)
@given(flag=st.sampled_from(sorted(cloud_names.RULES)), text=st.text())
def test_a_name_is_plain_or_refused_in_one_line(flag, text):
  """A refusal says a nearest name only if that one is legal."""
  message = refusal(flag, text)
  near = message.partition('the nearest is ')[2].strip("'")
  if message:
    assert message.isprintable()
    assert not near or not refusal(flag, near)
  else:
    assert text.isascii()
    assert not set(text) & set(' \n\t$`\'"\\;&|<>(){}*?!#~')
    assert not text.startswith('-')


@pytest.mark.parametrize(
  ('word', 'message'),
  [
    ('a\0b', 'has a zero byte'),
    ('a\udcff', 'bytes that are not UTF-8'),
    ('é' * 20_000, 'at most 100,000 can be passed: put settings into a gin file'),
  ],
)
def test_words_that_cannot_be_passed_are_refused(word, message):
  with pytest.raises(InputError, match=message) as error:
    launch.make_job(['flan', word], gcloud=launch.Gcloud(), check=None)
  assert str(error.value).isprintable()


@pytest.mark.parametrize(
  ('name', 'version'), [('a/../b', '1'), ('café', '0'), ('a', '1$(x)'), ('a\nb', '1')]
)
def test_a_wheel_of_another_name_than_installers_take_is_refused(name, version):
  with pytest.raises(InputError, match='of a distribution, so'):
    wheels.pack(name, version, {})


def test_the_dockerfile_is_no_shell(machine):
  folder = manifests.Folder(
    str(machine.home), {"x-1'$(touch PWNED)\nEND\n.whl": 'x', 'y-1.whl': 'y[a,b]'}
  )
  machine.run(manifests.xpk(workload([], folder=folder), cluster='c', image='i'))
  lines = (machine.home / 'Dockerfile').read_text().splitlines()
  assert len(lines) == 4
  words = json.loads(lines[2].removeprefix('RUN '))
  assert words[-2:] == ["/flan/x-1'$(touch PWNED)\nEND\n.whl", '/flan/y-1.whl[a,b]']


def test_uv_is_pinned_once_and_no_script_is_fetched():
  pins = pathlib.Path(__file__).parents[3] / 'constraints.txt'
  assert f'uv=={installer.UV_VERSION}\n' in pins.read_text()
  script = installer.install('x', 'venv')
  assert '--require-hashes' in script
  assert not {'curl', 'wget', 'http'} & set(script.replace('/', ' ').split())


@pytest.mark.parametrize('engine', ['tpu-vm', 'skypilot', 'xpk'])
def test_the_command_line_keeps_every_word(engine, machine, monkeypatch, capsys):
  """As a user starts it: what is printed runs the command with the words given."""
  git = source_bundle.Commit._git
  monkeypatch.setattr(
    source_bundle.Commit,
    '_git',
    lambda self, *words: (
      git(self, *words)._replace(out='') if words[0] == 'status' else git(self, *words)
    ),
  )
  words = ['tasks', *(f'--mixture={text}' for text in NASTY)]
  flags = ['--tpu=pod', '--zone=us-central1-a', '--type=v4-8', f'--engine={engine}']
  flags += ['--cluster=c', '--image=i', '--dry-run']
  assert dispatch.main(['launch', *flags, '--', 'flan', *words]) == 0
  printed = capsys.readouterr().out
  if engine == 'skypilot':
    machine.run(yaml.safe_load(printed)['run'])
  elif engine == 'xpk':
    machine.run(printed)
    machine.run(machine.recorded('xpk')[-1].removeprefix('--command='))
  else:
    scripts = [word for word in shlex.split(printed) if 'flan-started' in word]
    (script,) = scripts
    machine.run(script.removeprefix('--command='))
  assert machine.recorded('flan') == words
