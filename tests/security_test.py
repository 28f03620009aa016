"""SECURITY.md: each promise has its test, and no module runs what a file says."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = [
  path
  for folder in ('flan_jax', 'tasks', 'mixtures')
  for path in sorted((ROOT / folder).rglob('*.py'))
]
CALLS = {'eval', 'exec', 'os.system', 'os.popen', 'yaml.load', 'yaml.unsafe_load'}
PACKAGES = {'pickle', 'cloudpickle', 'dill', 'jsonpickle'}
HINT = re.compile(
  r'\b(eval|exec|system|popen|yaml|shell|trust_remote_code)\b|pickle|dill'
)
FLAGS = {'shell', 'allow_pickle', 'trust_remote_code'}


def runs_text(text: str) -> list[str]:
  """Calls, imports and arguments that run what they are given, with their lines."""
  found = []
  if not HINT.search(text):  # parsing takes its time
    return found
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Call):
      flags = {word.arg for word in node.keywords if not is_false(word.value)}
      names = {called(node.func)} & CALLS | flags & FLAGS
      found += [(node.lineno, name) for name in sorted(names)]
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
      names = [name.name for name in node.names]
      tops = [node.module or ''] if isinstance(node, ast.ImportFrom) else names
      tops = {top.partition('.')[0] for top in tops}
      found += [(node.lineno, name) for name in sorted(tops & PACKAGES)]
  return [f'{line}: {name}' for line, name in found]


def called(node: ast.expr) -> str:
  """`name` or `module.name`; '' for anything else."""
  if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
    return f'{node.value.id}.{node.attr}'
  return node.id if isinstance(node, ast.Name) else ''


def is_false(node: ast.expr) -> bool:
  return isinstance(node, ast.Constant) and node.value is False


@pytest.mark.parametrize(
  'text',
  [
    'eval(x)',
    'def f():\n  import pickle',
    'from dill.session import load',
    'np.load(x, allow_pickle=True)',
    'subprocess.run(x, shell=flag)',
    'yaml.load(x, Loader=y)',
  ],
)
def test_what_runs_text_is_found(text):
  assert len(runs_text(text)) == 1


def test_no_module_runs_text():
  found = {path.name: runs_text(path.read_text(encoding='utf-8')) for path in MODULES}
  assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_test_that_the_page_names_is_there():
  text = (ROOT / 'SECURITY.md').read_text(encoding='utf-8')
  named = re.findall(r'`(tests/[\w/.]+)`', text)
  assert len(named) > 10
  assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_promise_names_its_test():
  text = (ROOT / 'SECURITY.md').read_text(encoding='utf-8')
  table = text.partition('## Not trusted')[2].partition('\n## ')[0]
  rows = [line for line in table.splitlines() if line.startswith('| ')][1:]
  assert len(rows) > 8
  assert [row for row in rows if '`tests/' not in row] == []
