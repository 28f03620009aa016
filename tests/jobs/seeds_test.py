"""Seeds: SEED is for training only; the store and the test examples have their own."""

import json

import pytest
from safetensors.numpy import load_file

from flan_jax.config import gin
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.jobs import train_and_evaluate
from flan_jax.runtime.progress import Progress

SMALL = {
  'MIXTURE_OR_TASK_NAME': 'microworld_mini_arc',
  'HELD_OUT': 'commonsense',
  'INITIAL_CHECKPOINT_PATH': 'microworld',
  'TRAIN_STEPS': 2,
  'SEQUENCE_LENGTH': 256,
  'BATCH_TOKENS': 2048,
  'Optimizer.learning_rate': 3e-3,
  'Evaluate.sequence_length': 256,
  'Evaluate.batch_size': 4,
  'Evaluate.max_examples': 3,
  'Evaluate.templates': 1,
  'Evaluate.num_fewshot': 1,
  'Evaluate.base': False,
}


def build(model_dir, **more):
  values = {'MODEL_DIR': model_dir, **SMALL, **more}
  flags = [f'{name}={value}' for name, value in values.items()]
  return gin.load(['gin/runs/base.gin'], flags).build('Run')


def train(model_dir, **more):
  train_and_evaluate.train_and_evaluate(
    build(model_dir, **more), progress=Progress(quiet=True)
  )
  return model_dir


def weights(model_dir) -> dict[str, bytes]:
  tensors = load_file(model_dir / 'model' / 'model.safetensors')
  return {name: value.tobytes() for name, value in tensors.items()}


def prompts(model_dir) -> list[tuple]:
  """Evaluated examples with their prompts, exemplars included."""
  lines = (model_dir / 'report' / 'predictions.jsonl').read_text().splitlines()
  found = [json.loads(line) for line in lines]
  return [(one['example_id'], one['template'], one['prompt']) for one in found]


def trained(model_dir) -> list[str]:
  """Digests of the sequences of the training steps."""
  lines = (model_dir / 'log.jsonl').read_text().splitlines()
  return [digest for line in lines for digest in json.loads(line)['sequences'].values()]


@pytest.fixture(scope='module')
def first(tmp_path_factory):
  return train(tmp_path_factory.mktemp('seeds') / 'first')


def test_two_seeds_from_one_checkpoint_end_in_different_weights(first, tmp_path):
  """With one store and the same test examples; equal seeds give equal bits."""
  other = train(tmp_path / 'other', SEED=977)
  assert weights(other) != weights(first)
  assert set(trained(other)) != set(trained(first))
  assert Store.open(other / 'store').digest == Store.open(first / 'store').digest
  assert prompts(other) == prompts(first) != []
  assert weights(train(tmp_path / 'again', SEED=977)) == weights(other)


def test_a_given_store_serves_every_seed(first, tmp_path):
  shared = {'STORE': first / 'store', 'SEED': 977, 'HELD_OUT': ()}
  found = train(tmp_path / 'run', **shared)
  assert not (found / 'store').exists()
  assert set(trained(found)) != set(trained(first))


def test_the_other_seeds_change_the_evaluation_or_the_store_only(first, tmp_path):
  measured = train(tmp_path / 'measured', EVAL_SEED=5)
  assert weights(measured) == weights(first)
  assert prompts(measured) != prompts(first)
  run = build(tmp_path / 'rendered', TEMPLATE_SEED=5, TRAIN_STEPS=1, HELD_OUT=())
  train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
  digest = Store.open(tmp_path / 'rendered' / 'store').digest
  assert digest != Store.open(first / 'store').digest


def test_a_store_of_another_template_seed_is_refused(first, tmp_path):
  run = build(tmp_path / 'run', STORE=first / 'store', TEMPLATE_SEED=5)
  with pytest.raises(InputError, match=r'TEMPLATE_SEED: got 5; STORE .* made with 0'):
    train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))


def test_a_run_does_not_resume_with_another_seed(first):
  before = (first / 'run.json').read_bytes()
  with pytest.raises(InputError, match='another config: seed was 0, is 977'):
    train(first, SEED=977, TRAIN_STEPS=4)
  assert (first / 'run.json').read_bytes() == before


def test_fewer_steps_than_done_are_refused_before_anything_is_written(first):
  before = {path: path.stat().st_mtime_ns for path in first.rglob('*')}
  with pytest.raises(InputError, match='TRAIN_STEPS: got 1; .* checkpoint of step 2'):
    train(first, TRAIN_STEPS=1)
  assert {path: path.stat().st_mtime_ns for path in first.rglob('*')} == before


def test_a_run_of_an_older_version_with_one_data_seed_resumes(first):
  path = first / 'run.json'
  values = json.loads(path.read_text())
  del values['template_seed'], values['eval_seed']
  path.write_text(json.dumps({**values, 'data_seed': 0}))
  train(first, TRAIN_STEPS=3, HELD_OUT='commonsense')
