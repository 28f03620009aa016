"""`flan launch`: its commands, and recovery from failures of gcloud.

gcloud is a stand-in on the PATH; the hosts are folders, their shells are real.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import zipfile

import pytest
import yaml

from flan_jax.cli import dispatch
from flan_jax.cli import launch as launch_cli
from flan_jax.tpu.launch import installer, tpu_slice
from flan_jax.tpu.launch import launch as launch_lib
from flan_jax.tpu.launch.gcloud import Gcloud
from flan_jax.tpu.launch.source_bundle import Commit

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / 'golden'

UV = """\
#!/bin/sh
# `uv venv` and `uv pip install`: an environment with the test's own flan
mkdir -p venv/bin && cp ~/flan-command venv/bin/flan
"""


class Cloud:
  """The stand-in's state, and methods to arrange it."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.write(nodes={}, queue={}, faults=[], queue_goes=['ACTIVE'])

  def write(self, **state) -> None:
    (self.root / 'state.json').write_text(json.dumps(state))

  def read(self) -> dict:
    return json.loads((self.root / 'state.json').read_text())

  def fault(self, match: str, code: int, err: str = '', **more) -> None:
    state = self.read()
    state['faults'].append({'match': match, 'code': code, 'err': err, **more})
    self.write(**state)

  def flan(self, script: str) -> None:
    """Sets the script that `flan` runs on the hosts, except `flan --version`."""
    path = self.root / 'image' / 'flan-command'
    path.write_text(
      f'#!/bin/bash\n[ "$1" = --version ] && echo flan 0 && exit\n{script}'
    )
    path.chmod(0o755)

  @property
  def calls(self) -> list[list[str]]:
    lines = (self.root / 'calls.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]

  def verbs(self) -> list[str]:
    return [' '.join(call[2:4]) for call in self.calls]

  def host(self, i: int) -> pathlib.Path:
    return self.root / 'hosts' / str(i) / 'flan' / 'run'


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  root = tmp_path / 'cloud'
  uv = root / 'image' / 'flan' / f'uv-{installer.UV_VERSION}' / 'bin' / 'uv'
  uv.parent.mkdir(parents=True)
  uv.write_text(UV)
  uv.chmod(0o755)
  command = tmp_path / 'bin' / 'gcloud'
  command.parent.mkdir()
  stand_in = HERE / 'gcloud_stand_in.py'
  command.write_text(f'#!/bin/sh\nexec {sys.executable} -S {stand_in} "$@"\n')
  command.chmod(0o755)
  monkeypatch.setenv('PATH', f'{command.parent}:{os.environ["PATH"]}')
  monkeypatch.setenv('STAND_IN', str(root))

  def wheel(self, folder):
    files = folder / 'flan_jax-0.2.0-py3-none-any.whl', folder / 'constraints.txt'
    for file in files:
      file.touch()
    return tuple(map(str, files))

  monkeypatch.setattr(Commit, 'wheel', wheel)
  made = Cloud(root)
  made.flan('echo trained')
  return made


@pytest.fixture(autouse=True)
def clean_checkout(monkeypatch):
  """Hides uncommitted changes of the checkout from the launcher."""
  git = Commit._git

  def quiet(self, *arguments):
    found = git(self, *arguments)
    return found._replace(out='') if arguments[0] == 'status' else found

  monkeypatch.setattr(Commit, '_git', quiet)


@pytest.fixture(autouse=True)
def forgets_modules(monkeypatch):
  """Modules that a command names are not known to later tests."""
  monkeypatch.setattr(sys, 'path', list(sys.path))
  monkeypatch.setenv('PYTHONPATH', os.environ.get('PYTHONPATH', ''))
  monkeypatch.setenv('FLAN_JAX_MODULES', '')


class Done:
  def __init__(self, code: int, lines: list[str], log: list[str]):
    self.code, self.lines, self.log = code, lines, log


def run(*words: str, type: str = 'v4-16', **more) -> Done:
  """Launches a command without waits."""
  lines: list[str] = []
  log: list[str] = []
  options = {k: more.pop(k) for k in ('queued', 'spot') if k in more}
  provisioning = tpu_slice.Provisioning(**options)
  gcloud = Gcloud()
  slice = tpu_slice.Slice(
    gcloud, 'pod', zone='us-central1-a', type=type, log=log.append, poll_s=0.01,
    provisioning=provisioning,
  )  # fmt: skip
  job = launch_lib.Launch(
    slice, gcloud, log=log.append, on_line=lines.append, retry_s=0.01, capacity_s=0.01,
    **{'grace_s': 10, **more},
  )  # fmt: skip
  return Done(job.run(words), lines, log)


TRAIN = ('flan', 'train', '--gin_file=gin/runs/demo.gin')


def test_a_run_on_every_host_of_a_new_slice(cloud):
  """Created, installed, started on all hosts with --multihost; host 0 is shown."""
  cloud.flan('echo "step 1"; echo "$@" > arguments')
  done = run(*TRAIN)
  assert done.code == 0
  assert done.lines == ['step 1']
  assert cloud.verbs()[:2] == ['tpu-vm describe', 'tpu-vm create']
  for i in (0, 1):
    message = (cloud.host(i) / 'arguments').read_text()
    assert message == 'train --gin_file=gin/runs/demo.gin --multihost\n'
  again = run(*TRAIN)
  assert again.code == 0
  assert cloud.verbs().count('tpu-vm create') == 1
  assert cloud.verbs().count('tpu-vm scp') == 1, 'the commit is installed once'


def test_one_host_needs_no_multihost(cloud):
  cloud.flan('echo "$@"')
  assert run(*TRAIN, type='v3-8').lines == ['train --gin_file=gin/runs/demo.gin']


@pytest.mark.parametrize(
  ('words', 'more'),
  [
    (['flan', 'train'], ['--multihost']),
    (['flan', 'eval', '--gin.CHECKPOINT=x'], ['--multihost']),
    (['flan', 'eval', '--multihost=10.0.0.2:8476,2,0'], []),
    (['flan', 'infer'], ['--multihost']),
    (['flan', 'report', 'x'], []),
    (['echo', 'eval'], []),
  ],
)
def test_distributed_verbs_get_multihost(words, more):
  assert launch_lib.host_command(words, 2) == words + more
  assert launch_lib.host_command(words, 1) == words
  if more:  # the command line accepts it
    assert dispatch.parser().parse_args([*words[1:2], *more]).multihost == 'auto'


def test_a_local_gin_file_is_copied(cloud, tmp_path):
  own = tmp_path / 'mine.gin'
  own.write_text("include 'gin/runs/demo.gin'\nTRAIN_STEPS = 3\n")
  cloud.flan('echo "$2"; cat "${2#--gin_file=}"')
  done = run('flan', 'train', f'--gin_file={own}')
  assert done.lines == ['--gin_file=mine.gin', *own.read_text().splitlines()]


def test_files_travel_and_those_of_the_run_before_are_gone(
  cloud, tmp_path, monkeypatch
):
  """Each run finds its own files, and no older one."""
  monkeypatch.chdir(tmp_path)
  for name in ('one', 'two'):
    (tmp_path / f'{name}.gin').write_text(f"include 'parts/{name}.gin'\n")
    (tmp_path / 'parts').mkdir(exist_ok=True)
    (tmp_path / 'parts' / f'{name}.gin').write_text('')
  cloud.flan('find . -name "*.gin"')
  for name in ('one', 'two'):
    done = run('flan', 'train', f'--gin_file={name}.gin', type='v3-8')
    assert set(done.lines) == {f'./{name}.gin', f'./parts/{name}.gin'}


def test_a_package_is_installed_beside_ours(cloud, tmp_path, monkeypatch):
  (tmp_path / 'acme_launched').mkdir()
  (tmp_path / 'acme_launched' / 'tasks.py').write_text('')
  monkeypatch.chdir(tmp_path)
  done = run(
    'flan', 'train', '--module=acme_launched.tasks', check=launch_cli.read_command
  )
  assert done.code == 0
  assert any(line.startswith('Ships acme_launched 0+sha') for line in done.log)
  (install,) = [call for call in cloud.calls if 'uv pip install' in ' '.join(call)]
  assert ' ./acme_launched-0+sha' in ' '.join(install)
  (wheel,) = cloud.host(1).parent.glob('*/acme_launched-*.whl')
  with zipfile.ZipFile(wheel) as archive:
    assert 'acme_launched/tasks.py' in archive.namelist()


def test_a_module_that_cannot_be_imported_books_nothing(cloud, tmp_path, monkeypatch):
  (tmp_path / 'acme_broken.py').write_text('1 / 0\n')
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match='cannot be imported: ZeroDivisionError'):
    run('flan', 'train', '--module=acme_broken', check=launch_cli.read_command)
  assert not (cloud.root / 'calls.jsonl').exists()


def test_exit_code_143_restarts_until_done(cloud):
  cloud.flan('n=$(cat n 2>/dev/null || echo 0); echo $((n+1)) > n; echo "start $n"\n'
             '[ "$n" -ge 1 ] || exit 143')  # fmt: skip
  done = run(*TRAIN)
  assert done.code == 0
  assert done.lines == ['start 0', 'start 1']
  assert cloud.verbs().count('tpu-vm create') == 1


def test_143_on_any_host_restarts_all_and_restarts_are_limited(cloud):
  cloud.flan('case "$PWD" in */hosts/1/*) exit 143;; esac; exit 1')
  assert run(*TRAIN, max_restarts=1).code == 143
  assert cloud.verbs().count('tpu-vm create') == 1
  follows = [call for call in cloud.calls if '--worker=0' in call]
  assert len(follows) == 2


def test_host_0_killed_and_the_others_aborted_restarts(cloud):
  """When the machine kills host 0, JAX aborts the others with SIGABRT."""
  cloud.flan('[ -f again ] && exit; touch again\n'
             'case "$PWD" in */hosts/0/*) exit 137;; esac; exit 134')  # fmt: skip
  assert run(*TRAIN).code == 0


def test_a_run_that_aborts_on_every_host_ends_it(cloud):
  cloud.flan('exit 134')
  assert run(*TRAIN).code == 134


def test_another_exit_code_ends_it(cloud):
  cloud.flan('echo broken; exit 2')
  done = run(*TRAIN)
  assert (done.code, done.lines) == (2, ['broken'])
  assert 'Exit codes of the hosts: 2, 2' in done.log[-1]


def test_a_log_may_hold_the_launcher_s_own_words_and_an_unfinished_line(cloud):
  cloud.flan('echo flan-exit 0; echo flan-ready; printf "no line break"; exit 3')
  done = run(*TRAIN)
  assert done.code == 3
  assert done.lines == ['flan-exit 0', 'flan-ready', 'no line break']


def test_after_a_lost_connection_the_log_continues_at_the_next_line(cloud):
  cloud.flan('for i in $(seq 40); do echo "step $i"; sleep 0.02; done')
  lost = (
    'ERROR: (gcloud.compute.tpus.tpu-vm.ssh) [/usr/bin/ssh] exited with return code'
  )
  cloud.fault('--worker=0', 255, f'{lost} [255].', lines=7)
  cloud.fault('mkdir -p', 255, f'{lost} [255].')
  cloud.fault('setsid', 255, f'{lost} [255].')
  done = run(*TRAIN)
  assert done.code == 0
  assert done.lines == [f'step {i}' for i in range(1, 41)]
  assert 'Connection lost; resuming the log at line 8' in done.log


def test_a_preempted_slice_is_recreated_and_the_job_restarted(cloud):
  cloud.flan('echo "on a slice"; sleep 0.3')
  cloud.fault('--worker=0', 255, 'closed by remote host', lines=1, then='PREEMPTED')
  done = run(*TRAIN, spot=True)
  assert done.code == 0
  verbs = cloud.verbs()
  assert verbs.count('tpu-vm create') == 2
  assert verbs.count('tpu-vm delete') == 1
  assert any(line.startswith('Preempted: TPU pod is PREEMPTED') for line in done.log)
  assert all('--spot' in call for call in cloud.calls if call[3] == 'create')


FULL = (
  'ERROR: (gcloud.compute.tpus.tpu-vm.create) There is no more capacity in the zone '
  '"us-central1-a"; you can try in another zone'
)


def test_lack_of_capacity_after_a_preemption_is_retried(cloud):
  """At the first start it is an error: the user can choose another zone."""
  cloud.flan('echo "on a slice"; sleep 0.3')
  cloud.fault('--worker=0', 255, lines=0, then='PREEMPTED')
  cloud.fault('tpu-vm create', 1, FULL, skip=1)
  done = run(*TRAIN)
  assert done.code == 0
  assert cloud.verbs().count('tpu-vm create') == 3
  assert any('no more capacity' in line for line in done.log)


def test_lack_of_capacity_at_the_first_start_is_an_error(cloud):
  cloud.fault('tpu-vm create', 1, FULL)
  with pytest.raises(tpu_slice.Failed, match='no capacity: There is no more.*--queued'):
    run(*TRAIN)


def test_a_queued_resource_is_waited_for(cloud):
  state = cloud.read()
  state['queue_goes'] = ['WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE']
  cloud.write(**state)
  done = run(*TRAIN, queued=True)
  assert done.code == 0
  assert 'Queued resource pod: PROVISIONING' in done.log
  create = next(c for c in cloud.calls if c[2:4] == ['queued-resources', 'create'])
  assert '--node-id=pod' in create
  assert '--runtime-version=tpu-ubuntu2204-base' in create


def test_a_failed_queued_resource_names_the_command_that_explains(cloud):
  state = cloud.read()
  state['queue_goes'] = ['WAITING_FOR_RESOURCES', 'FAILED']
  cloud.write(**state)
  with pytest.raises(
    tpu_slice.Failed, match='pod: FAILED; see `gcloud compute tpus queued'
  ):
    run(*TRAIN, queued=True)


@pytest.mark.parametrize(
  ('message', 'clear'),
  [
    (
      'ERROR: (gcloud.compute.tpus.tpu-vm.create) HttpException (429): Quota limit '
      "'TPUV3sPodPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 0 in zone "
      'us-central1-a.',
      r"quota: HttpException \(429\): Quota limit 'TPUV3sPod.*; request more at",
    ),
    (
      'ERROR: (gcloud.compute.tpus.tpu-vm.create) {\n  "code": 8,\n  "message": '
      '"There is no more capacity in the zone \\"us-central1-a\\""\n}',
      r'TPU pod: ',
    ),
    (
      'ERROR: (gcloud.compute.tpus.tpu-vm.create) PERMISSION_DENIED: Cloud TPU API has '
      'not been used in project 1 before or it is disabled.',
      r'not allowed: PERMISSION_DENIED.*roles/tpu\.admin',
    ),
    (
      'ERROR: (gcloud.compute.tpus.tpu-vm.create) There was a problem refreshing your '
      'current auth tokens: Reauthentication failed.',
      r'not signed in: There was a problem.*`gcloud auth login`',
    ),
  ],
)
def test_failures_of_gcloud_are_one_clear_line(cloud, message, clear):
  cloud.fault('tpu-vm create', 1, message)
  with pytest.raises(tpu_slice.Failed, match=clear) as error:
    run(*TRAIN)
  assert '\n' not in str(error.value)


def test_stop_sends_sigterm_and_the_job_saves(cloud):
  cloud.flan("trap 'echo saved > saved; exit 143' TERM\n"
             'echo going; for i in $(seq 600); do sleep 0.05; done')  # fmt: skip
  process = subprocess.Popen(
    [sys.executable, '-c', _BACKGROUND], cwd=HERE.parents[2], stdout=subprocess.DEVNULL
  )
  deadline = time.monotonic() + 60
  while not (cloud.root / 'hosts/1/flan/run/pid').exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
  time.sleep(0.5)
  process.terminate()  # ends the launcher, not the job
  process.wait()
  other = tpu_slice.Slice(Gcloud(), 'pod', zone='us-central1-a', log=lambda _: None)
  busy = launch_lib.Launch(
    tpu_slice.Slice(Gcloud(), 'pod', zone='us-central1-a', log=lambda _: None),
    Gcloud(),
    log=lambda _: None,
  )
  with pytest.raises(ValueError, match=r'another job is running; .* --stop'):
    busy.run(['flan', 'eval'])
  launch_lib.Launch(other, Gcloud(), log=lambda _: None, grace_s=10).stop()
  for i in (0, 1):
    assert (cloud.host(i) / 'saved').read_text() == 'saved\n'
    assert (cloud.host(i) / 'exit').read_text() == '143\n'


_BACKGROUND = """
from flan_jax.tpu.launch import gcloud, launch, source_bundle, tpu_slice
git = source_bundle.Commit._git
source_bundle.Commit._git = lambda self, *a: (
  git(self, *a)._replace(out='') if a[0] == 'status' else git(self, *a))
def wheel(self, folder):
  for name in ('flan_jax-0.2.0-py3-none-any.whl', 'constraints.txt'):
    (folder / name).touch()
  return tuple(str(folder / n) for n in ('flan_jax-0.2.0-py3-none-any.whl',
                                         'constraints.txt'))
source_bundle.Commit.wheel = wheel
g = gcloud.Gcloud()
s = tpu_slice.Slice(g, 'pod', zone='us-central1-a', type='v4-16', poll_s=0.01)
launch.Launch(s, g, retry_s=0.01).run(
  ['flan', 'train', '--gin_file=gin/runs/demo.gin'])
"""


def test_delete_of_a_missing_slice_succeeds(cloud, capsys):
  arguments = ['launch', '--tpu', 'none', '--zone', 'us-central1-a', '--delete']
  assert dispatch.main(arguments) == 0


# Bad input, and commands without gcloud.


@pytest.mark.parametrize(
  ('text', 'type', 'hosts'),
  [
    ('v3-8', 'v3-8', 1),
    ('v3:8x8', 'v3-128', 16),
    ('v4:2x2x4', 'v4-32', 4),
    ('v5e-16', 'v5litepod-16', 4),
    ('v5e:2x4', 'v5litepod-8', 1),
    ('v5p:4x4x4', 'v5p-128', 16),
    ('v6e:16x16', 'v6e-256', 64),
  ],
)
def test_types_and_topologies(text, type, hosts):
  """Cores count in v3, v4 and v5p, chips in v5e and v6e; four chips a host."""
  assert tpu_slice.accelerator_type(text) == type
  assert tpu_slice.hosts(type) == hosts


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--type', 'v3x128', '--', 'flan', 'train'], 'must be like v3-128'),
    (['--type', 'v7-8', '--', 'flan', 'train'], "the nearest is 'v4'"),
    (
      ['--type', 'v3-7', '--', 'flan', 'train'],
      'there is no such slice of the 2-dim',
    ),
    (['--type', 'v5e:3x3', '--', 'flan'], 'the nearest are v5e:2x4 (8 chips)'),
    (['--type', 'v3-8', '--grace', '-1', '--', 'flan'], '--grace: got -1; must be 0'),
    (
      [
        '--type=v3-8',
        '--',
        'flan',
        'train',
        '--gin_file=gin/runs/demo.gin',
        '--gin.TRAIN_STPES=3',
      ],
      "did you mean 'TRAIN_STEPS'",
    ),
    (['--type=v3-8', '--tpu=a b', '--', 'flan'], "--tpu: got 'a b'; must be 1 to 63"),
    (['--type', 'v3-8'], 'no command; pass it after --'),
    (['--type=v3-8', '--extra=dta', '--', 'flan'], "did you mean 'data'"),
    (['--type=v3-8', '--module=json', '--', 'flan', 'train'], "'json': belongs to the"),
    (
      [
        '--engine=skypilot',
        '--type=v4-8',
        '--',
        'flan',
        'train',
        '--module=small_run',
      ],
      'alone, without your package small_run; give --bundle=DIR',
    ),
    (
      ['--type', 'v3-8', '--', 'flan', 'train', '--gin_file=no.gin'],
      "gin file 'no.gin': no such file",
    ),
    (['--engine', 'xpk', '--type', 'v4-8', '--', 'flan'], '--cluster: not given'),
    (
      ['--engine=xpk', '--type=v3-8', '--cluster=c', '--image=i', '--', 'flan'],
      'xpk and GKE have v4 and later',
    ),
  ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
  base = ['launch', '--tpu', 'pod', '--zone', 'us-central1-a', '--dry-run']
  assert dispatch.main([*base, *arguments]) == 2
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert message in error


def test_without_gcloud_the_error_has_the_link(monkeypatch, tmp_path, capsys):
  for name in ('git',):
    (tmp_path / name).symlink_to(shutil.which(name))
  monkeypatch.setenv('PATH', str(tmp_path))
  arguments = ['launch', '--tpu=pod', '--zone=z', '--type=v3-8', '--', 'flan', 'train']
  assert dispatch.main(arguments) == 2
  assert 'gcloud: not found on the PATH; https://cloud' in capsys.readouterr().err


PAPER = ['flan', 'train', '--gin_file=gin/runs/flan_137b.gin',
         "--gin.MODEL_DIR='gs://bucket/flan'",
         '--gin.INITIAL_CHECKPOINT_PATH=gs://bucket/lm']  # fmt: skip
CASES = {
  'tpu_vm.txt': ['--type=v3:8x8', '--delete', '--dry-run'],
  'spot.txt': ['--type=v5e-16', '--spot', '--queued', '--project=p', '--dry-run'],
  'stop.txt': ['--stop', '--delete', '--dry-run'],
  'xpk.sh': ['--type=v5p-128', '--engine=xpk', '--cluster=pods', '--project=p',
             '--image=us-docker.pkg.dev/p/flan/flan'],
  'skypilot.yaml': ['--type=v6e-256', '--engine=skypilot', '--spot'],
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_golden(name, capsys, update_golden):
  """Every command of a dry run and every manifest, verbatim."""
  arguments = ['launch', '--tpu=flan', '--zone=us-central1-a', *CASES[name]]
  command = [] if '--stop' in arguments else ['--', *PAPER]
  assert dispatch.main([*arguments, *command]) == 0
  got = capsys.readouterr().out
  got = got.replace(str(HERE.parents[2]), 'CHECKOUT').replace(sys.executable, 'PYTHON')
  commit = Commit(Gcloud()).name
  got = re.sub(r'\b[0-9a-f]{12}\b', 'ID', got.replace(commit, 'COMMIT'))
  got = re.sub(r'PYTHON|CHECKOUT/\S*/python\S*', 'PYTHON', got)
  path = GOLDEN / name
  if update_golden:
    path.parent.mkdir(exist_ok=True)
    path.write_text(got)
  assert got == path.read_text()


def test_a_bundle_holds_all_that_another_engine_installs(cloud, tmp_path, capsys):
  """The package and the gin file, for which a commit has no room."""
  (tmp_path / 'own.gin').write_text("include 'gin/runs/demo.gin'\n")
  command = [
    '--',
    'flan',
    'train',
    f'--gin_file={tmp_path}/own.gin',
    '--module=small_run',
  ]
  for engine in ('xpk', 'skypilot'):
    folder = tmp_path / engine
    more = ['--type=v5p-8', f'--engine={engine}', f'--bundle={folder}', '--extra=data']
    name = ['launch', '--tpu=flan', '--zone=us-central1-a', '--cluster=c', '--image=i']
    assert dispatch.main([*name, *more, *command]) == 0
    text = capsys.readouterr().out
    (wheel,) = (path.name for path in folder.glob('small_run-*.whl'))
    assert 'flan_jax-0.2.0-py3-none-any.whl[tpu,data]' in text
    assert wheel in text
    assert (folder / 'constraints.txt').is_file()
    assert (folder / 'files' / 'own.gin').is_file()
    assert dispatch.main([*name, *more, *command]) == 2
    assert 'is not empty' in capsys.readouterr().err
    if engine == 'xpk':
      done = subprocess.run(['bash', '-n'], input=text, capture_output=True, text=True)
      assert done.returncode == 0, done.stderr
      assert 'WORKDIR /flan/files' in text
    else:
      task = yaml.safe_load(text)
      assert task['workdir'] == str(folder)
      assert task['run'].splitlines()[1:] == [
        'cd files', 'flan train --gin_file=own.gin --module=small_run'
      ]  # fmt: skip


def test_scripts_and_tasks_are_well_formed():
  """Scripts parse as shell, the task as YAML with the whole command."""
  for name in ('tpu_vm.txt', 'spot.txt', 'stop.txt', 'xpk.sh'):
    done = subprocess.run(['bash', '-n', GOLDEN / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
  task = yaml.safe_load((GOLDEN / 'skypilot.yaml').read_text())
  assert task['resources']['accelerators'] == 'tpu-v6e-256:1'
  assert task['resources']['job_recovery']['recover_on_exit_codes'] == [143]
  assert task['run'].splitlines()[1].startswith('flan train --gin_file=gin/runs/flan')


@pytest.mark.slow
def test_the_wheel_of_a_commit_holds_its_files(tmp_path):
  """A real build: needs the package index for setuptools."""
  wheel, constraints = Commit(Gcloud()).wheel(tmp_path)
  listed = subprocess.run(
    [sys.executable, '-m', 'zipfile', '-l', wheel], capture_output=True, text=True
  ).stdout
  for name in ('flan_jax/tpu/launch/launch.py', 'flan_jax/configs/runs/flan_137b.gin'):
    assert name in listed
  assert 'jax==' in pathlib.Path(constraints).read_text()
