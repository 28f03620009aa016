"""kill -9 at random moments: what is started again ends as if nothing had happened.

Moments are drawn within what is to be survived: a while into a step, into a save (its
unfinished folder is there) or into an evaluation (its journal grows). A run that comes
to its end is compared with one that nothing interrupted, bit for bit.
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

pytestmark = pytest.mark.usefixtures('compiled_once')

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
    out=out,
    tokenizer='bytes',
    epochs=1,
    sequence_length=512,
    evaluate=('nli',),
  )
  return out


def lines(path: pathlib.Path) -> int:
  return path.read_bytes().count(b'\n') if path.is_file() else 0


# What there is to see of each while it goes on; it grows as long as it does.
SEEN = {
  'step': lambda out: set(range(lines(out / 'log.jsonl'))),
  'save': lambda out: {p.name for p in (out / 'checkpoints').glob('*tmp*')},
  'evaluation': lambda out: {
    (path.name, i)
    for path in (out / 'report').glob('*.journal.jsonl')
    for i in range(lines(path))
  },
}


def assert_same_run(whole: pathlib.Path, broken: pathlib.Path) -> None:
  """Parameters, losses, rows fed and what was measured."""
  first, second = (load_file(d / 'model/model.safetensors') for d in (whole, broken))
  assert first.keys() == second.keys()
  for name, value in first.items():
    assert value.tobytes() == second[name].tobytes(), name
  logs = [
    [json.loads(line) for line in (d / 'log.jsonl').read_text().splitlines()]
    for d in (whole, broken)
  ]
  for name in ('step', 'loss', 'sequences'):
    assert [e[name] for e in logs[0]] == [e[name] for e in logs[1]], name
  reports = [d / 'report' / 'report.json' for d in (whole, broken)]
  assert reports[0].is_file() == reports[1].is_file()
  if reports[0].is_file():
    one, other = (json.loads(path.read_text()) for path in reports)
    assert one['rows'] == other['rows']
    assert one['train_examples'] == other['train_examples']


def killed(
  runs, store, tmp_path, moments: list[str], *, count: int, seed: int
) -> Counter:
  """Kills hosts at the moments, one start each; returns what was hit, how often."""
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'

  def start(out):
    return runs.start(out, count=count, STORE=store, **SETTINGS)

  hosts = start(whole)
  assert [host.end() for host in hosts] == [0] * count, hosts[0].stderr
  draw = random.Random(seed)
  hit: Counter = Counter()
  left = list(moments)
  while left:
    moment, begun = left[0], lines(broken / 'goodput.jsonl')
    hosts = start(broken)
    runs.wait(hosts, lambda n=begun: lines(broken / 'goodput.jsonl') > n)
    before, seen = SEEN[moment](broken), set()
    wanted = draw.randint(1, 3)

    def there(moment=moment, before=before, seen=seen, wanted=wanted):
      seen.update(SEEN[moment](broken) - before)
      return len(seen) >= wanted

    if not runs.wait(hosts, there):  # there is no such moment any more: to the end
      assert [host.end() for host in hosts] == [0] * count, hosts[0].stderr
      assert_same_run(whole, broken)
      shutil.rmtree(broken)
      hit['whole runs compared'] += 1
      continue
    time.sleep(draw.uniform(0, 0.03))
    victims = draw.sample(hosts, draw.randint(1, count))
    for victim in victims:
      victim.process.send_signal(signal.SIGKILL)
    died = time.monotonic()
    for host in hosts:
      host.end()
    seconds = time.monotonic() - died
    hit['seconds until all had ended'] = max(
      hit['seconds until all had ended'], seconds
    )
    left.pop(0)
    hit[moment] += 1
    hit['torn saves'] += bool(SEEN['save'](broken))
  hosts = start(broken)
  assert [host.end() for host in hosts] == [0] * count, hosts[0].stderr
  assert_same_run(whole, broken)
  hit['whole runs compared'] += 1
  return hit


def test_three_kills(runs, store, tmp_path):
  hit = killed(runs, store, tmp_path, ['step', 'save', 'evaluation'], count=1, seed=3)
  assert hit['whole runs compared'] == 1


def test_two_kills_of_one_or_both_of_two_hosts(runs, store, tmp_path):
  """Those that are left end by themselves, within a minute."""
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
    print(f'\n{count} host(s), 30 kills: {dict(hit)}')
