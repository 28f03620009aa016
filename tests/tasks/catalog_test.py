"""Every declared dataset: sound templates, and real examples that read and render."""

import itertools
import json

import pytest
import real_examples

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import lint, registry, splits
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Unlabeled
from flan_jax.catalog.template import options_block
from flan_jax.evaluate import metrics

DATASETS = registry.datasets('flan')

each_dataset = pytest.mark.parametrize('dataset', DATASETS.values(), ids=DATASETS)


@each_dataset
def test_ten_templates_or_more_at_most_three_of_them_inverted(dataset):
  inverted = [t for t in dataset.templates if t.inverted]
  assert len(dataset.templates) >= 10
  assert len(inverted) <= 3
  assert all(t.targets != '{answer}' for t in inverted)
  assert len(dataset.evaluated_templates) == len(dataset.templates) - len(inverted)


@each_dataset
def test_templates_have_no_lint_finding(dataset):
  assert [str(finding) for finding in lint.lint([dataset])] == []


def test_only_variants_of_one_dataset_share_templates():
  found = lint.lint(DATASETS.values())
  assert [str(finding) for finding in found if finding.rule == 'equal-across'] == []


@each_dataset
def test_every_declared_slice_is_in_a_split_of_declared_size(dataset):
  assert set(dataset.slices) <= set(dataset_lib.SPLITS)
  for part in dataset.slices.values():
    assert splits.parse(part).split in dataset.sizes
  assert all(dataset.num_examples(name) > 0 for name in dataset.slices)
  assert dataset.license
  assert dataset.citation


def _records(dataset: Dataset, max_records: int):
  """Yields (example id, record) from every split that the dataset uses."""
  name = dataset.tfds.rsplit(':', 1)[0]
  folder = real_examples.FOLDER / (name if '/' in name else f'{name}/default')
  for split in sorted({splits.parse(part).split for part in dataset.slices.values()}):
    path = folder / f'{split}.jsonl'
    if path.exists():
      with path.open(encoding='utf-8') as lines:
        for i, line in enumerate(itertools.islice(lines, max_records)):
          yield f'{split}:{i}', json.loads(line)


@each_dataset
def test_real_examples_read_and_render(dataset):
  records = list(_records(dataset, max_records=25))
  if not records:
    pytest.skip(f'../shared/data holds no examples of {dataset.tfds}')
  examples = []
  for example_id, record in records:
    try:
      examples.append(dataset.read(record, example_id))
    except Unlabeled:
      continue
  assert examples, 'every example is dropped'
  for example in examples:
    options = example.answer.options
    assert bool(options) == dataset.has_options
    measured = getattr(dataset.answer, 'measured', False)
    assert measured or example.answer.text in example.answer.references
    if options and not measured:
      assert [options[i] for i in example.answer.gold] == list(
        example.answer.references
      )
    first = next(iter(dataset.directions), '')
    for index, template in enumerate(dataset.templates):
      prompt = prompt_lib.render(dataset, index, example)
      assert prompt.inputs == prompt.inputs.strip()
      # A target is blank if the first sentence of its text is too long.
      assert prompt.targets.strip() or template.inverted
      if not template.inverted and template.direction in ('', first):
        assert prompt.targets == example.answer.text
      if template.has_options:
        assert prompt.inputs.endswith('\n' + options_block(options))


def read(name: str, record: dict) -> dataset_lib.Example:
  return DATASETS[name].read(record, 'id')


def test_a_cloze_example_has_one_option_per_entity_and_may_have_several_right():
  example = read(
    'record',
    {
      'passage': 'Ada Lund won the race.\n@highlight\nLund wins at last',
      'query': "It was @placeholder's third attempt.",
      'entities': ['Ada Lund', 'Lund', 'Oslo'],
      'answers': ['Lund', 'Ada Lund'],
    },
  )
  assert example.values['passage'] == 'Ada Lund won the race.\nLund wins at last'
  assert example.values['line'] == "It was ____'s third attempt."
  assert example.answer.options == (
    "Ada Lund's third attempt.",
    "Lund's third attempt.",
    "Oslo's third attempt.",
  )
  assert example.answer.gold == (1, 0)
  assert example.answer.text == "Lund's third attempt."


def test_a_cloze_line_that_begins_with_the_gap_is_not_empty():
  record = {
    'passage': 'Ada Lund won.',
    'query': '@placeholder was glad.',
    'entities': ['Ada Lund', 'Oslo'],
    'answers': ['Ada Lund'],
  }
  example = read('record', record)
  assert example.values['line'] == '____ was glad.'
  assert example.answer.text == 'Ada Lund was glad.'
  with pytest.raises(Unlabeled, match='none of the options'):
    read('record', {**record, 'answers': []})


@pytest.mark.parametrize('count', [3, 5])
def test_arc_items_without_four_options_are_dropped(count):
  words = ['iron', 'wood', 'glass', 'wool', 'clay']
  record = {
    'question': 'A magnet attracts',
    'choices': {'text': words[:count], 'label': list(range(count))},
    'answerKey': 0,
  }
  with pytest.raises(Unlabeled, match=f'{count} options; must be 4'):
    read('arc_easy', record)


def test_an_unanswerable_question_expects_the_word_unanswerable():
  record = {
    'title': 'Beyonc%C3%A9_(album)',
    'context': 'It has fourteen songs.',
    'question': 'Who sold it?',
    'answers': {'text': [], 'answer_start': []},
  }
  example = read('squad_v2', record)
  assert example.values['title'] == 'Beyoncé (album)'
  assert example.answer.references == ('unanswerable',)
  record['answers'] = {'text': ['fourteen', '14', 'fourteen'], 'answer_start': [7] * 3}
  assert read('squad_v2', record).answer.references == ('fourteen', '14')


@pytest.mark.parametrize(
  ('value', 'aliases', 'text'),
  [
    ('Ouse', [], 'Ouse'),
    ('UNESCO', ['Unesco', 'U.N.E.S.C.O.'], 'Unesco'),
    ('NATO', ['Nato'], 'NATO'),
    ("'THE OWL'S NEST'", ['Owls'], "The Owl's Nest"),
  ],
)
def test_trivia_answers_are_not_in_capitals(value, aliases, text):
  record = {
    'question': '"Which river runs through ""the old town"" of York?"',
    'answer': {'value': value, 'aliases': aliases},
  }
  example = read('trivia_qa', record)
  assert (
    example.values['question'] == 'Which river runs through "the old town" of York?'
  )
  assert example.answer.text == text
  assert example.answer.references == tuple(dict.fromkeys([text, *aliases]))


def test_numbers_of_opposite_sign_are_never_the_same_answer():
  """Answers real examples of the math dataset with the sign flipped."""
  dataset = registry.get('math_dataset')
  records = list(_records(dataset, max_records=1000))
  if not records:
    pytest.skip(f'../shared/data holds no examples of {dataset.tfds}')
  golds = [
    dataset.read(record, example_id).answer.right for example_id, record in records
  ]
  flipped = [gold.removeprefix('-') if '-' in gold else f'-{gold}' for (gold,) in golds]
  metric = metrics.get(dataset.metric)
  right = [gold for (gold,) in golds]
  assert sum(gold.startswith('-') for gold in right) > 100
  assert metric.aggregate(metric.scores(right, golds)) == 100
  assert metric.aggregate(metric.scores(flipped, golds)) == 0


@pytest.mark.parametrize(
  ('text', 'written'),
  [
    ('1917-November-7', '7 November 1917'),
    ('-May-31', '31 May'),
    ('1916--3', '3 1916'),
    ('--3', '--3'),
    ('2-1', '2-1'),
    ('23-yard', '23-yard'),
    ('1.5', '1.5'),
    ('Tampa Bay', 'Tampa Bay'),
  ],
)
def test_dates_of_drop_are_in_words(text, written):
  record = {
    'passage': 'It was in May.',
    'question': 'When?',
    'answer': text,
    'validated_answers': [text, 'May'],
  }
  example = read('drop', record)
  assert example.answer.text == written
  assert example.answer.references == (written, 'May')


def test_a_similarity_is_rounded_for_training_and_measured_unrounded():
  record = {'sentence1': 'a', 'sentence2': 'b', 'label': 3.799999952316284, 'idx': 0}
  answer = read('stsb', record).answer
  assert (answer.text, answer.right) == ('4', ['3.8'])


def test_every_metric_exists_and_has_a_description():
  for dataset in registry.datasets('flan').values():
    assert metrics.get(dataset.metric).description
    assert not dataset.differs.endswith('.')
