"""Loads a script of docs/generate, which is no package."""

import importlib.util
import pathlib
import types

FOLDER = pathlib.Path(__file__).parents[1] / 'docs' / 'generate'


def load(name: str) -> types.ModuleType:
  """Returns the script of a name, as a module."""
  spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
