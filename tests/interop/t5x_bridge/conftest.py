"""Shares `batches` among the tests of this folder; skips tests without t5x."""

import importlib.util
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))


def pytest_collection_modifyitems(items):
  if importlib.util.find_spec('t5x') is not None:
    return
  here = pathlib.Path(__file__).parent
  skip = pytest.mark.skip(reason='needs t5x: pip install --no-deps -r requirements-t5x')
  for item in items:
    if item.get_closest_marker('t5x') and item.path.is_relative_to(here):
      item.add_marker(skip)
