"""Rendering: what is too long loses the end of its longest field and nothing else."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flan_jax import catalogue, templates
from flan_jax.data import draw, rendering, tokenizer
from flan_jax.data.rendering import Limits, Renderer

BYTES = tokenizer.load('bytes')


def row_of(name, record, row_id='train.0.0'):
  return catalogue.get(name, family='tiny').read(record, row_id)


def pair(premise, hypothesis='It is so.', label=0, row_id='train.0.0'):
  record = {'premise': premise, 'text': {'hypothesis': hypothesis}, 'label': label}
  return row_of('pairs', record, row_id)


def render(name, rows, *, limits, epoch=0, row_length=None):
  dataset = catalogue.get(name, family='tiny')
  renderer = Renderer(
    dataset, tokenizer=BYTES, seed=0, limits=limits, row_length=row_length
  )
  return renderer(rows, epoch)


def inputs_of(rendered):
  return BYTES.decode(rendered.example.inputs)


def test_what_fits_is_rendered_by_its_drawn_template(world):
  rows = [pair('a b c', row_id=f'train.0.{i}') for i in range(40)]
  for epoch in (0, 3):
    for row, got in zip(
      rows, render('pairs', rows, limits=Limits(), epoch=epoch), strict=True
    ):
      assert got.template == draw.template(0, row.row_id, epoch, 10)
      prompt = catalogue.render(
        catalogue.get('pairs', family='tiny'), got.template, row
      )
      assert inputs_of(got) == prompt.inputs
      assert BYTES.decode(got.example.targets) == prompt.targets
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
def test_the_longest_field_is_cut_and_the_rest_is_whole(world, premise, limit, number):
  """Instruction, hypothesis and OPTIONS stay; the premise keeps its beginning."""
  text = ' '.join(premise)
  row = pair(text, row_id=f'train.0.{number}')
  limits = Limits(limit, 64)
  (got,) = render('pairs', [row], limits=limits)
  dataset = catalogue.get('pairs', family='tiny')
  template = dataset.templates[got.template]
  whole = catalogue.render(dataset, got.template, row).inputs
  inputs = inputs_of(got)
  assert len(got.example.inputs) <= limit - 1
  assert got.cut_inputs == (len(whole) > limit - 1)
  before, after = whole.split(text, 1)
  assert inputs.startswith(before)
  assert inputs.endswith(after)
  assert text.startswith(inputs[len(before) : len(inputs) - len(after)])
  if template.has_options:
    assert templates.options_block(('yes', 'no')) in inputs
  if got.cut_inputs:
    assert len(got.example.inputs) >= limit - 40  # no more is lost than a long word


def test_a_field_as_long_as_another_shares_the_cut(world):
  row = pair('premise ' * 40, 'hypothesis ' * 30)
  (got,) = render('pairs', [row], limits=Limits(300, 64))
  text = inputs_of(got)
  assert 250 < len(text) < 300
  assert (
    abs(len('premise ') * text.count('premise') - 11 * text.count('hypothesis')) < 20
  )


def test_options_that_cannot_fit_drop_the_row(world):
  """Every template that fits is tried first; options are never cut."""
  record = {'start': 'Go on.', 'one': 'x' * 200, 'two': 'y', 'label': 2}
  assert render('picks', [row_of('picks', record)], limits=Limits(150, 64)) == [None]
  short = row_of('picks', {**record, 'one': 'x'})
  assert render('picks', [short], limits=Limits(150, 64))[0] is not None


def test_only_free_text_targets_are_cut(world):
  story = row_of('stories', {'story': 'Once.', 'title': 'long ' * 30})
  (got,) = render('stories', [story], limits=Limits(1024, 32))
  assert got.cut_targets
  assert BYTES.decode(got.example.targets) == ('long ' * 30)[:31]
  record = {'start': 'Go on.', 'one': 'x' * 40, 'two': 'y', 'label': 1}
  assert render('picks', [row_of('picks', record)], limits=Limits(1024, 32)) == [None]


def test_a_template_that_does_not_fit_gives_way_to_the_next(world):
  """Only the turned-around template writes the hypothesis; here it is blank."""
  rows = [pair('a b', hypothesis='', row_id=f'train.0.{i}') for i in range(60)]
  turned = 9
  drawn = [draw.template(0, row.row_id, 0, 10) for row in rows]
  assert turned in drawn
  for template, got in zip(drawn, render('pairs', rows, limits=Limits()), strict=True):
    assert got.redrawn == (template == turned)
    assert got.template != turned


@pytest.mark.parametrize('epoch', [0, 4, 13])
def test_whether_a_row_is_dropped_does_not_depend_on_the_epoch(world, epoch):
  rows = [
    row_of(
      'picks', {'start': 's', 'one': 'x' * n, 'two': 'y', 'label': 2}, f'train.0.{n}'
    )
    for n in range(20, 120, 7)
  ]
  first = [got is None for got in render('picks', rows, limits=Limits(90, 64))]
  again = [
    got is None for got in render('picks', rows, limits=Limits(90, 64), epoch=epoch)
  ]
  assert first == again
  assert True in first
  assert False in first


def test_a_row_of_the_result_does_not_depend_on_its_batch(world):
  rows = [pair('word ' * n, row_id=f'train.0.{n}') for n in range(1, 60, 5)]
  together = render('pairs', rows, limits=Limits(128, 64))
  for row, got in zip(rows, together, strict=True):
    (alone,) = render('pairs', [row], limits=Limits(128, 64))
    assert alone.example.inputs.tolist() == got.example.inputs.tolist()


def test_a_row_length_bounds_the_whole_example(world):
  row = row_of('stories', {'story': 'word ' * 100, 'title': 'title ' * 10})
  (got,) = render('stories', [row], limits=Limits(1024, 256), row_length=200)
  assert 160 < len(got.example.inputs) + len(got.example.targets) + 1 <= 200
  assert len(got.example.targets) == 59


def test_cuttable_fields_leave_out_answers_and_options(world):
  assert rendering.cuttable(catalogue.get('picks', family='tiny'), 0) == {'start': 1}
  assert rendering.cuttable(catalogue.get('pairs', family='tiny'), 9) == {'premise': 1}
