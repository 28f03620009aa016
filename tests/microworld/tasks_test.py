"""The microworld's declarations: all clusters, ten templates each, all render."""

import pytest

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.catalog import template as template_lib
from flan_jax.microworld import records

DATASETS = registry.datasets('microworld')


def test_every_cluster_has_a_dataset_and_nli_has_two():
  clusters = [dataset.cluster for dataset in DATASETS.values()]
  assert set(clusters) == set(dataset_lib.CLUSTERS)
  assert clusters.count('nli') == 2
  assert set(DATASETS) == set(records.DATASETS)


@pytest.mark.parametrize('name', DATASETS)
def test_ten_templates_up_to_three_of_them_inverted(name):
  dataset = DATASETS[name]
  texts = {(template.inputs, template.targets) for template in dataset.templates}
  assert len(texts) == len(dataset.templates) == 10
  inverted = [t for t in dataset.templates if t.inverted or t.targets != '{answer}']
  assert 1 <= len(inverted) <= 3
  assert all(t.inverted for t in inverted) == (name != 'mini_wmt')
  assert dataset.sizes == records.sizes(name)


@pytest.mark.parametrize('name', DATASETS)
def test_every_template_renders_every_split(name):
  dataset = DATASETS[name]
  for split in ('train', 'validation', 'test'):
    for index in range(6):
      example = dataset.read(records.record(name, split, index), f'{split}-{index}')
      assert example.answer.text
      if example.answer.options:
        assert len(set(example.answer.options)) == len(example.answer.options)
        assert example.answer.options[example.answer.gold[0]] == example.answer.text
      for template in range(10):
        prompt = prompt_lib.render(dataset, template, example)
        assert prompt.inputs
        assert prompt.targets
        assert '{' not in prompt.inputs + prompt.targets
        assert len(prompt.inputs.split()) < 90


def test_a_prompt_is_rendered_as_declared():
  record = {
    'premise': 'Ida is a baker. She keeps a hen.',
    'hypothesis': 'Ida makes bread.',
    'label': 0,
  }
  example = DATASETS['mini_rte'].read(record, 'one')
  prompt = prompt_lib.render(DATASETS['mini_rte'], 1, example)
  assert prompt.inputs == (
    'Text: Ida is a baker. She keeps a hen.\n'
    'Claim: Ida makes bread.\n'
    'Is the claim true?\n'
    'OPTIONS:\n- yes\n- no'
  )
  assert prompt.targets == 'yes'


def test_nli_shares_no_template_with_other_clusters():
  def literals(dataset):
    return {
      literal.strip()
      for template in dataset.templates
      for literal, _ in template_lib.parse(template.inputs)
      if len(literal.split()) >= 4
    }

  held_out = literals(DATASETS['mini_rte']) | literals(DATASETS['mini_cb'])
  for dataset in DATASETS.values():
    if dataset.cluster != 'nli':
      assert not held_out & literals(dataset), dataset.name
