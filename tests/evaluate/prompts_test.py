"""Long prompts lose the end of a field, never the instruction or an option."""

import dataclasses

import pytest

from flan_jax.catalogue import Dataset, Row
from flan_jax.data import tokenizer
from flan_jax.evaluate import prompts
from flan_jax.fields import Answer, Label
from flan_jax.templates import Template

BYTES = tokenizer.load('bytes')
DATASET = Dataset(
  name='tiny', cluster='nli', tfds='', train='', dev='', test='test', sizes={},
  fields={'premise': 'premise', 'hypothesis': 'hypothesis'},
  answer=Label('label', ('yes', 'no')), metric='accuracy',
  templates=(Template('Read: {premise}\nIs it so that {hypothesis}?\n{OPTIONS}'),),
)  # fmt: skip


def row(premise, hypothesis='it rains'):
  values = {'premise': premise, 'hypothesis': hypothesis, 'answer': 'yes'}
  return Row('test.0.0', values, Answer('yes', ('yes', 'no'), (0,), ('yes',)))


def fit(some, room):
  (found,) = prompts.fit(DATASET, [(some, 0)], tokenizer=BYTES, rooms=[room])
  return found


def test_a_short_prompt_is_left_alone():
  found = fit(row('Clouds.'), 200)
  assert found.text == 'Read: Clouds.\nIs it so that it rains?\nOPTIONS:\n- yes\n- no'
  assert not found.cut
  assert BYTES.decode(found.ids) == found.text


@pytest.mark.parametrize('room', [57, 70, 100, 150])
def test_the_longest_field_is_cut_at_a_word(room):
  found = fit(row('Many clouds came over the hill. ' * 20), room)
  assert found.cut
  assert len(found.ids) <= room
  assert found.text.startswith('Read: Many')
  assert found.text.endswith('\nIs it so that it rains?\nOPTIONS:\n- yes\n- no')
  kept = found.text.split('\n')[0].removeprefix('Read: ').split()
  assert set(kept) <= {'Many', 'clouds', 'came', 'over', 'the', 'hill.'}


def test_as_much_as_fits_is_kept():
  found = fit(row('word ' * 100), 120)
  assert 120 - 5 <= len(found.ids) <= 120


def test_the_string_is_what_was_tokenised():
  found = fit(row('Ärger über Öl. ' * 30), 90)
  assert list(found.ids) == list(BYTES.encode_batch([found.text])[0])


def test_nothing_is_made_up_where_no_cut_is_enough():
  assert fit(row('Many clouds.'), 30) is None


def test_a_blank_prompt_is_none():
  blank = dataclasses.replace(DATASET, templates=(Template('{premise}'),))
  (found,) = prompts.fit(blank, [(row('  '), 0)], tokenizer=BYTES, rooms=[50])
  assert found is None
