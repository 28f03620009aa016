"""Fields: paths in a record, and the functions that clean what stands there."""

import pytest

from flan_jax.catalog import fields
from flan_jax.catalog.answers import Answer, Label
from flan_jax.catalog.fields import Field
from flan_jax.errors import InputError


@pytest.mark.parametrize(
  ('text', 'question'),
  [
    ('who sold it', 'who sold it?'),
    ('who sold it ??', 'who sold it?'),
    ('Name a stimulant.', 'Name a stimulant.'),
    ('Who said "why?"', 'Who said "why?"'),
    ('Who said "so"', 'Who said "so"?'),
    ('Who wrote it (both names)', 'Who wrote it (both names)?'),
  ],
)
def test_a_question_ends_with_one_question_mark(text, question):
  assert fields.question_mark(text) == question
  assert fields.question_mark(question) == question


@pytest.mark.parametrize(
  ('text', 'ended'),
  [('It rained', 'It rained.'), ('It rained.', 'It rained.'), ('"Go!"', '"Go!"'),
   ('ten (10)', 'ten (10).'), ('', '')],
)  # fmt: skip
def test_a_sentence_ends_with_a_stop(text, ended):
  assert fields.full_stop(text) == ended


def test_sentences_begin_with_a_capital_and_do_not_end_at_abbreviations():
  text = 'a man kneels on a mat. he stands up, e.g. for us vs. them.\nthen he bows'
  assert fields.sentence_case(text) == (
    'A man kneels on a mat. He stands up, e.g. for us vs. them.\nThen he bows'
  )


@pytest.mark.parametrize(
  ('text', 'cased'),
  [
    ('musicians look on. the woman', 'Musicians look on. The woman'),
    ('pulls herself up. in', 'Pulls herself up. In'),
    ('he rubs it. he', 'He rubs it. He'),
    ('it is over. "the end', 'It is over. "The end'),
    ('he says "no." the man', 'He says "no." The man'),
    ('"no." he says. "go!" she adds', '"No." he says. "Go!" she adds'),
    ('it ends.\nthen', 'It ends.\nThen'),
    ('a 5 in. board, 2 tbsp. oil, mr. roe', 'A 5 in. board, 2 tbsp. oil, mr. roe'),
    ('well... perhaps', 'Well... perhaps'),
  ],
)
def test_a_sentence_begins_with_a_capital(text, cased):
  assert fields.sentence_case(text) == cased
  assert fields.sentence_case(cased) == cased


@pytest.mark.parametrize(
  ('value', 'shown'),
  [
    ('"9"', '9'),
    ('"Squeezed" or "smashed" fried chicken"', '"Squeezed" or "smashed" fried chicken'),
    ('"Squeezed" or "smashed"', '"Squeezed" or "smashed"'),
    ('"100305.0"(minutes)', '100305.0 (minutes)'),
    ('"\'\'Alvinegro"', 'Alvinegro'),
    ("Giants' Ring", "Giants' Ring"),
  ],
)
def test_a_value_of_webnlg_loses_only_the_quotes_around_it(value, shown):
  assert fields.triples([f'A_B | runwayLength | {value}']) == (
    f'A B | runway length | {shown}'
  )


def test_each_element_of_a_list_is_cleaned():
  clean = fields.each(fields.question_mark, fields.capitalized)
  assert clean(['why', 'and when?']) == ['Why?', 'And when?']


def test_every_text_of_an_answer_is_cleaned_alike():
  chosen = Answer('b', ('a', 'b'), (1,), ('b',)).cleaned(str.upper)
  assert chosen == Answer('B', ('A', 'B'), (1,), ('B',))
  written = Answer('one', references=('one', 'ONE', 'two')).cleaned(str.upper)
  assert written == Answer('ONE', references=('ONE', 'TWO'))


RECORD = {'question': {'stem': ' Why? ', 'choices': [{'text': 'a'}, {'text': 'b'}]}}


def test_a_path_goes_through_names_and_positions():
  assert fields.at(RECORD, 'question/choices/1/text') == 'b'
  assert fields.at(RECORD, '') is RECORD
  assert Field('question/stem')(RECORD) == 'Why?'


@pytest.mark.parametrize(
  ('path', 'message'),
  [
    ('question/stems', r"field 'question/stems': no 'stems' in .*'choices', 'stem'"),
    ('question/choices/2', "no '2' in the record"),
    ('question/choices/one', "no 'one' in the record"),
    ('question/stem/0', "no '0' in the record"),
  ],
)
def test_a_path_that_leads_nowhere_names_what_is_there(path, message):
  with pytest.raises(InputError, match=message):
    fields.at(RECORD, path)


def test_a_list_is_no_text_until_it_is_joined():
  with pytest.raises(InputError, match=r"'question/choices': a list of 2; join it"):
    Field('question/choices')(RECORD)
  texts = Field('question/choices', fields.each(lambda c: c['text']), fields.join(', '))
  assert texts(RECORD) == 'a, b'


@pytest.mark.parametrize(
  ('clean', 'value'),
  [
    (fields.first(2), []),
    (fields.without('@-@', '<unk>'), 'a <unk> b'),
    (fields.altered(str.strip, str.title), 'Nothing'),
  ],
)
def test_an_example_of_no_use_is_dropped_and_is_no_error_of_the_user(clean, value):
  with pytest.raises(fields.Unlabeled):
    clean(value)


def test_a_value_outside_the_table_names_those_inside():
  clean = fields.recode({'cause': 'because', 'effect': 'so'})
  assert clean('cause') == 'because'
  with pytest.raises(InputError, match=r"value 'if': must be one of \['cause', "):
    clean('if')


def test_nothing_is_an_empty_text_unless_the_cleaning_says_otherwise():
  """Files and tables may have null where TFDS has an empty text."""
  assert Field('x')({'x': None}) == ''
  assert Field('x', fields.recode({None: 'unknown'}))({'x': None}) == 'unknown'


@pytest.mark.parametrize('value', [1.9, 0.4, '1.9', True, None, 3, float('nan'), [1]])
def test_a_label_is_refused_not_rounded(value):
  with pytest.raises(InputError, match='must be a whole number, 0 to 2'):
    Label('label', ('a', 'b', 'c'))({'label': value}, {})


@pytest.mark.parametrize('value', [1, 1.0, '1', True])
def test_a_label_names_a_class(value):
  assert Label('label', ('no', 'yes'))({'label': value}, {}).text == 'yes'
