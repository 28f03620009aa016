"""Full disks and read-only folders, in every verb that writes: one line, nothing lost.

The disks are real file systems of a few megabytes, filled up to a few kilobytes.
"""

import os
import pathlib
import subprocess

import pytest
import small_run

from flan_jax.cli import dispatch
from flan_jax.interop.huggingface import logit_check

TASK = 'microworld_mini_arc'


@pytest.fixture(scope='module', autouse=True)
def without_torch():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(logit_check, '_installed', lambda name: False)
    yield


@pytest.fixture(scope='module')
def model(tmp_path_factory, tiny_model) -> pathlib.Path:
  folder = tmp_path_factory.mktemp('model')
  tiny = tiny_model(activation='swiglu', scaled_head=False)
  tiny.save(folder)
  return folder


@pytest.fixture(scope='module')
def raw(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp('raw')
  examples = pathlib.Path(__file__).parents[1] / 'examples'
  copy = folder / 'glue' / 'mrpc' / 'train.jsonl'
  copy.parent.mkdir(parents=True)
  copy.write_text((examples / 'glue/mrpc/train.jsonl').read_text() * 50)
  return folder


@pytest.fixture(scope='module')
def prompts(tmp_path_factory) -> pathlib.Path:
  path = tmp_path_factory.mktemp('prompts') / 'prompts.jsonl'
  path.write_text(''.join(f'{{"inputs": "{"x" * 99}{n}"}}\n' for n in range(300)))
  return path


@pytest.fixture(scope='module')
def report(tmp_path_factory, model) -> pathlib.Path:
  out = tmp_path_factory.mktemp('report') / 'out'
  assert dispatch.main(['eval', *evaluating(out, model)]) == 0
  return out


def evaluating(out, model) -> list[str]:
  return [
    "--gin.FAMILY='microworld'", "--gin.DATASETS='mini_arc'", '--gin.TEMPLATES=2',
    '--gin.MAX_EXAMPLES=3', f"--gin.CHECKPOINT='{model}'", f"--gin.OUTPUT_DIR='{out}'",
    '--gin.Evaluate.batch_size=4', '--gin.Evaluate.sequence_length=512',
  ]  # fmt: skip


def command(verb: str, out: pathlib.Path, request) -> list[str]:
  of = request.getfixturevalue
  match verb:
    case 'train':
      settings = {
        'MODEL_DIR': f"'{out}'", 'MIXTURE_OR_TASK_NAME': TASK, 'TRAIN_STEPS': 2,
        'TOKENIZER': "'bytes'",
      }  # fmt: skip
      return [
        verb,
        *(f'--gin_file={file}' for file in small_run.FILES),
        *(f'--gin.{flag}' for flag in small_run.flags(settings)),
      ]
    case 'eval':
      return [verb, *evaluating(out, of('model'))]
    case 'infer':
      return [
        verb, f"--gin.CHECKPOINT='{of('model')}'", f"--gin.OUTPUT_DIR='{out}'",
        f"--gin.PROMPTS='{of('prompts')}'", '--gin.MAX_TOKENS=2',
        '--gin.Evaluate.batch_size=64', '--gin.Evaluate.sequence_length=256',
      ]  # fmt: skip
    case 'fetch':
      return [verb, 'glue_mrpc', f'--from={of("raw")}', f'--data-dir={out}']
    case 'materialize':
      return [
        verb, f'--mixture={TASK}', '--tokenizer=bytes', '--workers=1', f'--out={out}'
      ]  # fmt: skip
    case 'export':
      return [
        verb, f'--mixture={TASK}', '--tokenizer=bytes', '--workers=1', f'--out={out}'
      ]  # fmt: skip
    case 'convert':
      return [verb, str(of('model')), str(out), '--to=hf']
    case 'report':
      return [verb, str(of('report')), str(of('report')), f'--html={out}']
    case 'show':
      return [verb, TASK, f'--html={out}']
  raise AssertionError(verb)


VERBS = (
  'train', 'eval', 'infer', 'fetch', 'materialize', 'export', 'convert', 'report',
  'show',
)  # fmt: skip


@pytest.fixture
def disk(tmp_path):
  """A file system of 8 MB, and a function that leaves `free` bytes of it."""
  mount = tmp_path / 'disk'
  mount.mkdir()
  made = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'none', mount])
  if made.returncode:
    pytest.skip('mounting a file system is not allowed here')

  def leave(free: int) -> pathlib.Path:
    pad = mount / 'pad'
    pad.unlink(missing_ok=True)
    stat = os.statvfs(mount)
    used = stat.f_bavail * stat.f_frsize - free
    if used > 0:
      with pad.open('wb') as file:
        os.posix_fallocate(file.fileno(), 0, used)
    return mount

  yield leave
  subprocess.run(['umount', '--lazy', mount], check=True)


def said(capfd) -> list[str]:
  """The error line; nothing may stand around it but progress."""
  text = capfd.readouterr().err
  assert 'Traceback' not in text, text
  return [line for line in text.splitlines() if line.startswith('flan: error: ')]


CASES = [
  pytest.param(
    verb,
    free,
    marks=[] if (verb, free) == ('materialize', 8 << 10) else pytest.mark.slow,
  )
  for verb in VERBS
  for free in (0, 8 << 10, 40 << 10, 200 << 10)
]


@pytest.mark.parametrize(('verb', 'free'), CASES)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
  verb, free, disk, request, capfd
):
  mount = disk(8 << 20)
  arguments = command(verb, mount / 'out', request)
  (mount / 'kept').write_text('kept')
  disk(free)
  capfd.readouterr()
  code = dispatch.main(arguments)
  lines = said(capfd)
  if code:
    (line,) = lines
    assert code in (1, 2)
    assert 'space' in line or 'room' in line or 'disk' in line, line
  assert (mount / 'kept').read_text() == 'kept'
  disk(8 << 20)
  assert dispatch.main(arguments) == 0 or not code  # a finished output is refused
  left = [path.name for path in mount.iterdir() if path.name.startswith('.')]
  assert not left


@pytest.mark.parametrize(
  'verb',
  [
    pytest.param(verb, marks=[] if verb == 'materialize' else pytest.mark.slow)
    for verb in VERBS
  ],
)
def test_a_read_only_folder_is_one_line(verb, disk, request, capfd):
  mount = disk(8 << 20)
  arguments = command(verb, mount / 'out', request)
  subprocess.run(['mount', '-o', 'remount,ro', mount], check=True)
  capfd.readouterr()
  assert dispatch.main(arguments) in (1, 2)
  (line,) = said(capfd)
  assert 'Read-only file system' in line
  subprocess.run(['mount', '-o', 'remount,rw', mount], check=True)
  assert dispatch.main(arguments) == 0
