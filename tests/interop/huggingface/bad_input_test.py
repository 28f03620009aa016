"""Unsupported models and broken files: one-line errors, nothing written."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import edit

from flan_jax.cli import dispatch


@pytest.fixture
def refusal(hf_model, tmp_path, capsys):
  """Converts a source; returns the one-line error."""

  def run(source=hf_model):
    assert dispatch.main(['convert', str(source), str(tmp_path / 'new')]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith('flan: error: ')]
    assert len(lines) == 1
    assert 'Traceback' not in error
    assert not (tmp_path / 'new').exists()
    assert not list(tmp_path.glob('.new*'))
    return lines[0]

  return run


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'model_type': 'lama'}, "model_type: got 'lama'; must be one of llama, "),
    ({'model_type': 'lama'}, "did you mean 'llama'?"),
    ({'model_type': 'mixtral'}, "model_type: got 'mixtral'"),
    ({'auto_map': {'AutoModelForCausalLM': 'run.py'}}, 'auto_map='),
    ({'quantization_config': {'bits': 4}}, 'quantization_config='),
    ({'num_local_experts': 8}, 'num_local_experts=8: not known'),
    ({'hidden_act': 'relu2'}, "hidden_act: got 'relu2'; must be one of 'silu'"),
    ({'hidden_size': None}, "no 'hidden_size'"),
    ({'num_hidden_layers': '3'}, "num_hidden_layers: got '3'; must be a whole number"),
    ({'rope_scaling': {'rope_type': 'yarn', 'factor': 4}}, "rope_type: got 'yarn'"),
    ({'rope_scaling': {'rope_type': 'linear'}}, "rope scaling 'linear': no 'factor'"),
    ({'flan_jax': {'qk_norm': True}}, "flan_jax: got {'qk_norm': True}; contradicts"),
    ({'partial_rotary_factor': 0.5}, 'partial_rotary_factor: got 0.5'),
    ({'num_attention_heads': 3}, 'num_kv_heads: got 2; must divide num_heads=3'),
    ({'num_hidden_layers': 4}, '9 missing: model.layers.3.'),
    ({'num_hidden_layers': 2}, '9 unexpected: model.layers.2.'),
    ({'intermediate_size': 40}, 'gate_proj.weight is [48, 32], must be [40, 32]'),
    ({'tie_word_embeddings': False}, '1 missing: lm_head.weight'),
    ({'vocab_size': 200}, 'embed_tokens.weight is [300, 32], must be [200, 32]'),
  ],
)
def test_an_unsupported_config(fields, message, hf_model, refusal):
  edit(hf_model, **fields)
  assert message in refusal()


@pytest.mark.parametrize(
  ('kind', 'fields', 'message'),
  [
    ('gemma2', {'use_bidirectional_attention': True}, 'use_bidirectional_attention='),
    ('opt', {'do_layer_norm_before': False}, 'do_layer_norm_before: got False'),
    ('opt', {'word_embed_proj_dim': 16}, 'word_embed_proj_dim: got 16'),
    ('gpt2', {'scale_attn_by_inverse_layer_idx': True}, 'supports only False'),
    ('granite', {'residual_multiplier': 0.2}, 'residual_multiplier: got 0.2'),
    ('granite', {'logits_scaling': 8.0}, 'logits_scaling: got 8.0'),
  ],
)
def test_fields_of_one_family(kind, fields, message, hf_model, refusal):
  sizes = {'ffn_dim': 48, 'n_embd': 32, 'n_layer': 3, 'n_head': 4}
  removed = {} if kind in ('gemma2', 'granite') else {'hidden_act': None}
  if kind in ('opt', 'gpt2'):
    given = json.loads((hf_model / 'config.json').read_text())
    harmless = ('vocab_size', 'hidden_size', 'num_hidden_layers', 'flan_jax',
                'num_attention_heads', 'max_position_embeddings')  # fmt: skip
    kept = {k: given[k] for k in harmless if kind == 'opt' or k == 'vocab_size'}
    wanted = {k: v for k, v in sizes.items() if k.startswith('n_') == (kind == 'gpt2')}
    (hf_model / 'config.json').write_text(json.dumps({**kept, **wanted}))
    removed = {}
  edit(hf_model, model_type=kind, **removed, **fields)
  assert message in refusal()


def test_a_pickle_is_refused_with_the_command_that_converts(hf_model, refusal):
  (hf_model / 'model.safetensors').unlink()
  (hf_model / 'pytorch_model.bin').write_bytes(b'\x80\x04')
  line = refusal()
  assert 'pytorch_model.bin is a pickle' in line
  assert "from_pretrained('" in line
  assert "save_pretrained('hf-safe')" in line


def test_a_truncated_file(hf_model, refusal):
  path = hf_model / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-100])
  assert 'model.safetensors: broken or truncated' in refusal()


def test_a_truncated_header(hf_model, refusal):
  path = hf_model / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:50])
  assert 'model.safetensors: broken or truncated' in refusal()


def test_a_tensor_of_another_type(hf_model, refusal):
  path = hf_model / 'model.safetensors'
  tensors = load_file(path)
  tensors['model.norm.weight'] = np.ones(32, np.int8)
  save_file(tensors, path)
  assert "tensor 'model.norm.weight' is I8" in refusal()


def test_an_index_that_leads_out_of_the_folder(hf_model, refusal):
  shutil.copy(hf_model / 'model.safetensors', hf_model.parent / 'secret.safetensors')
  index = {'weight_map': {'model.norm.weight': '../secret.safetensors'}}
  (hf_model / 'model.safetensors.index.json').write_text(json.dumps(index))
  assert "'../secret.safetensors' leads out of the folder" in refusal()


def test_an_index_of_missing_files(hf_model, refusal):
  index = {'weight_map': {'model.norm.weight': 'model-1-of-2.safetensors'}}
  (hf_model / 'model.safetensors.index.json').write_text(json.dumps(index))
  assert "'model-1-of-2.safetensors', which does not exist" in refusal()


def test_an_index_of_tensors_that_no_file_holds(hf_model, refusal):
  index = {'weight_map': {'model.lost.weight': 'model.safetensors'}}
  (hf_model / 'model.safetensors.index.json').write_text(json.dumps(index))
  assert 'no file holds: model.lost.weight' in refusal()


@pytest.mark.parametrize('name', ['model.safetensors', 'config.json', 'tokenizer.json'])
def test_a_link_that_leads_out_of_the_folder(name, hf_model, refusal):
  fields = json.loads((hf_model / 'config.json').read_text())
  fields['flan_jax'].pop('tokenizer')
  (hf_model / 'config.json').write_text(json.dumps(fields))
  out = hf_model.parent / 'outside'
  if (hf_model / name).exists():
    shutil.move(hf_model / name, out)
  else:
    out.write_text('{}')
  os.symlink(out, hf_model / name)
  assert f'{name!r} leads out of the folder' in refusal()


def test_more_tokens_than_rows_of_the_embedding(hf_model, refusal):
  tensors = load_file(hf_model / 'model.safetensors')
  tensors['model.embed_tokens.weight'] = tensors['model.embed_tokens.weight'][:200]
  save_file(tensors, hf_model / 'model.safetensors')
  edit(hf_model, vocab_size=200)
  assert "tokenizer 'bytes': 259 ids; the embedding has 200 rows" in refusal()


def test_a_config_that_is_not_json(hf_model, refusal):
  (hf_model / 'config.json').write_text('{"model_type": ')
  assert 'config.json: not readable as JSON' in refusal()


def test_a_missing_source(tmp_path, refusal):
  assert 'no such file or folder' in refusal(tmp_path / 'nothing')


def test_a_source_of_another_kind(tmp_path, refusal):
  (tmp_path / 'weights.npz').write_bytes(b'')
  line = refusal(tmp_path / 'weights.npz')
  assert 'must be a Hugging Face folder or a .gguf file' in line


def test_a_gguf_file_that_is_not_gguf(tmp_path, refusal):
  pytest.importorskip('gguf')
  (tmp_path / 'x.gguf').write_bytes(b'GGUF' + bytes(20))
  assert 'not a GGUF file, or a truncated one' in refusal(tmp_path / 'x.gguf')


def test_a_destination_that_is_not_empty(hf_model, tmp_path, capsys):
  (tmp_path / 'new').mkdir()
  (tmp_path / 'new' / 'mine').write_text('precious')
  assert dispatch.main(['convert', str(hf_model), str(tmp_path / 'new')]) == 2
  assert 'must be a folder that does not exist yet' in capsys.readouterr().err
  assert (tmp_path / 'new' / 'mine').read_text() == 'precious'


def test_import_of_a_flan_jax_model(flan_model, refusal):
  assert 'is a flan_jax model already' in refusal(flan_model)


def test_export_of_a_hugging_face_model(hf_model, tmp_path, capsys):
  arguments = ['convert', str(hf_model), str(tmp_path / 'new'), '--to', 'hf']
  assert dispatch.main(arguments) == 2
  assert 'is a Hugging Face folder' in capsys.readouterr().err


def test_exported_tensors_that_do_not_fit_are_listed(flan_model, tmp_path, capsys):
  config = json.loads((flan_model / 'config.json').read_text())
  config['num_layers'] += 1
  (flan_model / 'config.json').write_text(json.dumps(config))
  assert (
    dispatch.main(['convert', str(flan_model), str(tmp_path / 'new'), '--to', 'hf'])
    == 2
  )
  message = capsys.readouterr().err
  assert 'layers/attention_norm is (3, 32), must be (4, 32)' in message
  assert 'more)' in message
  assert not (tmp_path / 'new').exists()


def test_a_model_without_a_tokenizer_is_exported_without_one_with_a_warning(
  flan_model, tmp_path, by_numpy, capsys
):
  for path in flan_model.glob('tokenizer*'):
    path.unlink()
  assert (
    dispatch.main(['convert', str(flan_model), str(tmp_path / 'new'), '--to', 'hf'])
    == 0
  )
  assert 'the source has no tokenizer; none is written' in capsys.readouterr().err
