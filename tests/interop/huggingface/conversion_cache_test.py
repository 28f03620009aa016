"""Models from elsewhere, converted once and found again."""

import pytest
from gguf_test import write_gguf
from small_models import edit

from flan_jax.errors import InputError
from flan_jax.interop.huggingface import conversion_cache, convert


@pytest.fixture(params=['folder', 'gguf'])
def source(request, theirs, tmp_path):
  if request.param == 'folder':
    return theirs
  write_gguf(tmp_path / 'theirs.gguf', theirs, 'llama')
  return tmp_path / 'theirs.gguf'


def test_a_model_is_converted_once(source, tmp_path, quiet, monkeypatch):
  first = conversion_cache.ours(source, cache=tmp_path / 'converted', progress=quiet)
  assert first.parent == tmp_path / 'converted'
  assert (first / 'model.safetensors').is_file()
  assert not conversion_cache.is_theirs(first)
  monkeypatch.setattr(convert, 'to_ours', None)
  assert (
    conversion_cache.ours(source, cache=tmp_path / 'converted', progress=quiet) == first
  )


def test_files_that_changed_are_another_model(theirs, tmp_path, quiet):
  found = {conversion_cache.ours(theirs, cache=tmp_path / 'converted', progress=quiet)}
  edit(theirs, rms_norm_eps=0.5)
  found.add(conversion_cache.ours(theirs, cache=tmp_path / 'converted', progress=quiet))
  assert len(found) == 2


def test_a_model_of_ours_stays_where_it_is(ours, tmp_path, quiet):
  assert (
    conversion_cache.ours(ours, cache=tmp_path / 'converted', progress=quiet) == ours
  )
  assert (
    conversion_cache.ours('microworld', cache=tmp_path, progress=quiet).name
    == 'microworld'
  )
  assert not (tmp_path / 'converted').exists()


def test_what_cannot_be_converted_is_refused_and_leaves_nothing(
  theirs, tmp_path, quiet
):
  edit(theirs, model_type='bert')
  with pytest.raises(InputError, match="model_type.*'bert'"):
    conversion_cache.ours(theirs, cache=tmp_path / 'converted', progress=quiet)
  assert not (tmp_path / 'converted').exists()
