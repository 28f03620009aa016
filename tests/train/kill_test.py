"""kill -9 at random moments: a restarted run ends as if nothing had happened.

Moments are drawn within a step, a save (its unfinished folder exists) or an evaluation
(its journal grows). A run that comes to its end is compared with an uninterrupted one,
bit for bit. One kill in a save, among the default tests, is in interruption_test.py.
"""

import json
import pathlib
import random
import shutil
import signal
import time
from collections import Counter

import pytest
from safetensors.numpy import load_file

from flan_jax.catalog import registry
from flan_jax.data.store import materialize
from tests.run_log import read_lines

TASK = 'microworld_mini_arc'
SETTINGS = {
  'MIXTURE_OR_TASK_NAME': TASK,
  'HELD_OUT': 'nli',
  'TRAIN_STEPS': 30,
  'SEQUENCE_LENGTH': 512,
  'BATCH_TOKENS': 4096,
  'Run.checkpoint_period': 3,
  'Evaluate.max_examples': 2,
  'Evaluate.templates': 1,
  'Evaluate.sequence_length': 512,
}


@pytest.fixture(scope='module')
def store(tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(
      tokenizer='bytes', epochs=1, sequence_length=512, evaluate=('nli',)
    ),
    out=out,
  )
  return out


def lines(path: pathlib.Path) -> int:
  return path.read_bytes().count(b'\n') if path.is_file() else 0


# Kind of moment -> signs of it in MODEL_DIR, a set that grows meanwhile.
SIGNS = {
  'step': lambda out: set(range(lines(out / 'log.jsonl'))),
  'save': lambda out: {p.name for p in (out / 'checkpoints').glob('*tmp*')},
  'evaluation': lambda out: {
    (path.name, i)
    for path in (out / 'report').glob('*.journal.jsonl')
    for i in range(lines(path))
  },
}


def assert_same_run(whole: pathlib.Path, broken: pathlib.Path) -> None:
  """Checks parameters, losses, sequences fed and results."""
  first, second = (load_file(d / 'model/model.safetensors') for d in (whole, broken))
  assert first.keys() == second.keys()
  for name, value in first.items():
    assert value.tobytes() == second[name].tobytes(), name
  for file, name in (('log', 'step'), ('log', 'loss'), ('sequences', 'sequences')):
    logs = [read_lines(d / f'{file}.jsonl') for d in (whole, broken)]
    assert [e[name] for e in logs[0]] == [e[name] for e in logs[1]], name
  reports = [d / 'report' / 'report.json' for d in (whole, broken)]
  assert reports[0].is_file() == reports[1].is_file()
  if reports[0].is_file():
    one, other = (json.loads(path.read_text()) for path in reports)
    assert one['results'] == other['results']
    assert one['train_examples'] == other['train_examples']


def killed(
  runs, store, tmp_path, moments: list[str], *, count: int, seed: int
) -> Counter:
  """Kills processes at the moments, one start each; counts the moments hit."""
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'

  def start(out):
    return runs.start(out, count=count, STORE=store, **SETTINGS)

  processes = start(whole)
  assert [process.end() for process in processes] == [0] * count, processes[0].stderr
  draw = random.Random(seed)
  hit: Counter = Counter()
  left = list(moments)
  while left:
    moment, begun = left[0], lines(broken / 'goodput.jsonl')
    processes = start(broken)
    runs.wait(processes, lambda n=begun: lines(broken / 'goodput.jsonl') > n)
    before, seen = SIGNS[moment](broken), set()
    wanted = draw.randint(1, 3)

    def there(moment=moment, before=before, seen=seen, wanted=wanted):
      seen.update(SIGNS[moment](broken) - before)
      return len(seen) >= wanted

    if not runs.wait(processes, there):  # no such moment is left: run to the end
      assert [process.end() for process in processes] == [0] * count, processes[
        0
      ].stderr
      assert_same_run(whole, broken)
      shutil.rmtree(broken)
      hit['whole runs compared'] += 1
      continue
    time.sleep(draw.uniform(0, 0.03))
    victims = draw.sample(processes, draw.randint(1, count))
    for victim in victims:
      victim.process.send_signal(signal.SIGKILL)
    died = time.monotonic()
    for process in processes:
      process.end()
    seconds = time.monotonic() - died
    hit['seconds until all had ended'] = max(
      hit['seconds until all had ended'], seconds
    )
    left.pop(0)
    hit[moment] += 1
    hit['torn saves'] += bool(SIGNS['save'](broken))
  processes = start(broken)
  assert [process.end() for process in processes] == [0] * count, processes[0].stderr
  assert_same_run(whole, broken)
  hit['whole runs compared'] += 1
  return hit


@pytest.mark.slow
def test_three_kills(runs, store, tmp_path):
  hit = killed(runs, store, tmp_path, ['step', 'save', 'evaluation'], count=1, seed=3)
  assert hit['whole runs compared'] == 1


@pytest.mark.slow
def test_two_kills_of_one_or_both_of_two_processes(runs, store, tmp_path):
  """The surviving process ends by itself, within a minute."""
  hit = killed(runs, store, tmp_path, ['save', 'evaluation'], count=2, seed=4)
  assert hit['whole runs compared'] == 1


@pytest.mark.slow
@pytest.mark.timeout(3 * 3_600)
@pytest.mark.parametrize('count', [1, 2])
def test_thirty_kills(count, runs, store, tmp_path, capsys):
  kinds = ['step', 'save', 'evaluation']
  moments = random.Random(30).choices(kinds, k=30)
  hit = killed(runs, store, tmp_path, moments, count=count, seed=5)
  assert sum(hit[kind] for kind in kinds) == 30
  assert all(hit[kind] >= 5 for kind in kinds)
  with capsys.disabled():
    print(f'\n{count} process(es), 30 kills: {dict(hit)}')
