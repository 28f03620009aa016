"""Files of prompts: every format gives the same prompts, and a bad row is named."""

import json

import pytest

from flan_jax.data import prompt_file
from flan_jax.errors import InputError

PROMPTS = ['Is it raining?', 'Name a bird.']


def written(folder, name: str) -> str:
  path = folder / name
  if name.endswith('.txt'):
    path.write_text('\n\n'.join(PROMPTS))
  elif name.endswith('.parquet'):
    pyarrow = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({'prompt': PROMPTS}), path)
  else:
    path.write_text(''.join(json.dumps({'inputs': text}) + '\n' for text in PROMPTS))
  return str(path)


@pytest.mark.parametrize('name', ['a.txt', 'a.jsonl', 'a.parquet'])
def test_every_format_gives_the_same_prompts(name, tmp_path):
  found = prompt_file.read(written(tmp_path, name))
  assert found.size == 2
  assert [asked.prompt for asked in found] == PROMPTS
  assert [asked.example_id for asked in found] == ['0', '1']


def test_standard_input_is_text_or_json_lines():
  assert [asked.prompt for asked in prompt_file.read_text('a b\n\nc\n')] == ['a b', 'c']
  (asked,) = prompt_file.read_text('{"prompt": "a", "options": ["b", "c"], "id": 3}')
  assert (asked.options, asked.row['id']) == (('b', 'c'), 3)
  with pytest.raises(InputError, match='standard input has no prompt'):
    prompt_file.read_text('\n')


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ({'text': 'a'}, "a.jsonl:2: no column 'prompt' or 'inputs'; has text"),
    ({'prompt': 3}, 'a.jsonl:2: prompt: got 3; must be a text'),
    ({'prompt': 'a', 'options': 'b|c'}, "options: got 'b|c'; must be a list of texts"),
    ({'prompt': 'a', 'options': ['']}, 'options: got .*; must be a list of texts'),
    ({'prompt': 'a\ud83d'}, 'a.jsonl:2: .*half of a surrogate pair'),
  ],
)
def test_a_bad_row_is_named(row, message, tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text(json.dumps({'prompt': 'x'}) + '\n' + json.dumps(row) + '\n')
  with pytest.raises(InputError, match=message):
    list(prompt_file.read(str(path)))
