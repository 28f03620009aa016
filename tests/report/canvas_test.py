"""Figures on a phone: text of at least 12 px at a width of 390 px."""

import math
import pathlib
import re
import xml.etree.ElementTree as ET

import made_report
import pytest

from flan_jax.report import canvas, plots, training_plots

CSS = pathlib.Path(canvas.__file__).with_name('page.css').read_text(encoding='utf-8')
CURVES = {
  'train': [[10, 3.0], [20, 2.0]],
  'validation': [[10, 3.1], [20, 2.2]],
  'held_out': {'nli': [[10, 40.0], [20, 50.0]]},
  'metrics': {'sst2': [[10, 60.0], [20, 70.0]]},
}
TEXT = '{http://www.w3.org/2000/svg}text'
NAME = 'a_model_with_a_name_of_many_letters'


@pytest.fixture(scope='module')
def drawn():
  untuned = made_report.report(model=NAME, trained_on=[], train_examples={})
  return plots.draw(untuned | {'curves': CURVES})


def test_every_text_is_at_least_12_px(drawn):
  assert len(drawn) == 5
  assert f'padding: 1.25rem {made_report.PADDING / 32:.0f}rem' in CSS
  for name, svg in drawn.items():
    assert made_report.text_on_a_phone(svg) >= 12, name


def test_every_text_is_inside_its_figure(drawn):
  """By the width of a letter: half its height, and a little more."""
  for name, svg in drawn.items():
    root = ET.fromstring(svg)
    width = float(root.get('width').removesuffix('pt'))
    for text in root.iter(TEXT):
      if 'rotate(-90' in text.get('transform', '') or text.get('x') is None:
        continue
      at = float(text.get('x'))
      letters = len(''.join(text.itertext())) * 0.56 * canvas.FONT_SIZE
      anchor = text.get('style', '')
      end = at + (letters / 2 if 'middle' in anchor else letters)
      if 'anchor: end' not in anchor:
        assert end <= width + 4, (name, ''.join(text.itertext()))


def test_the_right_axis_is_the_perplexity_of_the_loss_on_the_left():
  svg = training_plots.draw({'curves': CURVES})['loss']
  heights: dict[str, dict[float, float]] = {'start': {}, 'end': {}}
  for text in ET.fromstring(svg).iter(TEXT):
    label = ''.join(text.itertext())
    for side, found in heights.items():
      if f'anchor: {side}' in text.get('style') and re.fullmatch(r'[\d.]+', label):
        found[float(label)] = float(text.get('y'))
  losses = heights['end']
  nat = losses[3.0] - losses[2.0]
  for perplexity, height in heights['start'].items():
    assert height == pytest.approx(
      losses[2.0] + nat * (math.log(perplexity) - 2), abs=0.5
    )
  assert len(heights['start']) >= 3


def test_a_table_that_goes_on_shows_it_at_its_edge():
  (rule,) = re.findall(r'^\.scroll \{(.*?)\}', CSS, re.DOTALL | re.MULTILINE)
  assert rule.count(' scroll') >= 2, 'two shadows stay at the edges'
  assert rule.count(' local') >= 2, 'and are covered where the table ends'
