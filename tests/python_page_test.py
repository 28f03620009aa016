"""docs/generate/python_examples.py: each public name has an example, and they run."""

import ast
import pathlib
import subprocess
import sys

import page_script
import pytest

import flan_jax

ROOT = pathlib.Path(__file__).parents[1]
TRAINS = 'jobs'
"""Folder whose example trains: the notebook runs it."""

START = (
  'import dataclasses\nimport numpy as np\nimport optax\nimport flan_jax as flan\n'
)


@pytest.fixture(scope='module')
def examples():
  return page_script.load('python_examples').EXAMPLES


def test_every_public_name_has_an_example_in_its_group(examples):
  for name, module in flan_jax._PUBLIC.items():
    tree = ast.parse(examples[module.partition('.')[0]])
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert name in used, name


def test_the_examples_run(examples):
  """In a process of its own: they register names."""
  code = [START, *(text for name, text in examples.items() if name != TRAINS)]
  done = subprocess.run([sys.executable, '-c', ''.join(code)], capture_output=True,
                        text=True, cwd=ROOT)  # fmt: skip
  assert done.returncode == 0, done.stderr[-2000:]
