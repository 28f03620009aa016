"""Every family against `transformers`: logits, greedy text, and the way back."""

import json

import jax
import numpy as np
import pytest
import small_models as models

from flan_jax.checkpoints import weights
from flan_jax.data import tokenizers
from flan_jax.inference import generate
from flan_jax.interop.huggingface import convert, logit_check, numpy_reference
from flan_jax.interop.huggingface.source import Folder

pytest.importorskip('torch')
pytest.importorskip('transformers')
pytestmark = pytest.mark.torch

ONE_OF_EACH = ('llama-biased', 'mistral-window', 'gemma2', 'gemma3', 'gpt_neox', 'opt',
               'gpt2')  # fmt: skip


@pytest.fixture(params=models.CONFIGS)
def theirs(request, tmp_path):
  models.make(request.param, tmp_path / 'theirs')
  return tmp_path / 'theirs'


def test_a_model_says_the_same_here_as_there_and_comes_back_to_the_byte(
  theirs, tmp_path, quiet
):
  came = convert.to_ours(theirs, tmp_path / 'ours', progress=quiet)
  assert came.agreement.method.startswith('transformers')
  assert came.agreement.max_difference < 1e-4
  assert came.agreement.kl < 1e-8

  went = convert.to_theirs(tmp_path / 'ours', tmp_path / 'back', progress=quiet)
  assert went.agreement.method.startswith('transformers')
  assert went.agreement.max_difference < 1e-4

  convert.to_ours(tmp_path / 'back', tmp_path / 'again', progress=quiet)
  for file in ('model.safetensors', 'config.json'):
    first, second = (tmp_path / name / file for name in ('ours', 'again'))
    assert first.read_bytes() == second.read_bytes()


def test_the_numpy_reading_says_the_same_as_transformers(theirs):
  source = Folder(theirs)
  rows = [np.arange(3, 43) % models.VOCAB]
  there = logit_check._transformers(theirs, rows).rows[0]
  here = numpy_reference.logits(source, rows, kept=64)[0]
  np.testing.assert_allclose(here, there, atol=1e-4)


@pytest.mark.parametrize('name', ONE_OF_EACH)
def test_64_greedy_tokens_are_those_of_transformers(name, tmp_path, quiet):
  import torch

  model = models.make(name, tmp_path / 'theirs')
  came = convert.to_ours(tmp_path / 'theirs', tmp_path / 'ours', progress=quiet)
  prompts = np.random.default_rng(1).integers(3, models.VOCAB, (2, 5)).astype(np.int32)
  with torch.inference_mode():
    there = model.generate(
      torch.from_numpy(prompts.astype(np.int64)),
      attention_mask=torch.ones(prompts.shape, dtype=torch.int64),
      max_new_tokens=64,
      min_new_tokens=64,
      do_sample=False,
      eos_token_id=None,
    )[:, 5:].numpy()
  params = weights.load(tmp_path / 'ours', came.config)
  endless = type('Endless', (tokenizers.Bytes,), {'eos_id': models.VOCAB})()
  with jax.default_matmul_precision('highest'):
    here = generate.generate(
      params, list(prompts), config=came.config, tokenizer=endless, max_new_tokens=64,
      separator=False,
    )  # fmt: skip
  np.testing.assert_array_equal(here.tokens, there)


def test_a_model_in_many_files_is_read_as_one(tmp_path, quiet):
  models.make('llama', tmp_path / 'whole')
  models.make('llama', tmp_path / 'parts', shards=True)
  assert len(list((tmp_path / 'parts').glob('*.safetensors'))) > 2
  for name in ('whole', 'parts'):
    convert.to_ours(tmp_path / name, tmp_path / f'{name}-ours', progress=quiet)
  first, second = (
    tmp_path / f'{name}-ours' / 'model.safetensors' for name in ('whole', 'parts')
  )
  assert first.read_bytes() == second.read_bytes()


def test_a_config_in_the_older_spelling_means_the_same(tmp_path, quiet):
  models.make('gemma3', tmp_path / 'new')
  came = convert.to_ours(tmp_path / 'new', tmp_path / 'ours', progress=quiet)
  convert.to_theirs(tmp_path / 'ours', tmp_path / 'old', progress=quiet)
  fields = json.loads((tmp_path / 'old' / 'config.json').read_text())
  assert (fields['rope_theta'], fields['rope_local_base_freq']) == (1e6, 1e4)
  models.edit(tmp_path / 'old', layer_types=None, sliding_window_pattern=6)
  again = convert.to_ours(tmp_path / 'old', tmp_path / 'again', progress=quiet)
  assert again.config == came.config
