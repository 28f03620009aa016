"""The house: what may import what, and how large a room may be.

Imports are read from the source, those inside functions, under TYPE_CHECKING and by
`importlib.import_module('...')` included. Declarations (`tasks`, `mixtures`) are part
of the package, as they are once it is installed.
"""

import ast
import collections
import pathlib
from collections.abc import Iterator, Mapping

import pytest

ROOT = pathlib.Path(__file__).parents[1]

LEVELS = (
  ('cli', '__main__'),
  ('jobs',),
  ('report', 'tpu', 'interop', 'microworld.pretrain', 'seqio_tasks'),
  ('evaluate', 'train'),
  ('inference',),
  ('checkpoints', 'partitioning'),
  ('model',),
  ('data',),
  ('microworld', 'tasks', 'mixtures'),
  ('catalog',),
  ('config',),
  ('runtime', 'errors'),
)
"""Folders and modules, the highest first: none imports one above it."""

MAX_LINES = 500
LOOSE = {'errors', 'seqio_tasks'}
"""Modules that stand in no folder; `__init__` and `__main__` aside."""


def sources(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Module name -> its file, for the package and its two folders at the top level."""
  found = {}
  for folder in ('flan_jax', 'tasks', 'mixtures'):
    for path in sorted((root / folder).rglob('*.py')):
      parts = list(path.relative_to(root).with_suffix('').parts)
      parts = parts if folder == 'flan_jax' else ['flan_jax', *parts]
      found['.'.join(parts).removesuffix('.__init__')] = path
  return found


def targets(tree: ast.AST, modules: Mapping[str, pathlib.Path]) -> Iterator[str]:
  """Modules of the package that a source file imports, wherever it does."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      whole = [f'{node.module}.{alias.name}' for alias in node.names]
      names = [name if name in modules else node.module for name in whole]
    elif isinstance(node, ast.Call) and called(node) == 'import_module':
      names = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    else:
      continue
    yield from (name for name in names if name in modules)


def called(call: ast.Call) -> str:
  """The last name of what is called; '' for what has none."""
  return getattr(call.func, 'attr', getattr(call.func, 'id', ''))


def imports(modules: Mapping[str, pathlib.Path]) -> dict[str, set[str]]:
  """Module -> the modules that it imports, itself left out."""
  return {
    name: set(targets(ast.parse(path.read_text('utf-8')), modules)) - {name}
    for name, path in modules.items()
  }


def level(module: str) -> int:
  """Index in LEVELS of the longest entry that names the module or a folder above it."""
  name = module.removeprefix('flan_jax.')
  places = [
    (len(entry), index)
    for index, entries in enumerate(LEVELS)
    for entry in entries
    if name == entry or name.startswith(f'{entry}.')
  ]
  assert places, f'{module}: in no level; add its folder to LEVELS'
  return max(places)[1]


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
  """Groups of modules that import each other, directly or by way of others."""
  reach: dict[str, set[str]] = {}
  for start in graph:
    seen, todo = set(), [start]
    while todo:
      for name in graph[todo.pop()] - seen:
        seen.add(name)
        todo.append(name)
    reach[start] = seen
  groups = {
    frozenset(other for other in reach[name] if name in reach[other])
    for name in graph
    if name in reach[name]
  }
  return sorted(map(sorted, groups))


def folder(module: str) -> str:
  """The folder that a module stands in; training the microworld's LM is a job apart."""
  if module == 'flan_jax.microworld.pretrain':
    return module
  return module.split('.')[1] if '.' in module else module


@pytest.fixture(scope='module')
def modules():
  return sources(ROOT)


@pytest.fixture(scope='module')
def graph(modules):
  graph = imports(modules)
  del graph['flan_jax']  # the package itself: its public names are exported lazily
  return {name: found - {'flan_jax'} for name, found in graph.items()}


def test_no_import_goes_round(graph):
  assert circles(graph) == []


def test_no_import_goes_up(graph):
  upward = [
    f'{name} imports {other}'
    for name, found in graph.items()
    for other in sorted(found)
    if level(other) < level(name)
  ]
  assert upward == []


def test_no_two_folders_import_each_other(graph):
  pairs = collections.defaultdict(list)
  for name, found in graph.items():
    for other in found:
      pairs[folder(name), folder(other)].append(f'{name} imports {other}')
  both = [
    line
    for (one, other), lines in pairs.items()
    if one != other and (other, one) in pairs
    for line in lines
  ]
  assert both == []


def test_every_module_but_two_stands_in_a_folder():
  loose = {path.stem for path in (ROOT / 'flan_jax').glob('*.py')}
  assert loose - {'__init__', '__main__'} == LOOSE


def test_no_module_is_longer_than_a_room_may_be():
  long = {
    str(path.relative_to(ROOT)): lines
    for path in (ROOT / 'flan_jax').rglob('*.py')
    if (lines := len(path.read_text('utf-8').splitlines())) > MAX_LINES
  }
  assert long == {}


def test_the_faults_are_found(tmp_path):
  """A circle by way of a function, an import upward, and one by name."""
  texts = {
    'flan_jax/errors.py': 'def f():\n  from flan_jax.config import gin\n',
    'flan_jax/config/gin.py': 'import importlib\n'
    "importlib.import_module('flan_jax.errors')\n",
  }
  for name, text in texts.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  graph = imports(sources(tmp_path))
  assert circles(graph) == [['flan_jax.config.gin', 'flan_jax.errors']]
  assert level('flan_jax.config.gin') < level('flan_jax.errors')
