"""Extracts: fields made of several places of a record."""

import pytest

from flan_jax.catalog import extracts


@pytest.mark.parametrize(
  ('before', 'pronoun', 'after', 'option', 'prompt_style'),
  [
    ('Tina met', 'her', ' boyfriend.', 'Tina', "Tina's"),
    ('Ann told', 'her', ' about it.', 'Tina', 'Tina'),
    ('Ann told', 'her', '.', 'Tina', 'Tina'),
    ('Ann saw', 'her', '', 'Tina', 'Tina'),
    ('Ann broke', 'her', ' silence.', 'Tina', "Tina's"),
    ('It was', 'his', ' turn.', 'Bill', "Bill's"),
    ('They ate', 'their', ' lunch.', 'the boys', "the boys'"),
    ('I saw', 'him', ' run.', 'Bill', 'Bill'),
  ],
)
def test_an_option_takes_the_form_of_its_pronoun(
  before, pronoun, after, option, prompt_style
):
  text = f'{before} {pronoun}{after}'
  end = len(before) + 1 + len(pronoun)
  record = {'text': text, 'pronoun': pronoun, 'end': end, 'option': option}
  clean = extracts.standing_for('option', pronoun='pronoun', text='text', end='end')
  assert clean(record) == prompt_style


def test_a_noun_is_capitalized_as_in_its_text():
  clean = extracts.as_in('text', field='noun')
  text = 'Jim signaled the barman.\nThe end'
  assert clean({'text': text, 'noun': 'The barman'}) == 'the barman'
  assert clean({'text': text, 'noun': 'Jim'}) == 'Jim'
  assert clean({'text': text, 'noun': 'The\nend'}) == 'The end'
  assert clean({'text': text, 'noun': 'Oslo'}) == 'Oslo'
