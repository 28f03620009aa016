"""Log files of a run."""

import json
import pathlib

import pytest


def read_lines(path: pathlib.Path) -> list[dict]:
  """Reads the complete lines of a JSON Lines file; [] if it is missing."""
  text = path.read_text() if path.is_file() else ''
  return [json.loads(x) for x in text.splitlines(keepends=True) if x.endswith('\n')]


@pytest.fixture
def entries():
  """Returns a function: MODEL_DIR -> entries of its log."""
  return lambda out: read_lines(out / 'log.jsonl')
