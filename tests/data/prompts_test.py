"""Long prompts lose part of a field, never the instruction, an option or the answer."""

import dataclasses
import json

import pytest
import real_examples

from flan_jax.catalog import registry
from flan_jax.catalog.answers import Answer, Label, Text
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.evidence import Evidence
from flan_jax.catalog.template import Template
from flan_jax.data import prompts, tokenizers

BYTES = tokenizers.load('bytes')
DATASET = Dataset(
  name='tiny', cluster='nli', source=None, train='', dev='', test='test', sizes={},
  fields={'premise': 'premise', 'hypothesis': 'hypothesis'},
  answer=Label('label', ('yes', 'no')), metric='accuracy',
  templates=(Template('Read: {premise}\nIs it so that {hypothesis}?\n{OPTIONS}'),),
)  # fmt: skip


def example(premise, hypothesis='it rains'):
  values = {'premise': premise, 'hypothesis': hypothesis, 'answer': 'yes'}
  return Example('test.0.0', values, Answer('yes', ('yes', 'no'), (0,), ('yes',)))


def fit(some, room):
  (found,) = prompts.fit(DATASET, [(some, 0)], tokenizer=BYTES, max_tokens=[room])
  return found


def test_a_short_prompt_is_left_alone():
  found = fit(example('Clouds.'), 200)
  assert found.text == 'Read: Clouds.\nIs it so that it rains?\nOPTIONS:\n- yes\n- no'
  assert not found.cut
  assert BYTES.decode(found.ids) == found.text


@pytest.mark.parametrize('room', [57, 70, 100, 150])
def test_the_longest_field_is_cut_at_a_word(room):
  found = fit(example('Many clouds came over the hill. ' * 20), room)
  assert found.cut
  assert len(found.ids) <= room
  assert found.text.startswith('Read: Many')
  assert found.text.endswith('\nIs it so that it rains?\nOPTIONS:\n- yes\n- no')
  kept = found.text.split('\n')[0].removeprefix('Read: ').split()
  assert set(kept) <= {'Many', 'clouds', 'came', 'over', 'the', 'hill.'}


def test_as_much_as_fits_is_kept():
  found = fit(example('word ' * 100), 120)
  assert 120 - 5 <= len(found.ids) <= 120


def test_the_tokens_are_those_of_the_text():
  found = fit(example('Ärger über Öl. ' * 30), 90)
  assert list(found.ids) == list(BYTES.encode_batch([found.text])[0])


def test_a_prompt_that_no_cut_makes_fit_is_none():
  assert fit(example('Many clouds.'), 30) is None


def test_a_blank_prompt_is_none():
  blank = dataclasses.replace(DATASET, templates=(Template('{premise}'),))
  (found,) = prompts.fit(blank, [(example('  '), 0)], tokenizer=BYTES, max_tokens=[50])
  assert found is None


def test_as_much_as_fits_is_kept_where_tokens_are_spread_unevenly():
  """A character of one byte has far fewer tokens than the mean of the field."""
  found = fit(example('word ' * 200 + '語' * 400), 400)
  assert 400 - 20 <= len(found.ids) <= 400


QUESTIONS = dataclasses.replace(
  DATASET, name='asks', evidence=Evidence(field='premise', start='start'),
  fields={'premise': 'premise', 'hypothesis': 'hypothesis', 'answer': 'answer'},
  answer=Text('{answer}'), metric='f1',
  templates=(
    Template('{premise}\n\nQuestion: {hypothesis}'),
    Template('Question: {hypothesis}\n\n{premise}\n\n{premise}'),
  ),
)  # fmt: skip
"""Extractive questions: the answer is in the premise, at the offset `start`."""


def question_of(before, answer, after, *, name='test.0.0', question='Who?'):
  """Makes an example whose answer has `before` words before and `after` after it."""
  head = ' '.join(f'w{i}' for i in range(before))
  tail = ' '.join(f'v{i}' for i in range(after))
  record = {
    'premise': f'{head} {answer} {tail}', 'start': len(head) + 1,
    'hypothesis': question, 'answer': answer,
  }  # fmt: skip
  return QUESTIONS.read(record, name)


def fit_all(dataset, examples, room, template=0):
  work = [(example, template) for example in examples]
  return prompts.fit(dataset, work, tokenizer=BYTES, max_tokens=[room] * len(work))


@pytest.mark.parametrize('before', [0, 3, 40, 100, 199])
@pytest.mark.parametrize('template', [0, 1])
def test_a_field_that_holds_the_answer_is_cut_around_it(before, template):
  examples = [
    question_of(before, 'Ada Birch', 200 - before, name=f'test.0.{i}')
    for i in range(20)
  ]
  for example, found in zip(
    examples, fit_all(QUESTIONS, examples, 250, template), strict=True
  ):
    assert found.cut
    assert 250 - 40 <= len(found.ids) <= 250
    assert 'Ada Birch' in found.text
    assert 'Question: Who?' in found.text
    words = set(example.values['premise'].split()) | {'Question:', 'Who?'}
    assert set(found.text.split()) <= words  # none is cut in two


def test_the_place_of_the_answer_in_the_cut_text_is_uniform():
  """At least if the window cannot be the beginning of the text."""
  examples = [
    question_of(200, 'Ada Birch', 200, name=f'test.0.{i}') for i in range(200)
  ]
  places = []
  for found in fit_all(QUESTIONS, examples, 250):
    text = found.text.partition('\n\nQuestion')[0]
    places.append(text.index('Ada Birch') / (len(text) - len('Ada Birch')))
  quarters = [sum(q / 4 <= p < (q + 1) / 4 or p == q + 1 == 4 for p in places)
              for q in range(4)]  # fmt: skip
  assert min(quarters) > 25  # of 200; uniform is 50, four deviations are 24.5


def test_a_question_without_an_answer_is_cut_like_one_with_an_answer():
  """Otherwise a text that starts in the middle would reveal that it has an answer."""
  examples = [
    question_of(200, 'Ada Birch', 200, name=f'test.0.{i}') for i in range(100)
  ]
  examples = [
    example._replace(answer=Answer('unanswerable', references=('unanswerable',)))
    for example in examples
  ]
  starts = [found.text.startswith('w0 ') for found in fit_all(QUESTIONS, examples, 500)]
  assert 10 < sum(starts) < 90


def test_a_prompt_whose_answer_does_not_fit_is_none():
  example = question_of(50, 'a very long answer ' * 20 + 'indeed', 50)
  assert fit_all(QUESTIONS, [example], 250) == [None]
  assert fit_all(QUESTIONS, [example], 500)[0].cut


def test_the_question_beside_the_evidence_is_never_cut():
  example = question_of(5, 'Ada Birch', 5, question='Who, ' * 60 + 'then?')
  assert fit_all(QUESTIONS, [example], 250) == [None]


@pytest.mark.parametrize('name', ['quac', 'squad_v1', 'coqa'])
def test_real_answers_stay_in_their_prompts(name):
  dataset = registry.get(name)
  folder = real_examples.FOLDER / dataset.tfds.partition(':')[0]
  folder = folder if any(folder.glob('*.jsonl')) else folder / 'default'
  if not folder.is_dir():
    pytest.skip(f'no examples of {name} at hand')
  lines = [x for path in sorted(folder.glob('*.jsonl')) for x in path.open()]
  examples = [dataset.read(json.loads(x), f'test.0.{i}') for i, x in enumerate(lines)]
  field = dataset.evidence.field
  for template in dataset.evaluated_templates[:3]:
    for example, found in zip(
      examples, fit_all(dataset, examples, 1500, template), strict=True
    ):
      if found is None or not example.answer.span:
        continue
      first, last = example.answer.span
      assert example.values[field][first:last] in found.text
