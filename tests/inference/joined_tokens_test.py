"""An option has the tokens that it has in the text of prompt and option."""

import dataclasses

import numpy as np
import pytest
import small_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import BYTES, RANKED, Oracle, examples

from flan_jax.catalog import continuation_prompts
from flan_jax.catalog.template import Template
from flan_jax.data.preprocess import Limits
from flan_jax.evaluate.predict import Clock, Predictor, PromptSpec, Warnings
from flan_jax.inference import joined_tokens
from flan_jax.inference.rank_options import Scored

KINDS = small_tokenizers.KINDS
PLAIN = dataclasses.replace(RANKED, templates=(Template('{premise}\nAnswer:'),))
WORDS = 'Answer: yes no The cat mat . : , is {a} true\nQuestion 12 é Я <b> \u2581'
words = st.lists(st.sampled_from(WORDS.split(' ')), min_size=1, max_size=6)
texts = words.map(' '.join)


@pytest.mark.parametrize('kind', KINDS)
@given(
  prompt=texts,
  options=st.lists(texts, min_size=1, max_size=4),
  target_delimiter=st.sampled_from([' ', '', '\n']),
)
@settings(max_examples=80)
def test_prompt_and_option_are_the_tokens_of_the_joined_text(
  kinds, kind, prompt, options, target_delimiter
):
  found = kinds[kind]
  options = [target_delimiter + option for option in options]
  (joined,) = joined_tokens.join([(prompt, options)], found)
  alone = found.encode(prompt).tolist()
  assert alone[: len(joined.prompt)] == joined.prompt.tolist()
  for option, ids in zip(options, joined.options, strict=True):
    whole = [*joined.prompt.tolist(), *ids.tolist()]
    assert whole == found.encode(prompt + option).tolist()
  wholes = [found.encode(prompt + option).tolist() for option in options]
  if all(ids[: len(alone)] == alone for ids in wholes):
    assert joined.prompt.tolist() == alone  # shortened only where tokens merge


@pytest.mark.parametrize('kind', KINDS)
def test_an_option_after_a_prompt_has_no_second_blank(kinds, kind):
  found = kinds[kind]
  (joined,) = joined_tokens.join([('Answer:', [' yes', ' no'])], found)
  assert joined.prompt.tolist() == found.encode('Answer:').tolist()
  for option, ids in zip(('yes', 'no'), joined.options, strict=True):
    there = found.encode(f'Answer: {option} {option}').tolist()
    assert there[len(joined.prompt) :][: len(ids)] == ids.tolist()
  if kind in ('dummy_prefix', 'prepending'):
    blank = found.encode(' ').tolist()[0]
    assert blank in found.encode(' yes').tolist()  # tokenized apart it would have
    assert all(blank not in ids.tolist() for ids in joined.options)


def test_tokens_that_merge_at_the_seam_shorten_the_prompt_of_all_options(kinds):
  """'cat' and 's' are one token of their own in `cats`; all options begin before it."""
  found = kinds['dummy_prefix']
  assert len(found.encode('12 cat')) > 1
  (joined,) = joined_tokens.join([('12 ca', ['t', 'r'])], found)
  assert len(joined.prompt) < len(found.encode('12 ca'))
  wholes = [[*joined.prompt.tolist(), *ids.tolist()] for ids in joined.options]
  assert wholes == [found.encode(text).tolist() for text in ('12 cat', '12 car')]


def test_no_option_leaves_the_prompt_as_it_is():
  (joined,) = joined_tokens.join([('Answer:', [])], BYTES)
  assert joined.prompt.tolist() == BYTES.encode('Answer:').tolist()
  assert joined.options == ()


@pytest.mark.parametrize('kind', KINDS)
def test_a_written_answer_brings_its_own_blank(kinds, kind):
  """Generation reads the prompt alone: what follows it in the text is the answer."""
  found = kinds[kind]
  prompt = found.encode('The cat is on the mat.\nAnswer:').tolist()
  whole = found.encode('The cat is on the mat.\nAnswer: yes\n\nThe').tolist()
  assert whole[: len(prompt)] == prompt
  question = PromptSpec(
    dataset=PLAIN, templates=(0,), **continuation_prompts.delimiters(PLAIN)
  )
  said = question.answer(found.decode(whole[len(prompt) :]))
  assert said == ('yes The' if kind == 't5_like' else 'yes')  # it has no newline


class Listener(Oracle):
  """Keeps what it is asked."""

  def __init__(self, tokenizer, *, sequence_length=256):
    super().__init__(lambda prompt: 'yes')
    self.tokenizer = tokenizer
    self.sequence_length = sequence_length
    self.heard = []

  def score(self, requests):
    self.heard += requests
    scores = [np.arange(len(r.options), dtype=np.float32) for r in requests]
    return Scored(scores, 10, 20)


def ask(dataset, model, *, count=2, change=lambda row: row, **how):
  measurement = Predictor(
    models={'tuned': model}, limits=Limits(), max_new_tokens=8, emit=None,
    clocks={'tuned': Clock()}, warnings=Warnings(),
  )  # fmt: skip
  question = PromptSpec(dataset=dataset, templates=(0,), **how)
  asked = [
    ('test', change(row)) for row in examples(dataset, count)(dataset.name, 'test')
  ]
  measurement.measure({'tuned': question}, asked)
  return measurement.warnings.lines()


@pytest.mark.parametrize('kind', KINDS)
def test_the_protocol_asks_for_joined_text_where_answers_continue(kinds, kind):
  model = Listener(kinds[kind])
  assert not ask(PLAIN, model, **continuation_prompts.delimiters(PLAIN))
  for i, request in enumerate(model.heard):
    for word, option in zip(('yes', 'no'), request.options, strict=True):
      text = f'Fact {i} of test.\nAnswer: {word}'
      whole = [*request.prompt.tolist(), *option.tolist()]
      assert whole == kinds[kind].encode(text).tolist()


@pytest.mark.parametrize('kind', KINDS)
def test_after_eos_an_option_is_a_text_of_its_own(kinds, kind):
  model = Listener(kinds[kind])
  ask(PLAIN, model)
  for i, request in enumerate(model.heard):
    prompt = kinds[kind].encode(f'Fact {i} of test.\nAnswer:').tolist()
    assert request.prompt.tolist() == prompt
    assert [o.tolist() for o in request.options] == [
      kinds[kind].encode(word).tolist() for word in ('yes', 'no')
    ]


@pytest.mark.parametrize('kind', KINDS)
def test_a_joined_text_is_cut_to_fit(kinds, kind):
  def long(row):
    return row._replace(values=row.values | {'premise': 'the cat is on 12 mats ' * 40})

  model = Listener(kinds[kind], sequence_length=60)
  (line,) = ask(
    PLAIN, model, count=1, change=long, **continuation_prompts.delimiters(PLAIN)
  )
  assert 'prompts with fields cut to fit' in line
  (request,) = model.heard
  longest = len(request.prompt) + max(map(len, request.options))
  assert 30 < longest + 1 <= 60
  assert kinds[kind].decode(request.prompt.tolist()).endswith('Answer:')


def test_prompts_with_unknown_words_are_named(kinds):
  def russian(row):
    return row._replace(values=row.values | {'premise': 'кот на ковре'})

  (line,) = ask(PLAIN, Listener(kinds['t5_like']), count=1, change=russian)
  assert 'prompts with words that the vocabulary lacks (row test.0.0' in line
  assert not ask(PLAIN, Listener(kinds['own']), count=1, change=russian)


def with_options(options):
  """Changes the options of the first example."""

  def change(row):
    if row.example_id.endswith('.1'):
      return row
    return row._replace(answer=dataclasses.replace(row.answer, options=options))

  return change


def test_a_row_with_an_option_of_no_token_is_named_and_left_out(kinds):
  model = Listener(kinds['t5_like'])
  (line,) = ask(
    PLAIN,
    model,
    change=with_options(('yes', '')),
    **continuation_prompts.delimiters(PLAIN),
  )
  assert 'an option has no token after the prompt (row test.0.0)' in line
  assert len(model.heard) == 1


@pytest.mark.parametrize('kind', KINDS)
def test_a_row_without_any_option_text_is_named_and_left_out(kinds, kind):
  model = Listener(kinds[kind])
  (line,) = ask(
    PLAIN,
    model,
    change=with_options(('', ' ')),
    **continuation_prompts.delimiters(PLAIN),
  )
  assert 'left out: no option has a token (row test.0.0)' in line
  assert len(model.heard) == 1
