"""Plots: what is drawn is what the report says, in SVG that stands alone."""

import copy
import re
import xml.etree.ElementTree as ET

import hypothesis
import made_report
import matplotlib
import pytest
from hypothesis import strategies as st

from flan_jax.evaluate import calibration
from flan_jax.report import canvas, plots, schema

REPORT = made_report.report()
SVG = '{http://www.w3.org/2000/svg}'
HREF = '{http://www.w3.org/1999/xlink}href'


@pytest.fixture(scope='module')
def drawn():
  return plots.draw(REPORT)


class Drawing:
  """A parsed plot, with places on its axes in percent."""

  def __init__(self, svg: str):
    self.root = ET.fromstring(svg)
    texts = self.root.iter(f'{SVG}text')
    self.texts = [''.join(element.itertext()) for element in texts]
    (clip,) = self.root.iter(f'{SVG}rect')  # the area of the axes, 0 to 100
    sides = (float(clip.get(name)) for name in ('x', 'y', 'width', 'height'))
    self._left, self._top, self._width, self._height = sides

  def x(self, place: float) -> float:
    return 100 * (place - self._left) / self._width

  def y(self, place: float) -> float:
    return 100 - 100 * (place - self._top) / self._height

  def paths(self, *styles: str) -> list[list[tuple[float, float]]]:
    """Corners of every path with these parts in its style."""
    found = []
    for element in self.root.iter(f'{SVG}path'):
      if all(style in element.get('style', '') for style in styles):
        pairs = re.findall(r'[ML] (\S+) (\S+)', element.get('d'))
        found.append([(float(x), float(y)) for x, y in pairs])
    return found

  def bars(self, color: str) -> list[float]:
    """Ends of the bars of a color: of four corners, and clipped to the axes."""
    corners = self.paths(f'fill: {color}', 'stroke-linejoin: miter')
    return [self.x(max(x for x, _ in path)) for path in corners if len(path) == 4]

  def marks(self, *styles: str) -> list[float]:
    """Places of the markers inside the axes, not in the legend."""
    return [
      self.x(float(element.get('x')))
      for element in self.root.iter(f'{SVG}use')
      if all(style in element.get('style', '') for style in styles)
      and 0 <= self.y(float(element.get('y'))) <= 100
    ]


def near(values):
  return pytest.approx(list(values), abs=0.01)


def test_every_plot_is_drawn_and_needs_no_other_file(drawn):
  assert set(drawn) == {'averages', 'templates', 'calibration'}
  for svg in drawn.values():
    root = ET.fromstring(svg)
    assert root.tag == f'{SVG}svg'
    assert not {f'{SVG}{tag}' for tag in ('image', 'script', 'foreignObject')} & {
      element.tag for element in root.iter()
    }
    assert all(e.get(HREF, '#').startswith('#') for e in root.iter())
    assert 'url(' not in svg.replace('url(#', '')


def test_bars_end_at_the_averages(drawn):
  drawing, averages = Drawing(drawn['averages']), schema.averages(REPORT)
  assert drawing.bars(plots.TUNED) == near(a['mean'] for a in averages)
  assert drawing.bars(plots.BASE) == near(a['base']['mean'] for a in averages)
  for key, color in (('chance', plots.CHANCE), ('majority', plots.MAJORITY)):
    known = [a[key] for a in averages if a[key] is not None]
    assert drawing.bars(color) == near(known)


def test_lines_over_the_bars_are_the_intervals(drawn):
  drawing, averages = Drawing(drawn['averages']), schema.averages(REPORT)
  lines = drawing.paths('stroke: #1c2126', 'stroke-width: 1.2')
  found = [[drawing.x(x) for x, _ in line] for line in lines]
  wanted = [of['ci95'] for a in averages for of in (a['base'], a)]
  assert len(found) == len(wanted)
  for line, interval in zip(found, wanted, strict=True):
    assert line == near(interval)


def test_every_bar_has_its_number_beside_it(drawn):
  texts = Drawing(drawn['averages']).texts
  for average in schema.averages(REPORT):
    for figure in (average['mean'], average['base']['mean']):
      assert f'{figure:.1f}' in texts


def test_a_dot_is_a_template_and_a_tick_the_mean(drawn):
  drawing, results = Drawing(drawn['templates']), REPORT['results']
  for color, parts in (
    (plots.TUNED, results),
    (plots.BASE, [result['base'] for result in results]),
  ):
    dots = [entry['test'] for part in parts for entry in part['per_template']]
    assert drawing.marks(f'fill: {color}', 'fill-opacity: 0.45') == near(dots)
    means = drawing.marks(f'fill: {color}', 'stroke-width: 2.4')
    assert means == near(part['mean'] for part in parts)


def test_a_published_figure_is_a_diamond_and_hollow_if_unverified(drawn):
  drawing = Drawing(drawn['templates'])
  known = [
    result['published'].get('flan_137b_zero_shot') for result in REPORT['results']
  ]
  hollow = drawing.marks('fill-opacity: 0;', f'stroke: {plots.PUBLISHED}')
  filled = drawing.marks(f'fill: {plots.PUBLISHED}')
  assert filled == near(k['value'] for k in known if k and k['mark'] == 'confirmed')
  assert hollow == near(k['value'] for k in known if k and k['mark'] != 'confirmed')
  assert hollow
  assert filled


def test_the_calibration_curve_goes_through_the_bins(drawn):
  drawing = Drawing(drawn['calibration'])
  for model, color in (('tuned', plots.TUNED), ('base', plots.BASE)):
    bins = calibration.of_models(REPORT)[model]['bins']
    curves = drawing.paths(f'stroke: {color}', 'stroke-width: 1.4')
    (curve,) = [path for path in curves if len(path) == len(bins)]
    assert [drawing.x(x) for x, _ in curve] == near(b['confidence'] for b in bins)
    assert [drawing.y(y) for _, y in curve] == near(b['right'] for b in bins)


def test_what_was_not_measured_is_not_drawn():
  alone = made_report.report(with_base=False)
  del alone['results'][1:]
  del alone['results'][0]['calibration']
  alone['results'][0]['per_template'][1]['test'] = None
  found = plots.draw(alone)
  assert set(found) == {'averages', 'templates'}
  assert all(plots.BASE not in svg for svg in found.values())
  dots = Drawing(found['templates']).marks('fill-opacity: 0.45')
  per_template = alone['results'][0]['per_template']
  assert dots == near(per_template[i]['test'] for i in (0, 2))


@pytest.mark.parametrize(
  'name', ['<b>&"\'</b>', 'cost $x$ of', 'a$\\frac$b', '_x %s {}']
)
def test_a_name_is_drawn_letter_by_letter(name):
  """A model's folder may have any name; it is neither markup nor mathematics."""
  untuned = made_report.report(model=name, trained_on=[], train_examples={})
  assert name in Drawing(plots.averages(untuned)).texts


def test_a_long_name_of_a_dataset_is_broken_and_whole():
  name = 'a_very_long_name_of_a_dataset_in_many_words'
  report = copy.deepcopy(REPORT)
  report['results'][0]['dataset'] = name
  assert name in ''.join(Drawing(plots.templates(report)).texts)


def test_equal_reports_give_equal_bytes_and_no_setting_stays(drawn):
  before = dict(matplotlib.rcParams)
  assert plots.draw(copy.deepcopy(REPORT)) == drawn
  assert dict(matplotlib.rcParams) == before


figures = st.floats(0, 100)


@hypothesis.settings(max_examples=30)
@hypothesis.given(
  tuned=st.lists(st.none() | figures, min_size=1, max_size=5),
  base=st.none() | st.lists(st.none() | figures, max_size=5),
  chance=st.none() | figures,
)
def test_a_strip_has_a_dot_at_every_figure(tuned, base, chance):
  def of(values):
    return {'per_template': [{'test': value} for value in values]}

  result = {'split': 'test', 'chance': chance, **of(tuned)}
  if base is not None:
    result['base'] = of(base)
  root = ET.fromstring(plots.strip(result))
  for color, values in ((plots.BASE, base or ()), (plots.TUNED, tuned)):
    places = [float(e.get('cx')) for e in root.iter('circle') if e.get('fill') == color]
    width = float(root.get('width')) - 8
    wanted = [4 + value / 100 * width for value in values if value is not None]
    assert places == pytest.approx(wanted, abs=0.051)
  ticks = [e for e in root.iter('path') if e.get('stroke') == plots.MAJORITY]
  assert len(ticks) == (chance is not None)


@pytest.mark.parametrize('title', ['a < b & c', '</title><script>', 'plain'])
def test_plots_on_one_page_share_no_id_and_keep_their_references(drawn, title):
  ids: list[str] = []
  for name, svg in drawn.items():
    text = canvas.inline(svg, name=name, title=title)
    root = ET.fromstring(text)
    own = [e.get('id') for e in root.iter() if e.get('id')]
    used = re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', text)
    assert {one or other for one, other in used} <= set(own)
    assert root.get('role') == 'img'
    assert root[0].tag == 'title'
    assert root[0].text == title
    assert root[0].get('id') == root.get('aria-labelledby')
    ids += own
  assert len(ids) == len(set(ids))
