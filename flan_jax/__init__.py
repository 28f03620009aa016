"""FLAN instruction tuning in JAX: templates, mixtures, trainer, held-out evaluation."""

import importlib
import pathlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from flan_jax.catalog.answers import Choice as Choice
  from flan_jax.catalog.answers import Label as Label
  from flan_jax.catalog.answers import Text as Text
  from flan_jax.catalog.chats import chat as chat
  from flan_jax.catalog.dataset import Dataset as Dataset
  from flan_jax.catalog.fields import Field as Field
  from flan_jax.catalog.options_style import options_style as options_style
  from flan_jax.catalog.prompt_style import PromptStyle as PromptStyle
  from flan_jax.catalog.prompt_style import prompt_style as prompt_style
  from flan_jax.catalog.registry import Cluster as Cluster
  from flan_jax.catalog.registry import Family as Family
  from flan_jax.catalog.registry import Mixture as Mixture
  from flan_jax.catalog.registry import register as register
  from flan_jax.catalog.source import Generator as Generator
  from flan_jax.catalog.source import SeqioTask as SeqioTask
  from flan_jax.catalog.source import Tfds as Tfds
  from flan_jax.catalog.template import Template as Template
  from flan_jax.config.functions import configurable as configurable
  from flan_jax.data.sources.files import Csv as Csv
  from flan_jax.data.sources.files import Json as Json
  from flan_jax.data.sources.files import Parquet as Parquet
  from flan_jax.data.sources.huggingface import HuggingFace as HuggingFace
  from flan_jax.evaluate.metrics import metric as metric
  from flan_jax.evaluate.value_metric import Metric as Metric
  from flan_jax.interop.huggingface.families import (
    register_model_family as register_model_family,
  )
  from flan_jax.interop.huggingface.family import ModelFamily as ModelFamily
  from flan_jax.jobs.language_model import LanguageModel as LanguageModel
  from flan_jax.jobs.language_model import load_model as load_model
  from flan_jax.jobs.python_api import evaluate_checkpoint as evaluate_checkpoint
  from flan_jax.jobs.python_api import load_config as load_config
  from flan_jax.jobs.python_api import open_store as open_store
  from flan_jax.jobs.python_api import render as render
  from flan_jax.jobs.python_api import train_and_evaluate as train_and_evaluate
  from flan_jax.train.hook import Hook as Hook
  from flan_jax.train.writers.writer import Writer as Writer
  from flan_jax.train.writers.writer import metric_writer as metric_writer

__version__ = '0.2.0'

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
  'Hook': 'train.hook',
  'HuggingFace': 'data.sources.huggingface',
  'Json': 'data.sources.files',
  'Label': 'catalog.answers',
  'LanguageModel': 'jobs.language_model',
  'Metric': 'evaluate.value_metric',
  'Mixture': 'catalog.registry',
  'ModelFamily': 'interop.huggingface.family',
  'Parquet': 'data.sources.files',
  'PromptStyle': 'catalog.prompt_style',
  'SeqioTask': 'catalog.source',
  'Template': 'catalog.template',
  'Text': 'catalog.answers',
  'Tfds': 'catalog.source',
  'Writer': 'train.writers.writer',
  'chat': 'catalog.chats',
  'configurable': 'config.functions',
  'evaluate_checkpoint': 'jobs.python_api',
  'load_config': 'jobs.python_api',
  'load_model': 'jobs.language_model',
  'metric': 'evaluate.metrics',
  'metric_writer': 'train.writers.writer',
  'open_store': 'jobs.python_api',
  'options_style': 'catalog.options_style',
  'prompt_style': 'catalog.prompt_style',
  'register': 'catalog.registry',
  'register_model_family': 'interop.huggingface.families',
  'render': 'jobs.python_api',
  'train_and_evaluate': 'jobs.python_api',
}
"""Public name -> module that it is imported from when it is first used."""


def __getattr__(name: str) -> Any:
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = _PUBLIC[name]
  if module.startswith('jobs.'):  # they import jax
    importlib.import_module('flan_jax.runtime.platform').prepare()
  return getattr(importlib.import_module(f'flan_jax.{module}'), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_PUBLIC])
