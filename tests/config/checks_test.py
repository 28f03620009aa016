"""Rules accept legal values and describe what is wrong with all others."""

import math

import pytest

from flan_jax.config import checks
from flan_jax.errors import InputError


@pytest.mark.parametrize(
  ('rule', 'legal', 'illegal', 'wrong'),
  [
    (checks.one_of('a', 'b'), 'a', 'c', "must be one of 'a', 'b'"),
    (checks.at_least(1_000), 1_000, 999, 'must be 1,000 or more; the nearest is 1,000'),
    (checks.at_least(0), 0.0, math.nan, 'must be 0 or more; the nearest is 0'),
    (checks.above(0, example='3e-5'), 1e-9, 0.0, 'must be above 0, as 3e-5'),
    (checks.above(0, example='3e-5'), 1.0, math.inf, 'must be above 0, as 3e-5'),
    (checks.between(2, 64), 64, 65, 'must be 2 to 64; the nearest is 64'),
    (checks.between(2, 64), 2, 1, 'must be 2 to 64; the nearest is 2'),
    (checks.uint32, 2**32 - 1, 2**32, 'the nearest is 4294967295'),
    (checks.whole, 1, 1.0, 'must be a whole number, 1 or more'),
    (checks.whole, 1, True, 'must be a whole number, 1 or more'),
    (checks.whole, 1, 0, 'must be 1 or more; the nearest is 1'),
    (checks.whole_or_zero, 0, -1, 'must be 0 or more; the nearest is 0'),
    (checks.positive, 1, 0, 'must be a finite number above 0'),
    (checks.positive, 0.5, '1', 'must be a finite number above 0'),
    (checks.fraction, 1, 1.5, 'must be above 0 and at most 1; the nearest is 1'),
    (checks.switch, False, 0, 'must be True or False'),
    (checks.folder, 'runs/x', '', 'must be a folder, as runs/mine'),
    (checks.or_none(checks.whole), None, 0, 'must be 1 or more'),
    (checks.each(checks.one_of('a')), ('a', 'a'), ('a', 'b'), "'b' must be one of 'a'"),
    (checks.each(checks.one_of('a')), None, ('b',), "'b' must be one of 'a'"),
  ],
)
def test_a_rule_says_what_is_wrong(rule, legal, illegal, wrong):
  assert rule(legal) == ''
  assert wrong in rule(illegal)


def test_check_names_the_value_and_carries_the_field():
  with pytest.raises(InputError) as caught:
    checks.check('--steps', -1_000, checks.at_least(0), field='Run.train_steps')
  assert str(caught.value) == '--steps: got -1,000; must be 0 or more; the nearest is 0'
  assert caught.value.field == 'Run.train_steps'


def test_long_values_are_shortened():
  assert len(checks.shown('x' * 1000)) < 200


def test_the_nearest_divisor_divides():
  assert [checks.nearest_divisor(12, to=n) for n in (0, 5, 7, 100)] == [1, 4, 6, 12]


def test_lengths_that_no_example_can_have_are_named():
  lengths = {'inputs': 1_024, 'targets': 64}
  assert checks.lengths_above(lengths, 1_024) == ''
  assert checks.lengths_above(lengths, None) == checks.lengths_above(None, 8) == ''
  found = checks.lengths_above(lengths, 512)
  assert found.startswith('inputs 1,024: above the 512 tokens of a sequence')
