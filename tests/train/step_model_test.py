"""A step of a run as a model: real runs of three steps, full and of adapters."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import small_run
from safetensors.numpy import load_file

from flan_jax.checkpoints import model_dir
from flan_jax.config import gin
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import conversion_cache
from flan_jax.jobs import language_model, model_source, train_and_evaluate
from flan_jax.runtime.progress import Progress
from flan_jax.train import initial_model, step_model

QUIET = Progress(quiet=True)
SMALL = {
  'MIXTURE_OR_TASK_NAME': 'microworld_mini_copa',
  'HELD_OUT': (),
  'TRAIN_STEPS': 3,
  'Run.checkpoint_period': 1,
  'Run.keep': 9,
}


def train(out, **more):
  flags = small_run.flags({'MODEL_DIR': out, **SMALL, **more})
  run = gin.load(small_run.FILES, flags).build('Run')
  train_and_evaluate.train_and_evaluate(run, progress=QUIET)


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
    yield


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """The folder of a run."""
  out = tmp_path_factory.mktemp('runs')
  train(out / 'full', TOKENIZER='bytes')
  return out


@pytest.fixture(scope='module')
def adapted(runs):
  """A run of adapters on step 1 of the other, beside it."""
  out = runs / 'adapted'
  more = {'LORA_RANK': 2, 'Optimizer.multiply_by_parameter_scale': False}
  train(out, INITIAL_CHECKPOINT_PATH=f'{runs}/full@1', **more)
  return out


def tensors(path):
  folder = conversion_cache.import_cached(path, cache=None, progress=QUIET)
  return load_file(model_dir.find(folder) / 'model.safetensors')


def check_the_last_step(run, tmp_path):
  """Read from the checkpoint alone, without MODEL_DIR/model: the same numbers."""
  expected = tensors(run)
  assert step_model.steps(str(run)) == [1, 2, 3]
  unfinished = tmp_path / run.name
  shutil.copytree(run, unfinished, ignore=shutil.ignore_patterns('model'))
  for path in (f'{run}@3', f'{unfinished}@3'):
    found = tensors(path)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
      np.testing.assert_allclose(found[key], value, atol=1e-7, err_msg=key)
  earlier = tensors(f'{unfinished}@2')
  assert any((earlier[key] != value).any() for key, value in expected.items())


def test_the_last_step_is_the_model_of_the_run(runs, tmp_path):
  check_the_last_step(runs / 'full', tmp_path)


@pytest.mark.slow  # a second run
def test_adapters_are_merged_into_the_base(adapted, tmp_path):
  check_the_last_step(adapted, tmp_path)
  models = [training.model for training in model_dir.lineage(adapted).trainings]
  assert models == ['full@1', 'adapted']
  saved = json.loads((adapted / 'run.json').read_text())
  assert saved['initial_checkpoint'].endswith('/full@1')


def test_a_step_has_seen_what_the_run_had_by_then(runs):
  steps = [f'{runs}/full@{step}' for step in (1, 2, 3)]
  folders = [step_model.model_folder(path, progress=QUIET) for path in steps]
  found = [model_dir.lineage(folder) for folder in folders]
  seen = [sum(one.train_examples('microworld').values()) for one in found]
  assert 0 < seen[0] < seen[1] < seen[2]
  assert [one.trainings[-1].model for one in found] == ['full@1', 'full@2', 'full']
  for path, folder, one in zip(steps, folders, found, strict=True):
    assert one.trainings[-1].weights == model_dir.checksum(folder)
    assert one.trained_on('microworld') == ('commonsense',)
    before = step_model.lineage(step_model.find(path))
    assert before.train_examples('microworld') == one.train_examples('microworld')
  initial = initial_model.here(steps[0])
  assert initial_model.lineage(initial) == found[0]
  assert initial_model.config(steps[0]) == model_dir.config(folders[0])


def test_a_step_is_loaded_from_python(runs):
  found = language_model.load_model(f'{runs}/full@2')
  expected = tensors(f'{runs}/full@2')
  np.testing.assert_array_equal(
    jax.device_get(found.params['embedding']), expected['embedding']
  )
  assert len(found.loglikelihood([('a', ['b', 'c'])])[0]) == 2


def test_only_a_private_copy_is_discarded(runs, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  path, out = f'{runs}/full@1', tmp_path / 'out' / 'full@1'
  own = {'out': out, 'progress': QUIET, 'private': True}
  private = pathlib.Path(model_source.model_folder(path, **own))
  assert private.is_relative_to(tmp_path / 'out')
  assert not (tmp_path / 'cache').exists()
  shared = step_model.model_folder(path, progress=QUIET)
  model_source.discard(path, out=out)
  assert not private.parent.parent.exists()
  assert model_source.model_folder(path, **own) == shared
  model_source.discard(path, out=out)
  assert pathlib.Path(shared, 'config.json').is_file()


@pytest.mark.parametrize(
  ('step', 'rule'),
  [
    ('7', r'got step 7; must be one that the run keeps \(1, 2, 3\); the nearest is 3'),
    ('0', 'the nearest is 1; to keep the N newest, train with --gin.Run.keep=N$'),
    ('two', r'got step two; must be one that the run keeps \(1, 2, 3\); to keep'),
    ('*', r'got step \*; must be one'),
    ('', r'got no step after the @ of MODEL_DIR@STEP; must be one .*\(1, 2, 3\)'),
    ('02', r'got step 02; must be one .*the nearest are 2 and 3;'),
  ],
)
def test_a_step_that_is_not_there_is_refused(runs, step, rule):
  with pytest.raises(InputError, match=rule):
    step_model.find(f'{runs}/full@{step}')
  assert step_model.expand(f'{runs}/full@*') == [f'{runs}/full@{n}' for n in (1, 2, 3)]


def test_a_folder_whose_name_has_the_form_is_that_folder(runs, tmp_path):
  shutil.copytree(runs / 'full' / 'model', tmp_path / 'full@1')
  path = str(tmp_path / 'full@1')
  assert step_model.find(path) is None
  assert step_model.model_folder(path, progress=QUIET) == path
  assert step_model.find(str(tmp_path / 'a@b' / 'c')) is None
  with pytest.raises(
    InputError, match="no such folder '.*none'; must be MODEL_DIR@STE"
  ):
    step_model.find(str(tmp_path / 'none@1'))


def test_other_bits_than_were_saved_are_refused(runs, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(runs / 'full', run, ignore=shutil.ignore_patterns('model'))
  saved = run / 'checkpoints'
  shutil.copy(saved / '2' / 'about' / 'metadata', saved / '1' / 'about' / 'metadata')
  with pytest.raises(InputError, match='run@1.* has other bits than were saved'):
    step_model.model_folder(f'{run}@1', progress=QUIET)


@pytest.mark.slow  # a second run
def test_adapters_need_the_weights_beside_which_they_were_trained(
  runs, adapted, tmp_path
):
  run = tmp_path / 'run'
  shutil.copytree(adapted, run)
  path = run / 'checkpoints' / '1' / 'about' / 'metadata'
  saved = json.loads(path.read_text())
  saved['model']['initial_checkpoint'] = f'{runs}/full@2'
  path.write_text(json.dumps(saved))
  with pytest.raises(InputError, match='adapters belong to other weights'):
    step_model.model_folder(f'{run}@1', progress=QUIET)
