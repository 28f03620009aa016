"""`make audit`: a vulnerability fails it, and what was not looked up is not claimed."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def audit():
  spec = importlib.util.spec_from_file_location('audit', ROOT / '.ci' / 'audit.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def whole(name: str, *advisories: str) -> dict:
  vulns = [{'id': one, 'fix_versions': ['2']} for one in advisories]
  return {'name': name, 'version': '1', 'vulns': vulns}


@pytest.mark.parametrize(
  ('dependencies', 'code', 'said'),
  [
    ([whole('a'), whole('b')], 0, 'audit: 2 pins, no known vulnerability'),
    ([whole('a'), whole('b', 'CVE-1')], 1, 'b==1: CVE-1; mended in 2'),
    (
      [whole('a'), {'name': 'b', 'skip_reason': 'not found'}],
      0,
      'NOT AUDITED: 1 of 2 pins could not be looked up',
    ),
    (
      [whole('a', 'CVE-2'), {'name': 'b', 'skip_reason': 'not found'}],
      1,
      'a==1: CVE-2',
    ),
  ],
)
def test_what_is_said_of_an_answer(audit, dependencies, code, said, capsys):
  pins = [('2026-01-01', 'a==1'), ('2026-01-02', 'b==1')]
  assert audit.report(audit.read({'dependencies': dependencies}), pins) == code
  out = capsys.readouterr().out
  assert said in out
  assert ('2026-01-02  b==1' in out) == ('NOT AUDITED' in out)


def test_every_pin_is_listed_with_its_day(audit):
  listed = audit.dated_pins()
  pins = (ROOT / 'constraints.txt').read_text().splitlines()
  pins = [line for line in pins if line and not line.startswith('#')]
  assert sorted(pin for _, pin in listed) == sorted(pins)
  assert all(re.fullmatch(r'\d{4}-\d\d-\d\d|\?', day) for day, _ in listed)
