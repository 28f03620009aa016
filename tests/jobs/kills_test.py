"""Kills and signals at random moments, in every verb that writes but `flan train`.

After a kill the same command ends with the content of an uninterrupted one, and leaves
nothing beside it. A signal ends the verb within seconds in one line. Training has
kill_test.py.
"""

import collections
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from compile_flags import QUICK

from flan_jax.catalog import registry
from flan_jax.data.store import materialize
from flan_jax.interop.huggingface import convert, logit_check
from flan_jax.runtime import signals
from flan_jax.runtime.progress import Progress

TASK = 'microworld_mini_arc'
BEFORE = """
from importlib import util
found = util.find_spec
util.find_spec = lambda name, *more: (
  None if name in ('torch', 'transformers') else found(name, *more)  # they take long
)
"""


class Verb(NamedTuple):
  """A command, and what of its output must be equal.

  Attributes:
    arguments: arguments; {OUT} is in the place of the output.
    content: folder of the output -> what must be equal.
  """

  arguments: tuple[str, ...]
  content: Callable[[pathlib.Path], Any]


def every_file(out: pathlib.Path) -> dict[str, bytes]:
  return {
    path.relative_to(out).as_posix(): path.read_bytes()
    for path in sorted(out.rglob('*'))
    if path.is_file()
  }


def fetched(out: pathlib.Path) -> dict[str, Any]:
  """Every file; of records, their values: fields are written in any order."""
  tf = pytest.importorskip('tensorflow')
  found: dict[str, Any] = every_file(out)
  for name in found:
    if 'tfrecord' in name:
      records = tf.data.TFRecordDataset(str(out / name)).as_numpy_iterator()
      examples = map(tf.train.Example.FromString, records)
      found[name] = [one.SerializeToString(deterministic=True) for one in examples]
  return found


def evaluated(out: pathlib.Path) -> list[Any]:
  """The report without its timings, and the names of the files."""
  report = json.loads((out / 'report.json').read_text())
  names = sorted(path.name for path in out.iterdir())
  return [report['results'], (out / 'predictions.jsonl').read_bytes(), names]


@pytest.fixture(scope='module')
def verbs(tmp_path_factory, tiny_model) -> dict[str, Verb]:
  root = tmp_path_factory.mktemp('made')
  model, hf, store, raw = (root / name for name in ('model', 'hf', 'store', 'raw'))
  tiny = tiny_model(activation='swiglu', scaled_head=False)
  tiny.save(model)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(logit_check, '_installed', lambda name: False)
    convert.export_model(model, hf, progress=Progress(quiet=True))
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(tokenizer='bytes', epochs=2, sequence_length=512),
    out=store,
  )
  examples = pathlib.Path(__file__).parents[1] / 'examples'
  for path in sorted(examples.glob('glue/*/*.jsonl')):
    copy = raw / path.relative_to(examples)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(path.read_text(encoding='utf-8') * 200, encoding='utf-8')
  prompts = root / 'prompts.jsonl'
  lines = (json.dumps({'inputs': f'{n} and {n} are'}) for n in range(64))
  prompts.write_text('\n'.join(lines) + '\n')
  small = [
    '--gin.Evaluate.batch_size=4',
    '--gin.Evaluate.sequence_length=512',
    f"--gin.CHECKPOINT='{model}'",
    "--gin.OUTPUT_DIR='{OUT}'",
  ]
  made = {
    'materialize': (
      ['--mixture=microworld_mini_cb', '--vocab-size=512', '--workers=2',
       '--epochs=6', '--out={OUT}'],
      every_file,
    ),
    'fetch': (
      ['glue_mrpc', 'glue_qqp', 'cola', f'--from={raw}', '--data-dir={OUT}'],
      fetched,
    ),
    'convert': ([str(hf), '{OUT}'], every_file),
    'eval': (
      [*small, "--gin.FAMILY='microworld'", "--gin.DATASETS='mini_arc'",
       '--gin.MAX_EXAMPLES=24', '--gin.TEMPLATES=4'],
      evaluated,
    ),
    'infer': ([*small, f"--gin.PROMPTS='{prompts}'", '--gin.MAX_TOKENS=8'], every_file),
    'export': ([f'--store={store}', '--out={OUT}', '--shard-size=100'], every_file),
  }  # fmt: skip
  return {name: Verb((name, *more), content) for name, (more, content) in made.items()}


class Box:
  """A folder in which a verb runs: the output and all that stands beside it."""

  def __init__(self, verb: Verb, path: pathlib.Path):
    self.path, self.out = path, path / 'out'
    path.mkdir()
    main = 'import runpy; runpy.run_module("flan_jax", run_name="__main__")'
    arguments = [word.replace('{OUT}', str(self.out)) for word in verb.arguments]
    self._command = [sys.executable, '-c', f'{BEFORE}\n{main}', *arguments]
    self._content = verb.content

  def start(self) -> subprocess.Popen:
    return subprocess.Popen(
      self._command,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      env={
        **os.environ,
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count=1 {QUICK}',
        'XDG_CACHE_HOME': str(self.path.parent / 'cache'),
      },
    )

  def names(self) -> set[str]:
    return {path.relative_to(self.path).as_posix() for path in self.path.rglob('*')}

  def clear(self) -> None:
    shutil.rmtree(self.path)
    self.path.mkdir()

  def begins(self, process: subprocess.Popen) -> bool:
    """Waits until something is written; False if the process ends before."""
    before = self.names()
    while process.poll() is None:
      try:
        if self.names() != before:
          return True
      except OSError:  # a folder that is just removed
        return True
      time.sleep(0.002)
    return False

  def finish(self) -> tuple[Any, set[str], float]:
    """Runs to the end; (content, names beside the output, seconds of writing)."""
    process = self.start()
    self.begins(process)
    began = time.monotonic()
    _, said = process.communicate(timeout=1_200)
    assert process.returncode == 0, said
    names = {path.name for path in self.path.iterdir()}
    return self._content(self.out), names, time.monotonic() - began


REFUSE = ('convert', 'export')
"""Verbs that refuse an output that is finished."""

NAMES = ('materialize', 'fetch', 'convert', 'eval', 'infer', 'export')


def interrupted(
  verb: Verb, tmp_path: pathlib.Path, *, times: int, by: list[int], seed: int
) -> Iterator[tuple[int, subprocess.Popen, str, float]]:
  """Sends signals at random moments of its writing, one start each, then compares.

  Yields:
    (signal, ended process, its standard error, seconds that it took to end)
  """
  whole, beside, span = Box(verb, tmp_path / 'whole').finish()
  draw = random.Random(seed)
  box, left = Box(verb, tmp_path / 'box'), times
  while left:
    process = box.start()
    if box.begins(process):
      began = time.monotonic()
      with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(draw.uniform(0, span))
        span = min(span, time.monotonic() - began)  # the first start was slower
    if process.poll() is not None:
      _, said = process.communicate()
      assert process.returncode == 0, said
      assert (verb.content(box.out), set(os.listdir(box.path))) == (whole, beside)
      box.clear()
      continue
    number = draw.choice(by)
    process.send_signal(number)
    sent = time.monotonic()
    _, said = process.communicate(timeout=120)
    left -= 1
    yield number, process, said, time.monotonic() - sent
    if verb.arguments[0] in REFUSE and box.out.exists():  # it was finished just before
      assert verb.content(box.out) == whole
      box.clear()
  found = box.finish()
  assert found[:2] == (whole, beside)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize('name', NAMES)
def test_twenty_kills(name, verbs, tmp_path, capsys):
  hit = collections.Counter()
  for _, process, _, _ in interrupted(
    verbs[name], tmp_path, times=int(os.environ.get('KILLS', '20')),
    by=[signal.SIGKILL], seed=1,
  ):  # fmt: skip
    hit[process.returncode] += 1
    with capsys.disabled():
      print(name, dict(hit), flush=True)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize('name', NAMES)
def test_signals_end_a_verb_in_one_line(name, verbs, tmp_path, capsys):
  """No traceback, no crash, and the exit code of the signal; then it goes on."""
  hit, longest = collections.Counter(), 0.0
  for number, process, said, seconds in interrupted(
    verbs[name], tmp_path, times=int(os.environ.get('SIGNALS', '6')),
    by=[signal.SIGINT, signal.SIGTERM], seed=2,
  ):  # fmt: skip
    done = 'Done: ' in said  # then the interpreter itself may be ended
    assert process.returncode in ((0, -number) if done else (128 + number,)), said
    assert 'Traceback' not in said, said
    assert seconds < signals.LIMIT_S + 2
    hit[signal.Signals(number).name, process.returncode] += 1
    longest = max(longest, seconds)
  with capsys.disabled():
    print(f'\n{name}: {dict(hit)}, {longest:.1f} s at most')
