"""Rendering: long inputs lose part of a field; a target never ends in mid-sentence."""

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog import registry
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.excerpts import sentences
from flan_jax.catalog.fields import Field
from flan_jax.catalog.template import Template
from flan_jax.data import prompts, stable_hash, tokenizers
from flan_jax.data.preprocess import Limits, Renderer

BYTES = tokenizers.load('bytes')


def example_of(name, record, example_id='train.0.0'):
  return registry.get(name).read(record, example_id)


def pair(premise, hypothesis='It is so.', label=0, example_id='train.0.0'):
  record = {'premise': premise, 'text': {'hypothesis': hypothesis}, 'label': label}
  return example_of('pairs', record, example_id)


def render(name, examples, *, limits, epoch=0, sequence_length=None):
  dataset = registry.get(name)
  renderer = Renderer(
    dataset, tokenizer=BYTES, seed=0, limits=limits, sequence_length=sequence_length
  )
  return renderer(examples, epoch)


def inputs_of(rendered):
  return BYTES.decode(rendered.tokens.inputs)


def test_an_example_that_fits_is_rendered_by_its_drawn_template(tiny_datasets):
  examples = [pair('a b c', example_id=f'train.0.{i}') for i in range(40)]
  for epoch in (0, 3):
    for example, got in zip(
      examples, render('pairs', examples, limits=Limits(), epoch=epoch), strict=True
    ):
      assert got.template == stable_hash.template(0, example.example_id, epoch, 10)
      prompt = prompt_lib.render(registry.get('pairs'), got.template, example)
      assert inputs_of(got) == prompt.inputs
      assert BYTES.decode(got.tokens.targets) == prompt.targets
      assert got[3:] == (False, False, False, ())


@given(
  premise=st.lists(
    st.text('abcdefgh', min_size=1, max_size=12), min_size=1, max_size=200
  ),
  limit=st.integers(90, 300),
  number=st.integers(0, 50),
)
@settings(
  max_examples=60,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_longest_field_is_cut_and_the_rest_is_whole(
  tiny_datasets, premise, limit, number
):
  """Instruction, hypothesis and OPTIONS stay; the premise keeps its beginning."""
  text = ' '.join(premise)
  example = pair(text, example_id=f'train.0.{number}')
  limits = Limits(limit, 64)
  (got,) = render('pairs', [example], limits=limits)
  dataset = registry.get('pairs')
  template = dataset.templates[got.template]
  whole = prompt_lib.render(dataset, got.template, example).inputs
  inputs = inputs_of(got)
  assert len(got.tokens.inputs) <= limit - 1
  assert got.cut_inputs == (len(whole) > limit - 1)
  before, after = whole.split(text, 1)
  assert inputs.startswith(before)
  assert inputs.endswith(after)
  assert text.startswith(inputs[len(before) : len(inputs) - len(after)])
  if template.has_options:
    assert template_lib.options_block(('yes', 'no')) in inputs
  if got.cut_inputs:
    assert len(got.tokens.inputs) >= limit - 40  # no more is lost than a long word


def test_two_long_fields_share_the_cut(tiny_datasets):
  example = pair('premise ' * 40, 'hypothesis ' * 30)
  (got,) = render('pairs', [example], limits=Limits(300, 64))
  text = inputs_of(got)
  assert 250 < len(text) < 300
  assert (
    abs(len('premise ') * text.count('premise') - 11 * text.count('hypothesis')) < 20
  )


def test_options_that_cannot_fit_drop_the_example(tiny_datasets):
  """Every template that fits is tried first; options are never cut."""
  record = {'start': 'Go on.', 'one': 'x' * 200, 'two': 'y', 'label': 2}
  assert render('picks', [example_of('picks', record)], limits=Limits(150, 64)) == [
    None
  ]
  short = example_of('picks', {**record, 'one': 'x'})
  assert render('picks', [short], limits=Limits(150, 64))[0] is not None


STORY = 'Then Ada walked home. They were hungry already, and the road was long. '


def stories(*cleaning):
  """Stories whose title is the target, with a template whose target is the story."""
  stories = registry.get('stories')
  return dataclasses.replace(
    stories,
    fields={'story': 'story', 'title': 'title', 'tale': Field('story', *cleaning)},
    templates=(
      *stories.templates,
      Template('Tell "{title}".', '{tale}', inverted=True),
    ),
  )


def tell(dataset, story, targets, *, title='Home', count=40):
  examples = [
    dataset.read({'story': story, 'title': title}, f'train.0.{i}') for i in range(count)
  ]
  renderer = Renderer(dataset, tokenizer=BYTES, seed=0, limits=Limits(4096, targets))
  return renderer(examples, 0)


def test_a_target_declared_by_sentences_ends_with_one(tiny_datasets):
  """Under any limit, the target is as long as the limit allows."""
  for targets in (30, 60, 90, 120, 300):
    told = tell(stories(sentences(60)), STORY * 6, targets)
    written = [BYTES.decode(got.tokens.targets) for got in told if got.template == 10]
    assert written or targets < len('Then Ada walked home.') + 1
    for text in written:
      assert text.endswith(('home.', 'long.'))
      assert STORY.startswith(text) or text.startswith(STORY.strip())
      assert targets - len(STORY) < len(text) < targets
    assert {got.cut_targets for got in told if got.template == 10} <= {True}


def test_any_other_target_is_whole_or_another_template_is_used(tiny_datasets):
  """No target is a fragment that looks like a whole sentence."""
  whole = tell(stories(), STORY * 3, 1000)
  short = tell(stories(), STORY * 3, 100)
  assert 10 in [got.template for got in whole]
  for before, after in zip(whole, short, strict=True):
    assert after.redrawn == (before.template == 10)
    assert BYTES.decode(after.tokens.targets) == 'Home'


def test_a_text_without_the_end_of_a_sentence_is_no_target(tiny_datasets):
  told = tell(stories(sentences(20)), 'and on and ' * 30, 4000)
  assert {BYTES.decode(got.tokens.targets) for got in told} == {'Home'}
  assert any(got.redrawn for got in told)


def test_an_answer_that_does_not_fit_drops_the_example(tiny_datasets):
  story = example_of('stories', {'story': 'Once.', 'title': 'long ' * 30})
  assert render('stories', [story], limits=Limits(1024, 32)) == [None]
  record = {'start': 'Go on.', 'one': 'x' * 40, 'two': 'y', 'label': 1}
  assert render('picks', [example_of('picks', record)], limits=Limits(1024, 32)) == [
    None
  ]


def test_a_template_that_does_not_fit_is_followed_by_the_next(tiny_datasets):
  """Only the inverted template has the hypothesis as target; here it is blank."""
  examples = [pair('a b', hypothesis='', example_id=f'train.0.{i}') for i in range(60)]
  inverted = 9
  drawn = [stable_hash.template(0, example.example_id, 0, 10) for example in examples]
  assert inverted in drawn
  for template, got in zip(
    drawn, render('pairs', examples, limits=Limits()), strict=True
  ):
    assert got.redrawn == (template == inverted)
    assert got.template != inverted


@pytest.mark.parametrize('epoch', [0, 4, 13])
def test_whether_an_example_is_dropped_does_not_depend_on_the_epoch(
  tiny_datasets, epoch
):
  examples = [
    example_of(
      'picks', {'start': 's', 'one': 'x' * n, 'two': 'y', 'label': 2}, f'train.0.{n}'
    )
    for n in range(20, 120, 7)
  ]
  first = [got is None for got in render('picks', examples, limits=Limits(90, 64))]
  again = [
    got is None for got in render('picks', examples, limits=Limits(90, 64), epoch=epoch)
  ]
  assert first == again
  assert True in first
  assert False in first


def test_a_rendered_example_does_not_depend_on_its_batch(tiny_datasets):
  examples = [pair('word ' * n, example_id=f'train.0.{n}') for n in range(1, 60, 5)]
  together = render('pairs', examples, limits=Limits(128, 64))
  for example, got in zip(examples, together, strict=True):
    (alone,) = render('pairs', [example], limits=Limits(128, 64))
    assert alone.tokens.inputs.tolist() == got.tokens.inputs.tolist()


def test_the_sequence_length_bounds_the_whole_example(tiny_datasets):
  example = example_of('stories', {'story': 'word ' * 100, 'title': 'title ' * 10})
  (got,) = render('stories', [example], limits=Limits(1024, 256), sequence_length=200)
  assert 160 < len(got.tokens.inputs) + len(got.tokens.targets) + 1 <= 200
  assert len(got.tokens.targets) == 59


def test_cuttable_fields_leave_out_answers_and_options(tiny_datasets):
  assert prompts.cuttable(registry.get('picks'), 0) == {'start': 1}
  assert prompts.cuttable(registry.get('pairs'), 9) == {'premise': 1}
