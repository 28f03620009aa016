"""Examples in docstrings: each of them is run, and gives what it shows."""

import doctest
import importlib
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = {
  'flan_jax': 'flan_jax',
  'tasks': 'flan_jax.tasks',
  'mixtures': 'flan_jax.mixtures',
}
"""Folder -> the package that it is imported as."""


def with_examples() -> dict[str, pathlib.Path]:
  """Module -> its file, for files with an example; the others are not imported."""
  found = {}
  for folder, package in FOLDERS.items():
    for path in sorted((ROOT / folder).rglob('*.py')):
      if '>>> ' in path.read_text(encoding='utf-8'):
        parts = path.relative_to(ROOT / folder).with_suffix('').parts
        found['.'.join((package, *parts)).removesuffix('.__init__')] = path
  return found


MODULES = with_examples()


def failures(module: types.ModuleType) -> tuple[list[str], int]:
  """Runs the examples of a module; returns what went wrong, and their number."""
  said: list[str] = []
  runner = doctest.DocTestRunner(verbose=False)
  number = 0
  for test in doctest.DocTestFinder(exclude_empty=True).find(module):
    runner.run(test, out=said.append)
    number += len(test.examples)
  return said, number


@pytest.mark.parametrize('name', MODULES)
def test_every_example_gives_what_it_shows(name):
  said, number = failures(importlib.import_module(name))
  assert not said, '\n'.join(said)
  written = MODULES[name].read_text(encoding='utf-8')
  assert number == written.count('>>> '), 'an example stands where none is looked for'
  assert '# doctest: +SKIP' not in written


@pytest.mark.parametrize(
  ('example', 'wrong'),
  [('1 + 1\n2', False), ('1 + 1\n3', True), ('missing()\n2', True)],
)
def test_a_wrong_example_is_told(example, wrong):
  module = types.ModuleType('made', f'An example.\n\n>>> {example}\n')
  said, number = failures(module)
  assert (bool(said), number) == (wrong, 1)
