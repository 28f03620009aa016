"""A file as a dataset: its name, its columns, and what is wrong with it in one line."""

import json

import pytest

from flan_jax.catalog import registry
from flan_jax.config.training import TrainConfig
from flan_jax.data import raw_records
from flan_jax.data.sources import file_task
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.jobs import training_data

EXAMPLES = [{'inputs': f'Say {i}.', 'targets': str(i)} for i in range(10)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(file_task, '_declared', {})
  with registry.restored():
    yield tmp_path


def write(name, examples=EXAMPLES):
  with open(name, 'w') as file:
    file.writelines(f'{json.dumps(example)}\n' for example in examples)
  return name


def made(name='sums.jsonl', **more) -> Store:
  dataset = file_task.declare(name, **more)
  mixture = registry.mixture(dataset.name)
  materialize(mixture, StoreConfig(tokenizer='bytes', epochs=1), out='store')
  return Store.open('store')


@pytest.mark.parametrize('name', ['SUMS.JSONL', 'sums[1].jsonl', 'sums.v2.jsonl'])
def test_a_name_is_taken_as_it_is(name):
  write('sums1.jsonl', EXAMPLES[:1])
  dataset = file_task.declare(write(name))
  assert dataset.full_sizes == {'train': 10}
  assert registry.get(dataset.name) is dataset


def test_a_registered_dataset_keeps_its_name():
  before = registry.get('rte')
  assert file_task.declare(write('rte.jsonl')).name == 'rte_file'
  assert file_task.declare('rte.jsonl').name == 'rte_file'
  assert registry.get('rte') is before


def test_a_file_of_another_format_is_told_the_formats():
  write('sums.txt')
  with pytest.raises(
    InputError, match=r"TASK 'sums.txt': a file of another format; .*"
  ):
    file_task.resolve('sums.txt', setting='TASK')
  assert file_task.resolve('rte', setting='TASK') == 'rte'


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (None, r"\(.*sums.jsonl:11\): column 'targets': null; must be a text"),
    (float('nan'), r"\(.*sums.jsonl:11\): column 'targets': got nan; must be a text"),
    ({'text': '1'}, r"sums.jsonl:11.*an object of text; .* as 'targets/text'"),
  ],
)
def test_a_value_that_is_no_text_is_named_with_its_line(value, message):
  write('sums.jsonl', [*EXAMPLES, {'inputs': 'Say it.', 'targets': value}])
  with pytest.raises(InputError, match=message):
    made()


def test_the_columns_of_every_split_are_checked():
  write('sums.jsonl')
  write('other.jsonl', [{'inputs': 'Say 1.', 'answer': '1'}])
  with pytest.raises(InputError, match=r"other.jsonl:1: no column 'targets'"):
    file_task.declare('sums.jsonl', validation='other.jsonl')


@pytest.mark.parametrize(
  ('validation', 'message'),
  [
    (-3, r"got -3; 'sums.jsonl' has 10 examples, of which one or more must be set"),
    (0.01, r'got 0\.01, 0 examples; '),
    (10, r'got 10; '),
    ('no.jsonl', r"VALIDATION: Json: no file 'no.jsonl'"),
    ('wrong.jsonl', r"wrong.jsonl:1: no column 'inputs'"),
  ],
)
def test_validation_examples_that_are_none_blame_that_setting(validation, message):
  write('sums.jsonl')
  write('wrong.jsonl', [{'a': '1', 'b': '2'}])
  with pytest.raises(InputError, match=message) as error:
    file_task.declare('sums.jsonl', validation=validation)
  assert error.value.field == 'VALIDATION'


def test_validation_examples_that_train_are_counted():
  write('sums.jsonl')
  new = {'inputs': 'Say 77.', 'targets': '77'}
  write('dev.jsonl', [EXAMPLES[3], EXAMPLES[3], new, EXAMPLES[5]])
  store = made(validation='dev.jsonl')
  assert store.validation['sums']['in_training'] == 3
  (line,) = training_data.store_warnings(store)
  assert line.startswith('warning: sums: 3 of its 4 validation examples are training')


@pytest.mark.parametrize(
  ('setting', 'value'), [('inputs', 'question'), ('targets', 'a'), ('validation', 0.1)]
)
def test_settings_of_a_file_are_refused_without_one(setting, value):
  run = TrainConfig(
    model_dir='run', mixture='rte', train_steps=1, batch_tokens=64, sequence_length=64,
    **{setting: value},
  )  # fmt: skip
  with pytest.raises(InputError, match=f"{setting.upper()}: .*'rte' is no file"):
    training_data.mixture(run)


def check(store):
  warnings = []
  training_data.check_unchanged(store, field='Run.store', warn=warnings.append)
  return warnings


def test_a_store_of_changed_data_is_refused(folder, monkeypatch):
  write('sums.jsonl')
  store = made(validation=2)
  assert not check(store)
  file_task.declare('sums.jsonl', validation=3)
  with pytest.raises(InputError, match='data or templates of sums have changed since'):
    check(store)
  write('sums.jsonl', [*EXAMPLES[1:], EXAMPLES[0]])
  file_task.declare('sums.jsonl', validation=2)
  with pytest.raises(InputError, match='restore what it was made from'):
    check(store)
  monkeypatch.setattr(training_data, '__version__', '99')
  (warning,) = check(store)
  assert 'by another version' in warning


def test_a_store_stands_without_its_file(folder):
  """The file may be on another machine than the store."""
  write('sums.jsonl')
  store = made(validation=2)
  (folder / 'sums.jsonl').unlink()
  file_task.declare('sums.jsonl', validation=2, stored=True)
  assert not check(store)
  assert store.validation['sums']['examples'] == 2
  with pytest.raises(InputError, match=r"no file 'sums.jsonl'"):
    file_task.declare('sums.jsonl', validation=2)


def test_a_test_file_has_no_training_examples():
  dataset = file_task.declare(write('sums.jsonl'), split='test')
  assert dataset.slices == {'test': 'test'}
  assert sum(1 for _ in raw_records.records(dataset, 'test')) == 10


def test_a_file_without_an_answer_says_how_many_examples_lack_one(folder):
  write('sums.jsonl', [{**example, 'targets': ' '} for example in EXAMPLES])
  message = (
    'left to draw from: sums: 10 read, dropped 10 with an empty answer or prompt'
  )
  with pytest.raises(InputError, match=message):
    made()
  write('sums.jsonl', [{'inputs': 'Say it.', 'targets': 'long ' * 200}])
  with pytest.raises(InputError, match='1 read, dropped 1 too_long'):
    made()
  assert [path.name for path in folder.iterdir()] == ['sums.jsonl']
