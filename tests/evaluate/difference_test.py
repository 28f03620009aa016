"""The difference of two reports: paired where it can be, and honest where it cannot."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from oracle import Oracle, rows

from flan_jax import catalogue
from flan_jax.errors import InputError
from flan_jax.evaluate import difference, page, predictions, protocol, report, tables

RTE = dataclasses.replace(
  catalogue.get('rte'), templates=catalogue.get('rte').templates[:3], test='test'
)
ROWS = rows(RTE, 60)('rte', 'test')
ABOUT = {
  'model': 'm', 'checkpoint': 'c', 'held_out': ['nli'], 'trained_on': [],
  'train_rows': {}, 'data_digest': 'd',
}  # fmt: skip


def evaluated(out, right, *, some=None, seed=0, config='Evaluate.shots = 0  # default'):
  """An evaluation of a model that is right on the rows `right(i)`."""
  some = ROWS if some is None else some

  def rule(prompt):
    i = int(re.search(r'Fact (\d+) of', prompt)[1])
    said = i % 2 if right(i) else 1 - i % 2
    return ('yes', 'no')[said]

  with predictions.Predictions(out) as emit:
    results = protocol.evaluate(
      Oracle(rule), datasets=[RTE], rows=lambda _, split: some, splits=('test',),
      emit=emit,
    )  # fmt: skip
  provenance = {'config': config, 'models': {}, 'versions': {}}
  return report.write(out, results, seed=seed, provenance=provenance, **ABOUT)


def test_a_report_differs_by_nothing_from_itself(tmp_path):
  evaluated(tmp_path, lambda i: i % 3)
  found = difference.compare(tmp_path, tmp_path)
  (row,) = found['rows']
  assert (row['delta'], row['delta_ci95'], row['p']) == (0, [0, 0], 1)
  assert (row['gained'], row['lost'], row['examples']) == (0, 0, [])
  assert found['settings'] == []


def test_figures_are_those_of_the_reports_and_changes_are_counted(tmp_path):
  new = evaluated(tmp_path / 'new', lambda i: i < 50)
  old = evaluated(tmp_path / 'old', lambda i: i >= 5 and i < 40)
  found = difference.write(tmp_path / 'new', tmp_path / 'old')
  (row,) = found['rows']
  assert (row['new'], row['old']) == (new['rows'][0]['mean'], old['rows'][0]['mean'])
  assert row['delta'] == pytest.approx(row['new'] - row['old'], abs=1e-3)
  assert row['paired']
  assert (row['gained'], row['lost']) == (15 * 3, 0)
  assert row['p_holm'] < 0.01
  assert {example['kind'] for example in row['examples']} == {'gained'}
  assert len({example['row_id'] for example in row['examples']}) == 3
  for example in row['examples']:
    assert example['new'] == example['expected'] != example['old']


def test_only_rows_with_the_same_right_answer_are_paired(tmp_path):
  evaluated(tmp_path / 'new', lambda i: True)
  other = [
    row._replace(answer=ROWS[i + 1].answer) if i < 10 else row
    for i, row in enumerate(ROWS[:40])
  ]
  evaluated(tmp_path / 'old', lambda i: True, some=other)
  (row,) = difference.compare(tmp_path / 'new', tmp_path / 'old')['rows']
  assert row['n'] == 30


def test_without_predictions_two_figures_stand_apart(tmp_path):
  evaluated(tmp_path / 'new', lambda i: i < 50)
  evaluated(tmp_path / 'old', lambda i: i < 20)
  paired = difference.compare(tmp_path / 'new', tmp_path / 'old')['rows'][0]
  (tmp_path / 'old' / 'predictions.jsonl').unlink()
  (row,) = difference.compare(tmp_path / 'new', tmp_path / 'old')['rows']
  assert not row['paired']
  assert row['delta'] == pytest.approx(paired['delta'])
  assert row['p'] is row['gained'] is None
  assert np.diff(row['delta_ci95']) > 0


def test_what_was_set_otherwise_is_named(tmp_path):
  evaluated(tmp_path / 'new', lambda i: True)
  config = "Evaluate.shots = 4  # --gin.SHOTS\nEvaluation.output_dir = 'x'  # flag"
  evaluated(tmp_path / 'old', lambda i: True, config=config)
  found = difference.compare(tmp_path / 'new', tmp_path / 'old')
  assert found['settings'] == [['Evaluate.shots', '4', '0']]


def test_datasets_of_one_alone_are_listed(tmp_path):
  evaluated(tmp_path / 'new', lambda i: True)
  made = evaluated(tmp_path / 'old', lambda i: True)
  made['rows'].append({**made['rows'][0], 'dataset': 'cb'})
  (tmp_path / 'old' / 'report.json').write_text(json.dumps(made), encoding='utf-8')
  found = difference.compare(tmp_path / 'new', tmp_path / 'old')
  assert (found['only_new'], found['only_old']) == ([], ['cb'])


def test_reports_without_a_dataset_in_common_are_refused(tmp_path):
  evaluated(tmp_path / 'new', lambda i: True)
  made = evaluated(tmp_path / 'old', lambda i: True)
  made['rows'][0]['dataset'] = 'cb'
  (tmp_path / 'old' / 'report.json').write_text(json.dumps(made), encoding='utf-8')
  with pytest.raises(InputError, match=r'measured cb, and .* rte; must have a dataset'):
    difference.write(tmp_path / 'new', tmp_path / 'old')
  assert not (tmp_path / 'new' / 'difference.json').exists()


@pytest.mark.parametrize('line', ['{"row_id": "r', '[]', '{}', ''])
def test_a_torn_line_of_predictions_is_named(line, tmp_path):
  evaluated(tmp_path, lambda i: True)
  path = tmp_path / 'predictions.jsonl'
  lines = path.read_text(encoding='utf-8').splitlines()
  path.write_text('\n'.join([lines[0], line, lines[2]]), encoding='utf-8')
  for reader in (
    lambda: difference.compare(tmp_path, tmp_path),
    lambda: page.write(tmp_path),
  ):
    with pytest.raises(InputError, match='predictions.jsonl: line 2 is no prediction'):
      reader()


def test_the_page_and_the_terminal_say_the_same(tmp_path):
  evaluated(tmp_path / 'new', lambda i: i < 50)
  evaluated(tmp_path / 'old', lambda i: i < 20)
  found = difference.write(tmp_path / 'new', tmp_path / 'old')
  html = (tmp_path / 'new' / 'difference.html').read_text(encoding='utf-8')
  assert html == page.difference(found)
  out = io.StringIO()
  tables.print_difference(found, file=out)
  for text in (html, out.getvalue()):
    assert '+50.0' in text
  for outside in ('http:', 'https:', '//', '<script', '<link', 'src='):
    assert outside not in html
  assert html.count('<h1') == 1
