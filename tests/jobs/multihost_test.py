"""The evaluation at the end of a run, by several processes together.

Processes that communicate over gloo, against one process with as many devices.
"""

import json
import pathlib
import signal

import pytest
from safetensors.numpy import load_file

from flan_jax.catalog import registry
from flan_jax.config import gin
from flan_jax.data.store import materialize
from flan_jax.jobs import train_and_evaluate
from flan_jax.runtime.preemption import INTERRUPTED
from flan_jax.runtime.progress import Progress

TASK = 'microworld_mini_arc'
SETTINGS = {
  'MIXTURE_OR_TASK_NAME': TASK,
  'HELD_OUT': 'nli',
  'TRAIN_STEPS': 4,
  'EVAL_PERIOD': 2,
  'Mesh.fsdp': 2,
  'Run.checkpoint_period': 100,
  'Evaluate.max_examples': 8,
  'Evaluate.templates': 4,
  'Evaluate.eval_examples': 16,
}

SLOWLY = """
import time
from flan_jax.runtime import preemption
on_batch = preemption.Stop.on_batch
preemption.Stop.on_batch = lambda self: (time.sleep(0.4), on_batch(self))
"""
"""Slows an evaluation down, so that a signal arrives in the middle of it."""


@pytest.fixture(scope='module')
def settings(tmp_path_factory) -> dict:
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(
      tokenizer='bytes', epochs=1, sequence_length=256, evaluate=('nli',)
    ),
    out=out,
  )
  return {**SETTINGS, 'STORE': out}


@pytest.fixture
def alone(runs, settings, tmp_path) -> pathlib.Path:
  """Runs in this process, on eight devices."""
  out = tmp_path / 'alone'
  files = ['gin/runs/base.gin', 'gin/models/tiny.gin']
  run = gin.load(files, runs.flags(out, **settings)).build('Run')
  train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
  return out


def read(path: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same(found: pathlib.Path, expected: pathlib.Path) -> None:
  """Compares figures exactly, log-probabilities to float32, and the names of files."""
  one, other = (
    json.loads((d / 'report/report.json').read_text()) for d in (found, expected)
  )
  for name in ('results', 'train_examples', 'trained_on', 'leakage', 'warnings'):
    assert one[name] == other[name], name
  assert read(found / 'evaluations.jsonl') == read(expected / 'evaluations.jsonl')
  lines = [read(d / 'report/predictions.jsonl') for d in (found, expected)]
  for one, other in zip(*lines, strict=True):
    scores = one.pop('log_probabilities'), other.pop('log_probabilities')
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert one == other
  models = [load_file(d / 'model/model.safetensors') for d in (found, expected)]
  for name, tensor in models[0].items():
    assert tensor == pytest.approx(models[1][name], abs=1e-5), name
  names = [{path.name for path in (d / 'report').iterdir()} for d in (found, expected)]
  assert names[0] == names[1]


def interrupted(runs, settings, out, *, seen: str, lines: int, host: int) -> None:
  """Runs two processes; sends SIGTERM to one when a file has `lines` lines."""
  apart = {i: {'before': SLOWLY} for i in range(2)}
  both = runs.start(out, count=2, apart=apart, **settings)
  path = out / seen

  def there():
    return path.is_file() and path.read_bytes().count(b'\n') >= lines

  assert runs.wait(both, there), both[0].stderr
  both[host].process.send_signal(signal.SIGTERM)
  assert [h.end(60) for h in both] == [INTERRUPTED] * 2, both[0].stderr
  assert 'Stopped by SIGTERM' in both[0].stderr


@pytest.mark.slow
@pytest.mark.parametrize('eval_step', [False, True])
def test_sigterm_to_one_process_in_an_evaluation_ends_both_and_they_resume(
  eval_step, runs, settings, alone, tmp_path
):
  """Of the base, in an evaluation step, and of the tuned model: the same report."""
  out = tmp_path / 'run'
  base, tuned = (f'report/{name}.journal.jsonl' for name in ('base', 'tuned'))
  interrupted(runs, settings, out, seen=base, lines=1, host=1)
  assert not (out / 'log.jsonl').exists()
  if eval_step:
    interrupted(runs, settings, out, seen='log.jsonl', lines=2, host=0)
    assert [path.name for path in (out / 'checkpoints').iterdir()] == ['2']
    assert not (out / 'evaluations.jsonl').exists()
  interrupted(runs, settings, out, seen=tuned, lines=1, host=0)
  assert len(read(out / base)) == 3  # header, and two datasets
  both = runs.start(out, count=2, **settings)
  assert [host.end() for host in both] == [0, 0], both[0].stderr
  assert 'train: ' not in both[0].stderr
  assert_same(out, alone)


@pytest.mark.slow
def test_four_processes_write_the_report_of_one(runs, settings, alone, tmp_path):
  out = tmp_path / 'run'
  apart = {i: {'devices': 2} for i in range(4)}
  four = runs.start(out, count=4, apart=apart, **settings)
  assert [host.end() for host in four] == [0] * 4, four[0].stderr
  assert_same(out, alone)
