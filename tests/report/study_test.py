"""The page of a study: cells as rows and seeds of columns, differences, costs."""

import json
import re
import shutil

import pytest
from oracle_report import CB, RTE, evaluated, trained

from flan_jax.evaluate import metrics, seeds
from flan_jax.report import compare, kept_scores, many_tables, runs, schema, study
from flan_jax.report.study import Entry

COST = {'starts': 2, 'seconds': 90.0, 'cpu_seconds': 150.0, 'peak_bytes': 2**30}


@pytest.fixture(scope='module')
def entries(tmp_path_factory):
  """Two held-out datasets with three seeds each, and their base in another style."""
  out = tmp_path_factory.mktemp('study')
  found = []
  for dataset in (RTE, CB):
    for seed in range(3):
      name = f'tuned/{dataset.name}-s{seed}'
      about = trained(f'{dataset.name}-s{seed}', seed, settings=dataset.name)
      evaluated(
        out / name / 'report', lambda i, n=20 + 4 * seed: i < n, dataset=dataset,
        base=lambda i: i < 12, curves={'train': [[1, 2.0], [2, 1.0]]}, **about,
      )  # fmt: skip
      unknown = {} if dataset is RTE else {'cpu_seconds': None, 'peak_bytes': None}
      cost = None if seed else COST | unknown
      found.append(
        Entry(
          name, 'tuned', seed, out / name / 'report', True, cost, ['train', '--x=a b']
        )
      )
    name = f'plain/{dataset.name}'
    evaluated(out / name, lambda i: i >= 10, dataset=dataset)
    found.append(Entry(name, 'plain', 0, out / name, True, None, ['eval']))
  return found


@pytest.fixture(scope='module')
def content(entries):
  return study.build('mine', entries, compared=[('tuned', 'plain')])


def test_runs_that_hold_out_other_clusters_are_one_column(content):
  shown = [(c['name'], c['models'], c['seeds']) for c in content['columns']]
  assert shown == [('base', 1, []), ('tuned', 3, [0, 1, 2]), ('plain', 1, [])]
  assert [row['dataset'] for row in content['rows']] == ['rte', 'cb']
  for row in content['rows']:
    assert row['cells']['tuned']['by_seed'] == pytest.approx([50.0, 60.0, 70.0])
    assert row['cells']['base']['mean'] == 30.0
    assert row['cells']['plain']['mean'] == 75.0
    assert 'unpaired_reason' not in row['cells']['tuned']
  assert content['columns'][1]['reports'] == [
    f'tuned/{name}-s{seed}' for seed in range(3) for name in ('rte', 'cb')
  ]
  assert content['history'] == []  # each cell's page has its own


def test_differences_are_paired_on_seeds_and_examples(entries, content):
  table = content['differences']
  names = ['tuned − base', 'tuned − plain']
  assert [column['name'] for column in table['columns']] == names
  row = table['rows'][0]['cells']
  assert row['tuned − base']['by_seed'] == pytest.approx([20.0, 30.0, 40.0])
  assert row['tuned − plain']['by_seed'] == pytest.approx([-25.0, -15.0, -5.0])
  tuned = [e.folder for e in entries if e.name.startswith('tuned/rte')]
  (plain,) = [e.folder for e in entries if e.name == 'plain/rte']
  scores = [
    compare.read_predictions(
      folder, {'rte': schema.load(folder)['results'][0]}, 'tuned'
    )['rte'].scores
    for folder in (*tuned, *[plain] * 3)
  ]
  expected = seeds.figure(
    scores[:3], scores[3:], metric=metrics.METRICS['accuracy'], seed=[0, *b'rte']
  )
  limits = seeds.interval(expected, limits=(-100.0, 100.0))
  assert row['tuned − plain']['ci95'] == pytest.approx(limits, abs=1e-6)
  (average,) = table['averages']
  assert average['cells']['tuned − plain']['mean'] == pytest.approx(-15.0)
  assert average['cells']['tuned − plain']['rows'] == 2


def test_the_page_says_what_each_cell_took_and_how_to_run_it(
  entries, content, tmp_path
):
  kept = str(tmp_path / 'kept')
  page = study.write(tmp_path / 'out', content, entries, kept=kept).read_text()
  text = ' '.join(re.sub('<[^>]+>', ' ', page).split())
  assert 'Study of 8 cells, in percent mine' in text
  assert 'tuned/rte-s0 1.5 2.5 1.0 2' in text.replace('\u200b', '')
  assert 'tuned/rte-s1 – – – –' in text.replace('\u200b', '')
  assert 'tuned/cb-s0 1.5 – – 2' in text.replace('\u200b', '')
  assert ' all 3.0 – – 4 ' in text
  assert 'flan train &#39;--x=a b&#39;' in page
  assert 'are not finished' not in text
  names = sorted(path.name for path in (tmp_path / 'kept').iterdir())
  assert names == ['differences.svg', 'means.svg', 'study.csv', 'study.json']
  for name in ('means', 'differences'):
    assert (tmp_path / 'out' / f'{name}.svg').read_text().startswith('<?xml')
    assert f'id="{name}-title"' in page
  assert json.loads((tmp_path / 'out' / study.FILE).read_text()) == content
  counts = many_tables.counts(content['differences'])
  assert counts[0].startswith('tuned − base: of 1 clusters, 1 above zero and 0 below')
  assert all(line in text for line in counts)


def test_seeds_of_another_base_are_a_remark(entries, tmp_path):
  name = 'tuned/rte-s1'
  out = tmp_path / 'other'
  about = trained('rte-s1', 1, settings='another')
  evaluated(out, lambda i: i < 9, dataset=RTE, base=lambda i: i < 12, **about)
  some = [each._replace(folder=out) if each.name == name else each for each in entries]
  assert study.build('mine', some)['remarks'] == [
    'tuned, rte: the runs differ in more than SEED: in their base, their data or a '
    'setting'
  ]


def test_unfinished_cells_are_named(entries, tmp_path):
  some = [
    entry._replace(folder=None, finished=False) if 's2' in entry.name else entry
    for entry in entries
  ]
  found = study.build('mine', some)
  assert [cell['finished'] for cell in found['study']['cells']].count(False) == 2
  page = study.write(tmp_path, found, some).read_text()
  assert '2 of 8 cells are not finished: tuned/rte-s2, tuned/cb-s2.' in page
  assert [column['seeds'] for column in found['columns']][1] == [0, 1]


def test_scores_beside_reports_give_the_page_of_the_whole_folders(
  entries, content, tmp_path
):
  kept = []
  for entry in entries:
    out = tmp_path / entry.name
    out.mkdir(parents=True)
    shutil.copy(entry.folder / runs.FILE, out)
    kept.append(entry._replace(folder=out))
  alone = study.build('mine', kept, compared=[('tuned', 'plain')])
  assert 'unpaired_reason' in alone['rows'][0]['cells']['tuned']
  low, high = alone['differences']['rows'][0]['cells']['tuned − plain']['ci95']
  assert low < -15 < high
  for entry, copy in zip(entries, kept, strict=True):
    kept_scores.write(entry.folder, copy.folder)
  assert study.build('mine', kept, compared=[('tuned', 'plain')]) == content
  (kept[0].folder / kept_scores.FILE).write_bytes(b'PK')
  with pytest.raises(Exception, match='not the scores of a report'):
    kept_scores.read(kept[0].folder, 'tuned')
