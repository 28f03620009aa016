"""FLAN instruction tuning in JAX: templates, mixtures, trainer, held-out evaluation."""

import importlib
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from flan_jax.catalog.answers import Choice as Choice
  from flan_jax.catalog.answers import Label as Label
  from flan_jax.catalog.answers import Text as Text
  from flan_jax.catalog.dataset import Dataset as Dataset
  from flan_jax.catalog.fields import Field as Field
  from flan_jax.catalog.prompt_style import PromptStyle as PromptStyle
  from flan_jax.catalog.registry import Cluster as Cluster
  from flan_jax.catalog.registry import Family as Family
  from flan_jax.catalog.registry import Mixture as Mixture
  from flan_jax.catalog.registry import register as register
  from flan_jax.catalog.source import Generator as Generator
  from flan_jax.catalog.source import Tfds as Tfds
  from flan_jax.catalog.template import Template as Template
  from flan_jax.data.sources.files import Csv as Csv
  from flan_jax.data.sources.files import Json as Json
  from flan_jax.data.sources.files import Parquet as Parquet

__version__ = '0.1.0'

_BESIDE = pathlib.Path(__file__).parents[1]
if (_BESIDE / 'setup.py').is_file() and (_BESIDE / 'tasks').is_dir():
  # In a clone on the path, `tasks` and `mixtures` lie beside this folder.
  __path__.append(str(_BESIDE))

_PUBLIC = {
  'Choice': 'catalog.answers',
  'Cluster': 'catalog.registry',
  'Csv': 'data.sources.files',
  'Dataset': 'catalog.dataset',
  'Family': 'catalog.registry',
  'Field': 'catalog.fields',
  'Generator': 'catalog.source',
  'Json': 'data.sources.files',
  'Label': 'catalog.answers',
  'Mixture': 'catalog.registry',
  'Parquet': 'data.sources.files',
  'PromptStyle': 'catalog.prompt_style',
  'Template': 'catalog.template',
  'Text': 'catalog.answers',
  'Tfds': 'catalog.source',
  'register': 'catalog.registry',
}
"""Public name -> module that it is imported from when it is first used."""


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'flan_jax.{_PUBLIC[name]}'), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_PUBLIC])
