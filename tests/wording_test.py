"""The wording tool finds what the style guide forbids, and nothing else."""

import re
import subprocess
import sys

import pytest
import wording

FUNCTION = '''"""A module."""


def f(x):
  """{docstring}

  Args:
    x: {argument}

  Returns:
    {returns}

  Raises:
    ValueError: {raises}
  """


class C:
  """A class."""

  size: int = 0
  """{field}"""


LIMIT = 3
"""{field}"""
'''
GOOD = {
  'docstring': 'Computes the loss of a batch.',
  'argument': 'batch of sequences.',
  'returns': 'The loss, a float32.',
  'raises': 'when it has no rows.',
  'field': 'The size, in bytes.',
}
BAD = [
  *(('argument', word) for word in sorted(wording.HEADLESS - {'who'})),
  *(('returns', word) for word in ('what', 'how', 'which')),
  *(('raises', word) for word in ('where', 'of')),
  *(('field', word) for word in ('most', 'what', 'of')),
  *(('docstring', word) for word in ('what', 'whether', 'for', 'its', 'where')),
]
RULES = {'returns': 'argument', 'raises': 'argument'}


@pytest.fixture
def found(tmp_path):
  """Returns (line, rule) of every finding in a text saved under a name."""

  def find(text: str, name: str = 'sample.py') -> list[tuple[int, str]]:
    path = tmp_path / name
    path.write_text(text)
    return [(finding.line, finding.rule) for finding in wording.check(path)]

  return find


def test_headed_docs_pass(found):
  assert found(FUNCTION.format(**GOOD)) == []


@pytest.mark.parametrize('capital', [False, True])
@pytest.mark.parametrize(('place', 'word'), BAD)
def test_headless_docs_are_found(found, place, word, capital):
  text = f'{word.capitalize() if capital else word} the batch is empty.'
  source = FUNCTION.format(**GOOD | {place: text})
  lines = [i for i, line in enumerate(source.split('\n'), 1) if text in line]
  assert found(source) == [(line, RULES.get(place, place)) for line in lines]


@pytest.mark.parametrize(
  'entry',
  [
    'x: of the batch.',
    'x, y: of the batch.',
    '*x: of the batch.',
    'x (int): of the batch.',
    'x:\n      of the batch.',
    'x: the batch\n      of the run.\n    y: of the batch.',
  ],
)
def test_an_entry_is_found_however_it_is_laid_out(found, entry):
  source = FUNCTION.format(**GOOD).replace('x: batch of sequences.', entry)
  assert [rule for _, rule in found(source)] == ['argument']


@pytest.mark.parametrize(
  'argument',
  [
    'batch, first\n      of the run: the one that is drawn.',  # a line's start, a colon
    '`of` or `to`.',
    '"of", "to" or "by".',
    'offset in the file.',
    'how-to pages, one a line.',
    'mostly zeros.',
  ],
)
def test_words_inside_an_entry_and_quoted_words_pass(found, argument):
  assert found(FUNCTION.format(**GOOD | {'argument': argument})) == []


@pytest.mark.parametrize(
  'docstring',
  [
    'The loss of a batch.', 'Every row, once.', '`flan train`: trains a model.',
    '(loss, gradient) of a batch.', 'In-place update of a buffer.', '2-D positions.',
  ],
)  # fmt: skip
def test_docstrings_that_name_the_thing_pass(found, docstring):
  assert found(FUNCTION.format(**GOOD | {'docstring': docstring})) == []


def test_docstrings_of_tests_are_sentences(found):
  source = '"""Tests."""\n\n\nclass TestLoss:\n  """As one batch, so many.\n"""\n'
  assert found(source) == [(5, 'private')], 'yet no private phrases'
  source = '"""Tests."""\n\n\ndef test_loss():\n  """With a mask, padding is free."""\n'
  assert found(source) == []
  assert found(source.replace('test_loss', 'loss')) == [(5, 'docstring')]


PHRASES = [
  ('Blocks are computed anew.', 'Blocks are recomputed.'),
  ('Draws the first so many rows.', 'Draws the first n rows.'),
  ('Draws so\n  many rows.', 'Draws n\n  rows.'),
  ('The folder; it is for logs.', 'The folder for logs.'),
  ('A sharding where there is a mesh.', 'A sharding if a mesh is used.'),
  ('The name; None if there is none.', 'The name; None if not found.'),
  ('Waits for ever.', 'Waits forever.'),
  ('A loss that is no number.', 'A loss that is not finite.'),
  ('The host who writes.', 'The host that writes.'),
  ('The one who asks waits.', 'A caller waits.'),
]


@pytest.mark.parametrize(('private', 'plain'), PHRASES)
def test_private_phrases_are_found_in_docstrings_and_comments(found, private, plain):
  comment = '# {}\n'.format
  for text, findings in ((private, [(1, 'private')]), (plain, [])):
    assert found(f'"""{text}"""\n') == findings
    lines = text.replace('\n', '\n# ')
    assert found(comment(lines)) == findings
    assert found(comment(lines), 'run.gin') == findings
    assert found(comment(lines), 'Makefile') == findings


@pytest.mark.parametrize(
  'text',
  [
    'The `who` of a fact.', 'Readers who know t5x.', 'A person who asks.',
    'The option "so many" of a cloze.',
  ],
)  # fmt: skip
def test_people_code_and_quotations_pass(found, text):
  assert found(f'"""{text}"""\n') == []


def test_messages_are_checked_and_data_is_not(found, tmp_path):
  source = "raise ValueError(f'{path}: started anew')\n"
  assert found(source) == [(1, 'private')]
  for folder in ('tests', 'tasks', 'mixtures', 'microworld'):
    (tmp_path / folder).mkdir()
    assert found(source, f'{folder}/sample.py') == []


def test_the_command_says_where_and_counts(tmp_path):
  path = tmp_path / 'sample.py'
  path.write_text(FUNCTION.format(**GOOD | {'argument': 'of a batch.'}))

  def run(*args):
    command = [sys.executable, wording.__file__, *args, str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True)

  done = run()
  assert done.returncode == 1
  assert done.stdout == f'{path}:8: argument: Args: of a batch.\n'
  assert re.search(r'^total +1 +0 +0 +0$', run('--count').stdout, re.MULTILINE)
  assert run('--count').stdout.endswith('headless argument docs (Args): 1; all: 1\n')
  path.write_text(FUNCTION.format(**GOOD))
  assert run().returncode == 0
