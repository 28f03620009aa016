"""docs/generate/architecture.py draws the house that tests/house_test.py holds."""

import xml.etree.ElementTree as ET

import house_test
import page_script
import pytest


@pytest.fixture(scope='module')
def script():
  return page_script.load('architecture')


def test_its_layers_are_those_of_the_house(script):
  levels = [set(names) - {'__main__'} for names in house_test.LEVELS]
  assert [set(layer) for layer in script.LAYERS] == levels


def test_its_imports_are_those_of_the_house(script):
  graph = house_test.imports(house_test.sources(house_test.ROOT))
  pairs = {
    tuple(house_test.folder(name).removeprefix('flan_jax.') for name in (one, other))
    for one, found in graph.items()
    for other in found - {'flan_jax'}
    if one not in ('flan_jax', 'flan_jax.__main__')
  }
  drawn = {(one, other) for one, found in script.imports().items() for other in found}
  assert drawn == {(one, other) for one, other in pairs if one != other}


def test_every_mark_lies_on_one_side(script):
  order = [name for layer in script.LAYERS for name in layer]
  for name, used in script.imports().items():
    assert all(order.index(name) < order.index(other) for other in used), name


def test_a_folder_in_no_layer_is_named(script):
  with pytest.raises(KeyError, match=r'attic\.box: in no layer'):
    script.folder('attic.box')


@pytest.mark.parametrize('name', ['house', 'imports', 'way'])
def test_each_picture_has_a_wide_and_a_narrow_drawing(script, name):
  """Texts lie inside both drawings, whose style never scales them up or down."""
  wide, narrow = ET.fromstring(getattr(script, f'render_{name}')())
  assert (wide.get('class'), narrow.get('class')) == ('wide', 'narrow')
  assert float(narrow.get('width')) <= 358  # the column of a phone of 390 pixels
  for drawing in (wide, narrow):
    places = [(float(t.get('x')), float(t.get('y'))) for t in drawing.iter('text')]
    assert places
    assert max(x for x, _ in places) <= float(drawing.get('width'))
    assert max(y for _, y in places) <= float(drawing.get('height'))
