"""Each hook of the training loop, alone, around steps that only count."""

import json
import types

import numpy as np
import pytest

from flan_jax.config import functions
from flan_jax.config.checks import YEAR_S
from flan_jax.config.recipe import Recipe
from flan_jax.errors import InputError
from flan_jax.runtime.preemption import Stopped
from flan_jax.train import hooks, own_hooks
from flan_jax.train.goodput import GoodputLog, read
from flan_jax.train.hook import Hook
from flan_jax.train.loop import Loop
from flan_jax.train.metric_writer import BadStep, MetricWriter
from flan_jax.train.run_dir import RunDir
from flan_jax.train.train_step import Metrics
from flan_jax.train.writers import writer as writer_lib
from flan_jax.train.writers.fan_out import Writers
from tests.run_log import read_lines


class CountingFeed:
  """Batches 1, 2, 3, ..."""

  def __init__(self, start: int = 0):
    self.given = start

  def next(self) -> int:
    self.given += 1
    return self.given

  def digests(self, step: int) -> dict[int, str]:
    return {step: f'{step:02x}'}


def step(state: int, batch: int):
  """The state is the number of batches seen, which come in order."""
  assert batch == state + 1
  one = np.float32(1)
  bad = np.float32(batch == 99)
  return batch, Metrics(one, one, one, one, one, bad)


def run(*used: Hook, end: int, start: int = 0, record=None) -> Loop:
  """A loop that has run with these hooks."""
  records = record or (lambda kind, seconds: None)
  loop = Loop(start, frozen=None, start=start, end=end, hooks=used, record=records)
  feed = CountingFeed(start)
  loop.run(step, feed, feed.next())
  return loop


class Recorder(Hook):
  """Records the steps at which it acts."""

  def __init__(self, every: int | None = None):
    self.every = every
    self.acted, self.closed = [], False

  def act(self, loop: Loop) -> None:
    self.acted.append(loop.done)

  def close(self) -> None:
    self.closed = True


class SavedStates:
  """Checkpoints in memory."""

  def __init__(self):
    self.saved = {}

  def save(self, state, *, step, metadata):
    assert metadata['step'] == step
    self.saved[step] = state


class Answers:
  """A held-out evaluation that takes notes, and SIGTERM at one step."""

  def __init__(self, done=(), stopped_at=None):
    self.evaluated, self._done, self._stopped_at = [], done, stopped_at

  def has_evaluated(self, step):
    return step in self._done

  def during(self, params, *, step):
    assert params == ('merged', step)
    if step == self._stopped_at:
      raise Stopped
    self.evaluated.append(step)
    return 50.0

  def values(self, found):
    return {'evaluation/datasets/rte': found}


class Asked:
  """A request to stop that comes during step `at`."""

  def __init__(self, at=None):
    self.at, self.asks = at, 0

  def asked(self):
    self.asks += 1
    return self.asks == self.at

  def at_once(self):
    import contextlib

    return contextlib.nullcontext()


def checkpoint(every, saved):
  return hooks.Checkpoint(saved, every=every, metadata={'seed': 0})


def evaluate(every, answers):
  return hooks.Evaluate(
    answers, every=every, merge=lambda state, frozen: ('merged', state), stop=Asked()
  )


def test_a_hook_acts_every_so_many_steps_and_at_the_end():
  often, never = Recorder(3), Recorder()
  loop = run(often, never, end=7)
  assert (often.acted, never.acted) == ([3, 6, 7], [7])
  assert (loop.state, loop.done, often.closed) == (7, 7, True)


def test_a_resumed_loop_counts_from_the_first_step_of_the_run():
  often = Recorder(3)
  run(often, start=4, end=7)
  assert often.acted == [6, 7]


def test_hooks_are_closed_after_an_error_too():
  class Breaks(Hook):
    def after(self, loop):
      raise OSError('full')

  first, last = Recorder(), Recorder()
  with pytest.raises(OSError, match='full'):
    run(first, Breaks(), last, end=2)
  assert first.closed
  assert last.closed


def test_the_first_error_is_the_one_reported_and_every_hook_is_closed():
  class Broken(Recorder):
    def start(self, loop: Loop) -> None:
      raise ValueError('at the start')

    def close(self) -> None:
      super().close()
      raise ValueError('at the end')

  used = Recorder(), Broken(), Broken()
  with pytest.raises(ValueError, match='at the start') as error:
    run(*used, end=2)
  assert all(hook.closed for hook in used)
  assert error.value.__notes__ == ['then, at the end: at the end'] * 2
  closes = Recorder()
  closes.close = Broken().close
  with pytest.raises(ValueError, match='at the end'):
    run(used[0], closes, end=2)


@pytest.mark.parametrize('seconds', [0, 1e-300, 0.01, 1e5, YEAR_S])
def test_a_watchdog_of_any_size_lets_steps_pass(seconds, capfd):
  assert run(hooks.Watchdog(seconds), end=3).done == 3
  assert capfd.readouterr().err == ''


def test_checkpoints_are_saved_every_so_often_and_at_the_end():
  saved = SavedStates()
  pushes = []
  hook = hooks.Checkpoint(
    saved, every=2, metadata={}, push=lambda: pushes.append(len(saved.saved))
  )
  run(hook, end=5)
  assert saved.saved == {2: 2, 4: 4, 5: 5}
  assert pushes == [0, 1, 2]  # before each save


def test_preemption_ends_the_loop_after_the_step_and_its_checkpoint():
  saved, stop = SavedStates(), Asked(at=3)
  loop = run(hooks.Preemption(stop), checkpoint(100, saved), end=9)
  assert (loop.done, saved.saved) == (3, {3: 3})
  assert stop.asks == 3


@pytest.mark.parametrize('end', [6, 7])
def test_evaluations_come_every_so_often_and_at_the_end(end):
  answers = Answers()
  run(evaluate(3, answers), end=end)
  assert answers.evaluated == [3, 6, 7][: end - 4]


@pytest.mark.parametrize(('done', 'evaluated'), [((), [4, 6, 7]), ((4,), [6, 7])])
def test_an_evaluation_that_was_missed_comes_first(done, evaluated):
  answers = Answers(done=done)
  run(evaluate(2, answers), start=4, end=7)
  assert answers.evaluated == evaluated


def test_sigterm_in_an_evaluation_still_saves_the_step_and_its_log(tmp_path):
  saved = SavedStates()
  answers = Answers(stopped_at=4)
  entries = RunDir(str(tmp_path)).log
  log = logged(tmp_path, every=10, ahead_of=())
  loop = run(log, checkpoint(10, saved), evaluate(4, answers), end=9)
  assert (loop.done, saved.saved) == (4, {4: 4})
  assert [json.loads(line)['step'] for line in entries.read_text().splitlines()] == [4]


def logged(tmp_path, *, every, ahead_of) -> hooks.Log:
  folder = RunDir(str(tmp_path))
  writers = Writers(['jsonl'], warn=print)
  writer_lib.check(['jsonl'])
  writers.start(writer_lib.RunInfo(name='run', folder=folder.path))
  writer = MetricWriter(
    folder, writers, start_step=0, batch_tokens=8, flops_per_token=1.0
  )
  bar = types.SimpleNamespace(advance=lambda count, note='': None)
  return hooks.Log(
    writer, every=every, schedule=lambda step: 0.5, bar=bar, ahead_of=ahead_of
  )


def test_the_log_is_written_every_so_often_and_before_each_checkpoint(tmp_path):
  saving = checkpoint(3, SavedStates())
  run(logged(tmp_path, every=2, ahead_of=(saving,)), saving, end=7)
  lines = RunDir(str(tmp_path)).log.read_text().splitlines()
  entries = [json.loads(line) for line in lines]
  assert [entry['step'] for entry in entries] == [2, 3, 4, 6, 7]
  fed = read_lines(RunDir(str(tmp_path)).sequences)
  assert fed[0] == {'step': 2, 'sequences': {'0': '00', '1': '01'}}
  assert [line['step'] for line in fed] == [2, 3, 4, 6, 7]
  assert {entry['learning_rate'] for entry in entries} == {0.5}


def test_a_state_after_a_bad_step_is_never_saved(tmp_path):
  saved = SavedStates()
  saving = checkpoint(4, saved)
  with pytest.raises(BadStep, match='step 99'):
    run(logged(tmp_path, every=1000, ahead_of=(saving,)), saving, start=94, end=110)
  assert saved.saved == {96: 96}


def test_goodput_has_each_step_once_and_no_time_of_saves_in_it(tmp_path):
  records = GoodputLog(tmp_path / 'goodput.jsonl', began=0.0)
  records.start(0)
  saving = checkpoint(2, SavedStates())
  goodput = hooks.Goodput(records, every=3, ahead_of=(saving,))
  run(goodput, saving, end=5, record=records.add)
  written = read(tmp_path / 'goodput.jsonl')
  steps = [(r['from'], r['to']) for r in written if r['kind'] == 'step']
  assert steps == [(0, 2), (2, 3), (3, 4), (4, 5)]
  assert [r['kind'] for r in written].count('save') == 3
  goodput.aside(1e6)  # as after a long evaluation
  goodput.act(types.SimpleNamespace(done=6))
  assert read(tmp_path / 'goodput.jsonl')[-1]['seconds'] < -1e5


def test_the_first_steps_of_a_start_are_not_traced():
  begun = []
  trace = types.SimpleNamespace(
    step=lambda number: begun.append(number) or Hook().around(number),
    after=lambda number, outputs: number == 2,
    close=lambda: None,
    first=1,
    last=2,
    folder='profile',
  )
  lines = []
  run(hooks.Profile(trace, progress=types.SimpleNamespace(line=lines.append)), end=3)
  assert begun == [1, 2, 3]
  assert lines == ['steps 1 to 2 traced: profile']


class _Failing(Hook):
  def act(self, loop: Loop) -> None:
    raise ValueError('no\nway')


class _Kept(Hook):
  def act(self, loop: Loop) -> None:
    loop.write({'own/state': loop.state})


@pytest.fixture
def registered(monkeypatch):
  """Recipes of functions by name, as gin would find them."""
  targets = {'kept': _Kept, 'failing': _Failing, 'dict': dict}

  def find(name, **_):
    return functions.Function(name, targets[name], registered=False)

  monkeypatch.setattr(functions, 'find', find)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'train/loss': 1.0}, "'train/loss': must be a group of your own"),
    ({'norm': 1.0}, "'norm': must be a group of your own and a name"),
    ({'own/text': 'much'}, "'own/text': got 'much'; must be a number"),
  ],
)
def test_a_value_of_a_hook_has_a_group_of_its_own(values, message):
  loop = Loop(0, frozen=None, start=0, end=1, hooks=[])
  with pytest.raises(InputError, match=message):
    loop.write(values)


def test_an_own_hook_acts_every_so_often_and_writes(registered):
  written = []
  (hook,) = own_hooks.of([Recipe('kept', (('every', 2),))])
  loop = Loop(
    0,
    frozen=None,
    start=0,
    end=5,
    hooks=[hook],
    write=lambda step, values: written.append((step, values)),
  )
  feed = CountingFeed()
  loop.run(step, feed, feed.next())
  assert written == [(n, {'own/state': float(n)}) for n in (2, 4, 5)]


def test_mistakes_of_own_hooks_are_one_line(registered):
  with pytest.raises(InputError, match=r'^Run.hooks: @dict\(\) returns dict; must ret'):
    own_hooks.of([Recipe('dict')])
  with pytest.raises(InputError, match='every: got 0; must be 1 or more'):
    own_hooks.of([Recipe('kept', (('every', 0),))])
  with pytest.raises(
    InputError, match=r'^hook @failing\(\): ValueError: no \(.*:\d+\)$'
  ):
    run(*own_hooks.of([Recipe('failing')]), end=1)
