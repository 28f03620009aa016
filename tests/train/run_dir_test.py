"""A run resumes in its MODEL_DIR, and no other run starts there."""

import dataclasses
import json

import pytest

from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.optimizer import Lora, OptimizerConfig
from flan_jax.config.recipe import Recipe
from flan_jax.config.training import TrainConfig
from flan_jax.errors import InputError
from flan_jax.jobs import claim as claim_lib
from flan_jax.train.run_dir import RunDir

MODEL = DecoderConfig(
  vocab_size=64,
  num_layers=2,
  d_model=32,
  d_ff=64,
  num_heads=4,
  num_kv_heads=4,
  head_dim=8,
)
RUN = TrainConfig(
  model_dir='here',
  mixture='flan_rte',
  model=MODEL,
  train_steps=1,
  batch_tokens=64,
  sequence_length=64,
  initial_checkpoint='base',
)


def claim(folder, run, *, text):
  """Checks MODEL_DIR and writes the settings; returns whether the run resumes."""
  resumes = claim_lib.check(folder, run)
  claim_lib.write(folder, run, text=text)
  return resumes


def written_by_an_older_version(folder: RunDir) -> None:
  """Removes settings that an older version did not have from run.json."""
  path = folder.path / 'run.json'
  values = json.loads(path.read_text())
  del values['lora'], values['logits_chunk']
  del values['optimizer']['multiply_by_parameter_scale'], values['model']['window']
  path.write_text(json.dumps(values))


def test_a_run_resumes_with_a_version_that_has_new_settings(tmp_path):
  folder = RunDir(str(tmp_path))
  assert not claim(folder, RUN, text='')
  folder.log.touch()
  written_by_an_older_version(folder)
  assert claim(folder, RUN, text='')


@pytest.mark.parametrize(
  'change',
  [
    {'lora': Lora(rank=4)},
    {'logits_chunk': 32},
    {'optimizer': OptimizerConfig(multiply_by_parameter_scale=False)},
    {'model': dataclasses.replace(MODEL, layer_pattern='LG', window=8)},
  ],
  ids=lambda change: next(iter(change)),
)
def test_a_new_setting_with_another_value_than_its_default_is_another_run(
  change, tmp_path
):
  folder = RunDir(str(tmp_path))
  claim(folder, RUN, text='')
  folder.log.touch()
  written_by_an_older_version(folder)
  before = (tmp_path / 'run.json').read_bytes()
  with pytest.raises(InputError, match=f'another config: {next(iter(change))} was'):
    claim(folder, dataclasses.replace(RUN, **change), text='')
  assert (tmp_path / 'run.json').read_bytes() == before


@pytest.mark.parametrize(('rank', 'resumes'), [(0, True), (4, False)])
def test_an_old_explicit_parameter_scale_is_compared_with_the_resolved_default(
  rank, resumes, tmp_path
):
  """Older versions also scaled adapters by default: that is another run now."""
  folder = RunDir(str(tmp_path))
  run = dataclasses.replace(RUN, lora=Lora(rank=rank))
  claim(folder, run, text='')
  folder.log.touch()
  path = tmp_path / 'run.json'
  values = json.loads(path.read_text())
  values['optimizer']['multiply_by_parameter_scale'] = True
  path.write_text(json.dumps(values))
  if resumes:
    assert claim(folder, run, text='')
    return
  with pytest.raises(InputError, match='another config: optimizer was'):
    claim(folder, run, text='')


def test_a_run_with_another_optimizer_is_another_run(tmp_path):
  """Equal recipes are the same run, wherever their arguments were given."""
  folder = RunDir(str(tmp_path))
  rate = Recipe('optax.constant_schedule', (('value', 0.1),))
  adamw = Recipe('optax.adamw', (('b1', 0.9), ('learning_rate', rate)))
  run = dataclasses.replace(RUN, optimizer=adamw)
  claim(folder, run, text='')
  folder.log.touch()
  assert claim(folder, dataclasses.replace(RUN, optimizer=adamw), text='')
  other = dataclasses.replace(rate, arguments=(('value', 0.2),))
  for changed in (
    OptimizerConfig(),
    dataclasses.replace(adamw, name='optax.adam'),
    dataclasses.replace(adamw, arguments=(('b1', 0.9), ('learning_rate', other))),
  ):
    with pytest.raises(InputError, match='another config: optimizer was .*optax.adamw'):
      claim(folder, dataclasses.replace(RUN, optimizer=changed), text='')


def test_settings_that_do_not_change_a_step_may_change(tmp_path):
  folder = RunDir(str(tmp_path))
  claim(folder, RUN, text='')
  folder.log.touch()
  assert claim(folder, dataclasses.replace(RUN, train_steps=9, keep=5), text='')


@pytest.mark.parametrize('made', ['checkpoints/10', 'store/train', 'log.jsonl'])
def test_settings_may_be_corrected_while_a_start_has_written_nothing_else(
  made, tmp_path
):
  folder = RunDir(str(tmp_path))
  (tmp_path / 'checkpoints').mkdir()
  claim(folder, RUN, text='')
  corrected = dataclasses.replace(RUN, seed=1)
  assert not claim(folder, corrected, text='')
  (tmp_path / made).mkdir(parents=True)
  if made == 'log.jsonl':
    (tmp_path / made).rmdir()
    (tmp_path / made).touch()
  with pytest.raises(InputError, match='another config: seed was 1, is 0'):
    claim(folder, RUN, text='')


@pytest.mark.parametrize('content', ['{"mixture": "fl', '[]'])
def test_settings_that_cannot_be_read_are_one_line_and_stay(content, tmp_path):
  folder = RunDir(str(tmp_path))
  claim(folder, RUN, text='')
  folder.log.touch()
  (tmp_path / 'run.json').write_text(content)
  with pytest.raises(InputError, match=r"run\.json': is not the settings of a run"):
    claim(folder, RUN, text='')
  assert (tmp_path / 'run.json').read_text() == content
