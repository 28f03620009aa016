"""Files with the keys of an older version are read under today's names."""

import pytest

from flan_jax.runtime import renamed_keys
from flan_jax.runtime.renamed_keys import upgraded, within

MAPS = {
  name: found
  for name, found in vars(renamed_keys).items()
  if name.isupper() and isinstance(found, dict)
}


def test_a_key_is_renamed_at_its_path_and_nowhere_else():
  old = {'rows': 4, 'plan': {'rows': 2, 'seed': 0}, 'other': {'rows': 1}}
  new = {'rows': 4, 'plan': {'sequences': 2, 'seed': 0}, 'other': {'rows': 1}}
  assert upgraded(old, {'plan.rows': 'sequences'}) == new


def test_paths_are_spelled_with_the_old_keys():
  old = {'guard': {'accepted': [], 'seen': {}}}
  new = {'leakage': {'allowed_overlap': [], 'seen': {}}}
  assert upgraded(old, {'guard': 'leakage', 'guard.accepted': 'allowed_overlap'}) == new


def test_a_star_is_every_item_of_a_list_or_an_object():
  assert upgraded([{'a': 1}, {'a': 2}], {'*.a': 'b'}) == [{'b': 1}, {'b': 2}]
  old = {'datasets': {'rows': {'rows': 3}}}  # a dataset of that name keeps it
  assert upgraded(old, {'datasets.*.rows': 'examples'}) == {
    'datasets': {'rows': {'examples': 3}}
  }


def test_the_order_of_keys_and_the_given_value_stay():
  old = {'z': 0, 'rows': {'a': 1}, 'b': 2}
  assert list(upgraded(old, {'rows': 'examples'})) == ['z', 'examples', 'b']
  assert old == {'z': 0, 'rows': {'a': 1}, 'b': 2}


def test_new_keys_stay_beside_old_ones():
  both = {'rows': 1, 'examples': 2}
  assert upgraded(both, {'rows': 'examples'}) == both


@pytest.mark.parametrize('value', [None, 'unknown', 3, [], {}, ['rows']])
def test_what_holds_no_keys_comes_back(value):
  names = {'rows': 'examples', '*.rows': 'examples', 'a.*.rows': 'examples'}
  assert upgraded(value, names) == value
  assert upgraded({'a': value}, names) == {'a': value}


def test_a_map_is_put_within_another():
  assert within('lineage', {'*.weights': 'digest'}) == {'lineage.*.weights': 'digest'}


def built(names) -> dict:
  """An object that has every old key of a map."""
  tree: dict = {}
  for path in names:
    at = tree
    for part in path.split('.'):
      at = at.setdefault('name' if part == '*' else part, {})
  return tree


@pytest.mark.parametrize('name', MAPS)
def test_a_map_renames_all_of_its_keys_and_leaves_new_files_alone(name):
  old = built(MAPS[name])
  new = upgraded(old, MAPS[name])
  assert new != old
  assert upgraded(new, MAPS[name]) == new
  for path, key in MAPS[name].items():
    at = new
    *above, last = path.split('.')
    for i, part in enumerate(above):
      renamed = MAPS[name].get('.'.join(above[: i + 1]), part)
      at = at['name' if part == '*' else renamed]
    assert key in at
    assert last not in at
