"""EVAL_PERIOD: looks at dev while training, that change nothing of it."""

import json
import os
import signal

import pytest
from safetensors.numpy import load_file

from flan_jax.catalog import registry
from flan_jax.config import gin
from flan_jax.data.store import materialize
from flan_jax.inference.rank_options import Scorer
from flan_jax.jobs import (
  held_out,
  train_and_evaluate,
)
from flan_jax.runtime.progress import Progress

pytestmark = pytest.mark.usefixtures('compiled_once')

FLAGS = [
  'VOCAB_SIZE=512', 'NUM_LAYERS=1', 'DecoderConfig.d_model=16', 'DecoderConfig.d_ff=16',
  'DecoderConfig.head_dim=8', 'SEQUENCE_LENGTH=512', 'BATCH_TOKENS=4096', 'TRAIN_STEPS=5',
  'MIXTURE_OR_TASK_NAME=microworld_mini_cola', 'HELD_OUT=closed_book_qa',
  'Evaluate.sequence_length=512', 'Evaluate.base=False', 'Evaluate.max_examples=4',
  'Evaluate.templates=1', 'Evaluate.eval_examples=6', 'Run.checkpoint_period=3',
]  # fmt: skip


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture('microworld_mini_cola'), out=out, tokenizer='bytes', epochs=1,
    evaluate=('closed_book_qa',), sequence_length=512,
  )  # fmt: skip
  return out


def train(model_dir, store, *more):
  flags = [*FLAGS, f'MODEL_DIR={model_dir}', f'STORE={store}', *more]
  files = ['gin/runs/base.gin', 'gin/models/tiny.gin']
  run = gin.load(files, flags).build('Run')
  return train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))


@pytest.fixture(scope='module')
def looking(store, tmp_path_factory):
  """A run that looks at steps 2 and 4 of 5, and nothing interrupts it."""
  out = tmp_path_factory.mktemp('looking') / 'run'
  train(out, store, 'EVAL_PERIOD=2')
  return out


def looks(out) -> list[dict]:
  lines = (out / held_out.EVAL_STEPS).read_text(encoding='utf-8').splitlines()
  return [json.loads(line) for line in lines]


def assert_same_weights(one, other) -> None:
  weights = [load_file(out / 'model' / 'model.safetensors') for out in (one, other)]
  for name, tensor in weights[0].items():
    assert tensor.tobytes() == weights[1][name].tobytes(), name


def test_looks_are_written_and_the_weights_are_those_without_them(
  store, looking, tmp_path
):
  train(tmp_path / 'plain', store)
  assert_same_weights(tmp_path / 'plain', looking)
  assert not (tmp_path / 'plain' / held_out.EVAL_STEPS).exists()
  assert [look['step'] for look in looks(looking)] == [2, 4]
  for look in looks(looking):
    assert look['examples'] == 6
    assert set(look['datasets']) == {'mini_arc'}
    assert look['datasets']['mini_arc'] * 6 / 100 % 1 == pytest.approx(0, abs=1e-3)


def test_sigterm_in_a_look_saves_the_step_and_the_look_is_taken_again(
  store, looking, tmp_path, monkeypatch
):
  """In the first look, and in the one that is taken again."""
  out, ask = tmp_path / 'run', Scorer.score

  def asked_to_end(self, *arguments, **more):
    os.kill(os.getpid(), signal.SIGTERM)
    return ask(self, *arguments, **more)

  with monkeypatch.context() as patch:
    patch.setattr(Scorer, 'score', asked_to_end)
    for _ in range(2):
      outcome = train(out, store, 'EVAL_PERIOD=2')
      assert (outcome.interrupted, outcome.step) == (True, 2)
      assert [path.name for path in (out / 'checkpoints').iterdir()] == ['2']
      assert not (out / held_out.EVAL_STEPS).exists()
  train(out, store, 'EVAL_PERIOD=2')
  assert looks(out) == looks(looking)
  assert_same_weights(out, looking)
