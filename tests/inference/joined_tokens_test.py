"""An option has the tokens it has in the joined text of prompt and option."""

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


def test_tokens_that_merge_shorten_the_prompt_of_all_options(kinds):
  """`cat` is one token, which the prompt `12 ca` splits; all options begin there."""
  found = kinds['dummy_prefix']
  assert len(found.encode('12 cat')) > 1
  (joined,) = joined_tokens.join([('12 ca', ['t', 'r'])], found)
  assert len(joined.prompt) < len(found.encode('12 ca'))
  wholes = [[*joined.prompt.tolist(), *ids.tolist()] for ids in joined.options]
  assert wholes == [found.encode(text).tolist() for text in ('12 cat', '12 car')]


def test_without_options_the_prompt_is_whole():
  (joined,) = joined_tokens.join([('Answer:', [])], BYTES)
  assert joined.prompt.tolist() == BYTES.encode('Answer:').tolist()
  assert joined.options == ()


@pytest.mark.parametrize('kind', KINDS)
def test_a_generated_answer_begins_with_its_own_blank(kinds, kind):
  """Generation gets the prompt alone; the text after it is the answer."""
  found = kinds[kind]
  prompt = found.encode('The cat is on the mat.\nAnswer:').tolist()
  whole = found.encode('The cat is on the mat.\nAnswer: yes\n\nThe').tolist()
  assert whole[: len(prompt)] == prompt
  spec = PromptSpec(
    dataset=PLAIN, templates=(0,), **continuation_prompts.delimiters(PLAIN)
  )
  answer = spec.answer(found.decode(whole[len(prompt) :]))
  assert answer == ('yes The' if kind == 't5_like' else 'yes')  # it has no newline


class Recorder(Oracle):
  """Keeps the requests it gets."""

  def __init__(self, tokenizer, *, sequence_length=256):
    super().__init__(lambda prompt: 'yes')
    self.tokenizer = tokenizer
    self.sequence_length = sequence_length
    self.requests = []

  def loglikelihood(self, requests):
    self.requests += requests
    scores = [np.arange(len(r.options), dtype=np.float32) for r in requests]
    return Scored(scores, 10, 20)


def predict(dataset, model, *, count=2, change=lambda example: example, **how):
  predictor = Predictor(
    models={'tuned': model}, limits=Limits(), max_tokens=8, emit=None,
    clocks={'tuned': Clock()}, warnings=Warnings(),
  )  # fmt: skip
  spec = PromptSpec(dataset=dataset, templates=(0,), **how)
  read = examples(dataset, count)
  batch = [('test', change(example)) for example in read(dataset.name, 'test')]
  predictor.predict({'tuned': spec}, batch)
  return predictor.warnings.lines()


@pytest.mark.parametrize('kind', KINDS)
def test_the_evaluator_joins_texts_if_answers_continue_the_prompt(kinds, kind):
  model = Recorder(kinds[kind])
  assert not predict(PLAIN, model, **continuation_prompts.delimiters(PLAIN))
  for i, request in enumerate(model.requests):
    for word, option in zip(('yes', 'no'), request.options, strict=True):
      text = f'Fact {i} of test.\nAnswer: {word}'
      whole = [*request.prompt.tolist(), *option.tolist()]
      assert whole == kinds[kind].encode(text).tolist()


@pytest.mark.parametrize('kind', KINDS)
def test_after_eos_an_option_is_a_text_of_its_own(kinds, kind):
  model = Recorder(kinds[kind])
  predict(PLAIN, model)
  for i, request in enumerate(model.requests):
    prompt = kinds[kind].encode(f'Fact {i} of test.\nAnswer:').tolist()
    assert request.prompt.tolist() == prompt
    assert [o.tolist() for o in request.options] == [
      kinds[kind].encode(word).tolist() for word in ('yes', 'no')
    ]


@pytest.mark.parametrize('kind', KINDS)
def test_a_joined_text_is_cut_to_fit(kinds, kind):
  def long(example):
    return example._replace(
      values=example.values | {'premise': 'the cat is on 12 mats ' * 40}
    )

  model = Recorder(kinds[kind], sequence_length=60)
  (line,) = predict(
    PLAIN, model, count=1, change=long, **continuation_prompts.delimiters(PLAIN)
  )
  assert 'prompts with fields cut to fit' in line
  (request,) = model.requests
  longest = len(request.prompt) + max(map(len, request.options))
  assert 30 < longest + 1 <= 60
  assert kinds[kind].decode(request.prompt.tolist()).endswith('Answer:')


def test_prompts_with_unknown_words_are_named(kinds):
  def russian(example):
    return example._replace(values=example.values | {'premise': 'кот на ковре'})

  (line,) = predict(PLAIN, Recorder(kinds['t5_like']), count=1, change=russian)
  assert 'prompts with words that the vocabulary lacks (example test.0.0' in line
  assert not predict(PLAIN, Recorder(kinds['own']), count=1, change=russian)


def with_options(options):
  """Changes the options of the first example."""

  def change(example):
    if example.example_id.endswith('.1'):
      return example
    answer = dataclasses.replace(example.answer, options=options)
    return example._replace(answer=answer)

  return change


def test_an_example_with_an_option_of_no_token_is_named_and_left_out(kinds):
  model = Recorder(kinds['t5_like'])
  (line,) = predict(
    PLAIN,
    model,
    change=with_options(('yes', '')),
    **continuation_prompts.delimiters(PLAIN),
  )
  assert 'an option has no token after the prompt (example test.0.0)' in line
  assert len(model.requests) == 1


@pytest.mark.parametrize('kind', KINDS)
def test_an_example_without_option_text_is_named_and_left_out(kinds, kind):
  model = Recorder(kinds[kind])
  (line,) = predict(
    PLAIN,
    model,
    change=with_options(('', ' ')),
    **continuation_prompts.delimiters(PLAIN),
  )
  assert 'left out: no option has a token (example test.0.0)' in line
  assert len(model.requests) == 1
