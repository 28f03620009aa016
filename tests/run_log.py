"""What a run leaves, read by the tests."""

import json
import pathlib

import pytest


def read_lines(path: pathlib.Path) -> list[dict]:
  """The whole lines of a file of JSON objects; [] where there is none."""
  text = path.read_text() if path.is_file() else ''
  return [json.loads(x) for x in text.splitlines(keepends=True) if x.endswith('\n')]


@pytest.fixture
def entries():
  """MODEL_DIR -> what its log says."""
  return lambda out: read_lines(out / 'log.jsonl')
