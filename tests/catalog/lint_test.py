"""Lint finds each mistake that is planted, and nothing in a clean dataset."""

import dataclasses
import json
import subprocess
import sys

import pytest

from flan_jax.catalog import lint, registry
from flan_jax.catalog.answers import Choice, Label, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.excerpts import opening
from flan_jax.catalog.fields import Field
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

QUESTIONS = (
  'Is the claim below true to this passage?',
  'Having read all that, would you sign it?',
  'Tell me whether the statement holds.',
  'A fact-checker has both texts in front of her. Her verdict?',
  'Judge, from nothing but the source, how true the assertion sounds.',
  'Could somebody who trusts one line doubt another?',
  'Weigh up these two sentences against each other.',
  'Mark the pupil right or wrong.',
  'What should a careful reader make of it?',
  'Compare, then decide.',
)

CLEAN = Dataset(
  name='claims',
  cluster='nli',
  source=Tfds('claims:1.0.0'),
  train='train',
  dev='',
  test='test',
  sizes={'train': 9, 'test': 9},
  fields={'passage': 'passage', 'claim': 'claim'},
  answer=Label('label', ('yes', 'no')),
  metric='accuracy',
  paper_name='claims',
  templates=tuple(
    Template(f'{question}\n\n{{passage}}\n{{claim}}\n\n{{OPTIONS}}')
    for question in QUESTIONS
  ),
)


def changed(**values) -> Dataset:
  """CLEAN with other values, without the checks of a declaration."""
  dataset = dataclasses.replace(CLEAN)
  for name, value in values.items():
    object.__setattr__(dataset, name, value)
  return dataset


def with_template(inputs: str, targets: str = '{answer}', is_inverted: bool = False):
  """CLEAN with another last template."""
  return changed(
    templates=(*CLEAN.templates[:-1], Template(inputs, targets, inverted=is_inverted))
  )


def test_a_clean_dataset_gives_no_finding():
  assert lint.lint([CLEAN]) == []


@pytest.mark.parametrize(
  'templates',
  [
    (Template('{passage}\n{claim}'),),
    (Template('{passage}\n{claim}'), Template('{claim}\n{passage}')),
    (
      *CLEAN.templates,
      *(Template(f'{i} {{claim}}', '{passage}', True) for i in '1234'),
    ),
  ],
)
def test_the_protocol_of_the_paper_is_asked_of_its_own_datasets_alone(templates):
  """Ten templates, three inverted ones, OPTIONS, words that no other dataset has."""
  settings = {'templates': templates, 'source': None, 'sizes': {}, 'train': None}
  own = changed(paper_name='', test=None, **settings)
  another = dataclasses.replace(own, name='another')
  assert lint.lint([own, another]) == []
  paper = lint.lint([changed(**settings), changed(name='another', **settings)])
  assert {finding.rule for finding in paper} & {
    'too-few-templates',
    'too-many-inverted',
    'options-missing',
    'equal-across',
  }


def test_a_second_clean_dataset_may_reuse_field_names():
  other = changed(
    name='rumours',
    source=Tfds('rumours:1.0.0'),
    templates=tuple(
      Template(f'Rumour {i}: {t.inputs}') for i, t in enumerate(CLEAN.templates)
    ),
  )
  assert lint.lint([CLEAN, other]) == []


BODY = '{passage}\n{claim}'
TEMPLATE_DEFECTS = [
  ('unknown-field', with_template(BODY + ' {pasage} so?\n{OPTIONS}')),
  ('missing-evidence', with_template('{passage}\nSo it is said, eh?\n{OPTIONS}')),
  ('missing-evidence', with_template('Guess away, for luck.\n{OPTIONS}')),
  ('answer-in-inputs', with_template(BODY + ' Say {answer}, friend.\n{OPTIONS}')),
  ('target', with_template(BODY + ' So what?\n{OPTIONS}', '{claim}')),
  ('target', with_template('{passage} Any luck, then?', is_inverted=True)),
  ('target-no-label', with_template(BODY + '\nSo?\n{OPTIONS}', '{answer}.')),
  ('target-no-label', with_template(BODY + '\nSo?\n{OPTIONS}', 'It is {answer}')),
  ('too-long', with_template(BODY + '\n' + 'luck ' * 740 + 'is all\n{OPTIONS}')),
  ('blank', with_template(' ' + BODY + '\nAny luck?\n{OPTIONS}')),
  ('blank', with_template('Summon {passage}.', '{claim} ', is_inverted=True)),
  ('blank', with_template(BODY + ' \nAny luck?\n{OPTIONS}')),
  ('doubled-blank-line', with_template(BODY + '\n\n\nAny luck?\n{OPTIONS}')),
  ('options-last', with_template('{OPTIONS}\n' + BODY + '\nAny luck?')),
  ('options-last', with_template(BODY + '\nAny luck? {OPTIONS}')),
  ('options-last', with_template(BODY + '\n{OPTIONS}\n{OPTIONS}')),
  ('options-missing', with_template(BODY + '\nAny luck?')),
  ('duplicate', with_template(CLEAN.templates[0].inputs.replace('\n\n', '\n'))),
  ('near-duplicate', with_template('So ' + CLEAN.templates[0].inputs)),
]


@pytest.mark.parametrize(('rule', 'dataset'), TEMPLATE_DEFECTS)
def test_a_defect_in_a_template_is_found(rule, dataset):
  assert {(f.template, f.rule) for f in lint.lint([dataset])} == {(9, rule)}


def inverted(count: int) -> tuple[Template, ...]:
  """The templates of CLEAN, the first `count` inverted: they ask for the claim."""
  asked = (t.inputs.replace('\n{claim}\n\n{OPTIONS}', '') for t in CLEAN.templates)
  return (
    *(Template(inputs, '{claim}', True) for inputs in list(asked)[:count]),
    *CLEAN.templates[count:],
  )


DATASET_DEFECTS = [
  ('unknown-source', changed(derived_from=('squad',))),
  ('label-count', changed(answer=Label('label', ('yes',)))),
  (
    'unused-direction',
    changed(
      answer=Text('{claim}'),
      directions={'a-b': '{claim}', 'b-a': '{passage}'},
      templates=tuple(
        Template(f'{question}\n\n{{passage}}', direction='a-b')
        for question in QUESTIONS
      ),
    ),
  ),
  ('unused-field', changed(fields={**CLEAN.fields, 'source': 'source'})),
  ('too-few-templates', changed(templates=CLEAN.templates[:9])),
  ('too-many-inverted', changed(templates=inverted(4))),
  ('label-blank', changed(answer=Label('label', ('yes', ' no')))),
  ('label-prefix', changed(answer=Label('label', ('no', 'not at all')))),
  ('label-blank', changed(answer=Label('label', ('yes', '')))),
  ('label-blank', changed(answer=Label('label', ('yes', 'by no\nmeans')))),
  ('label-repeated', changed(answer=Label('label', ('yes', 'no', 'Yes')))),
  ('label-prefix', changed(answer=Choice('label', ('{claim}', '{claim} too')))),
]


@pytest.mark.parametrize(('rule', 'dataset'), DATASET_DEFECTS)
def test_a_defect_of_a_dataset_is_found(rule, dataset):
  assert [(f.template, f.rule) for f in lint.lint([dataset])] == [(None, rule)]


def test_three_inverted_templates_are_allowed():
  assert lint.lint([changed(templates=inverted(3))]) == []


def test_two_fields_with_one_path_are_one_piece_of_evidence():
  beginning = Field('passage', opening(20))
  templates = with_template('{lead}\n{claim}\nAny luck?\n{OPTIONS}').templates
  fields = {**CLEAN.fields, 'lead': beginning}
  assert lint.lint([changed(fields=fields, templates=templates)]) == []


THREE = Label('label', ('yes', 'no', 'cannot say'))


@pytest.mark.parametrize(
  'question',
  [
    'Does one line follow from another?',
    'Would it be fair to infer the second line?',
    'Say whether the upper line supports the lower.',
    'Can one be proved by another?',
  ],
)
def test_no_is_ambiguous_among_three_labels_if_the_question_asks_for_proof(question):
  ask = with_template(f'{BODY}\n{question}\n{{OPTIONS}}')
  three = changed(answer=THREE, templates=ask.templates)
  assert lint.lint([ask]) == []
  found = [(f.template, f.rule) for f in lint.lint([three])]
  assert found == [(9, 'label-ambiguous')]


def test_no_is_clear_among_three_labels_if_the_question_asks_for_truth():
  ask = with_template(f'Proof first.\n{BODY}\nIs it a true story?\n{{OPTIONS}}')
  assert lint.lint([changed(answer=THREE, templates=ask.templates)]) == []


TONE = Label('label', ('kind', 'harsh'))
TONES = tuple(
  Template(f'{opening}\n\n{{passage}}\n{{claim}}\n\n{{OPTIONS}}')
  for opening in (
    'Kind or harsh?', 'Name its tone.', 'What is the spirit of these lines?',
    'How would you put up with such a neighbor?', 'Tone:', 'Pick an adjective.',
    'Would you call him kind?', 'A critic wrote to us. In which voice?',
    'Hear both speakers out.',
  )
)  # fmt: skip


@pytest.mark.parametrize(
  ('question', 'found'),
  [
    ('Was he polite that morning?', ['label-mismatch']),
    ('By your standards, does he deserve a medal?', ['label-mismatch']),
    ('Was he polite that morning, or rude?', []),
    ('By your standards, what does he deserve?', []),
  ],
)
def test_a_yes_or_no_question_needs_yes_or_no_among_its_labels(question, found):
  last = Template(f'{question}\n{BODY}\n{{OPTIONS}}')
  tones = changed(answer=TONE, templates=(*TONES, last))
  assert [f.rule for f in lint.lint([tones])] == found
  assert lint.lint([changed(templates=(*CLEAN.templates[:9], last))]) == []


def test_a_document_cut_to_more_words_than_fit_is_too_long():
  def cut_to(words):
    return changed(fields={**CLEAN.fields, 'passage': Field('passage', opening(words))})

  assert lint.lint([cut_to(600)]) == []
  found = lint.lint([cut_to(730)])
  assert {f.rule for f in found} == {'too-long'}
  assert len(found) == 10
  assert 'about 10' in found[0].message
  assert 'must be 1023 at most' in found[0].message


def test_equal_templates_of_two_datasets_are_found_despite_other_field_names():
  stories = [Template(f'Rumour {i}: {{text}}\n{{OPTIONS}}') for i in range(9)]
  copied = Template(CLEAN.templates[4].inputs.replace('{passage}', '{text}'))
  other = changed(name='rumours', templates=(*stories, copied))
  found = [f for f in lint.lint([CLEAN, other]) if f.rule == 'equal-across']
  assert [(f.dataset, f.template) for f in found] == [('rumours', 9)]


def test_variants_of_one_dataset_share_their_templates():
  one = changed(source=Tfds('claims/a:1.0.0'))
  two = changed(name='two', source=Tfds('claims/b:1.0.0'))
  assert lint.lint([one, two]) == []
  stranger = changed(name='stranger', source=Tfds('stranger:1.0.0'))
  assert {f.rule for f in lint.lint([one, stranger])} == {'equal-across'}


def test_every_rule_has_a_planted_defect():
  planted = {rule for rule, _ in TEMPLATE_DEFECTS + DATASET_DEFECTS}
  elsewhere = {'label-ambiguous', 'label-mismatch', 'equal-across'}
  elsewhere |= {'unknown-path'}  # tests/catalog/tfds_features_test.py
  assert planted | elsewhere == set(lint.RULES)


def test_a_finding_is_printed_as_one_line():
  finding = lint.lint([with_template(BODY + '\nAny luck?')])[0]
  assert str(finding) == (
    'claims[9]: options-missing: '
    'the answer is one of the options: end the inputs with {OPTIONS}'
  )


def test_the_catalog_is_clean():
  assert [str(f) for f in lint.lint(registry.datasets('flan').values())] == []


def test_the_verb_prints_no_finding_for_the_catalog():
  command = [sys.executable, '-m', 'flan_jax', 'lint', '--json']
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert json.loads(done.stdout) == []


def test_lint_imports_no_tensorflow_and_no_jax():
  code = (
    'import sys; from flan_jax.catalog import lint, registry;'
    'lint.lint(registry.datasets("flan").values());'
    'print({"tensorflow", "jax"} & set(sys.modules))'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == 'set()'


@pytest.mark.parametrize(
  ('source', 'near'),
  [
    ('squad', "; did you mean 'squad_v2' or 'squad_v1' or 'quac'?"),
    ('wikihow', "; did you mean 'wikiHow'?"),
    ('claims', ''),
    ('Zq 9', ''),
  ],
)
def test_a_source_that_no_other_dataset_shares_is_found(source, near):
  """A dataset's own name does not count."""
  (found,) = lint.lint([changed(derived_from=(source,))])
  assert found.rule == 'unknown-source'
  assert found.message.startswith(
    f'derived_from {source!r} is neither the name nor a source of another dataset, so '
    f'it finds no leakage{near}'
  )


def test_a_source_is_another_dataset_or_a_text_that_another_names():
  named = changed(derived_from=('squad_v1', 'wikiHow', 'The Times'))
  other = changed(
    name='rumours',
    source=Tfds('rumours:1.0.0'),
    derived_from=('The Times',),
    templates=tuple(
      Template(f'Rumour {i}: {t.inputs}') for i, t in enumerate(CLEAN.templates)
    ),
  )
  assert lint.lint([named, other]) == []
