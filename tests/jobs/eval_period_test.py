"""EVAL_PERIOD: evaluation steps during training, which do not affect it."""

import json
import math
import os
import shutil
import signal
from typing import ClassVar

import pytest
import small_run
from safetensors.numpy import load_file

import flan_jax
from flan_jax.catalog import registry
from flan_jax.config import gin
from flan_jax.data.store import materialize
from flan_jax.errors import InputError
from flan_jax.inference.rank_options import Scorer
from flan_jax.jobs import train_and_evaluate, training_data
from flan_jax.runtime import checksums
from flan_jax.runtime.progress import Progress

SETTINGS = {
  'TRAIN_STEPS': 5,
  'MIXTURE_OR_TASK_NAME': 'microworld_mini_cola',
  'HELD_OUT': 'closed_book_qa',
  'Run.checkpoint_period': 3,
  'Evaluate.base': False,
  'Evaluate.max_examples': 4,
  'Evaluate.templates': 1,
  'Evaluate.eval_examples': 6,
}


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture('microworld_mini_cola'),
    materialize.StoreConfig(
      tokenizer='bytes', epochs=1, evaluate=('closed_book_qa',), sequence_length=256
    ),
    out=out,
  )
  return out


def train(model_dir, store, **more):
  flags = small_run.flags({**SETTINGS, 'MODEL_DIR': model_dir, 'STORE': store, **more})
  run = gin.load(small_run.FILES, flags).build('Run')
  return train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))


@flan_jax.metric_writer('notes')
class Notes(flan_jax.Writer):
  """Keeps what it is given in memory."""

  kept: ClassVar[list] = []

  def __init__(self, run):
    self.kept.append(run)

  def write(self, step, values):
    self.kept.append((step, values))

  def attach(self, path):
    self.kept.append(json.loads(path.read_text()) if path.suffix == '.json' else path)

  def close(self, finished):
    self.kept.append(finished)


@flan_jax.metric_writer('broken')
class Broken(Notes):
  """A writer whose server is down."""

  def __init__(self, run):
    raise ConnectionError


@pytest.fixture(scope='module')
def evaluated(store, tmp_path_factory):
  """An uninterrupted run with evaluation steps at 2, 4 and 5 of 5."""
  out = tmp_path_factory.mktemp('evaluated') / 'run'
  writers = ('jsonl', 'notes', 'broken')
  train(out, store, EVAL_PERIOD=2, WRITERS=writers, **{'Run.log_period': 2})
  return out


def eval_steps(out) -> list[dict]:
  lines = (out / 'evaluations.jsonl').read_text(encoding='utf-8').splitlines()
  return [json.loads(line) for line in lines]


def validation_steps(out) -> list[dict]:
  lines = (out / 'validation.jsonl').read_text(encoding='utf-8').splitlines()
  return [json.loads(line) for line in lines]


def assert_same_weights(one, other) -> None:
  weights = [load_file(out / 'model' / 'model.safetensors') for out in (one, other)]
  for name, tensor in weights[0].items():
    assert tensor.tobytes() == weights[1][name].tobytes(), name


def test_validation_can_be_the_loss_alone(store, tmp_path):
  train(
    tmp_path / 'run', store, HELD_OUT='()', TRAIN_STEPS=1, EVAL_PERIOD=1,
    **{'Evaluate.validation_metrics': False},
  )  # fmt: skip
  (step,) = validation_steps(tmp_path / 'run')
  assert step['loss'] > 0
  assert step['datasets']['mini_cola']['loss'] > 0
  assert step['datasets']['mini_cola']['metrics'] == {}


def test_evaluation_steps_are_written_and_do_not_change_the_weights(
  store, evaluated, tmp_path
):
  train(tmp_path / 'plain', store, HELD_OUT='()')
  assert_same_weights(tmp_path / 'plain', evaluated)
  for name in ('evaluations.jsonl', 'validation.jsonl'):
    assert not (tmp_path / 'plain' / name).exists()
  assert [eval_step['step'] for eval_step in eval_steps(evaluated)] == [2, 4, 5]
  for eval_step in eval_steps(evaluated):
    assert eval_step['examples'] == 6
    assert set(eval_step['datasets']) == {'mini_arc'}
    assert eval_step['datasets']['mini_arc'] * 6 / 100 % 1 == pytest.approx(0, abs=1e-3)


def test_a_writer_gets_the_configuration_all_values_and_the_report(evaluated):
  """One of a user's own, beside one that fails."""
  info, *kept, finished = Notes.kept
  assert (info.name, info.step, finished) == ('run', 0, True)
  assert info.settings['optimizer.learning_rate'] == 0.01
  assert info.settings['writers'] == ['jsonl', 'notes', 'broken']
  values = [each for each in kept if isinstance(each, tuple)]
  assert [step for step, _ in values] == [2, 2, 2, 3, 4, 4, 4, 5, 5, 5]
  log = [
    json.loads(line) for line in (evaluated / 'log.jsonl').read_text().splitlines()
  ]
  logged = [found for _, found in values if 'train/loss' in found]
  assert [{f'train/{k}': x for k, x in e.items() if k != 'step'} for e in log] == logged
  for eval_step in eval_steps(evaluated):
    means = {
      f'evaluation/{kind}/{name}': mean
      for kind in ('clusters', 'datasets')
      for name, mean in eval_step[kind].items()
    }
    assert (eval_step['step'], means) in values
  report = json.loads((evaluated / 'report' / 'report.json').read_text())
  assert report in kept
  assert evaluated / 'report' / 'report.html' in kept
  assert not (evaluated / 'tensorboard').exists()


def test_training_datasets_are_validated_beside_the_held_out_clusters(evaluated):
  steps = validation_steps(evaluated)
  assert [step['step'] for step in steps] == [2, 4, 5]
  for step in steps:
    (figures,) = step['datasets'].values()
    assert figures['examples'] == figures['metrics']['mini_cola']['n'] == 6
    assert step['perplexity'] == pytest.approx(math.exp(step['loss']), rel=1e-4)
    assert {**figures, 'metrics': None} == {
      **{key: step[key] for key in figures if key != 'metrics'},
      'examples': 6,
      'metrics': None,
    }
  written = {name for each in Notes.kept if isinstance(each, tuple) for name in each[1]}
  assert {'validation/loss', 'validation/mini_cola/accuracy'} <= written


def test_the_curves_of_the_report_are_those_of_the_logs(evaluated):
  report = json.loads((evaluated / 'report' / 'report.json').read_text())
  curves = report['curves']
  entries = [json.loads(line) for line in (evaluated / 'log.jsonl').open()]
  assert [step for step, _ in curves['train']] == [entry['step'] for entry in entries]
  assert [loss for _, loss in curves['train']] == pytest.approx(
    [entry['loss'] for entry in entries], abs=1e-4
  )
  steps = validation_steps(evaluated)
  assert curves['validation'] == [[step['step'], step['loss']] for step in steps]
  assert curves['held_out'] == {
    'closed_book_qa': [
      [step['step'], step['clusters']['closed_book_qa']]
      for step in eval_steps(evaluated)
    ]
  }
  assert [step for step, _ in curves['metrics']['mini_cola']] == [2, 4, 5]
  # At the end up to `max_examples` of each dataset are taken, here fewer.
  assert report['validation']['step'] == 5
  assert report['validation']['datasets']['mini_cola']['examples'] == 4
  page = (evaluated / 'report' / 'report.html').read_text(encoding='utf-8')
  assert 'Loss by step, in nats. train: ' in page
  assert 'Metrics on dev by step, in percent. Closed-book QA: ' in page
  assert {'loss.svg', 'metrics.svg'} <= {
    path.name for path in (evaluated / 'report' / 'plots').iterdir()
  }


@pytest.mark.slow  # a SIGTERM between steps: interruption_test
def test_sigterm_in_an_evaluation_step_saves_and_the_step_is_evaluated_again(
  store, evaluated, tmp_path, monkeypatch
):
  """In the first evaluation step, and when it runs again."""
  out, loglikelihood = tmp_path / 'run', Scorer.loglikelihood

  def terminated(self, *arguments, **more):
    os.kill(os.getpid(), signal.SIGTERM)
    return loglikelihood(self, *arguments, **more)

  with monkeypatch.context() as patch:
    patch.setattr(Scorer, 'loglikelihood', terminated)
    for _ in range(2):
      outcome = train(out, store, EVAL_PERIOD=2)
      assert (outcome.interrupted, outcome.step) == (True, 2)
      assert [path.name for path in (out / 'checkpoints').iterdir()] == ['2']
      assert not (out / 'evaluations.jsonl').exists()
      assert not (out / 'validation.jsonl').exists()
  train(out, store, EVAL_PERIOD=2)
  assert eval_steps(out) == eval_steps(evaluated)
  assert validation_steps(out) == validation_steps(evaluated)
  assert_same_weights(out, evaluated)


def test_a_step_after_which_a_run_was_killed_is_evaluated_by_the_next_start(
  store, evaluated, tmp_path
):
  """The last step too, whose checkpoint and model are there already."""
  out = tmp_path / 'run'
  shutil.copytree(evaluated, out)
  for name in ('evaluations.jsonl', 'validation.jsonl'):
    lines = (out / name).read_text().splitlines(keepends=True)
    (out / name).write_text(''.join(lines[:-1]))
  train(out, store, EVAL_PERIOD=2)
  assert eval_steps(out) == eval_steps(evaluated)
  assert validation_steps(out) == validation_steps(evaluated)


@pytest.mark.parametrize('validation', [None, 0.5])
def test_one_with_nothing_to_evaluate_on_is_refused_before_anything_is_written(
  validation, tmp_path
):
  path, out = tmp_path / 'own.jsonl', tmp_path / 'run'
  path.write_text('{"inputs": "2 + 2", "targets": "4"}\n' * 4)
  flags = {'MODEL_DIR': out, 'MIXTURE_OR_TASK_NAME': path, 'EVAL_PERIOD': 2}
  flags |= {'TRAIN_STEPS': 2, 'VALIDATION': validation}
  run = gin.load(small_run.FILES, small_run.flags(flags)).build('Run')
  with registry.restored():
    mixture = training_data.mixture(run)
    if validation:
      training_data.check_eval_period(run, mixture, ())
      return
    with pytest.raises(
      InputError, match='EVAL_PERIOD: got 2; has no effect: no .*0.05'
    ):
      train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
    training_data.check_eval_period(run, mixture, ('nli',))
  assert not out.exists()


def test_a_store_without_dev_examples_of_its_training_datasets_is_used(
  store, evaluated, tmp_path, capsys
):
  """As versions wrote them that did not validate."""
  older, out = tmp_path / 'store', tmp_path / 'run'
  shutil.copytree(store, older)
  shutil.rmtree(older / 'validation')
  manifest = json.loads((older / 'manifest.json').read_text())
  for key in ('validation', 'declared', 'flan_jax'):
    del manifest[key]
  manifest['files'] = {
    name: size
    for name, size in manifest['files'].items()
    if not name.startswith('validation/')
  }
  (older / 'manifest.json').write_text(json.dumps(manifest))
  checksums.remove(older)
  flags = {**SETTINGS, 'MODEL_DIR': out, 'STORE': older, 'EVAL_PERIOD': 9}
  flags |= {'HELD_OUT': '()', 'TRAIN_STEPS': 0}
  run = gin.load(small_run.FILES, small_run.flags(flags)).build('Run')
  assert train_and_evaluate.train_and_evaluate(run, progress=Progress()).step == 0
  said = capsys.readouterr().err
  assert 'is of an older version, without dev examples' in said
  assert 'EVAL_PERIOD has no effect' in said
  assert not (out / 'report').exists()
