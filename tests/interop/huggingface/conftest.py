"""A small model in both formats, and conversions checked by numpy alone."""

import pathlib
import sys

import pytest

# The tests of this folder import small_models.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

from small_models import random_model

from flan_jax.interop.huggingface import convert, logit_check
from flan_jax.runtime.progress import Progress


@pytest.fixture
def quiet():
  return Progress(quiet=True)


@pytest.fixture
def by_numpy(monkeypatch):
  """Hides torch, so that conversions are checked by numpy."""
  monkeypatch.setattr(logit_check, '_installed', lambda name: False)


@pytest.fixture
def flan_model(tmp_path):
  """A Llama as a flan_jax model folder."""
  random_model(tmp_path / 'flan')
  return tmp_path / 'flan'


@pytest.fixture
def hf_model(flan_model, tmp_path, quiet, by_numpy):
  """The same model as a Hugging Face folder."""
  convert.export_model(flan_model, tmp_path / 'hf', progress=quiet)
  return tmp_path / 'hf'
