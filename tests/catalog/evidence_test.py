"""Evidence: the span of the answer in a cleaned field."""

import dataclasses

import pytest

from flan_jax.catalog import registry
from flan_jax.catalog.evidence import Evidence
from flan_jax.data.store import fingerprint
from flan_jax.errors import InputError


def span(dataset, example):
  first, last = example.answer.span
  return example.values[dataset.evidence.field][first:last]


def test_the_occurrence_nearest_to_the_offset_is_taken():
  dataset = registry.get('squad_v1')
  context = 'Born in 1970, she swam. In 1970 she won, and not 19701.'
  for start, taken in ((8, 8), (27, 27), (25, 27), (40, 27)):
    answers = {'text': ['1970'], 'answer_start': [start]}
    record = {'title': 'A', 'context': context, 'question': 'When?', 'answers': answers}
    example = dataset.read(record, 'test.0.0')
    assert example.answer.span == (taken, taken + 4)


def test_leading_blanks_do_not_move_the_span():
  dataset = registry.get('squad_v1')
  answers = {'text': ['Ada Birch'], 'answer_start': [7]}
  record = {
    'title': 'A', 'context': '   The Ada Birch prize.', 'question': 'Who?',
    'answers': answers,
  }  # fmt: skip
  assert span(dataset, dataset.read(record, 'test.0.0')) == 'Ada Birch'


def test_an_answer_that_is_not_in_the_text_has_no_span():
  """A sum, or a question that the text does not answer."""
  dataset = registry.get('drop')
  for answer, found in (('12', True), ('13', False), ('2', False)):
    record = {
      'passage': 'He ran 12 yards, then 120.', 'question': 'How far?',
      'answer': answer, 'validated_answers': [],
    }  # fmt: skip
    example = dataset.read(record, 'test.0.0')
    assert bool(example.answer.span) == found
    if found:
      assert span(dataset, example) == '12'


def test_a_conversation_keeps_the_evidence_of_every_answer():
  dataset = registry.get('coqa')
  story = 'A barn stood there. Ada lived in it. She had a cat. It was red.'
  answers = {
    'input_text': ['Ada', 'a cat', 'unknown'],
    'answer_start': [20, 37, -1],
    'answer_end': [35, 50, -1],
  }
  record = {'story': story, 'questions': ['Who?', 'Pet?', 'Why?'], 'answers': answers}
  example = dataset.read(record, 'test.0.0')
  assert span(dataset, example) == 'Ada lived in it. She had a cat'


def test_right_and_wrong_options_are_kept():
  dataset = registry.get('record')
  record = {
    'passage': 'It rained. Eva met Ada, and Ada met Bo. All went home.\n@highlight\nX',
    'query': '@placeholder left.', 'entities': ['Bo', 'Eva', 'Ada', 'Zoe'],
    'answers': ['Ada'],
  }  # fmt: skip
  other = dataset.read(record | {'answers': ['Bo']}, 'test.0.0')
  example = dataset.read(record, 'test.0.0')
  assert span(dataset, example) == 'Eva met Ada, and Ada met Bo'
  assert example.answer.span == other.answer.span


def test_other_evidence_changes_the_recipe():
  dataset = registry.get('quac')
  moved = dataclasses.replace(dataset, evidence=Evidence(field='background'))
  one, other = (fingerprint.declaration(d, d.sizes) for d in (dataset, moved))
  assert fingerprint.digest(one) != fingerprint.digest(other)


def test_contradicting_settings_are_refused():
  with pytest.raises(InputError, match="evidence 'text': stop 'stops' needs a start"):
    Evidence(field='text', stop='stops')
  with pytest.raises(InputError, match='give one of them'):
    Evidence(field='text', start='starts', stop='stops', texts='entities')
  dataset = registry.get('quac')
  with pytest.raises(
    InputError, match="evidence in 'contxt'; .*did you mean 'context'"
  ):
    dataclasses.replace(dataset, evidence=Evidence(field='contxt'))
