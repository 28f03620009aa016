"""There and back, checked by numpy alone: what is written, and when nothing is."""

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


@pytest.mark.parametrize('family', SHAPES)
def test_a_model_of_ours_finds_its_family_and_comes_back_to_the_byte(
  family, tmp_path, quiet, by_numpy
):
  random_model(tmp_path / 'ours', **SHAPES[family], scan_layers=False)
  went = convert.to_theirs(tmp_path / 'ours', tmp_path / 'theirs', progress=quiet)
  assert went.family == family
  assert went.agreement.method == 'numpy'
  assert went.agreement.max_difference < 1e-4
  convert.to_ours(tmp_path / 'theirs', tmp_path / 'again', progress=quiet)
  for file in (*FILES, 'tokenizer.bytes'):
    first, second = (tmp_path / name / file for name in ('ours', 'again'))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_tensors_keep_the_type_they_are_stored_in(dtype, tmp_path, quiet, by_numpy):
  random_model(tmp_path / 'ours', dtype=dtype)
  convert.to_theirs(tmp_path / 'ours', tmp_path / 'theirs', progress=quiet)
  fields = json.loads((tmp_path / 'theirs' / 'config.json').read_text())
  assert fields['torch_dtype'] == dtype
  convert.to_ours(tmp_path / 'theirs', tmp_path / 'again', progress=quiet)
  first, second = (tmp_path / name / 'model.safetensors' for name in ('ours', 'again'))
  assert first.read_bytes() == second.read_bytes()


def test_what_comes_here_can_be_trained_from(theirs, tmp_path, quiet):
  convert.to_ours(theirs, tmp_path / 'again', progress=quiet)
  config = model_dir.config(str(tmp_path / 'again'))
  shapes = weights.load(theirs.parent / 'ours', config)
  params = model_dir.load(str(tmp_path / 'again'), config=config, shapes=shapes)
  np.testing.assert_array_equal(params['embedding'], shapes['embedding'])
  assert model_dir.tokenizer_file(str(tmp_path / 'again')) == 'bytes'


def test_the_conversion_says_what_it_was_checked_against(theirs, tmp_path, quiet):
  convert.to_ours(theirs, tmp_path / 'again', progress=quiet)
  note = json.loads((tmp_path / 'again' / convert.PROVENANCE).read_text())
  assert note['family'] == 'llama'
  assert note['check']['method'] == 'numpy'
  assert note['check']['passed']
  assert note['check']['max_difference'] <= note['check']['allowed']


def test_a_few_layers_at_most_are_in_memory_while_a_model_is_written(
  tmp_path, quiet, monkeypatch
):
  """The check runs the whole model; the writing never holds it."""
  random_model(
    tmp_path / 'ours', num_layers=24, d_model=64, d_ff=256, num_kv_heads=4, head_dim=16
  )
  passed = logit_check.Agreement(
    method='none', max_difference=0.0, largest=1.0, kl=0.0, same_choice=1.0, positions=1
  )
  monkeypatch.setattr(logit_check, 'reference', lambda source, rows: None)
  monkeypatch.setattr(logit_check, 'compare', lambda *arguments: passed)
  size = (tmp_path / 'ours' / 'model.safetensors').stat().st_size
  peaks = []
  for turn, source, out in [
    (convert.to_theirs, 'ours', 'theirs'),
    (convert.to_ours, 'theirs', 'again'),
  ]:
    tracemalloc.start()
    turn(tmp_path / source, tmp_path / out, progress=quiet)
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert max(peaks) < size / 4, (peaks, size)


@pytest.mark.parametrize('way', ['ours', 'hf'])
def test_logits_that_differ_write_nothing_and_exit_1(
  way, ours, theirs, tmp_path, monkeypatch, capsys
):
  honest = logit_check.reference

  def wrong(source, rows):
    found = honest(source, rows)
    return found._replace(rows=[row + 1e-2 for row in found.rows])

  monkeypatch.setattr(logit_check, 'reference', wrong)
  source = theirs if way == 'ours' else ours
  before = sorted(path.name for path in tmp_path.iterdir())
  code = dispatch.main(['convert', str(source), str(tmp_path / 'new'), '--to', way])
  assert code == 1
  assert 'nothing is written' in capsys.readouterr().err
  assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_one_tensor_in_the_wrong_place_is_enough_to_fail(theirs, tmp_path, monkeypatch):
  """The check is sharp: a single layer's gate and up exchanged."""
  real = convert._pieces

  def exchanged(source, line, names, config, sizes):
    swap = {'layers/gate': 'up_proj', 'layers/up': 'gate_proj'}
    if line.ours in swap:
      name = line.theirs.replace('gate_proj', 'x').replace('up_proj', 'x')
      line = line._replace(theirs=name.replace('x', swap[line.ours]))
    return real(source, line, names, config, sizes)

  monkeypatch.setattr(convert, '_pieces', exchanged)
  assert dispatch.main(['convert', str(theirs), str(tmp_path / 'new')]) == 1
  assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'attention': 'prefix'}, "attention: got 'prefix'"),
    ({'positions': 't5'}, "positions='t5'"),
    ({'qk_norm': True, 'attention_bias': 'qkv'}, 'no Hugging Face family'),
    ({'activation': 'relu'}, "activation='relu'"),
  ],
)
def test_what_no_family_computes_is_refused_by_name(changes, said, tmp_path, quiet):
  random_model(tmp_path / 'ours', **changes)
  with pytest.raises(InputError, match=said):
    convert.to_theirs(tmp_path / 'ours', tmp_path / 'theirs', progress=quiet)
  assert not (tmp_path / 'theirs').exists()


def test_a_model_without_a_tokenizer_comes_without_one(theirs, tmp_path, quiet):
  fields = json.loads((theirs / 'config.json').read_text())
  fields['flan_jax'].pop('tokenizer')
  (theirs / 'config.json').write_text(json.dumps(fields))
  came = convert.to_ours(theirs, tmp_path / 'again', progress=quiet)
  assert came.agreement.perplexity is None
  with pytest.raises(InputError, match='no tokenizer'):
    model_dir.tokenizer_file(str(tmp_path / 'again'))


def test_a_tied_head_that_is_stored_all_the_same_must_be_the_embedding(
  theirs, tmp_path, quiet
):
  tensors = load_file(theirs / 'model.safetensors')
  tensors['lm_head.weight'] = tensors['model.embed_tokens.weight']
  save_file(tensors, theirs / 'model.safetensors')
  convert.to_ours(theirs, tmp_path / 'again', progress=quiet)
  tensors['lm_head.weight'] = 2 * tensors['lm_head.weight']
  save_file(tensors, theirs / 'model.safetensors')
  with pytest.raises(InputError, match='lm_head.weight.* differs'):
    convert.to_ours(theirs, tmp_path / 'other', progress=quiet)


def test_names_without_their_prefix_are_known(tmp_path, quiet, by_numpy):
  random_model(tmp_path / 'ours', **SHAPES['gpt2'])
  convert.to_theirs(tmp_path / 'ours', tmp_path / 'theirs', progress=quiet)
  path = tmp_path / 'theirs' / 'model.safetensors'
  bare = {k.removeprefix('transformer.'): v for k, v in load_file(path).items()}
  bare['h.0.attn.bias'] = np.zeros((1, 1, 64, 64), np.float32)  # a buffer of old files
  save_file(bare, path)
  convert.to_ours(tmp_path / 'theirs', tmp_path / 'again', progress=quiet)
  first, second = (tmp_path / name / 'model.safetensors' for name in ('ours', 'again'))
  assert first.read_bytes() == second.read_bytes()


def test_a_table_must_name_every_parameter():
  with pytest.raises(InputError, match='parameters embedding, .*no such tensors'):
    convert.plan([], TINY)
