"""EVAL_PERIOD: looks at dev while training, that change nothing of it."""

import json

import pytest
from safetensors.numpy import load_file

from flan_jax import catalogue, config
from flan_jax.data import materialize
from flan_jax.progress import Progress
from flan_jax.train import loop

FLAGS = [
  'VOCAB_SIZE=512', 'NUM_LAYERS=1', 'DecoderConfig.d_model=16', 'DecoderConfig.d_ff=16',
  'DecoderConfig.head_dim=8', 'ROW_LENGTH=512', 'BATCH_TOKENS=4096', 'TRAIN_STEPS=5',
  'MIXTURE_OR_TASK_NAME=microworld_mini_cola', 'HELD_OUT=closed_book_qa',
  'Evaluate.row_length=512', 'Evaluate.base=False', 'Evaluate.max_rows=4',
  'Evaluate.templates=1', 'Evaluate.period_rows=6', 'Run.checkpoint_period=3',
]  # fmt: skip


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    catalogue.mixture('microworld_mini_cola'), out=out, tokenizer='bytes', epochs=1,
    evaluate=('closed_book_qa',), row_length=512,
  )  # fmt: skip
  return out


def train(model_dir, store, *more):
  flags = [*FLAGS, f'MODEL_DIR={model_dir}', f'STORE={store}', *more]
  files = ['gin/runs/base.gin', 'gin/models/tiny.gin']
  run = config.load(files, flags).build('Run')
  return loop.train(run, progress=Progress(quiet=True))


def test_looks_are_written_and_the_weights_are_those_without_them(store, tmp_path):
  train(tmp_path / 'plain', store)
  train(tmp_path / 'looking', store, 'EVAL_PERIOD=2')
  weights = [
    load_file(tmp_path / name / 'model' / 'model.safetensors')
    for name in ('plain', 'looking')
  ]
  for name, tensor in weights[0].items():
    assert tensor.tobytes() == weights[1][name].tobytes(), name
  assert not (tmp_path / 'plain' / 'evaluations.jsonl').exists()
  lines = (tmp_path / 'looking' / 'evaluations.jsonl').read_text(encoding='utf-8')
  looks = [json.loads(line) for line in lines.splitlines()]
  assert [look['step'] for look in looks] == [2, 4]
  for look in looks:
    assert look['rows'] == 6
    assert set(look['datasets']) == {'mini_arc'}
    assert look['datasets']['mini_arc'] * 6 / 100 % 1 == pytest.approx(0, abs=1e-3)
