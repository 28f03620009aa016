"""A declaration is held against the features of the data before a record is read."""

import dataclasses
import json
import subprocess
import sys

import pytest

from flan_jax import catalogue, lint, schema
from flan_jax.catalogue import Dataset
from flan_jax.errors import InputError
from flan_jax.fields import Choice, Field, Label, Text, join, pick
from flan_jax.templates import Template

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
  tfds='quiz/easy:1.0.0',
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
  """Lists, dictionaries of lists, and what is inside a feature of another kind."""
  schema.check(QUIZ, data_dir=data_dir)


def test_what_is_not_prepared_is_not_judged(tmp_path):
  schema.check(with_field('nonsense'), data_dir=str(tmp_path))


@pytest.mark.parametrize(
  ('dataset', 'message'),
  [
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
def test_a_path_that_no_record_has_is_refused_with_the_nearest(
  dataset, message, data_dir, monkeypatch
):
  with pytest.raises(InputError, match=message):
    schema.check(dataset, data_dir=data_dir)
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
    ({'tfds': 'quiz/easy'}, "tfds 'quiz/easy'.*with its version"),
    ({'train': 'train[:10%]'}, r"'quiz': train: split 'train\[:10%\]': must be a TFDS"),
    ({'test': 'tset'}, "test is 'tset', and sizes has no 'tset'.*did you mean 'test'"),
  ],
)
def test_a_declaration_that_cannot_work_is_refused_as_it_is_made(changes, message):
  plain = dataclasses.replace(QUIZ, templates=(Template('{question}'),))
  with pytest.raises(InputError, match=message):
    dataclasses.replace(plain, **changes)


def test_a_metric_that_does_not_exist_stops_every_verb(tmp_path):
  """The metric's name is looked up once all declarations are imported."""
  code = (
    'import dataclasses, sys; import flan_jax.tasks as tasks; from flan_jax import cli;'
    'first, *rest = tasks.DATASETS;'
    "tasks.DATASETS = [dataclasses.replace(first, metric='acuracy'), *rest];"
    'sys.exit(cli.main(sys.argv[1:]))'
  )
  name = next(iter(catalogue.family('flan')))
  out = tmp_path / 'out'
  for verb in (
    ['lint'],
    ['tasks'],
    ['materialize', '--mixture', 'flan_all', '--out', str(out)],
  ):
    done = subprocess.run(
      [sys.executable, '-c', code, *verb], capture_output=True, text=True
    )
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert f"dataset {name!r}: metric 'acuracy'" in line
    assert "did you mean 'accuracy'" in line
  assert not out.exists()
