"""Files that are not a model, or not one we compute: one line each, nothing written."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import edit

from flan_jax.cli import dispatch


@pytest.fixture
def refusal(theirs, tmp_path, capsys):
  """Converts the folder (or another source); returns the one line of its refusal."""

  def run(source=theirs):
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
  ('fields', 'said'),
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
    ({'num_hidden_layers': 2}, '9 too many: model.layers.2.'),
    ({'intermediate_size': 40}, 'gate_proj.weight is [48, 32], must be [40, 32]'),
    ({'tie_word_embeddings': False}, '1 missing: lm_head.weight'),
    ({'vocab_size': 200}, 'embed_tokens.weight is [300, 32], must be [200, 32]'),
  ],
)
def test_a_config_that_we_do_not_compute(fields, said, theirs, refusal):
  edit(theirs, **fields)
  assert said in refusal()


@pytest.mark.parametrize(
  ('kind', 'fields', 'said'),
  [
    ('gemma2', {'use_bidirectional_attention': True}, 'use_bidirectional_attention='),
    ('opt', {'do_layer_norm_before': False}, 'do_layer_norm_before: got False'),
    ('opt', {'word_embed_proj_dim': 16}, 'word_embed_proj_dim: got 16'),
    ('gpt2', {'scale_attn_by_inverse_layer_idx': True}, 'computes only False'),
    ('granite', {'residual_multiplier': 0.2}, 'residual_multiplier: got 0.2'),
    ('granite', {'logits_scaling': 8.0}, 'logits_scaling: got 8.0'),
  ],
)
def test_fields_of_one_family(kind, fields, said, theirs, refusal):
  sizes = {'ffn_dim': 48, 'n_embd': 32, 'n_layer': 3, 'n_head': 4}
  keep = {} if kind in ('gemma2', 'granite') else {'hidden_act': None}
  if kind in ('opt', 'gpt2'):
    named = json.loads((theirs / 'config.json').read_text())
    harmless = ('vocab_size', 'hidden_size', 'num_hidden_layers', 'flan_jax',
                'num_attention_heads', 'max_position_embeddings')  # fmt: skip
    kept = {k: named[k] for k in harmless if kind == 'opt' or k == 'vocab_size'}
    wanted = {k: v for k, v in sizes.items() if k.startswith('n_') == (kind == 'gpt2')}
    (theirs / 'config.json').write_text(json.dumps({**kept, **wanted}))
    keep = {}
  edit(theirs, model_type=kind, **keep, **fields)
  assert said in refusal()


def test_a_pickle_is_refused_with_the_command_that_converts(theirs, refusal):
  (theirs / 'model.safetensors').unlink()
  (theirs / 'pytorch_model.bin').write_bytes(b'\x80\x04')
  line = refusal()
  assert 'pytorch_model.bin is a pickle' in line
  assert "from_pretrained('" in line
  assert "save_pretrained('theirs-safe')" in line


def test_a_truncated_file(theirs, refusal):
  path = theirs / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-100])
  assert 'model.safetensors: broken or truncated' in refusal()


def test_a_truncated_header(theirs, refusal):
  path = theirs / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:50])
  assert 'model.safetensors: broken or truncated' in refusal()


def test_a_tensor_of_another_type(theirs, refusal):
  path = theirs / 'model.safetensors'
  tensors = load_file(path)
  tensors['model.norm.weight'] = np.ones(32, np.int8)
  save_file(tensors, path)
  assert "tensor 'model.norm.weight' is I8" in refusal()


def test_an_index_that_leads_out_of_the_folder(theirs, refusal):
  shutil.copy(theirs / 'model.safetensors', theirs.parent / 'secret.safetensors')
  index = {'weight_map': {'model.norm.weight': '../secret.safetensors'}}
  (theirs / 'model.safetensors.index.json').write_text(json.dumps(index))
  assert "'../secret.safetensors' leads out of the folder" in refusal()


def test_an_index_of_files_that_are_not_there(theirs, refusal):
  index = {'weight_map': {'model.norm.weight': 'model-1-of-2.safetensors'}}
  (theirs / 'model.safetensors.index.json').write_text(json.dumps(index))
  assert "'model-1-of-2.safetensors', which is not there" in refusal()


def test_an_index_of_tensors_that_no_file_holds(theirs, refusal):
  index = {'weight_map': {'model.lost.weight': 'model.safetensors'}}
  (theirs / 'model.safetensors.index.json').write_text(json.dumps(index))
  assert 'no file holds: model.lost.weight' in refusal()


@pytest.mark.parametrize('name', ['model.safetensors', 'config.json', 'tokenizer.json'])
def test_a_link_that_leads_out_of_the_folder(name, theirs, refusal):
  fields = json.loads((theirs / 'config.json').read_text())
  fields['flan_jax'].pop('tokenizer')
  (theirs / 'config.json').write_text(json.dumps(fields))
  out = theirs.parent / 'outside'
  if (theirs / name).exists():
    shutil.move(theirs / name, out)
  else:
    out.write_text('{}')
  os.symlink(out, theirs / name)
  assert f'{name!r} leads out of the folder' in refusal()


def test_more_tokens_than_rows_of_the_embedding(theirs, refusal):
  tensors = load_file(theirs / 'model.safetensors')
  tensors['model.embed_tokens.weight'] = tensors['model.embed_tokens.weight'][:200]
  save_file(tensors, theirs / 'model.safetensors')
  edit(theirs, vocab_size=200)
  assert "tokenizer 'bytes': 259 ids; the embedding has 200 rows" in refusal()


def test_a_config_that_is_no_json(theirs, refusal):
  (theirs / 'config.json').write_text('{"model_type": ')
  assert 'config.json: not readable as JSON' in refusal()


def test_a_source_that_is_not_there(tmp_path, refusal):
  assert 'no such file or folder' in refusal(tmp_path / 'nothing')


def test_a_source_of_another_kind(tmp_path, refusal):
  (tmp_path / 'weights.npz').write_bytes(b'')
  line = refusal(tmp_path / 'weights.npz')
  assert 'must be a Hugging Face folder or a .gguf file' in line


def test_a_gguf_that_is_none(tmp_path, refusal):
  pytest.importorskip('gguf')
  (tmp_path / 'x.gguf').write_bytes(b'GGUF' + bytes(20))
  assert 'no GGUF file, or a truncated one' in refusal(tmp_path / 'x.gguf')


def test_a_destination_that_is_not_empty(theirs, tmp_path, capsys):
  (tmp_path / 'new').mkdir()
  (tmp_path / 'new' / 'mine').write_text('precious')
  assert dispatch.main(['convert', str(theirs), str(tmp_path / 'new')]) == 2
  assert 'must be a folder that does not exist yet' in capsys.readouterr().err
  assert (tmp_path / 'new' / 'mine').read_text() == 'precious'


def test_a_model_of_ours_where_one_of_theirs_is_wanted(ours, refusal):
  assert 'model of ours' in refusal(ours)


def test_one_of_theirs_where_ours_is_wanted(theirs, tmp_path, capsys):
  arguments = ['convert', str(theirs), str(tmp_path / 'new'), '--to', 'hf']
  assert dispatch.main(arguments) == 2
  assert 'is a Hugging Face folder' in capsys.readouterr().err


def test_tensors_of_ours_that_do_not_fit_are_listed(ours, tmp_path, capsys):
  config = json.loads((ours / 'config.json').read_text())
  config['num_layers'] += 1
  (ours / 'config.json').write_text(json.dumps(config))
  assert dispatch.main(['convert', str(ours), str(tmp_path / 'new'), '--to', 'hf']) == 2
  said = capsys.readouterr().err
  assert 'layers/attention_norm is (3, 32), must be (4, 32)' in said
  assert 'more)' in said
  assert not (tmp_path / 'new').exists()


def test_a_model_without_a_tokenizer_leaves_without_one_and_says_so(
  ours, tmp_path, by_numpy, capsys
):
  for path in ours.glob('tokenizer*'):
    path.unlink()
  assert dispatch.main(['convert', str(ours), str(tmp_path / 'new'), '--to', 'hf']) == 0
  assert 'the source has no tokenizer; none is written' in capsys.readouterr().err
