"""Prompts of an untuned model: whole for every dataset, and none of an instruction."""

import pytest

from flan_jax import catalogue
from flan_jax.evaluate import continuation

DATASETS = [d for world in catalogue.WORLDS for d in catalogue.family(world).values()]


@pytest.mark.parametrize('dataset', DATASETS, ids=lambda d: d.name)
def test_every_dataset_has_one_prompt_and_keeps_what_is_measured(dataset):
  found = continuation.of(dataset)
  (template,) = found.templates
  assert found.evaluated_templates == (0,)
  assert not template.has_options
  assert template.input_fields
  assert 'answer' not in template.input_fields
  assert (found.answer, found.metric) == (dataset.answer, dataset.metric)
  assert not template.inputs.endswith((' ', '\n')), 'the answer brings its own blank'


def test_a_prompt_of_its_own_belongs_to_a_dataset_that_is_there():
  assert set(continuation.PROMPTS) <= {dataset.name for dataset in DATASETS}


@pytest.mark.parametrize(
  'cluster',
  [c for c in catalogue.CLUSTERS if c not in ('summarization', 'misc')],
)
def test_every_dataset_that_the_paper_evaluates_has_its_own(cluster):
  family = catalogue.family('flan').values()
  names = {dataset.name for dataset in family if dataset.cluster == cluster}
  assert names <= set(continuation.PROMPTS)
