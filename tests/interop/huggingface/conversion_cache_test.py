"""The conversion cache: a model is converted once per version of its files."""

import pytest
from gguf_test import write_gguf
from small_models import edit

from flan_jax.checkpoints import model_dir
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import conversion_cache, convert


@pytest.fixture(params=['folder', 'gguf'])
def source(request, hf_model, tmp_path):
  if request.param == 'folder':
    return hf_model
  write_gguf(tmp_path / 'hf_model.gguf', hf_model, 'llama')
  return tmp_path / 'hf_model.gguf'


def test_a_model_is_converted_once(source, tmp_path, quiet, monkeypatch):
  first = conversion_cache.import_cached(
    source, cache=tmp_path / 'converted', progress=quiet
  )
  assert first.parent == tmp_path / 'converted'
  assert (first / 'model.safetensors').is_file()
  assert not conversion_cache.needs_conversion(first)
  monkeypatch.setattr(convert, 'import_model', None)
  assert (
    conversion_cache.import_cached(source, cache=tmp_path / 'converted', progress=quiet)
    == first
  )


def test_files_that_changed_are_another_model(hf_model, tmp_path, quiet):
  found = {
    conversion_cache.import_cached(
      hf_model, cache=tmp_path / 'converted', progress=quiet
    )
  }
  edit(hf_model, bos_token_id=2)
  found.add(
    conversion_cache.import_cached(
      hf_model, cache=tmp_path / 'converted', progress=quiet
    )
  )
  assert len(found) == 2


def test_a_flan_jax_model_is_not_converted(flan_model, tmp_path, quiet):
  assert (
    conversion_cache.import_cached(
      flan_model, cache=tmp_path / 'converted', progress=quiet
    )
    == flan_model
  )
  assert (
    conversion_cache.import_cached('microworld', cache=tmp_path, progress=quiet).name
    == 'microworld'
  )
  assert not (tmp_path / 'converted').exists()


def test_an_unsupported_model_is_refused_and_leaves_nothing(hf_model, tmp_path, quiet):
  edit(hf_model, model_type='bert')
  with pytest.raises(InputError, match="model_type.*'bert'"):
    conversion_cache.import_cached(
      hf_model, cache=tmp_path / 'converted', progress=quiet
    )
  assert not (tmp_path / 'converted').exists()


def test_a_path_to_a_folder_is_not_the_model_that_ships(tmp_path, quiet, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for path, found in {
    './microworld': tmp_path / 'microworld',
    'microworld': model_dir.SHIPPED,
  }.items():
    folder = conversion_cache.import_cached(path, cache=tmp_path, progress=quiet)
    assert model_dir.find(folder) == found
