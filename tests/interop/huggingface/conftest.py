"""A small model of ours, and conversions checked by numpy alone."""

import pathlib
import sys

import pytest

sys.path.insert(
  0, str(pathlib.Path(__file__).parent)
)  # small_models, for the tests here

from small_models import random_model

from flan_jax.interop.huggingface import convert, logit_check
from flan_jax.runtime.progress import Progress


@pytest.fixture
def quiet():
  return Progress(quiet=True)


@pytest.fixture
def by_numpy(monkeypatch):
  """As where torch is not installed."""
  monkeypatch.setattr(logit_check, '_installed', lambda name: False)


@pytest.fixture
def ours(tmp_path):
  """A Llama of ours."""
  random_model(tmp_path / 'ours')
  return tmp_path / 'ours'


@pytest.fixture
def theirs(ours, tmp_path, quiet, by_numpy):
  """The same as a Hugging Face folder."""
  convert.to_theirs(ours, tmp_path / 'theirs', progress=quiet)
  return tmp_path / 'theirs'
