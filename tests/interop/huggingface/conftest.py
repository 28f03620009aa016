"""A small model in both formats, and conversions checked by numpy alone."""

import pathlib
import shutil
import sys

import pytest

# The tests of this folder import small_models.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

from small_models import by_numpy_alone, random_model

from flan_jax.interop.huggingface import convert
from flan_jax.runtime.progress import Progress


@pytest.fixture
def quiet():
  return Progress(quiet=True)


@pytest.fixture
def by_numpy():
  """Hides torch, so that conversions are checked by numpy."""
  with by_numpy_alone():
    yield


@pytest.fixture(scope='session')
def made_once(tmp_path_factory):
  """A folder with a Llama twice: `flan`, and `hf` exported from it."""
  folder = tmp_path_factory.mktemp('llama')
  random_model(folder / 'flan')
  with by_numpy_alone():
    convert.export_model(folder / 'flan', folder / 'hf', progress=Progress(quiet=True))
  return folder


@pytest.fixture
def flan_model(made_once, tmp_path):
  """A Llama as a flan_jax model folder."""
  return shutil.copytree(made_once / 'flan', tmp_path / 'flan')


@pytest.fixture
def hf_model(made_once, flan_model, tmp_path, by_numpy):
  """The same model as a Hugging Face folder."""
  return shutil.copytree(made_once / 'hf', tmp_path / 'hf')
