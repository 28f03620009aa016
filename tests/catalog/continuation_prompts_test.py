"""Continuation prompts: one for every dataset, without an instruction."""

import dataclasses

import pytest

from flan_jax.catalog import continuation_prompts, registry
from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog.answers import Answer
from flan_jax.evaluate.predict import PromptSpec

DATASETS = [
  d for family in registry.families() for d in registry.datasets(family).values()
]

FLAN = registry.datasets('flan')


@pytest.mark.parametrize('dataset', DATASETS, ids=lambda d: d.name)
def test_every_dataset_has_one_prompt_and_keeps_its_metric_and_options(dataset):
  found = continuation_prompts.apply(dataset)
  (template,) = found.templates
  assert found.evaluated_templates == (0,)
  assert not template.has_options
  assert template.input_fields
  assert 'answer' not in template.input_fields
  assert (found.answer, found.metric) == (dataset.answer, dataset.metric)
  assert not template.inputs.endswith((' ', '\n')), 'the answer brings its own blank'


def test_every_prompt_belongs_to_a_declared_dataset():
  assert set(continuation_prompts.PROMPTS) <= {dataset.name for dataset in DATASETS}


def test_every_declared_dataset_has_its_own_prompt():
  assert {dataset.name for dataset in DATASETS} == set(continuation_prompts.PROMPTS)


def test_a_user_s_dataset_gets_a_prompt_of_named_fields():
  mine = dataclasses.replace(FLAN['trec'], name='my_questions')
  (template,) = continuation_prompts.apply(mine).templates
  assert template.inputs == 'question: {question}\nanswer:'


def prompt(name: str, **values: str) -> str:
  (template,) = continuation_prompts.apply(FLAN[name]).templates
  return template.render(values)[0] if values else template.inputs


def test_trec_asks_for_the_type_of_a_question_and_not_for_its_answer():
  shown = prompt('trec', question='Who wrote Emma?', answer='human')
  assert shown == 'Question: Who wrote Emma?\nType of answer:'


@pytest.mark.parametrize('name', ['squad_v2', 'quac'])
def test_the_prompt_names_the_word_for_no_answer(name):
  assert '(If the text does not say: unanswerable)' in prompt(name)


@pytest.mark.parametrize(
  ('answer', 'expected'),
  [
    ('people sail.', ' people sail.'),
    (', people sail.', ', people sail.'),
    ("'s boat sails.", "'s boat sails."),
    (': it sails.', ': it sails.'),
    ('.5 and more', ' .5 and more'),
    (':) so happy', ' :) so happy'),
    ('(twice)', ' (twice)'),
  ],
)
def test_no_blank_separates_a_prompt_from_punctuation(answer, expected):
  assert continuation_prompts.delimited(' ', answer) == expected
  question = PromptSpec(
    dataset=FLAN['hellaswag'],
    templates=(0,),
    **continuation_prompts.delimiters(FLAN['hellaswag']),
  )
  example = dataset_lib.Example(
    'test:0', {}, Answer(answer, (answer,), (0,), (answer,))
  )
  assert question.options(example) == [expected]


def test_a_list_of_answers_ends_with_an_empty_line_others_with_a_newline():
  ends = {
    dataset.name: continuation_prompts.delimiters(dataset)['end']
    for dataset in DATASETS
  }
  assert {name for name, end in ends.items() if end == '\n\n'} == {
    'coqa', 'cnn_dailymail',
  }  # fmt: skip
  question = PromptSpec(
    dataset=FLAN['coqa'],
    templates=(0,),
    **continuation_prompts.delimiters(FLAN['coqa']),
  )
  assert question.answer(' 1. yes\n2. white\n\nQuestions:') == '1. yes\n2. white'
