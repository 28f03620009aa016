"""Hugging Face datasets as a source, read offline from folders saved by `datasets`."""

import pathlib
import subprocess
import sys

import datasets
import pytest

import flan_jax as flan
from flan_jax.data import raw_records
from flan_jax.errors import InputError

FEATURES = datasets.Features(
  {
    'text': datasets.Value('string'),
    'label': datasets.ClassLabel(names=['no', 'yes']),
    'answers': {'text': datasets.List(datasets.Value('string'))},
    'turns': datasets.List({'role': datasets.Value('string')}),
  }
)
RECORDS = [
  {
    'text': f'line {i}\né',
    'label': i % 2,
    'answers': {'text': ['a'] * (i % 3)},
    'turns': [{'role': 'user'}],
  }
  for i in range(600)
]


@pytest.fixture(scope='module')
def made():
  datasets.disable_progress_bars()
  return datasets.Dataset.from_list(RECORDS, features=FEATURES, split='train')


@pytest.fixture(scope='module')
def saved(made, tmp_path_factory) -> pathlib.Path:
  """A folder with `one` (a Dataset in two files) and `several` (a DatasetDict)."""
  folder = tmp_path_factory.mktemp('saved')
  made.save_to_disk(folder / 'one', num_shards=2)
  several = {'train': made, 'validation': made.select(range(7, 12))}
  datasets.DatasetDict(several).save_to_disk(folder / 'several')
  return folder


def source(saved, name, **settings) -> flan.HuggingFace:
  return flan.HuggingFace(name, folder=str(saved), **settings)


def read(found, split='train'):
  return [record for _, record in found.records(split)]


def test_a_saved_dataset_is_read_as_it_was_made(made, saved):
  """Over the border of a file: classes as ints, nested features as dicts and lists."""
  found = source(saved, 'one')
  assert read(found) == RECORDS == list(made)
  assert found.sizes() == {'train': 600}
  ids = [example_id for example_id, _ in found.records('train')]
  assert ids == [f'train.{i}' for i in range(600)]
  assert found.where('train.3') == f'{saved}/one, train[3]'


def test_splits_keep_their_names_or_get_others(saved):
  assert source(saved, 'several').sizes() == {'train': 600, 'validation': 5}
  alone = source(saved, 'several', split='validation')
  assert read(alone) == RECORDS[7:12]
  renamed = source(saved, 'several', split={'train': 'validation', 'test': 'train'})
  assert renamed.sizes() == {'train': 5, 'test': 600}
  with pytest.raises(InputError, match="no split 'valid'; .*did you mean 'validation'"):
    source(saved, 'several', split='valid').sizes()


def test_a_digest_is_of_the_contents(made, saved, tmp_path):
  """A copy has the same one, other records have another; a stamp is of one machine."""
  found = source(saved, 'one')
  made.save_to_disk(tmp_path / 'one', num_shards=2)
  copy = source(tmp_path, 'one')
  assert copy.digest() == found.digest()
  assert copy.stamp() != found.stamp() == source(saved, 'one').stamp()
  made.select(range(599)).save_to_disk(tmp_path / 'one', num_shards=2)
  assert copy.digest() != found.digest()
  assert copy.sizes() == {'train': 599}


def declared(found, **settings) -> flan.Dataset:
  default = {
    'name': 'own',
    'cluster': 'own',
    'fields': {'text': 'text'},
    'answer': flan.Label('label', ('no', 'yes')),
    'metric': 'accuracy',
    'templates': (flan.Template('{text}\n\n{OPTIONS}'),),
    'train': 'train[:-100]',
    'dev': 'train[-100:]',
  }
  return flan.Dataset(source=found, **(default | settings))


def test_a_declaration_reads_it_and_sets_a_part_aside(saved):
  dataset = declared(source(saved, 'one'))
  (example,) = raw_records.first_examples(dataset, 'dev', 1, data_dir=None)
  assert example.example_id == 'train.500'
  assert (example.values['text'], example.answer.text) == ('line 500\né', 'no')


def test_a_bad_record_is_named_with_its_place(saved):
  dataset = declared(source(saved, 'one'), fields={'text': 'turns'})
  with pytest.raises(
    InputError, match=r"'train.0' \(.*/one, train\[0\]\): .*a list of"
  ):
    raw_records.first_examples(dataset, 'train', 1, data_dir=None)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (
      {'fields': {'text': 'txt'}},
      r"fields\['text'\] is 'txt'; .*/one, train\[0\] has no 'txt', but text, label, "
      r".*did you mean 'text'\?",
    ),
    (
      {'answer': flan.Label('lable', ('no', 'yes'))},
      r"answer is 'lable'; .* did you mean 'label'\?",
    ),
    ({'fields': {'text': 'answers/texts'}}, r"no 'texts', but text; did you mean"),
  ],
)
def test_a_column_that_is_not_there_is_refused_at_once(settings, message, saved):
  with pytest.raises(InputError, match=message):
    raw_records.sizes(declared(source(saved, 'one'), **settings))


@pytest.mark.parametrize(
  ('path', 'settings', 'message'),
  [
    ('one', {'config': 'rte'}, 'has no config'),
    (
      '.',
      {},
      r'was not saved by `datasets`; must have dataset_dict.json or state.json',
    ),
    ('no/such/folder', {}, "no such folder, and no name on the hub, as 'user/name'"),
    ('gs://bucket/own', {}, 'no such folder'),
  ],
)
def test_what_is_neither_folder_nor_name_is_refused(path, settings, message, saved):
  with pytest.raises(InputError, match=message):
    source(saved, path, **settings).sizes()


@pytest.mark.parametrize(
  'settings', [{'path': ''}, {'path': 3}, {'config': ''}, {'split': {'a-b': 'c'}},
               {'split': 'train[:10%]'}],
)  # fmt: skip
def test_a_setting_of_the_wrong_form_is_refused_at_its_declaration(settings):
  with pytest.raises(InputError, match='HuggingFace'):
    flan.HuggingFace(**{'path': 'user/name', **settings})


def test_a_torn_folder_is_one_line(saved, tmp_path):
  for file in (saved / 'one').iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  (tmp_path / 'data-00001-of-00002.arrow').write_bytes(b'torn')
  with pytest.raises(
    InputError, match='not a whole folder of a save_to_disk'
  ) as caught:
    source(tmp_path.parent, tmp_path.name).sizes()
  assert '\n' not in str(caught.value)


def test_a_hub_that_is_out_of_reach_is_one_line(monkeypatch):
  monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
  with pytest.raises(InputError, match="'user/name/small': .*; rerun when") as caught:
    flan.HuggingFace('user/name', 'small').sizes()
  assert '\n' not in str(caught.value)


def test_a_name_on_the_hub_is_read_at_its_commit(monkeypatch, saved, tmp_path, caplog):
  """The hub is a builder of files here; sizes that it lists download nothing."""
  file = tmp_path / 'a.jsonl'
  datasets.load_from_disk(saved / 'one').to_json(file)
  looked_up = []

  def load_dataset_builder(path, config, revision):
    looked_up.append((path, config, revision))
    return real('json', data_files=str(file), cache_dir=str(tmp_path / 'cache'))

  real = datasets.load_dataset_builder
  monkeypatch.setattr(datasets, 'load_dataset_builder', load_dataset_builder)
  found = flan.HuggingFace('user/made_up', 'small')
  assert found.sizes() == {'train': 600}
  assert read(found) == RECORDS
  assert looked_up == [('user/made_up', 'small', None)]
  commit = real('json', data_files=str(file)).hash
  (line,) = (r.getMessage() for r in caplog.records if r.name.startswith('flan_jax'))
  assert line == (
    f'user/made_up: no revision is given; reads the newest, revision={commit!r}'
  )
  assert str(found) == f'user/made_up/small of the Hugging Face hub, {commit}'
  pinned = flan.HuggingFace('user/made_up', 'small', commit)
  assert pinned.digest() == found.digest() == found.stamp()
  caplog.clear()
  assert pinned.sizes() == {'train': 600}
  assert not caplog.records


def test_a_missing_package_is_named_with_its_command(monkeypatch, saved):
  monkeypatch.setitem(sys.modules, 'datasets', None)
  with pytest.raises(InputError, match=r"pip install 'flan_jax\[datasets\]'"):
    flan.HuggingFace('user/other').sizes()


def test_it_is_read_without_tensorflow(saved):
  code = (
    f'import flan_jax, sys; s = flan_jax.HuggingFace({str(saved / "one")!r}); '
    'assert len(list(s.records("train"))) == 600; '
    'assert not {"tensorflow", "jax", "torch"} & set(sys.modules)'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
