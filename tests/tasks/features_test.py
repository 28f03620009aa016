"""Every declaration against the feature spec of its TFDS builder's code, offline.

Records are made up from the spec, so a field that TFDS does not have, a class that has
no label word, or a list taken for a text fails here and not in a run. Where datasets
are prepared (TFDS_DATA_DIR), their own examples are read and rendered too.
"""

import itertools
import os
import random

import pytest

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry, splits
from flan_jax.catalog.answers import Choice, Label
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field, Unlabeled, at
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.catalog.template import OPTIONS, options_block
from flan_jax.data import raw_records
from flan_jax.errors import InputError

tfds = pytest.importorskip(
  'tensorflow_datasets', reason='needs TFDS', exc_type=ImportError
)

DATASETS = registry.datasets('flan')
RECORDS = 12

each_dataset = pytest.mark.parametrize('dataset', DATASETS.values(), ids=DATASETS)

WORDS = (
  'barn', 'Oslo', 'the', '7', 'red', "it's", 'Ada', 'swam', '{brace}', '50%', 'née',
  'a', '"so"', 'OPTIONS:', 'No', '-', 'lake', '<b>',
)  # fmt: skip


def words(draw: random.Random, min_words: int = 3) -> str:
  return ' '.join(draw.choice(WORDS) for _ in range(draw.randint(min_words, 12)))


@pytest.fixture(scope='session')
def features(tmp_path_factory):
  """TFDS name -> the features of the builder's code; nothing is prepared or fetched."""
  folder = tmp_path_factory.mktemp('empty')
  made = {}

  def of(dataset: Dataset):
    if dataset.tfds not in made:
      builder = tfds.builder(dataset.tfds, data_dir=folder)
      assert not builder.is_prepared()
      made[dataset.tfds] = builder.info.features
    return made[dataset.tfds]

  return of


def make(feature, draw: random.Random):
  """A value of a feature as `registry.plain` gives it."""
  kinds = tfds.features
  if isinstance(feature, kinds.ClassLabel):
    return draw.randrange(feature.num_classes)
  if isinstance(feature, kinds.FeaturesDict):  # Translation is one
    return {name: make(part, draw) for name, part in feature.items()}
  if isinstance(feature, kinds.Sequence | kinds.Dataset):
    part = feature.feature
    count = draw.randint(2, 4)
    if isinstance(part, kinds.FeaturesDict):  # a dict of lists, not a list of dicts
      return {n: [make(f, draw) for _ in range(count)] for n, f in part.items()}
    return [make(part, draw) for _ in range(count)]
  kind = feature.np_dtype
  if kind is bool or kind == 'bool':
    return draw.random() < 0.5
  if isinstance(feature, kinds.Text) or kind in (object, str):
    return words(draw)
  return draw.uniform(0, 5) if 'float' in str(kind) else draw.randint(0, 1)


def _entities(record, draw):
  record['query'] = f'It was @placeholder who swam {words(draw)}.'
  record['answers'] = [draw.choice(record['entities'])]


def _offsets(record, draw):
  record['text'] = f'Ada saw Eva when she {words(draw)}.'
  record['pronoun_start'], record['pronoun_end'] = 17, 20
  record['pronoun_text'] = 'she'


def _gap(record, draw):
  record['sentence'] = f'Ada saw Eva, as _ {words(draw)}.'


def _triples(record, draw):
  record['input'] = [f'{words(draw)} | leaderName | {words(draw)}' for _ in range(3)]


def _four(record, draw):
  record['choices'] = {'text': [words(draw) for _ in range(4)], 'label': [0, 1, 2, 3]}
  record['answerKey'] = draw.randrange(4)


def _one_of(name, *values):
  def fix(record, draw):
    record[name] = draw.choice(values)

  return fix


def _attributes(record, draw):
  record['meaning_representation'] = f'name[{words(draw)}], eatType[pub]'


def _pronoun(record, draw):
  record['text'] = f'Ada told Eva that she {words(draw)}.'
  record['span1_text'], record['span1_index'] = 'Ada', 0
  record['span2_text'], record['span2_index'] = 'she', 4


MEANING = {
  'record': _entities,
  'wsc273': _offsets,
  'wsc': _pronoun,
  'winogrande': _gap,
  'web_nlg_en': _triples,
  'arc_easy': _four,
  'arc_challenge': _four,
  'copa': _one_of('question', 'cause', 'effect'),
  'story_cloze': _one_of('label', 1, 2),
  'sentiment140': _one_of('polarity', 0, 4),
  'e2e_nlg': _attributes,
}
"""Dataset -> function (record, draw) that sets values the spec does not constrain."""


def records(dataset: Dataset, spec) -> list[dict]:
  draw = random.Random(dataset.name)
  out = []
  for _ in range(RECORDS):
    record = make(spec, draw)
    if dataset.name in MEANING:
      MEANING[dataset.name](record, draw)
    out.append(record)
  return out


def examples(dataset: Dataset, spec) -> list[dataset_lib.Example]:
  found = []
  for i, record in enumerate(records(dataset, spec)):
    try:
      found.append(dataset.read(record, f'train.0.{i}'))
    except Unlabeled:
      continue
  return found


@each_dataset
def test_every_field_is_in_the_spec(dataset, features):
  record = make(features(dataset), random.Random(0))
  for name, field in dataset.fields.items():
    path = field.path if isinstance(field, Field) else field
    assert at(record, path) is not None, name


@each_dataset
def test_every_class_of_the_spec_has_a_label_word(dataset, features):
  answer = dataset.answer
  if not isinstance(answer, Label | Choice):
    return
  feature = features(dataset)
  for key in filter(None, answer.path.split('/')):
    feature = feature[key] if hasattr(feature, 'keys') else feature.feature[key]
  if not isinstance(feature, tfds.features.ClassLabel):
    return
  if isinstance(answer, Label):
    assert len(answer.words) == feature.num_classes
  elif not isinstance(answer.options, str):
    assert len(answer.options) == feature.num_classes - answer.first


@each_dataset
def test_every_template_renders_what_the_spec_allows(dataset, features):
  """... with every field whole, and OPTIONS, if any, at the end."""
  found = examples(dataset, features(dataset))
  assert found, 'every record is dropped'
  check(dataset, found)


@each_dataset
def test_prepared_examples_read_and_render(dataset):
  data_dir = os.environ.get('TFDS_DATA_DIR')
  if not data_dir:
    pytest.skip('TFDS_DATA_DIR is not set')
  try:
    raw_records.sizes(dataset, data_dir=data_dir)
  except InputError:
    pytest.skip(f'{dataset.tfds} is not prepared in TFDS_DATA_DIR')
  found = []
  stored = {splits.parse(part).split: s for s, part in dataset.slices.items()}
  for split in stored.values():
    read = raw_records.records(dataset, split, data_dir=data_dir)
    for example_id, record in itertools.islice(read, RECORDS):
      try:
        found.append(dataset.read(record, example_id))
      except Unlabeled:
        continue
  assert found, 'every example is dropped'
  check(dataset, found)


def check(dataset: Dataset, found: list[dataset_lib.Example]) -> None:
  """Renders each example by each template: fields whole, OPTIONS last, answer right."""
  for example in found:
    options = example.answer.options
    assert bool(options) == dataset.has_options
    if getattr(dataset.answer, 'measured', False):
      assert round(float(example.answer.references[0])) == int(example.answer.text)
    else:
      assert example.answer.text in example.answer.references
    for index, template in enumerate(dataset.templates):
      prompt = prompt_lib.render(dataset, index, example)
      for name in template.input_fields:
        assert example.values[name] in prompt.inputs
      if template.has_options:
        assert prompt.inputs.endswith(options_block(options))
        assert f'{{{OPTIONS}}}' not in prompt.inputs
    for way in dataset.by_direction:
      directed = way.directed(example)
      for index in way.evaluated_templates:
        assert (
          prompt_lib.render(dataset, index, example).targets == directed.answer.text
        )


@each_dataset
def test_every_prompt_style_renders_it(dataset, features):
  found = examples(dataset, features(dataset))
  for prompt_style in ('no_template', 'dataset_name'):
    styled = PromptStyle(prompt_style=prompt_style).apply(dataset)
    for example in found:
      prompt = prompt_lib.render(styled, 0, example)
      assert prompt.inputs.strip()
      assert prompt.targets == example.answer.text
  shown = prompt_lib.render(dataset, 0, found[0], exemplars=found[1:4])
  assert shown.inputs.endswith(prompt_lib.render(dataset, 0, found[0]).inputs)
  assert shown.inputs.count(prompt_lib.NEXT) == len(found[1:4])
