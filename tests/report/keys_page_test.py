"""docs/generate/report_keys.py has the keys of the reports that are made."""

import pathlib

import made_report
import page_script
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PARTS = 'report', 'evaluate', 'jobs'
"""Folders whose modules write keys."""


@pytest.fixture(scope='module')
def keys():
  return page_script.load('report_keys').KEYS


def always(keys):
  return {key for key in keys if not key.endswith('†')}


def every(keys):
  return {key.removesuffix('†') for key in keys}


@pytest.mark.parametrize('with_base', [True, False])
def test_every_key_of_a_report_has_its_line_and_the_other_way_round(keys, with_base):
  report = made_report.report(with_base=with_base, validation={'step': 1}, base='b',
                              curves={'train': [[1, 2.0]]},
                              training={'seed': 1})  # fmt: skip
  objects = {
    'report': [report],
    'results': report['results'],
    'data': [report['data']],
    'timing': [report['timing']],
  }
  for name, found in objects.items():
    for each in found:
      assert always(keys[name]) <= set(each) <= every(keys[name]), name


def test_no_line_is_of_a_key_that_nothing_writes(keys):
  text = '\n'.join(
    path.read_text(encoding='utf-8')
    for part in PARTS
    for path in (ROOT / 'flan_jax' / part).rglob('*.py')
  )
  for name, found in keys.items():
    for key in every(found):
      written = f"'{key}'" in text or f'{key}: int' in text or f'{key}: float' in text
      assert written, f'{name}: {key}'
