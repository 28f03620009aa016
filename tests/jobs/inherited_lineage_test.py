"""The lineage of a model across real runs of one step each.

The parent is trained on one dataset of commonsense; no later run trains on it.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest
import small_run
from safetensors.numpy import load_file, save_file

from flan_jax.catalog import registry
from flan_jax.checkpoints import model_dir
from flan_jax.cli import dispatch
from flan_jax.config import gin
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import convert, logit_check, training_history
from flan_jax.jobs import train_and_evaluate
from flan_jax.report import schema
from flan_jax.runtime import checksums
from flan_jax.runtime.progress import Progress

QUIET = Progress(quiet=True)
HELD_OUT = 'commonsense'
SMALL = {
  'MIXTURE_OR_TASK_NAME': 'microworld_mini_cola',
  'HELD_OUT': (),
  'TRAIN_STEPS': 1,
  'Evaluate.max_examples': 2,
  'Evaluate.templates': 1,
}
ALL = ('parent', 'child', 'adapted', 'back')


def flags(out: pathlib.Path, **more) -> list[str]:
  return small_run.flags({'MODEL_DIR': out, **SMALL, **more})


def train(out: pathlib.Path, *, start=None, **more) -> train_and_evaluate.Outcome:
  """Trains one step, from random parameters or from a model."""
  more |= (
    {'TOKENIZER': 'bytes'} if start is None else {'INITIAL_CHECKPOINT_PATH': start}
  )
  run = gin.load(small_run.FILES, flags(out, **more)).build('Run')
  return train_and_evaluate.train_and_evaluate(run, progress=QUIET)


@pytest.fixture(scope='module')
def family(tmp_path_factory) -> pathlib.Path:
  """A parent, its child, the child with LoRA, and the child exported and imported.

  With the store of all runs after the parent's.
  """
  out = tmp_path_factory.mktemp('family')
  train(out / 'parent', MIXTURE_OR_TASK_NAME='microworld_mini_copa')
  cola = registry.mixture('microworld_mini_cola')
  data = StoreConfig(
    tokenizer='bytes', epochs=1, evaluate=(HELD_OUT,), sequence_length=256
  )
  materialize(cola, data, out=out / 'store')
  train(out / 'child', start=out / 'parent', STORE=out / 'store')
  train(
    out / 'adapted', start=out / 'child', STORE=out / 'store', LORA_RANK=2,
    **{'Optimizer.multiply_by_parameter_scale': False},
  )  # fmt: skip
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(logit_check, '_installed', lambda name: False)  # torch takes long
    convert.export_model(out / 'child', out / 'away', progress=QUIET)
    convert.import_model(out / 'away', out / 'back', progress=QUIET)
  return out


@pytest.fixture
def refuses(capsys):
  """Runs a command that must fail with exit code 2; returns its one line."""

  def run(verb, *arguments):
    capsys.readouterr()
    assert dispatch.main([verb, *arguments]) == 2
    error = capsys.readouterr().err
    (line,) = [x for x in error.splitlines() if x.startswith('flan: error: ')]
    assert error.endswith(line + '\n')
    return line

  return run


@pytest.mark.parametrize('name', ALL)
def test_the_lineage_is_whole(family, name):
  found = model_dir.lineage(family / name)
  assert found.known
  models = ['parent', 'child', *(['adapted'] if name == 'adapted' else [])]
  assert [t.model for t in found.trainings] == models[: ALL.index(name) + 1]
  assert HELD_OUT in found.trained_on('microworld')
  for training in found.trainings:
    assert training.weights == model_dir.checksum(family / training.model)
    assert sum(training.train_examples.values()) > 0
  assert training_history.read(family / 'away') == model_dir.lineage(family / 'child')


@pytest.mark.parametrize('name', ALL)
def test_training_from_any_of_them_is_refused(family, name, refuses, tmp_path):
  out = tmp_path / 'run'
  settings = flags(out, INITIAL_CHECKPOINT_PATH=family / name, HELD_OUT=HELD_OUT)
  line = refuses(
    'train',
    *(f'--gin_file={file}' for file in small_run.FILES),
    *(f'--gin.{flag}' for flag in settings),
  )
  assert "HELD_OUT 'commonsense': INITIAL_CHECKPOINT_PATH: 'parent'" in line
  assert 'was trained on that very cluster (mini_copa)' in line
  assert not out.exists()


@pytest.mark.parametrize('name', [*ALL, 'away'])
@pytest.mark.parametrize('which', ['CHECKPOINT', 'BASE_CHECKPOINT'])
def test_evaluating_any_of_them_is_refused(family, name, which, refuses, tmp_path):
  out = tmp_path / 'out'
  settings = {
    'CHECKPOINT': 'microworld', which: family / name, 'OUTPUT_DIR': out,
    'FAMILY': 'microworld', 'CLUSTERS': HELD_OUT,
  }  # fmt: skip
  flags = (f'--gin.{name}={value}' for name, value in settings.items())
  line = refuses('eval', '--gin_file=gin/evaluate/zero_shot.gin', *flags)
  assert f"CLUSTERS 'commonsense': {which}: 'parent'" in line
  assert list(tmp_path.iterdir()) == []


def test_an_allowed_overlap_is_named_in_the_report(family, tmp_path):
  out = tmp_path / 'run'
  found = train(
    out, start=family / 'adapted', HELD_OUT=HELD_OUT, ALLOW_OVERLAP=HELD_OUT,
    STORE=family / 'store',
  ).report  # fmt: skip
  assert [t['model'] for t in found['lineage']] == ['parent', 'child', 'adapted', 'run']
  assert found['lineage'][-1]['digest'] == model_dir.checksum(out)
  assert HELD_OUT in found['trained_on']
  (average,) = schema.averages(found)
  assert schema.headline(average).startswith(
    'Commonsense of the microworld, no exemplars, trained on: '
  )
  assert found['warnings'][0] == (
    "leakage: mini_copa trained 'parent', of commonsense, which is held out (allowed "
    'by '
    'the run)'
  )
  saved = json.loads((out / 'model' / 'training.json').read_text())
  assert saved['leakage'] == found['leakage']
  assert saved['lineage'] == found['lineage']


def test_a_model_without_a_record_is_unknown_and_still_evaluated(family, tmp_path):
  """Unknown for the run and for models tuned from it; not 'never trained on'."""
  lost = tmp_path / 'lost'
  shutil.copytree(family / 'parent' / 'model', lost)
  (lost / 'training.json').unlink()
  store = family / 'store'
  found = train(tmp_path / 'run', start=lost, HELD_OUT=HELD_OUT, STORE=store).report
  assert found['trained_on'] == 'unknown'
  (average,) = schema.averages(found)
  assert schema.headline(average).startswith(
    'Commonsense of the microworld, zero-shot (training unknown): '
  )
  assert found['warnings'][0].startswith(
    "leakage: the training data of 'lost' is unknown"
  )
  page = (tmp_path / 'run' / 'report' / 'report.html').read_text(encoding='utf-8')
  assert 'never trained on' not in page
  assert not model_dir.lineage(tmp_path / 'run').known


@pytest.mark.parametrize('place', ['child/model', 'away'])
def test_weights_changed_elsewhere_are_unknown_from_there(family, place, tmp_path):
  """Their recorded training still counts."""
  folder = tmp_path / 'tuned'
  shutil.copytree(family / place, folder)
  file = folder / 'model.safetensors'
  tensors = load_file(file)
  last = sorted(tensors)[-1]
  tensors[last] = tensors[last].copy()
  tensors[last].reshape(-1)[-1] += np.float32(0.5)  # one number, the last one of all
  save_file(tensors, file, metadata={'format': 'pt'})
  read = training_history.read
  if place != 'away':
    read = model_dir.lineage
    with pytest.raises(InputError, match='if it was changed on purpose, delete'):
      read(folder)
    checksums.remove(folder)
  found = read(folder)
  assert [t.model for t in found.trainings] == ['parent', 'child', 'tuned']
  assert [t.datasets is None for t in found.trainings] == [False, False, True]
  assert 'its weights' in found.trainings[-1].note


def test_a_folder_saved_again_elsewhere_keeps_its_history(family, tmp_path):
  """The same tensors in other files, in another order, are the same weights."""
  folder = tmp_path / 'saved'
  shutil.copytree(family / 'away', folder)
  tensors = load_file(folder / 'model.safetensors')
  (folder / 'model.safetensors').unlink()
  names = sorted(tensors, reverse=True)
  parts = {'a.safetensors': names[::2], 'b.safetensors': names[1::2]}
  for file, part in parts.items():
    save_file({name: tensors[name] for name in part}, folder / file)
  index = {name: file for file, part in parts.items() for name in part}
  text = json.dumps({'weight_map': index})
  (folder / 'model.safetensors.index.json').write_text(text)
  assert training_history.read(folder) == training_history.read(family / 'away')


def test_a_run_resumes_only_with_its_initial_model(family, tmp_path):
  base = tmp_path / 'base'
  shutil.copytree(family / 'child' / 'model', base)
  store = family / 'store'
  train(tmp_path / 'run', start=base, STORE=store)
  shutil.rmtree(base)
  shutil.copytree(family / 'adapted' / 'model', base)
  with pytest.raises(InputError, match='PATH: is not the initial model of this run'):
    train(tmp_path / 'run', start=base, STORE=store, TRAIN_STEPS=2)


def test_a_run_older_than_lineages_is_known_by_its_run_json(family, tmp_path):
  """run.json names the start: random parameters, the shipped base, or a path."""
  out = tmp_path / 'old'
  for start, known in ((None, True), ('microworld', True), ('somewhere', False)):
    shutil.copytree(family / 'parent' / 'model', out / 'model', dirs_exist_ok=True)
    record = json.loads((out / 'model' / 'training.json').read_text())
    del record['lineage'], record['weights']
    (out / 'model' / 'training.json').write_text(json.dumps(record))
    checksums.remove(out / 'model')  # it is as old as that
    (out / 'run.json').write_text(json.dumps({'initial_checkpoint': start}))
    found = model_dir.lineage(out)
    assert found.known == known
    assert found.trainings[-1].clusters == (HELD_OUT,)
  (out / 'run.json').unlink()
  assert not model_dir.lineage(out).known


def test_the_shipped_base_was_tuned_on_no_dataset():
  found = model_dir.lineage('microworld')
  assert found.known
  assert found.trained_on('microworld') == found.trained_on('flan') == ()
  assert 'pretrained on prose' in found.trainings[0].note
