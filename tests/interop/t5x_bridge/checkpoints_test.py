"""Round trips through checkpoints in t5x's format; t5x itself is not needed."""

import json
import pathlib
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util

from flan_jax.checkpoints import model_dir
from flan_jax.cli import dispatch
from flan_jax.errors import InputError
from flan_jax.interop.t5x import __main__ as command
from flan_jax.interop.t5x import checkpoints

MICROWORLD = model_dir.SHIPPED


def flat_tree(checkpoint) -> dict[str, np.ndarray]:
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
    tree = reader.restore(checkpoint / 'state')
  return traverse_util.flatten_dict(jax.device_get(tree), sep='/')


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  return checkpoints.export_checkpoint(
    'microworld', str(tmp_path_factory.mktemp('out'))
  )


def test_a_model_folder_round_trips_byte_for_byte(exported, tmp_path):
  back = checkpoints.import_checkpoint(
    str(exported), str(tmp_path / 'back'), model='microworld', mixture='microworld_mix'
  )
  for name in ('model.safetensors', 'tokenizer.model'):
    assert (back / name).read_bytes() == (MICROWORLD / name).read_bytes()
  exported_config, imported_config = (
    json.loads((folder / 'config.json').read_text()) for folder in (MICROWORLD, back)
  )
  assert exported_config.items() <= imported_config.items()
  record = json.loads((back / model_dir.PROVENANCE).read_text())
  parts = {key: record[key] for key in ('by', 'step', 'mixture')}
  assert parts == {'by': 't5x', 'step': 0, 'mixture': 'microworld_mix'}
  assert not model_dir.lineage(back).known


def test_the_tree_has_t5x_names(exported):
  """`target`, `state/step`, and four moments for every parameter."""
  flat = flat_tree(exported)
  assert exported.name == 'checkpoint_0'
  target = {name for name in flat if name.startswith('target/decoder/')}
  moments = {name for name in flat if name.startswith('state/param_states/decoder/')}
  assert set(flat) == target | moments | {'state/step'}
  assert moments == {
    f'{name.replace("target", "state/param_states")}/{moment}'
    for name in target
    for moment in ('m', 'v', 'v_row', 'v_col')
  }
  assert flat['state/step'].dtype == np.int32


def trained(folder, **more) -> str:
  """Trains a small model for two steps on the microworld; returns MODEL_DIR."""
  settings = {
    'MODEL_DIR': folder,
    'MIXTURE_OR_TASK_NAME': 'microworld_mini_cb',
    'HELD_OUT': (),
    'TRAIN_STEPS': 2,
    'BATCH_TOKENS': 2048,
    'SEQUENCE_LENGTH': 256,
    'VOCAB_SIZE': 512,
    'NUM_LAYERS': 1,
    'DecoderConfig.d_model': 128,  # large enough for factored second moments
    'DecoderConfig.d_ff': 128,
    'DecoderConfig.head_dim': 16,
    'Optimizer.warmup_steps': 1,
    **more,
  }
  flags = [f'--gin.{name}={value}' for name, value in settings.items()]
  files = ['--gin_file=gin/runs/base.gin', '--gin_file=gin/models/tiny.gin']
  assert dispatch.main(['train', *files, *flags]) == 0
  return str(folder)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """MODEL_DIR of a run."""
  return trained(tmp_path_factory.mktemp('trained') / 'run')


def test_a_run_is_exported_with_its_step_and_optimizer(run, tmp_path):
  """`t5x.train` continues from them; the parameters round-trip byte for byte."""
  done = checkpoints.export_checkpoint(run, str(tmp_path / 'out'))
  flat = flat_tree(done)
  assert done.name == 'checkpoint_2'
  assert int(flat['state/step']) == 2
  second_moments = [v for name, v in flat.items() if name.endswith(('/v', '/v_row'))]
  assert all(np.any(value) for value in second_moments if value.size > 1)
  back = checkpoints.import_checkpoint(str(done), str(tmp_path / 'back'), model=run)
  for name in ('model.safetensors', 'tokenizer.model'):
    source = pathlib.Path(run) / 'model' / name
    assert (back / name).read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_adapters_are_refused_and_their_merged_model_is_named(run, tmp_path):
  adapted = trained(
    tmp_path / 'run', LORA_RANK=2, INITIAL_CHECKPOINT_PATH=f'{run}/model'
  )
  with pytest.raises(InputError, match='LoRA adapters; export .*model, where'):
    checkpoints.export_checkpoint(adapted, str(tmp_path / 'out'))
  assert not (tmp_path / 'out').exists()
  merged = checkpoints.export_checkpoint(f'{adapted}/model', str(tmp_path / 'out'))
  assert merged.name == 'checkpoint_0'


def test_the_newest_checkpoint_and_config_of_a_model_dir_are_found(exported, tmp_path):
  """t5x writes MODEL_DIR/config.gin; long values are on a line of their own."""
  (tmp_path / 'run' / 'checkpoint_2').mkdir(parents=True)
  shutil.copytree(exported, tmp_path / 'run' / 'checkpoint_10')
  (tmp_path / 'run' / 'config.gin').write_text(
    "DECODER = 'microworld'\nMIXTURE_OR_TASK_NAME = \\\n    'microworld_mini_copa'\n"
  )
  back = checkpoints.import_checkpoint(str(tmp_path / 'run'), str(tmp_path / 'back'))
  record = json.loads((back / model_dir.PROVENANCE).read_text())
  parts = {key: record[key] for key in ('by', 'step', 'mixture')}
  assert parts == {'by': 't5x', 'step': 10, 'mixture': 'microworld_mini_copa'}
  start, own = model_dir.lineage(back).trainings  # its start is unknown
  assert (start.clusters, own.clusters) == (None, ('commonsense',))


def test_a_shape_from_gin_files_is_read_from_config_gin(exported, tmp_path):
  """With DECODER = None, config.gin names our gin files and a tokenizer."""
  shape = tmp_path / 'shape.gin'
  config = json.loads((MICROWORLD / 'config.json').read_text())
  shape.write_text(
    ''.join(f'DecoderConfig.{name} = {value!r}\n' for name, value in config.items())
  )
  shutil.copytree(exported, tmp_path / 'run' / 'checkpoint_0')
  (tmp_path / 'run' / 'config.gin').write_text(
    'DECODER = None\n'
    f"TOKENIZER = '{MICROWORLD / 'tokenizer.model'}'\n"
    'MODEL = @models.DecoderOnlyModel()\n'
    f"recipe.decoder.gin_files = \\\n    ('{shape}',)\n"
    'recipe.decoder.model = %DECODER\n'
  )
  back = checkpoints.import_checkpoint(str(tmp_path / 'run'), str(tmp_path / 'back'))
  for name in ('model.safetensors', 'tokenizer.model'):
    assert (back / name).read_bytes() == (MICROWORLD / name).read_bytes()


@pytest.mark.parametrize(
  ('start', 'models'),
  [("'microworld'", ['microworld', 'back']), ('None', ['back'])],
)
def test_an_import_has_the_lineage_of_what_t5x_started_from(
  start, models, exported, tmp_path
):
  shutil.copytree(exported, tmp_path / 'run' / 'checkpoint_10')
  (tmp_path / 'run' / 'config.gin').write_text(
    f"DECODER = 'microworld'\nINITIAL_CHECKPOINT_PATH = {start}\n"
    "MIXTURE_OR_TASK_NAME = 'microworld_mini_copa'\n"
  )
  back = checkpoints.import_checkpoint(str(tmp_path / 'run'), str(tmp_path / 'back'))
  found = model_dir.lineage(back)
  assert [training.model for training in found.trainings] == models
  assert found.trained_on('microworld') == ('commonsense',)


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda folder: folder, 'has no checkpoint_<step>'),
    (lambda folder: folder / 'checkpoint_5', 'not a t5x checkpoint'),
    (lambda folder: folder / 'checkpoint_7', 'old format'),
  ],
)
def test_other_folders_are_refused(tmp_path, make, message):
  if 'old' in message:
    (tmp_path / 'checkpoint_7').mkdir()
    (tmp_path / 'checkpoint_7' / 'checkpoint').touch()
  with pytest.raises(InputError, match=message):
    checkpoints.import_checkpoint(
      str(make(tmp_path)), str(tmp_path / 'x'), model='microworld'
    )


def test_a_checkpoint_of_another_model_is_refused_by_its_tensors(exported, tmp_path):
  other = tmp_path / 'other'
  other.mkdir()
  config = json.loads((MICROWORLD / 'config.json').read_text()) | {'d_ff': 512}
  (other / 'config.json').write_text(json.dumps(config))
  with pytest.raises(InputError, match=r'gate is \(128, 384\), must be \(128, 512\)'):
    checkpoints.import_checkpoint(str(exported), str(tmp_path / 'x'), model=str(other))
  assert not (tmp_path / 'x').exists()


def test_nothing_is_overwritten(exported, tmp_path, capsys):
  target = str(exported.parent)
  assert command.main(['export', 'microworld', target]) == 2
  assert 'must not have this checkpoint' in capsys.readouterr().err
  arguments = ['import', str(exported), str(tmp_path), '--model', 'microworld']
  assert command.main(arguments) == 2
  assert 'must be a folder that does not exist yet' in capsys.readouterr().err


def test_without_a_shape_the_error_names_the_flag(exported, tmp_path, capsys):
  assert command.main(['import', str(exported), str(tmp_path / 'x')]) == 2
  assert '--model' in capsys.readouterr().err
