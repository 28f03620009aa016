"""Prompt styles: ablation of instructions, fewer templates, few-shot prompts."""

import pytest

from flan_jax.catalog import lint, names, prompt, registry
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.errors import InputError

EVERY = list(registry.datasets().values())
each_dataset = pytest.mark.parametrize('dataset', EVERY, ids=[d.name for d in EVERY])


def rte(style: PromptStyle) -> str:
  answer = Answer('yes', ('yes', 'no'), (0,), ('yes',))
  example = Example('r', {'premise': 'It rained.', 'hypothesis': 'It is wet.'}, answer)
  dataset = style.apply(registry.get('rte'))
  return prompt.render(
    dataset, 0, example._replace(values={**example.values, 'answer': 'yes'})
  )


def test_no_template_shows_inputs_and_outputs_alone():
  assert rte(PromptStyle(prompt_style='no_template')) == (
    'It rained.\nIt is wet.',
    'yes',
  )


def test_dataset_name_stands_before_the_inputs():
  assert rte(PromptStyle(prompt_style='dataset_name')) == (
    '[nli: RTE]\nIt rained.\nIt is wet.',
    'yes',
  )


@each_dataset
def test_no_template_shows_all_evidence_for_the_answer(dataset):
  """It shows the fields of the first template, which must be complete."""
  assert not dataset.templates[0].inverted
  bare = PromptStyle(prompt_style='no_template').apply(dataset)
  assert 'answer' not in bare.templates[0].fields[:-1]
  found = {f.rule for f in lint.lint([dataset]) if f.template == 0}
  assert not found & {'missing-evidence', 'answer-in-inputs'}


@each_dataset
def test_fewer_templates_are_the_first(dataset):
  few = PromptStyle(templates=4).apply(dataset)
  assert few.templates == dataset.templates[:4]
  assert PromptStyle(templates=99).apply(dataset) is dataset
  assert PromptStyle(num_fewshot=5).apply(dataset) is dataset


@pytest.mark.parametrize(
  ('style', 'suffix'),
  [
    (PromptStyle(), ''),
    (PromptStyle(prompt_style='no_template'), '_no_template'),
    (PromptStyle(templates=4), '_4_templates'),
    (PromptStyle(options_style='letters', templates=2), '_letters_options_2_templates'),
    (PromptStyle(num_fewshot=5), '_5_shot'),
    (PromptStyle(num_fewshot=16), '_multi_shot'),
    (PromptStyle(templates=2, num_fewshot=1), '_2_templates_1_shot'),
  ],
)
def test_a_style_names_its_tasks(style, suffix):
  assert style.suffix == suffix


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'templates': 0}, 'templates 0: must be 1 or more'),
    ({'num_fewshot': 17}, 'num_fewshot 17: must be 0 to 16'),
  ],
)
def test_bad_styles_are_refused(given, message):
  with pytest.raises(InputError, match=message):
    PromptStyle(**given)


def test_a_style_of_a_chat_template_is_for_evaluation_alone():
  chat = PromptStyle(prompt_style='chat')
  assert chat.apply(registry.get('rte')) == registry.get('rte')
  with pytest.raises(InputError, match="'chat': needs a model's chat template"):
    registry.Mixture(name='mine', datasets=('rte',), style=chat)
  assert names.find('rte_chat') is None
