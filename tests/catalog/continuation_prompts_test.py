"""Prompts of an untuned model: whole for every dataset, and none of an instruction."""

import dataclasses

import pytest

from flan_jax.catalog import continuation_prompts, registry
from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog.answers import Answer
from flan_jax.evaluate.predict import PromptSpec

DATASETS = [d for world in registry.FAMILIES for d in registry.datasets(world).values()]

FLAN = registry.datasets('flan')


@pytest.mark.parametrize('dataset', DATASETS, ids=lambda d: d.name)
def test_every_dataset_has_one_prompt_and_keeps_what_is_measured(dataset):
  found = continuation_prompts.apply(dataset)
  (template,) = found.templates
  assert found.evaluated_templates == (0,)
  assert not template.has_options
  assert template.input_fields
  assert 'answer' not in template.input_fields
  assert (found.answer, found.metric) == (dataset.answer, dataset.metric)
  assert not template.inputs.endswith((' ', '\n')), 'the answer brings its own blank'


def test_a_prompt_of_its_own_belongs_to_a_dataset_that_is_there():
  assert set(continuation_prompts.PROMPTS) <= {dataset.name for dataset in DATASETS}


def test_every_dataset_of_the_catalog_has_its_own():
  assert {dataset.name for dataset in DATASETS} == set(continuation_prompts.PROMPTS)


def test_a_dataset_of_a_user_is_asked_by_the_names_of_its_fields():
  mine = dataclasses.replace(FLAN['trec'], name='my_questions')
  (template,) = continuation_prompts.apply(mine).templates
  assert template.inputs == 'question: {question}\nanswer:'


def prompt(name: str, **values: str) -> str:
  (template,) = continuation_prompts.apply(FLAN[name]).templates
  return template.render(values)[0] if values else template.inputs


def test_a_question_is_sorted_and_not_answered():
  shown = prompt('trec', question='Who wrote Emma?', answer='human')
  assert shown == 'Question: Who wrote Emma?\nType of answer:'


@pytest.mark.parametrize('name', ['squad_v2', 'quac'])
def test_an_untuned_model_is_told_the_word_for_no_answer(name):
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
def test_no_blank_stands_between_a_prompt_and_punctuation(answer, expected):
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


def test_a_list_of_answers_ends_with_an_empty_line_and_others_with_theirs():
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
