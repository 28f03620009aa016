"""Small random models: of every family by `transformers`, and flan_jax models."""

import dataclasses
import json
import pathlib
from unittest import mock

import numpy as np

from flan_jax.catalog import lineage
from flan_jax.checkpoints import model_dir, weights
from flan_jax.config.decoder import DecoderConfig
from flan_jax.interop.huggingface import convert, logit_check, tokenizers

VOCAB = 96

TINY = DecoderConfig(
  vocab_size=300, num_layers=3, d_model=32, d_ff=48, num_heads=4, num_kv_heads=2,
  head_dim=8, activation='swiglu', positions='rotary', scaled_head=False,
)  # fmt: skip

_LLAMA = {
  'vocab_size': VOCAB, 'hidden_size': 32, 'intermediate_size': 48,
  'num_hidden_layers': 3, 'num_attention_heads': 4, 'num_key_value_heads': 2,
  'max_position_embeddings': 128,
}  # fmt: skip
_GEMMA = {**_LLAMA, 'head_dim': 16}
_LLAMA3 = {
  'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
  'original_max_position_embeddings': 16, 'rope_theta': 500.0,
}  # fmt: skip
_NEOX = {
  'vocab_size': VOCAB, 'hidden_size': 32, 'intermediate_size': 48,
  'num_hidden_layers': 3, 'num_attention_heads': 2, 'max_position_embeddings': 128,
}  # fmt: skip
_OPT = {
  'vocab_size': VOCAB, 'hidden_size': 32, 'ffn_dim': 48, 'num_hidden_layers': 3,
  'num_attention_heads': 4, 'max_position_embeddings': 128, 'word_embed_proj_dim': 32,
}  # fmt: skip
_GPT2 = {'vocab_size': VOCAB, 'n_embd': 32, 'n_layer': 3, 'n_head': 4,
         'n_positions': 128}  # fmt: skip

CONFIGS = {
  'llama': ('llama', _LLAMA),
  'llama-biased': ('llama', {**_LLAMA, 'attention_bias': True, 'mlp_bias': True,
                             'tie_word_embeddings': True, 'head_dim': 12}),
  'llama-3.1': ('llama', {**_LLAMA, 'rope_parameters': _LLAMA3}),
  'llama-linear': ('llama', {**_LLAMA, 'rope_parameters': {
    'rope_type': 'linear', 'factor': 4.0, 'rope_theta': 10_000.0}}),
  'mistral': ('mistral', {**_LLAMA, 'sliding_window': None}),
  'mistral-window': ('mistral', {**_LLAMA, 'sliding_window': 8, 'head_dim': 16}),
  'qwen2': ('qwen2', _LLAMA),
  'qwen2-window': ('qwen2', {**_LLAMA, 'use_sliding_window': True, 'sliding_window': 8,
                             'max_window_layers': 1, 'tie_word_embeddings': True}),
  'qwen3': ('qwen3', {**_LLAMA, 'head_dim': 16}),
  'gemma': ('gemma', _GEMMA),
  'gemma2': ('gemma2', {**_GEMMA, 'sliding_window': 8, 'query_pre_attn_scalar': 24,
                        'attn_logit_softcapping': 2.0, 'final_logit_softcapping': 3.0}),
  'gemma3': ('gemma3_text', {**_GEMMA, 'num_hidden_layers': 7, 'sliding_window': 8,
                             'query_pre_attn_scalar': 24}),
  'gemma3-linear': ('gemma3_text', {**_GEMMA, 'sliding_window': 8, 'rope_parameters': {
    'full_attention': {'rope_type': 'linear', 'factor': 8.0, 'rope_theta': 1e6},
    'sliding_attention': {'rope_type': 'default', 'rope_theta': 1e4}},
    'layer_types': ['sliding_attention', 'full_attention', 'sliding_attention']}),
  'gpt_neox': ('gpt_neox', _NEOX),
  'gpt_neox-serial': ('gpt_neox', {**_NEOX, 'use_parallel_residual': False,
                                   'attention_bias': False, 'rotary_pct': 1.0,
                                   'hidden_act': 'gelu_new'}),
  'opt': ('opt', _OPT),
  'opt-plain': ('opt', {**_OPT, 'enable_bias': False, 'activation_function': 'gelu',
                        'tie_word_embeddings': False}),
  'gpt2': ('gpt2', _GPT2),
  'gpt2-wide': ('gpt2', {**_GPT2, 'n_inner': 40, 'layer_norm_epsilon': 1e-3,
                         'activation_function': 'relu'}),
  'olmo2': ('olmo2', _LLAMA),
  'olmo2-biased': ('olmo2', {**_LLAMA, 'attention_bias': True, 'rms_norm_eps': 1e-3,
                             'tie_word_embeddings': True, 'head_dim': 12}),
  'granite': ('granite', {**_LLAMA, 'attention_multiplier': 0.3,
                          'logits_scaling': 32**0.5, 'tie_word_embeddings': True}),
}  # fmt: skip


def make(name: str, folder: pathlib.Path, *, shards: bool = False):
  """Saves the model `name`; returns the torch module.

  Weights differ from their initial values, so that no bias is 0 and no norm is 1.
  """
  import torch
  import transformers

  kind, fields = CONFIGS[name]
  fields = {'bos_token_id': 1, 'eos_token_id': 2, 'pad_token_id': 0, **fields}
  config = transformers.AutoConfig.for_model(kind, **fields)
  config._attn_implementation = 'eager'
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(config).eval()
  draw = np.random.default_rng(len(name))
  with torch.no_grad():
    for parameter in model.parameters():
      shape = tuple(parameter.shape)
      scale = 0.3 if len(shape) == 1 else shape[-1] ** -0.5
      center = 1.0 if len(shape) == 1 and parameter.mean() > 0.5 else 0.0
      values = center + scale * draw.normal(size=shape)
      parameter.copy_(torch.tensor(values, dtype=torch.float32))
  more = {'max_shard_size': '20KB'} if shards else {}
  model.save_pretrained(folder, **more)
  return model


def edit(folder: pathlib.Path, **fields) -> None:
  """Changes fields of config.json; None removes one."""
  path = folder / 'config.json'
  config = json.loads(path.read_text(encoding='utf-8')) | fields
  config = {key: value for key, value in config.items() if value is not None}
  path.write_text(json.dumps(config), encoding='utf-8')


def by_numpy_alone():
  """Hides torch, so that conversions are checked by numpy."""
  return mock.patch.object(logit_check, '_installed', return_value=False)


def random_model(
  folder: pathlib.Path, dtype: str = 'float32', *, tokenizer: bool = True, **changes
):
  """Writes a flan_jax model with random weights; no bias is 0 and no norm is 1.

  Without a tokenizer, logits are compared on one sequence instead of three.
  """
  config = dataclasses.replace(TINY, **changes)
  draw = np.random.default_rng(0)
  flat = {}
  for name, shape in convert.parameter_shapes(config).items():
    scale = 0.3 if len(shape) < 3 else shape[-1] ** -0.5
    center = 1.0 if name.endswith('norm') and not config.norm_plus_one else 0.0
    flat[name] = (center + scale * draw.normal(size=shape)).astype(np.float32)
  params = weights.unflatten(flat, dataclasses.replace(config, scan_layers=True))
  weights.save(folder, params, config=config, dtype=dtype)
  if tokenizer:
    (folder / 'tokenizer.bytes').touch()
  return config


def tuned_model(folder: pathlib.Path, tokenizer, **changes):
  """Writes a random model that was tuned here, as its training.json says."""
  config = random_model(folder, tokenizer=False, **changes)
  tokenizers.save(tokenizer, folder)
  as_tuned(folder)
  return config


def as_tuned(folder: pathlib.Path) -> None:
  """Writes a training.json by which the model in the folder was tuned here."""
  training = lineage.Training(
    model='mine',
    datasets=(lineage.Trained('rte', 'nli', ('rte',)),),
    family='flan',
    mixture='flan_rte',
    train_examples={'nli': 1200},
  )
  record = {
    'mixture': 'flan_rte',
    'step': 40,
    'train_examples': {'nli': 1200},
    'lineage': [training.as_json()],
  }
  checksum = model_dir.checksum(folder)
  model_dir.write_provenance(folder, record, checksum=checksum)
