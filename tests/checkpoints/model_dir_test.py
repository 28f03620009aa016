"""A model folder is the same from any mesh, and loads onto any mesh."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import traverse_util

from flan_jax.checkpoints import model_dir, weights
from flan_jax.config import mesh as mesh_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.model import params as params_lib
from flan_jax.partitioning import mesh as mesh_lib

CONFIG = DecoderConfig(
  vocab_size=272, num_layers=2, d_model=32, d_ff=48, num_heads=4, num_kv_heads=2,
  head_dim=8, positions='rotary',
)  # fmt: skip
UNROLLED = dataclasses.replace(CONFIG, scan_layers=False)
MESH = mesh_config.MeshConfig(data=2, fsdp=2, model=2)


@pytest.fixture(scope='module')
def params():
  """Parameters of CONFIG, drawn by numpy."""
  shapes, _ = params_lib.abstract_params(CONFIG)
  generator = np.random.default_rng(0)
  return jax.tree.map(lambda s: generator.normal(size=s.shape).astype(s.dtype), shapes)


@pytest.fixture
def folder(params, tmp_path):
  path = tmp_path / 'whole'
  save(path, params, CONFIG)
  return path


def save(path, params, config) -> None:
  tokenizer = tokenizers.load('bytes')
  model_dir.save(path, params, config=config, tokenizer=tokenizer)


def load(path, config):
  shapes, axes = params_lib.abstract_params(config)
  mesh = mesh_lib.build(MESH)
  shardings = mesh_lib.shardings(axes, mesh=mesh, rules=MESH.rules)
  return model_dir.load(str(path), config=config, shapes=shapes, shardings=shardings)


@pytest.mark.parametrize('config', [CONFIG, UNROLLED])
def test_a_model_loaded_onto_a_mesh_equals_the_one_on_disk_and_is_written_unchanged(
  config, folder, params, tmp_path
):
  loaded = load(folder, config)
  found = traverse_util.flatten_dict(loaded, sep='/')
  want = weights.unflatten(weights.flatten(params), config)
  for name, array in traverse_util.flatten_dict(want, sep='/').items():
    assert np.asarray(found[name]).tobytes() == array.tobytes(), name
  assert any(not array.sharding.is_fully_replicated for array in found.values())
  save(tmp_path / 'again', loaded, config)
  weights.save(tmp_path / 'plain', params, config=CONFIG)
  files = [tmp_path / name / 'model.safetensors' for name in ('again', 'plain')]
  whole = (folder / 'model.safetensors').read_bytes()
  assert [file.read_bytes() == whole for file in files] == [True, True]


def test_a_process_reads_no_more_than_its_devices_hold(folder, monkeypatch):
  read, sizes = weights.SafetensorsFile.read, {}

  def counting_read(self, name, layer=None, part=None):
    found = read(self, name, layer, part)
    sizes.setdefault(name, []).append(found.size)
    return found

  monkeypatch.setattr(weights.SafetensorsFile, 'read', counting_read)
  loaded = traverse_util.flatten_dict(load(folder, CONFIG), sep='/')
  for name, array in loaded.items():
    held = int(np.prod(array.sharding.shard_shape(array.shape)))
    assert set(sizes[name]) == {held}
    assert sum(sizes[name]) == array.size  # replicas are read once


def test_a_file_of_another_shape_is_named(folder):
  other = dataclasses.replace(CONFIG, d_ff=64, num_layers=3)
  with pytest.raises(InputError, match=r'is \(2, .*must be \(3, '):
    load(folder, other)


def test_the_digest_names_the_weights(folder, params, tmp_path):
  digest = model_dir.digest(str(folder))
  save(tmp_path / 'same', params, CONFIG)
  assert model_dir.digest(str(tmp_path / 'same')) == digest
  save(tmp_path / 'other', jax.tree.map(lambda x: x + 1, params), CONFIG)
  assert model_dir.digest(str(tmp_path / 'other')) != digest
  assert model_dir.digest(None) is None


@pytest.mark.parametrize(
  'fields', [{'architectures': ['GPT2LMHeadModel']}, {'model_type': 'llama'}]
)
def test_a_hugging_face_folder_is_named_with_the_command_that_converts_it(
  tmp_path, fields
):
  source = tmp_path / 'gpt 2'
  source.mkdir()
  (source / 'config.json').write_text(json.dumps({'n_embd': 8, **fields}))
  with pytest.raises(InputError) as caught:
    model_dir.config(str(source))
  assert str(caught.value) == (
    f"checkpoint '{source}': a Hugging Face folder; convert it and give the copy: "
    f"flan convert '{source}' '{source}_flan'"
  )


def test_a_gguf_file_is_named_with_the_command_that_converts_it(tmp_path):
  source = tmp_path / 'llama.gguf'
  source.write_bytes(b'GGUF')
  with pytest.raises(InputError) as caught:
    model_dir.config(str(source))
  assert str(caught.value) == (
    f"checkpoint '{source}': a GGUF file; convert it and give the copy: "
    f'flan convert {source} {tmp_path}/llama_flan'
  )
