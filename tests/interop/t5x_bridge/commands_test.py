"""The real commands: t5x.train from a flan_jax model, t5x.eval and t5x.infer."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from flan_jax.checkpoints import model_dir
from flan_jax.cli import dispatch
from flan_jax.config import gin as gin_lib
from flan_jax.interop.t5x import checkpoints

pytestmark = [pytest.mark.t5x, pytest.mark.slow]

TASK = 'microworld_mini_copa'


def t5x(command: str, *flags: str) -> str:
  """Runs `python -m t5x.COMMAND` with our gin files; returns its log."""
  files = ('model', command)
  gin = [f'--gin_file={gin_lib.shipped() / "t5x" / f"{name}.gin"}' for name in files]
  done = subprocess.run(
    [sys.executable, '-m', f't5x.{command}', *gin, *flags],
    env=os.environ | {'XLA_FLAGS': '', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stderr


@pytest.fixture(scope='module')
def base(tmp_path_factory):
  return checkpoints.export_checkpoint(
    'microworld', str(tmp_path_factory.mktemp('base'))
  )


def train(folder, steps: int, *more: str) -> str:
  return t5x(
    'train',
    f"--gin.MODEL_DIR='{folder}'",
    f"--gin.MIXTURE_OR_TASK_NAME='{TASK}'",
    f'--gin.TRAIN_STEPS={steps}',
    '--gin.CHECKPOINT_PERIOD=2',
    '--gin.STATS_PERIOD=1',
    '--gin.BATCH_SIZE=2',
    '--gin.TRAIN_EVAL=None',
    *more,
  )


def test_train_resumes_exactly(tmp_path):
  """Four steps, or two and two, give the same parameters: same sequences."""
  train(tmp_path / 'whole', 4)
  train(tmp_path / 'parts', 2)
  assert 'estor' in train(tmp_path / 'parts', 4)
  whole, parts = (
    load_file(
      checkpoints.import_checkpoint(
        str(tmp_path / name), str(tmp_path / f'{name}_model')
      )
      / 'model.safetensors'
    )
    for name in ('whole', 'parts')
  )
  start = load_file(model_dir.SHIPPED / 'model.safetensors')
  for name, value in whole.items():
    np.testing.assert_array_equal(value, parts[name])
    assert not np.array_equal(value, start[name])
  record = json.loads((tmp_path / 'whole_model' / model_dir.PROVENANCE).read_text())
  assert {'by': 't5x', 'step': 4, 'mixture': TASK}.items() <= record.items()
  assert [part['mixture'] for part in record['lineage']] == ['', TASK]


def test_train_continues_from_a_flan_jax_run_and_from_its_export(tmp_path):
  """Both start at our step, with our Adafactor, and do the same two steps."""
  run = str(tmp_path / 'run')
  flags = {
    'MODEL_DIR': run,
    'MIXTURE_OR_TASK_NAME': TASK,
    'HELD_OUT': '()',
    'TRAIN_STEPS': 2,
    'BATCH_TOKENS': 2048,
    'Optimizer.warmup_steps': 1,
  }
  gin = [f'--gin.{name}={value}' for name, value in flags.items()]
  assert dispatch.main(['train', '--gin_file=gin/runs/demo.gin', *gin]) == 0
  checkpoints.export_checkpoint(run, str(tmp_path / 'exported'))
  train(tmp_path / 'initial', 4, f"--gin.INITIAL_CHECKPOINT_PATH='{run}'")
  train(tmp_path / 'exported', 4, '--gin.SAVE_DATASET=False')
  ends = [
    load_file(
      checkpoints.import_checkpoint(
        str(tmp_path / name), str(tmp_path / f'{name}_model')
      )
      / 'model.safetensors'
    )
    for name in ('initial', 'exported')
  ]
  start = load_file(tmp_path / 'run' / 'model' / 'model.safetensors')
  for name, value in start.items():
    np.testing.assert_array_equal(ends[0][name], ends[1][name])
    assert not np.array_equal(value, ends[0][name])


def test_a_relative_path_is_relative_to_the_working_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  train('runs/here', 2)
  assert (tmp_path / 'runs' / 'here' / 'checkpoint_2' / 'state').is_dir()


def test_eval_scores_the_tasks_of_a_cluster(base, tmp_path):
  t5x(
    'eval',
    f"--gin.CHECKPOINT_PATH='{base}'",
    f"--gin.EVAL_OUTPUT_DIR='{tmp_path}'",
    "--gin.CLUSTERS='nli'",
    "--gin.SPLIT='validation'",
    '--gin.NUM_EXAMPLES=4',
  )
  metrics = sorted(tmp_path.rglob('*-metrics.jsonl'))
  assert metrics
  for path in metrics:
    values = json.loads(path.read_text().splitlines()[-1])
    assert any(isinstance(value, float) for value in values.values())


def test_infer_writes_a_prediction_for_every_example(base, tmp_path):
  t5x(
    'infer',
    f"--gin.CHECKPOINT_PATH='{base}'",
    f"--gin.INFER_OUTPUT_DIR='{tmp_path}'",
    f"--gin.MIXTURE_OR_TASK_NAME='{TASK}_template_0'",
    "--gin.SPLIT='validation'",
    '--gin.BATCH_SIZE=64',
  )
  # t5x writes an empty `.COMPLETED` beside it.
  (path,) = tmp_path.glob(f'{TASK}*.jsonl-00000-of-00001')
  predictions = [json.loads(line) for line in path.read_text().splitlines()]
  assert len(predictions) > 10
  texts = [prediction['prediction'] for prediction in predictions]
  assert all(isinstance(text, str) for text in texts)
  assert any(texts)  # the untuned base may end an answer at once
