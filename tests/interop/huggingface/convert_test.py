"""Export and import round trips, checked by numpy alone."""

import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import TINY, random_model

from flan_jax.checkpoints import model_dir, weights
from flan_jax.cli import dispatch
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import convert, logit_check

FILES = ('model.safetensors', 'config.json')

SHAPES = {
  'llama': {},
  'granite': {'activation': 'geglu', 'scaled_head': True},
  'mistral': {'layer_pattern': 'L', 'window': 8},
  'qwen2': {'attention_bias': 'qkv', 'tied_embedding': False},
  'qwen3': {'qk_norm': True, 'layer_pattern': 'GLL', 'window': 8},
  'gemma': {'norm_plus_one': True, 'scaled_embedding': True, 'activation': 'geglu'},
  'gemma2': {
    'norm_plus_one': True, 'scaled_embedding': True, 'activation': 'geglu',
    'post_norms': True, 'attention_softcap': 2.0, 'logit_softcap': 3.0,
    'layer_pattern': 'LG', 'window': 8,
  },
  'gemma3_text': {
    'norm_plus_one': True, 'scaled_embedding': True, 'activation': 'geglu',
    'post_norms': True, 'qk_norm': True, 'layer_pattern': 'LLG', 'window': 8,
    'rope_local_base': 100.0, 'query_scale': 24**-0.5,
  },
  'olmo2': {
    'pre_norms': False, 'post_norms': True, 'qk_norm': True,
    'qk_norm_width': 'projection', 'tied_embedding': False,
  },
  'gpt_neox': {
    'norm': 'layer', 'attention_bias': 'all', 'mlp_bias': True, 'num_kv_heads': 4,
    'activation': 'gelu_exact', 'parallel_residual': True, 'rotary_fraction': 0.25,
    'tied_embedding': False,
  },
  'opt': {
    'norm': 'layer', 'attention_bias': 'all', 'mlp_bias': True, 'num_kv_heads': 4,
    'activation': 'relu', 'positions': 'learned', 'position_offset': 2,
    'max_positions': 66, 'norm_epsilon': 1e-5,
  },
  'gpt2': {
    'norm': 'layer', 'attention_bias': 'all', 'mlp_bias': True, 'num_kv_heads': 4,
    'activation': 'gelu', 'positions': 'learned', 'max_positions': 64,
  },
}  # fmt: skip
TELLING = ('llama', 'gemma3_text', 'olmo2', 'gpt_neox', 'opt', 'gpt2')
"""One family of each way to name, fuse, transpose or shift tensors."""


@pytest.mark.parametrize(
  'family',
  [
    *TELLING,
    *(
      pytest.param(family, marks=pytest.mark.slow)
      for family in SHAPES
      if family not in TELLING
    ),
  ],
)
def test_a_model_is_exported_to_its_family_and_imported_byte_for_byte(
  family, tmp_path, quiet, by_numpy
):
  random_model(tmp_path / 'flan', tokenizer=False, **SHAPES[family], scan_layers=False)
  exported = convert.export_model(tmp_path / 'flan', tmp_path / 'hf', progress=quiet)
  assert exported.family == family
  assert exported.agreement.method == 'numpy'
  assert exported.agreement.max_difference < 1e-4
  convert.import_model(tmp_path / 'hf', tmp_path / 'again', progress=quiet)
  for file in FILES:
    first, second = (tmp_path / name / file for name in ('flan', 'again'))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_tensors_keep_the_type_they_are_stored_in(dtype, tmp_path, quiet, by_numpy):
  random_model(tmp_path / 'flan', dtype=dtype, tokenizer=False)
  convert.export_model(tmp_path / 'flan', tmp_path / 'hf', progress=quiet)
  fields = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  assert fields['torch_dtype'] == dtype
  convert.import_model(tmp_path / 'hf', tmp_path / 'again', progress=quiet)
  first, second = (tmp_path / name / 'model.safetensors' for name in ('flan', 'again'))
  assert first.read_bytes() == second.read_bytes()


def test_an_imported_model_can_be_trained_from(hf_model, tmp_path, quiet):
  """It has the weights and the tokenizer that were exported."""
  convert.import_model(hf_model, tmp_path / 'again', progress=quiet)
  config = model_dir.config(str(tmp_path / 'again'))
  shapes = weights.load(hf_model.parent / 'flan', config)
  params = model_dir.load(str(tmp_path / 'again'), config=config, shapes=shapes)
  np.testing.assert_array_equal(params['embedding'], shapes['embedding'])
  assert model_dir.tokenizer_file(str(tmp_path / 'again')) == 'bytes'


def test_the_conversion_records_its_reference(hf_model, tmp_path, quiet):
  convert.import_model(hf_model, tmp_path / 'again', progress=quiet)
  record = json.loads((tmp_path / 'again' / convert.PROVENANCE).read_text())
  assert record['family'] == 'llama'
  assert record['check']['method'] == 'numpy'
  assert record['check']['passed']
  assert record['check']['max_difference'] <= record['check']['allowed']


def test_writing_holds_a_few_layers_in_memory(tmp_path, quiet, monkeypatch):
  """The check loads the whole model; writing does not."""
  random_model(
    tmp_path / 'flan', num_layers=24, d_model=64, d_ff=256, num_kv_heads=4, head_dim=16
  )
  passed = logit_check.Agreement(
    method='none', max_difference=0.0, largest=1.0, kl=0.0, same_choice=1.0, positions=1
  )
  monkeypatch.setattr(logit_check, 'reference', lambda source, sequences: None)
  monkeypatch.setattr(logit_check, 'compare', lambda *arguments: passed)
  size = (tmp_path / 'flan' / 'model.safetensors').stat().st_size
  peaks = []
  for convert_one, source, out in [
    (convert.export_model, 'flan', 'hf'),
    (convert.import_model, 'hf', 'again'),
  ]:
    tracemalloc.start()
    convert_one(tmp_path / source, tmp_path / out, progress=quiet)
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert max(peaks) < size / 4, (peaks, size)


@pytest.mark.parametrize('to', ['ours', 'hf'])
def test_logits_that_differ_write_nothing_and_exit_1(
  to, flan_model, hf_model, tmp_path, monkeypatch, capsys
):
  honest = logit_check.reference

  def wrong(source, sequences):
    found = honest(source, sequences)
    return found._replace(values=[value + 1e-2 for value in found.values])

  monkeypatch.setattr(logit_check, 'reference', wrong)
  source = hf_model if to == 'ours' else flan_model
  before = sorted(path.name for path in tmp_path.iterdir())
  code = dispatch.main(['convert', str(source), str(tmp_path / 'new'), '--to', to])
  assert code == 1
  assert 'nothing is written' in capsys.readouterr().err
  assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_one_tensor_in_the_wrong_place_is_enough_to_fail(
  hf_model, tmp_path, monkeypatch
):
  """The check notices that gate and up are exchanged."""
  real = convert._params

  def exchanged(source, entry, names, config, sizes):
    swap = {'layers/gate': 'up_proj', 'layers/up': 'gate_proj'}
    if entry.param in swap:
      name = entry.tensor.replace('gate_proj', 'x').replace('up_proj', 'x')
      entry = entry._replace(tensor=name.replace('x', swap[entry.param]))
    return real(source, entry, names, config, sizes)

  monkeypatch.setattr(convert, '_params', exchanged)
  assert dispatch.main(['convert', str(hf_model), str(tmp_path / 'new')]) == 1
  assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'attention': 'prefix'}, "attention: got 'prefix'"),
    ({'positions': 't5'}, "positions='t5'"),
    ({'qk_norm': True, 'attention_bias': 'qkv'}, 'no Hugging Face family'),
    ({'activation': 'relu'}, "activation='relu'"),
  ],
)
def test_an_architecture_without_a_family_is_refused_by_field(
  changes, message, tmp_path, quiet
):
  random_model(tmp_path / 'flan', **changes)
  with pytest.raises(InputError, match=message):
    convert.export_model(tmp_path / 'flan', tmp_path / 'hf', progress=quiet)
  assert not (tmp_path / 'hf').exists()


def test_a_model_without_a_tokenizer_is_imported_without_one(hf_model, tmp_path, quiet):
  fields = json.loads((hf_model / 'config.json').read_text())
  fields['flan_jax'].pop('tokenizer')
  (hf_model / 'tokenizer.json').unlink()
  (hf_model / 'config.json').write_text(json.dumps(fields))
  imported = convert.import_model(hf_model, tmp_path / 'again', progress=quiet)
  assert imported.agreement.perplexity is None
  with pytest.raises(InputError, match='no tokenizer'):
    model_dir.tokenizer_file(str(tmp_path / 'again'))


def test_a_stored_head_of_a_tied_model_must_equal_the_embedding(
  hf_model, tmp_path, quiet
):
  tensors = load_file(hf_model / 'model.safetensors')
  tensors['lm_head.weight'] = tensors['model.embed_tokens.weight']
  save_file(tensors, hf_model / 'model.safetensors')
  convert.import_model(hf_model, tmp_path / 'again', progress=quiet)
  tensors['lm_head.weight'] = 2 * tensors['lm_head.weight']
  save_file(tensors, hf_model / 'model.safetensors')
  with pytest.raises(InputError, match='lm_head.weight.* differs'):
    convert.import_model(hf_model, tmp_path / 'other', progress=quiet)


def test_tensor_names_may_lack_the_prefix(tmp_path, quiet, by_numpy):
  random_model(tmp_path / 'flan', tokenizer=False, **SHAPES['gpt2'])
  convert.export_model(tmp_path / 'flan', tmp_path / 'hf', progress=quiet)
  path = tmp_path / 'hf' / 'model.safetensors'
  bare = {k.removeprefix('transformer.'): v for k, v in load_file(path).items()}
  bare['h.0.attn.bias'] = np.zeros(
    (1, 1, 64, 64), np.float32
  )  # a buffer in older files
  save_file(bare, path)
  convert.import_model(tmp_path / 'hf', tmp_path / 'again', progress=quiet)
  first, second = (tmp_path / name / 'model.safetensors' for name in ('flan', 'again'))
  assert first.read_bytes() == second.read_bytes()


def test_a_table_must_name_every_parameter():
  with pytest.raises(InputError, match='parameters embedding, .*no such tensors'):
    convert.match_tensors([], TINY)
