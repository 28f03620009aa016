"""Seeds: SEED is for training only; the store and the test examples have their own."""

import json
import pathlib

import pytest
import small_run
from safetensors.numpy import load_file

from flan_jax.catalog import lineage
from flan_jax.checkpoints import model_dir
from flan_jax.config import gin
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.inference import rank_options
from flan_jax.jobs import claim, provenance, train_and_evaluate
from flan_jax.report import schema
from flan_jax.runtime.progress import Progress
from tests.run_log import read_lines

SETTINGS = {
  'MIXTURE_OR_TASK_NAME': 'microworld_mini_arc',
  'HELD_OUT': 'commonsense',
  'TRAIN_STEPS': 2,
  'Evaluate.max_examples': 3,
  'Evaluate.templates': 1,
  'Evaluate.num_fewshot': 1,
  'Evaluate.base': False,
}


def build(model_dir, initial, **more):
  values = {'MODEL_DIR': model_dir, 'INITIAL_CHECKPOINT_PATH': initial}
  flags = small_run.flags({**values, **SETTINGS, **more})
  return gin.load(small_run.FILES, flags).build('Run')


def train(*arguments, **more):
  run = build(*arguments, **more)
  train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
  return pathlib.Path(run.model_dir)


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
  lines = read_lines(model_dir / 'sequences.jsonl')
  return [digest for line in lines for digest in line['sequences'].values()]


@pytest.fixture(scope='module')
def initial(tmp_path_factory):
  """The checkpoint that all runs start from."""
  out = tmp_path_factory.mktemp('initial') / 'run'
  return train(out, None, TOKENIZER='bytes', HELD_OUT=(), TRAIN_STEPS=1)


@pytest.fixture(scope='module')
def first(initial, tmp_path_factory):
  return train(tmp_path_factory.mktemp('first') / 'run', initial)


@pytest.fixture(scope='module')
def other(initial, tmp_path_factory):
  """The same with another seed."""
  return train(tmp_path_factory.mktemp('other') / 'run', initial, SEED=977)


def test_two_seeds_from_one_checkpoint_end_in_different_weights(first, other):
  """With one store and the same test examples."""
  assert weights(other) != weights(first)
  assert set(trained(other)) != set(trained(first))
  assert Store.open(other / 'store').digest == Store.open(first / 'store').digest
  assert prompts(other) == prompts(first) != []


def test_reports_of_two_seeds_record_that_they_differ_in_it_alone(first, other):
  """So does the model folder, for an evaluation of its own."""
  recorded = [schema.load(run / 'report')['training'] for run in (first, other)]
  assert [each['seed'] for each in recorded] == [0, 977]
  assert recorded[0]['settings'] == recorded[1]['settings']
  assert (recorded[0]['run'], recorded[0]['step']) == ('run', 2)
  model = first / 'model'
  assert provenance.training(model, model_dir.lineage(model)) == recorded[0]
  unknown = lineage.Lineage((lineage.unknown('run'),))
  assert provenance.training(model, unknown) is None
  made = claim.digest(build(first, 'x'), store='a', initial=unknown)
  same = build(other, 'y', SEED=3, EVAL_SEED=3, TRAIN_STEPS=9)
  assert claim.digest(same, store='a', initial=unknown) == made
  for others in ({'TEMPLATE_SEED': 1}, {'Optimizer.learning_rate': 0.5}):
    changed = build(first, 'x', **others)
    assert claim.digest(changed, store='a', initial=unknown) != made
  assert claim.digest(same, store='b', initial=unknown) != made


def test_a_given_store_serves_every_seed(initial, first, other, tmp_path):
  """Equal seeds give equal bits."""
  shared = {'STORE': first / 'store', 'SEED': 977, 'HELD_OUT': ()}
  found = train(tmp_path / 'run', initial, **shared)
  assert not (found / 'store').exists()
  assert trained(found) == trained(other)
  assert weights(found) == weights(other)


def test_the_other_seeds_change_the_evaluation_or_the_store_only(
  initial, first, tmp_path
):
  measured = train(tmp_path / 'measured', initial, EVAL_SEED=5)
  assert weights(measured) == weights(first)
  assert prompts(measured) != prompts(first)
  rendered = train(
    tmp_path / 'rendered', initial, TEMPLATE_SEED=5, TRAIN_STEPS=0, HELD_OUT=()
  )
  digest = Store.open(rendered / 'store').digest
  assert digest != Store.open(first / 'store').digest


def test_a_store_of_another_template_seed_is_refused(initial, first, tmp_path):
  run = build(tmp_path / 'run', initial, STORE=first / 'store', TEMPLATE_SEED=5)
  with pytest.raises(InputError, match=r'TEMPLATE_SEED: got 5; STORE .* made with 0'):
    train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))


def test_a_run_does_not_resume_with_another_seed(initial, first):
  before = (first / 'run.json').read_bytes()
  with pytest.raises(InputError, match='another config: seed was 0, is 977'):
    train(first, initial, SEED=977, TRAIN_STEPS=4)
  assert (first / 'run.json').read_bytes() == before


def test_fewer_steps_than_done_are_refused_before_anything_is_written(initial, first):
  before = {path: path.stat().st_mtime_ns for path in first.rglob('*')}
  with pytest.raises(InputError, match='TRAIN_STEPS: got 1; .* checkpoint of step 2'):
    train(first, initial, TRAIN_STEPS=1)
  assert {path: path.stat().st_mtime_ns for path in first.rglob('*')} == before


def test_a_run_of_an_older_version_with_one_data_seed_resumes(initial, first):
  path = first / 'run.json'
  values = json.loads(path.read_text())
  del values['template_seed'], values['eval_seed']
  path.write_text(json.dumps({**values, 'data_seed': 0}))
  train(first, initial, TRAIN_STEPS=3, HELD_OUT='commonsense')


@pytest.mark.slow
def test_runs_from_one_base_share_its_answers(initial, first, tmp_path, monkeypatch):
  calls = []
  score = rank_options.Scorer.loglikelihood

  def counted(scorer, requests):
    calls.append(len(requests))
    return score(scorer, requests)

  monkeypatch.setattr(rank_options.Scorer, 'loglikelihood', counted)
  file = tmp_path / 'bases' / 'one.jsonl'
  shared = {
    'STORE': first / 'store', 'BASE_RESPONSES': file, 'Evaluate.base': True,
    'TRAIN_STEPS': 0,
  }  # fmt: skip
  one = train(tmp_path / 'one', initial, **shared)
  before, computed = file.read_bytes(), sum(calls)
  calls.clear()
  two = train(tmp_path / 'two', initial, SEED=1, **shared)
  assert computed == 2 * sum(calls) > 0
  assert file.read_bytes() == before
  bases = [schema.load(run / 'report')['results'][0]['base'] for run in (one, two)]
  assert bases[0] == bases[1]
