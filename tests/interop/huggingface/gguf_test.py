"""GGUF files: tensor names, order of channels, quantized blocks.

The tests write files as llama.cpp's converter does, from a Hugging Face folder. They
must import to the same model as that folder.
"""

import functools
import json

import numpy as np
import pytest
from convert_test import SHAPES
from safetensors.numpy import load_file
from small_models import by_numpy_alone, random_model

from flan_jax.cli import dispatch
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import convert, families
from flan_jax.runtime.progress import Progress

gguf = pytest.importorskip('gguf')

ARCHITECTURES = {
  'llama': 'llama', 'qwen2': 'qwen2', 'qwen3': 'qwen3', 'gemma': 'gemma',
  'gemma2': 'gemma2', 'gemma3': 'gemma3_text', 'gptneox': 'gpt_neox', 'gpt2': 'gpt2',
}  # fmt: skip
CHANGES = {
  'qwen3': {'qk_norm': True},
  'gemma2': {**SHAPES['gemma2'], 'query_scale': None, 'head_dim': 16},
  'gemma3': {**SHAPES['gemma3_text'], 'query_scale': None, 'layer_pattern': 'LLLLLG',
             'num_layers': 7, 'rope_local_base': 10_000.0, 'rope_base': 1e6},
}  # fmt: skip
TELLING = ('llama', 'gemma2', 'gemma3', 'gptneox', 'gpt2')
"""One architecture of each way to lay out tensors or to name settings."""
NAMES = {
  'model.embed_tokens': 'token_embd', 'model.norm': 'output_norm', 'lm_head': 'output',
  'input_layernorm': 'attn_norm', 'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output', 'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm', 'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up', 'mlp.down_proj': 'ffn_down',
  'pre_feedforward_layernorm': 'ffn_norm',
  'post_feedforward_layernorm': 'post_ffw_norm',
  'transformer.wte': 'token_embd', 'transformer.wpe': 'position_embd',
  'transformer.ln_f': 'output_norm', 'ln_1': 'attn_norm', 'ln_2': 'ffn_norm',
  'attn.c_attn': 'attn_qkv', 'attn.c_proj': 'attn_output', 'mlp.c_fc': 'ffn_up',
  'mlp.c_proj': 'ffn_down',
  'gpt_neox.embed_in': 'token_embd', 'gpt_neox.final_layer_norm': 'output_norm',
  'embed_out': 'output', 'attention.query_key_value': 'attn_qkv',
  'attention.dense': 'attn_output', 'mlp.dense_h_to_4h': 'ffn_up',
  'mlp.dense_4h_to_h': 'ffn_down',
}  # fmt: skip


def gguf_tensor(name, array, *, architecture, config):
  """Returns (name, array) as a GGUF file has them."""
  stem, _, kind = name.rpartition('.')
  parts = stem.split('.')
  layer = next((p for p in parts if p.isdigit()), None)
  inner = stem if layer is None else '.'.join(parts[parts.index(layer) + 1 :])
  gemma = architecture in ('gemma', 'gemma2', 'gemma3')
  if inner == 'post_attention_layernorm':
    post = architecture in ('gemma2', 'gemma3')
    short = 'post_attention_norm' if post else 'ffn_norm'
  else:
    short = NAMES[inner]
  if architecture == 'llama' and short in ('attn_q', 'attn_k'):
    heads = config[
      'num_attention_heads' if short == 'attn_q' else 'num_key_value_heads'
    ]
    halves = array.reshape(heads, 2, -1, *array.shape[1:])
    array = halves.swapaxes(1, 2).reshape(array.shape)
  if gemma and short.endswith('norm'):
    array = array + 1
  if architecture == 'gpt2' and array.ndim == 2 and layer is not None:
    array = array.T
  if architecture == 'gptneox' and short == 'attn_qkv':
    heads = config['num_attention_heads']
    array = array.reshape(heads, 3, -1, *array.shape[1:]).swapaxes(0, 1)
    array = array.reshape(-1, *array.shape[3:])
  prefix = '' if layer is None else f'blk.{layer}.'
  return f'{prefix}{short}.{kind}', np.ascontiguousarray(array, np.float32)


def write_gguf(path, folder, architecture, *, quantized=False, more=()):
  """Writes the folder's model as llama.cpp's converter does."""
  config = json.loads((folder / 'config.json').read_text())
  writer = gguf.GGUFWriter(path, architecture)

  def field(*keys):
    return next(config[key] for key in keys if key in config)

  writer.add_embedding_length(field('hidden_size', 'n_embd'))
  writer.add_block_count(field('num_hidden_layers', 'n_layer'))
  writer.add_feed_forward_length(field('intermediate_size', 'n_inner'))
  writer.add_head_count(field('num_attention_heads', 'n_head'))
  writer.add_context_length(field('max_position_embeddings', 'n_positions'))
  if 'rms_norm_eps' in config:
    writer.add_layer_norm_rms_eps(config['rms_norm_eps'])
    writer.add_head_count_kv(config['num_key_value_heads'])
    writer.add_rope_freq_base(config['rope_theta'])
    writer.add_key_length(config['head_dim'])
  else:
    writer.add_layer_norm_eps(field('layer_norm_eps', 'layer_norm_epsilon'))
  if architecture == 'gptneox':
    head = config['hidden_size'] // config['num_attention_heads']
    writer.add_rope_dimension_count(int(config['rotary_pct'] * head))
    writer.add_parallel_residual(config['use_parallel_residual'])
  if architecture in ('gemma2', 'gemma3'):
    writer.add_sliding_window(config['sliding_window'])
  if architecture == 'gemma2':
    writer.add_attn_logit_softcapping(config['attn_logit_softcapping'])
    writer.add_final_logit_softcapping(config['final_logit_softcapping'])
  for add in more:
    add(writer)
  for name, array in load_file(folder / 'model.safetensors').items():
    name, array = gguf_tensor(name, array, architecture=architecture, config=config)
    kind = gguf.GGMLQuantizationType.Q8_0
    if quantized and array.ndim == 2 and array.shape[1] % 32 == 0:
      writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    else:
      writer.add_tensor(name, array)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """Returns a function: architecture -> (folder with `flan` and `hf`, its config)."""

  @functools.cache
  def make(architecture):
    folder = tmp_path_factory.mktemp(architecture)
    changes = CHANGES.get(architecture, SHAPES[ARCHITECTURES[architecture]])
    config = random_model(folder / 'flan', tokenizer=False, **changes)
    with by_numpy_alone():
      convert.export_model(
        folder / 'flan', folder / 'hf', progress=Progress(quiet=True)
      )
    return folder, config

  return make


@pytest.fixture
def written(models, tmp_path, by_numpy):
  """Writes a small model as GGUF; returns its path."""

  def write(architecture, **options):
    folder, _ = models(architecture)
    path = tmp_path / 'model.gguf'
    write_gguf(path, folder / 'hf', architecture, **options)
    return path

  return write


@pytest.mark.parametrize(
  'architecture',
  [
    *TELLING,
    *(
      pytest.param(architecture, marks=pytest.mark.slow)
      for architecture in ARCHITECTURES
      if architecture not in TELLING
    ),
  ],
)
def test_a_file_imports_to_the_model_it_was_written_from(
  architecture, models, written, tmp_path, quiet
):
  folder, config = models(architecture)
  imported = convert.import_model(
    written(architecture), tmp_path / 'imported', progress=quiet
  )
  assert imported.config == families.canonical(config)
  assert imported.agreement.method == 'numpy'
  assert imported.agreement.max_difference < 1e-4
  first, second = (
    load_file(path / 'model.safetensors')
    for path in (folder / 'flan', tmp_path / 'imported')
  )
  assert set(first) == set(second)
  for name, array in first.items():
    # 1 was added to Gemma's norms and subtracted again.
    np.testing.assert_allclose(second[name], array, atol=2e-7, err_msg=name)


def test_quantized_blocks_are_read_to_within_their_rounding(
  models, written, tmp_path, quiet
):
  path = written('llama', quantized=True)
  convert.import_model(path, tmp_path / 'imported', progress=quiet)
  first, second = (
    load_file(path / 'model.safetensors')
    for path in (models('llama')[0] / 'flan', tmp_path / 'imported')
  )
  difference = np.abs(first['layers/up'] - second['layers/up'])
  assert 0 < difference.max() < np.abs(first['layers/up']).max() / 127


@pytest.mark.parametrize(
  ('add', 'message'),
  [
    (lambda w: w.add_expert_count(8), 'llama.expert_count: got 8'),
    (lambda w: w.add_rope_dimension_count(4), 'rope.dimension_count: got 4'),
    (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), 'rope.scaling.type'),
  ],
)
def test_metadata_that_changes_the_math_is_refused_by_name(
  add, message, written, tmp_path, quiet
):
  path = written('llama', more=[add])
  with pytest.raises(InputError, match=message):
    convert.import_model(path, tmp_path / 'imported', progress=quiet)


def test_an_unknown_architecture(tmp_path, capsys):
  writer = gguf.GGUFWriter(tmp_path / 'x.gguf', 'mamba')
  writer.add_tensor('token_embd.weight', np.zeros((4, 4), np.float32))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  assert (
    dispatch.main(['convert', str(tmp_path / 'x.gguf'), str(tmp_path / 'new')]) == 2
  )
  assert "general.architecture: got 'mamba'" in capsys.readouterr().err


def test_a_truncated_file(written, tmp_path, capsys):
  path = written('llama')
  path.write_bytes(path.read_bytes()[:-1000])
  assert dispatch.main(['convert', str(path), str(tmp_path / 'new')]) == 2
  error = capsys.readouterr().err
  assert 'truncated' in error
  assert not (tmp_path / 'new').exists()


def test_an_unsupported_quantization(written, tmp_path, capsys, monkeypatch):
  path = written('llama', quantized=True)

  def cannot(data, kind):
    raise NotImplementedError(f'Dequantization for {kind.name} is not yet implemented')

  monkeypatch.setattr(gguf.quants, 'dequantize', cannot)
  assert dispatch.main(['convert', str(path), str(tmp_path / 'new')]) == 2
  assert 'the `gguf` package cannot dequantize' in capsys.readouterr().err
