"""Names: one resolver for short names, task names and the variants of seqio tasks."""

import pytest

from flan_jax.catalog import names, registry
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.errors import InputError
from flan_jax.evaluate import eval_data


@pytest.mark.parametrize('name', ['rte', 'flan_rte'])
@pytest.mark.parametrize(
  'style',
  [
    PromptStyle(num_fewshot=5),
    PromptStyle(num_fewshot=16),
    PromptStyle(prompt_style='no_template'),
    PromptStyle(prompt_style='no_options', templates=3, num_fewshot=1),
  ],
)
def test_a_style_is_known_by_the_suffix_that_it_gives_a_task(name, style):
  found = names.get(name + style.suffix)
  assert (found.dataset, found.style, found.template) == (
    registry.get('rte'),
    style,
    None,
  )
  mixture = names.mixture(name + style.suffix)
  assert (mixture.name, mixture.style) == ('flan_rte' + style.suffix, style)
  assert mixture.members == (style.apply(registry.get('rte')),)


def test_every_evaluated_template_is_known_by_its_task():
  for dataset in registry.datasets().values():
    for way in dataset.by_direction:
      for index in way.evaluated_templates:
        found = names.get(f'{dataset.task}_template_{index}')
        assert (found.dataset, found.template) == (dataset, index)


def test_every_name_without_a_variant_is_itself():
  for name, dataset in {**registry.datasets(), **registry.tasks()}.items():
    assert names.get(name) == names.Named(name, dataset)
    assert names.mixture(name).datasets == (dataset.name,)
  for name in registry.mixtures():
    assert names.mixture(name) == registry.mixture(name)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('flan_rte_5_shott', r"not registered; .*--module .*did you mean 'flan_rte'"),
    ('flan_rte_17_shot', 'not registered'),
    ('flan_rte_1_shot_no_options', 'not registered'),
    ('flan_rte_template_99', r"no evaluated template of that number; 'rte' has 0, 1"),
    ('flan_all', 'a mixture; give one of its tasks'),
  ],
)
def test_what_is_no_name_of_a_task_is_refused(name, message):
  with pytest.raises(InputError, match=message):
    names.get(name)


def test_one_template_is_not_trained_on():
  with pytest.raises(InputError, match='give flan_rte, or flan_rte_1_templates for'):
    names.mixture('flan_rte_template_3')
  assert names.trained('flan_rte_template_3').datasets == ('rte',)
  assert names.trained('nobody_knows') is None


def test_an_evaluation_says_which_settings_stand_for_a_variant():
  """It would otherwise ask other prompts than the name says."""
  message = r'give DATASETS=rte, NUM_FEWSHOT=5, PROMPT_STYLE=no_options$'
  with pytest.raises(InputError, match=message):
    eval_data.requested('flan', (), 'flan_rte_no_options_5_shot')
  (found,) = eval_data.requested('flan', (), 'flan_rte')
  assert found is registry.get('rte')
