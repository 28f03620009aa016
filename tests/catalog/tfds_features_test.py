"""A declaration is checked against the features of the data before reading records."""

import dataclasses
import json
import re

import pytest

from flan_jax.catalog import lint, registry, tfds_features
from flan_jax.catalog.answers import Choice, Label, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.evidence import Evidence
from flan_jax.catalog.extracts import as_in, cut, marked, spelled, standing_for
from flan_jax.catalog.fields import Field, altered, each, join, pick, squeeze
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template
from flan_jax.cli import dispatch
from flan_jax.errors import InputError

TEXT = {'text': {}}
FEATURES = {
  'featuresDict': {
    'features': {
      'question': TEXT,
      'answers': {
        'sequence': {
          'feature': {'featuresDict': {'features': {'text': TEXT, 'start': {}}}}
        }
      },
      'choices': {'sequence': {'feature': TEXT}},
      'label': {'classLabel': {'numClasses': '2'}},
      'translation': {'translation': {'languages': ['de', 'en']}},
    }
  }
}

QUIZ = Dataset(
  name='quiz',
  cluster='misc',
  source=Tfds('quiz/easy:1.0.0'),
  train='train[:-10]',
  dev='train[-10:]',
  test='test',
  sizes={'train': 90, 'test': 9},
  fields={
    'question': 'question',
    'given': Field('answers/text', join(', ')),
    'first': 'answers/text/0',
    'english': 'translation/en',
    'choice': Field('choices', pick(0)),
  },
  answer=Label('label', ('no', 'yes')),
  metric='accuracy',
  templates=(Template('{question}\n\n{OPTIONS}'),),
)


@pytest.fixture
def data_dir(tmp_path):
  """A TFDS data directory that holds the features of `quiz`, and no record."""
  folder = tmp_path / 'quiz' / 'easy' / '1.0.0'
  folder.mkdir(parents=True)
  (folder / 'features.json').write_text(json.dumps(FEATURES))
  return str(tmp_path)


def with_field(path) -> Dataset:
  return dataclasses.replace(QUIZ, fields={**QUIZ.fields, 'more': path})


def test_paths_that_records_have_pass(data_dir):
  """Lists, dictionaries of lists, and paths into a feature of another kind."""
  tfds_features.check(QUIZ, data_dir=data_dir)


def test_a_dataset_that_is_not_prepared_is_not_checked(tmp_path):
  tfds_features.check(with_field('nonsense'), data_dir=str(tmp_path))


def reading(*cleaning, path='') -> Dataset:
  """QUIZ with a field whose cleaning reads several places of the record."""
  return with_field(Field(path, *cleaning))


def free(references=None, evidence=None) -> Dataset:
  """QUIZ with free text for an answer."""
  return dataclasses.replace(
    QUIZ,
    answer=Text('{first}', references=references),
    evidence=evidence,
    templates=(Template('{question}'),),
  )


def test_every_path_that_is_read_is_listed():
  """Those of cleaning functions, references and evidence, but not None and ''."""
  kinds = {
    'cut': cut('text', start='lo', stop='hi'),
    'marked': marked('text', word='place'),
    'standing_for': standing_for('noun', pronoun='pro', text='text', end='end'),
    'as_in': as_in('text', field='noun'),
    'spelled': spelled('name', among='names'),
    'altered': altered(cut('text', start='lo')),
    'each': each(spelled('name', among='names')),
    'later': lambda record: record,
  }
  fields = {name: Field('', clean, squeeze) for name, clean in kinds.items()}
  fields['inside'] = Field('a/b', cut('text', stop='hi'))
  dataset = dataclasses.replace(
    free('answers/text', Evidence(field='first', start='from', stop='to')),
    fields={'question': 'question', 'first': 'first', **fields},
  )
  found: dict[str, list[str]] = {}
  for setting, path in tfds_features.paths(dataset):
    found.setdefault(setting, []).append(path)
  assert found == {
    "fields['question']": ['question'],
    "fields['first']": ['first'],
    "fields['cut']": ['text', 'lo', 'hi'],
    "fields['marked']": ['text', 'place'],
    "fields['standing_for']": ['noun', 'pro', 'text', 'end'],
    "fields['as_in']": ['text', 'noun'],
    "fields['spelled']": ['name', 'names'],
    "fields['altered']": ['text', 'lo'],
    "fields['each']": ['0/name', '0/names'],
    "fields['inside']": ['a/b', 'a/b/text', 'a/b/hi'],
    'answer.references': ['answers/text'],
    'evidence.start': ['from'],
    'evidence.stop': ['to'],
  }


@pytest.mark.parametrize('family', registry.families())
def test_a_cleaning_of_the_whole_record_lists_its_paths(family):
  """A function without `paths` could hide a path that no record has."""
  for dataset in registry.datasets(family).values():
    for name in dataset.fields:
      field = dataset.field(name)
      assert field.path or field.paths, (dataset.name, name)


def test_each_fault_is_a_finding(data_dir, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', data_dir)
  dataset = with_field(Field('', cut('questoin', stop='answers/strat')))
  found = [f.message for f in lint.lint([dataset]) if f.rule == 'unknown-path']
  assert found == [
    "fields['more'] is 'questoin'; the records of quiz/easy:1.0.0 have no 'questoin', "
    "but answers, choices, label, question, translation; did you mean 'question'?",
    "fields['more'] is 'answers/strat'; the records of quiz/easy:1.0.0 have no "
    "'strat', but start, text; did you mean 'start'?",
  ]


@pytest.mark.parametrize('words', [('no',), ('no', 'maybe', 'yes')])
def test_label_words_must_match_the_number_of_classes(words, data_dir, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', data_dir)
  dataset = dataclasses.replace(QUIZ, answer=Label('label', words))
  message = (
    f"answer 'label' has 2 classes in quiz/easy:1.0.0, and {len(words)} label words "
    f'({", ".join(words)}); must be 2'
  )
  assert message in [f.message for f in lint.lint([dataset]) if f.rule == 'label-count']
  with pytest.raises(InputError, match=re.escape(message)):
    tfds_features.check(dataset)


def test_a_read_function_may_merge_classes(data_dir):
  merged = Label('label', ('no', 'maybe', 'yes'), read=lambda value: 2 * value)
  tfds_features.check(dataclasses.replace(QUIZ, answer=merged), data_dir=data_dir)


@pytest.mark.parametrize(
  ('dataset', 'message'),
  [
    (free('answers/texxt'), "answer.references is 'answers/texxt'.*mean 'text'"),
    (
      free(evidence=Evidence(field='first', start='answers/strat')),
      "evidence.start is 'answers/strat'.*did you mean 'start'",
    ),
    (
      free(evidence=Evidence(field='first', start='answers/start', stop='answers/end')),
      "evidence.stop is 'answers/end'.*no 'end', but start, text",
    ),
    (
      free(evidence=Evidence(field='first', texts='choises')),
      "evidence.texts is 'choises'.*did you mean 'choices'",
    ),
    (
      reading(spelled('answers/txt', among='choices')),
      r"fields\['more'\] is 'answers/txt'.*did you mean 'text'",
    ),
    (reading(cut('question', stop='answers/stop')), "no 'stop', but start, text"),
    (reading(marked('question', word='lable')), "'lable'.*did you mean 'label'"),
    (
      reading(each(as_in('text', field='txt')), path='answers'),
      "is 'answers/0/txt'.*did you mean 'text'",
    ),
    (
      with_field('questoin'),
      r"quiz.*fields\['more'\] is 'questoin'.*did you mean 'question'",
    ),
    (with_field(Field('answers/texts', join(' '))), "no 'texts', but start, text"),
    (with_field('answers/0/txt'), "no 'txt'.*did you mean 'text'"),
    (
      dataclasses.replace(QUIZ, answer=Label('labels', ('no', 'yes'))),
      "answer is 'labels'.*did you mean 'label'",
    ),
    (
      dataclasses.replace(QUIZ, answer=Choice('label', 'choises')),
      "answer.options is 'choises'.*did you mean 'choices'",
    ),
  ],
)
def test_an_unknown_path_is_refused_with_the_nearest(
  dataset, message, data_dir, monkeypatch
):
  with pytest.raises(InputError, match=message):
    tfds_features.check(dataset, data_dir=data_dir)
  monkeypatch.setenv('TFDS_DATA_DIR', data_dir)
  assert 'unknown-path' in {finding.rule for finding in lint.lint([dataset])}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'answer': Text('question')},
      r"every target would be these.*Text\('{question}'\)",
    ),
    ({'answer': Text('{qestion}')}, "field 'qestion'.*did you mean 'question'"),
    (
      {'answer': Choice('label', ('{choice}', '{chioce}'))},
      "field 'chioce'.*did you mean 'choice'",
    ),
    ({'source': 'quiz/easy:1.0.0'}, "source 'quiz/easy:1.0.0'; must be a source"),
    ({'train': 'train[:10%]'}, r"'quiz': train: split 'train\[:10%\]': must be a TFDS"),
    (
      {'test': 'train[-200:]', 'train': 'train', 'dev': ''},
      r"'quiz': test is 'train\[-200:\]' and train is 'train', which share 90 examples"
      r"; must share none, as 'train\[:-200\]' and 'train\[-200:\]'",
    ),
    ({'dev': 'test'}, "test is 'test' and dev is 'test', which share 9 examples"),
    ({'dev': 'train[-11:]'}, r'dev is .* and train is .*, which share 1 example;'),
    (
      {'train': 'train[10:5]'},
      r"train is 'train\[10:5\]', no example of the 90 of 'train'",
    ),
    (
      {'train': 'train[:-0]'},
      r"train is 'train\[:-0\]', no example of the 90 of 'train'",
    ),
    (
      {'dev': 'train[90:]'},
      r"dev is 'train\[90:\]', no example .* or be '' for no dev",
    ),
    (
      {'source': None, 'sizes': {}, 'train': 'train[5:5]'},
      r"train is 'train\[5:5\]', no example; must have one",
    ),
    (
      {'source': None, 'sizes': {}, 'train': 'train[:30]', 'dev': 'train[29:40]'},
      r'which share examples; must share none',
    ),
    ({'test': 'tset'}, "test is 'tset', and sizes has no 'tset'.*did you mean 'test'"),
  ],
)
def test_a_declaration_that_cannot_work_is_refused(changes, message):
  plain = dataclasses.replace(QUIZ, templates=(Template('{question}'),))
  with pytest.raises(InputError, match=message):
    dataclasses.replace(plain, **changes)


@pytest.fixture
def misspelled():
  """Name of a dataset whose metric is misspelled."""
  with registry.restored():
    wrong = dataclasses.replace(registry.get('rte'), metric='acuracy')
    registry.register(wrong, replace=True)
    yield wrong.name


def test_a_metric_that_does_not_exist_stops_what_uses_it(misspelled, tmp_path, capsys):
  """The metric's name is looked up once all declarations are imported."""
  assert dispatch.main(['tasks']) == 0, 'others are listed'
  out = tmp_path / 'out'
  for verb in (
    ['lint'],
    ['materialize', '--mixture', 'flan_all', '--out', str(out)],
    ['show', 'flan_rte'],
    ['fetch', 'rte'],
    [
      'eval',
      f'--gin.OUTPUT_DIR={out}',
      '--gin.CHECKPOINT=microworld',
      '--gin.CLUSTERS=nli',
    ],
  ):
    assert dispatch.main(verb) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"dataset {misspelled!r}: metric 'acuracy'" in line
    assert "did you mean 'accuracy'" in line
  assert not out.exists()
