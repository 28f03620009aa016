"""Every family against `transformers`: logits, greedy text, and round trips."""

import functools
import json

import jax
import numpy as np
import pytest
import small_models as models

from flan_jax.checkpoints import weights
from flan_jax.data import tokenizers
from flan_jax.inference import generate
from flan_jax.interop.huggingface import convert, families, logit_check
from flan_jax.interop.huggingface.source import Folder

pytest.importorskip('torch')
pytest.importorskip('transformers')
pytestmark = pytest.mark.torch

ONE_OF_EACH = ('llama-biased', 'mistral-window', 'gemma2', 'gemma3', 'gpt_neox', 'opt',
               'gpt2', 'olmo2')  # fmt: skip
TELLING = ('llama-biased', 'llama-3.1', 'gemma2', 'gemma3-linear', 'gpt_neox', 'opt',
           'gpt2', 'olmo2')  # fmt: skip
"""Models that together have every kind of layer, norm, position and rope scaling."""


def by_default(chosen, names=models.CONFIGS):
  """Parameters `names`; those that are not chosen are slow."""
  return [
    pytest.param(name, marks=[] if name in chosen else pytest.mark.slow)
    for name in names
  ]


@pytest.fixture(scope='module')
def hf_models(tmp_path_factory):
  """Returns a function: name -> the folder of that model, made once."""

  @functools.cache
  def make(name):
    folder = tmp_path_factory.mktemp(name) / 'hf'
    models.make(name, folder)
    return folder

  return make


@pytest.mark.parametrize('name', by_default(TELLING))
def test_a_model_has_the_logits_of_transformers_and_round_trips(
  name, hf_models, tmp_path, quiet
):
  imported = convert.import_model(hf_models(name), tmp_path / 'flan', progress=quiet)
  assert imported.agreement.method.startswith('transformers')
  assert imported.agreement.max_difference < 1e-4
  assert imported.agreement.kl < 1e-8

  exported = convert.export_model(tmp_path / 'flan', tmp_path / 'back', progress=quiet)
  assert exported.agreement.method.startswith('transformers')
  assert exported.agreement.max_difference < 1e-4

  convert.import_model(tmp_path / 'back', tmp_path / 'again', progress=quiet)
  for file in ('model.safetensors', 'config.json'):
    first, second = (tmp_path / name / file for name in ('flan', 'again'))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize('name', models.CONFIGS)
def test_the_numpy_forward_pass_has_the_logits_of_transformers(name, hf_models):
  source = Folder(hf_models(name))
  sequences = [np.arange(3, 43) % models.VOCAB]
  expected = logit_check._transformers(source.folder, sequences).values[0]
  family = families.get(source.config['model_type'])
  got = logit_check.by_numpy(source, family, sequences)[0]
  np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize('name', by_default(('gemma2',), ONE_OF_EACH))
def test_64_greedy_tokens_are_those_of_transformers(name, tmp_path, quiet):
  import torch

  model = models.make(name, tmp_path / 'hf')
  imported = convert.import_model(tmp_path / 'hf', tmp_path / 'flan', progress=quiet)
  prompts = np.random.default_rng(1).integers(3, models.VOCAB, (2, 5)).astype(np.int32)
  with torch.inference_mode():
    expected = model.generate(
      torch.from_numpy(prompts.astype(np.int64)),
      attention_mask=torch.ones(prompts.shape, dtype=torch.int64),
      max_new_tokens=64,
      min_new_tokens=64,
      do_sample=False,
      eos_token_id=None,
    )[:, 5:].numpy()
  params = weights.load(tmp_path / 'flan', imported.config)
  endless = type('Endless', (tokenizers.Bytes,), {'eos_id': models.VOCAB})()
  with jax.default_matmul_precision('highest'):
    got = generate.generate(
      params, list(prompts), config=imported.config, tokenizer=endless, max_tokens=64,
      separator=False,
    )  # fmt: skip
  np.testing.assert_array_equal(got.tokens, expected)


def test_sharded_files_are_read_as_one_model(tmp_path, quiet):
  models.make('llama-biased', tmp_path / 'whole')
  models.make('llama-biased', tmp_path / 'parts', shards=True)
  assert len(list((tmp_path / 'parts').glob('*.safetensors'))) > 2
  for name in ('whole', 'parts'):
    convert.import_model(tmp_path / name, tmp_path / f'{name}-flan', progress=quiet)
  first, second = (
    tmp_path / f'{name}-flan' / 'model.safetensors' for name in ('whole', 'parts')
  )
  assert first.read_bytes() == second.read_bytes()


def test_the_older_config_format_means_the_same(hf_models, tmp_path, quiet):
  imported = convert.import_model(
    hf_models('gemma3-linear'), tmp_path / 'flan', progress=quiet
  )
  convert.export_model(tmp_path / 'flan', tmp_path / 'old', progress=quiet)
  fields = json.loads((tmp_path / 'old' / 'config.json').read_text())
  assert (fields['rope_theta'], fields['rope_local_base_freq']) == (1e6, 1e4)
  models.edit(tmp_path / 'old', layer_types=None, sliding_window_pattern=2)
  again = convert.import_model(tmp_path / 'old', tmp_path / 'again', progress=quiet)
  assert again.config == imported.config
