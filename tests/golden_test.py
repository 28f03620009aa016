"""Golden files: a change of any default or any prompt shows in review.

`make golden` rewrites them; read the diff before you commit it.
"""

import pathlib

import pytest

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.config import gin
from flan_jax.microworld import records

HERE = pathlib.Path(__file__).parent / 'golden'
RUNS = sorted(path.stem for path in gin.shipped().glob('runs/*.gin'))
REQUIRED = ['MODEL_DIR=MODEL_DIR', 'INITIAL_CHECKPOINT_PATH=CHECKPOINT']


def compare(path: pathlib.Path, text: str, *, update: bool) -> None:
  if update:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
  assert path.is_file(), f'no {path.name}: `make golden` writes it'
  assert text == path.read_text(encoding='utf-8')


@pytest.mark.parametrize('run', [run for run in RUNS if run != 'base'])
def test_the_resolved_config_of_every_run(run, update_golden):
  loaded = gin.load([f'gin/runs/{run}.gin'], REQUIRED)
  text = loaded.text(loaded.build('Run'))
  compare(HERE / 'configs' / f'{run}.txt', text, update=update_golden)


@pytest.mark.parametrize('name', registry.datasets('microworld'))
def test_the_prompts_of_a_generated_example_in_every_template(name, update_golden):
  dataset = registry.get(name)
  example = dataset.read(records.record(name, 'train', 1), 'train-1')
  parts = []
  for index in range(len(dataset.templates)):
    prompt = prompt_lib.render(dataset, index, example)
    parts.append(f'--- {index}\n{prompt.inputs}\n>>>\n{prompt.targets}\n')
  compare(HERE / 'prompts' / f'{name}.txt', ''.join(parts), update=update_golden)


@pytest.mark.parametrize('name', registry.datasets('flan'))
def test_the_prompts_of_two_handwritten_examples_in_every_template(
  name, own_examples, update_golden
):
  """Every template once, with the two examples in turn."""
  dataset = registry.get(name)
  examples = own_examples(dataset)
  parts = []
  for index, template in enumerate(dataset.templates):
    example = examples[index % len(examples)]
    prompt = prompt_lib.render(dataset, index, example)
    kind = f', {template.kind}' if template.kind else ''
    heading = f'--- template {index}{kind}, row {example.example_id}'
    parts.append(f'{heading}\n{prompt.inputs}\n>>>\n{prompt.targets}\n')
  text = '\n'.join(parts)
  compare(HERE / 'prompts' / f'{name}.txt', text, update=update_golden)


def test_no_golden_prompt_outlives_its_dataset():
  names = {name for family in registry.families() for name in registry.datasets(family)}
  assert {path.stem for path in (HERE / 'prompts').iterdir()} == names
