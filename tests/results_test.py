"""The figures of the results page are those of the committed reports."""

import json
import pathlib
import re
import shutil

import pytest

from flan_jax.cli import dispatch
from flan_jax.report import statements

ROOT = pathlib.Path(__file__).parents[1]
KEPT = ROOT / 'docs/results/microworld'
PAGE = (ROOT / 'docs/results/index.md').read_text(encoding='utf-8')
STUDY = json.loads((KEPT / 'study.json').read_text(encoding='utf-8'))
COLUMNS = ('microworld (base)', 'tuned', 'tuned', 'shuffled', 'seen', 'continuation')
"""Columns of the study in the order of the page's tables."""


def shown(cell, difference):
  """A mean, or a difference with its interval, as the page writes them."""
  if not difference:
    return f'{cell["mean"]:.1f}'
  low, high = cell['delta']['ci95']
  mean = f'{cell["delta"]["mean"]:+.1f}'
  mean = '0.0' if mean[1:] == '0.0' else mean
  mean = f'**{mean}**' if low > 0 or high < 0 else mean
  return f'{mean} [{low:.1f}, {high:.1f}]'


def figures(row):
  differences = (False, False, True, True, False, False)
  return [
    shown(row['cells'][name], difference)
    for name, difference in zip(COLUMNS, differences, strict=True)
  ]


def line(start):
  """The cells of the line of the page's tables that begins so."""
  found = re.findall(rf'^\| {re.escape(start)} \|(.*)\|$', PAGE, re.MULTILINE)
  assert len(found) == 1, start
  return [cell.strip() for cell in found[0].split('|')]


@pytest.mark.parametrize('average', STUDY['averages'], ids=lambda x: x['cluster'])
def test_the_table_of_clusters(average):
  assert line(statements.cluster_name(average['cluster'])) == figures(average)


@pytest.mark.parametrize('row', STUDY['rows'], ids=lambda x: x['dataset'])
def test_the_table_of_datasets(row):
  direction = {'vl-en': ' to English', 'en-vl': ' from English'}
  name = f'`{row["dataset"]}`' + direction.get(row.get('direction'), '')
  metric, majority, *cells = line(name)
  assert cells == figures(row)
  assert majority == ('' if row['majority'] is None else f'{row["majority"]:.1f}')


def test_every_cell_is_finished_and_its_report_is_there():
  cells = STUDY['study']['cells']
  assert all(cell['finished'] for cell in cells)
  reports = {str(p.parent.relative_to(KEPT)) for p in KEPT.glob('*/*/report.json')}
  assert reports == {cell['name'] for cell in cells}


def labels(path):
  """The texts of a figure, in order."""
  return re.findall(r'>([^<>]+)</text>', path.read_text(encoding='utf-8'))


@pytest.mark.slow  # reads every report
def test_the_reports_give_the_page_and_the_figure(tmp_path, monkeypatch):
  kept = tmp_path / 'kept'
  shutil.copytree(KEPT, kept)
  for name in ('study.json', 'means.svg', 'differences.svg'):
    (kept / name).unlink()
  monkeypatch.chdir(tmp_path)
  dispatch.main(('study', 'gin/studies/microworld.gin', '--render-only',
                 f'--gin.REPORTS_DIR={str(kept)!r}'))  # fmt: skip
  again = json.loads((kept / 'study.json').read_text(encoding='utf-8'))
  for part in ('columns', 'rows', 'averages', 'differences'):
    assert again[part] == STUDY[part], part
  for name in ('means.svg', 'differences.svg'):
    drawn, committed = (labels(folder / name) for folder in (kept, KEPT))
    assert drawn == committed
    assert 'NLI' in drawn
