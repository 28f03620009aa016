"""Many reports: one table, whose columns are models, seeds of a run, and its steps."""

import copy
import csv
import io
import json
import shutil

import made_report
import numpy as np
import pytest
from oracle_report import CB, evaluated, trained

from flan_jax.cli import dispatch
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics, seeds
from flan_jax.report import curves, many, many_page, many_tables, runs, schema


@pytest.fixture(scope='module')
def sweep(tmp_path_factory):
  """Three seeds at two steps, and a run with other settings."""
  out = tmp_path_factory.mktemp('sweep')
  for seed in range(3):
    for step in (50, 100):
      about = trained(f's{seed}', seed, step)
      if step == 100:
        held_out = {'nli': [[50, 30.0], [100, 40.0 + seed]]}
        about['curves'] = {'train': [[50, 2.0], [100, 1.0]], 'held_out': held_out}
      right = step // 10 + 4 * seed
      evaluated(
        out / f'lr_s{seed}@{step}', lambda i, n=right: i < n, base=lambda i: i < 12,
        **about,
      )  # fmt: skip
  evaluated(out / 'other', lambda i: i % 4, **trained('other', 0, settings='two'))
  return out


@pytest.fixture(scope='module')
def content(sweep):
  return many.build(runs.load(runs.find([sweep])))


def column(content, name):
  return next(column for column in content['columns'] if column['name'] == name)


def test_seeds_are_one_column_and_steps_are_several(sweep, content):
  names = [column['name'] for column in content['columns']]
  assert names == ['base', 'lr@50', 'lr@100', 'other']
  assert column(content, 'lr@100')['seeds'] == [0, 1, 2]
  assert column(content, 'base')['seeds'] == []
  assert column(content, 'base')['base']
  assert content['steps'] == [
    {'name': 'lr', 'columns': ['lr@50', 'lr@100'], 'steps': [50, 100]}
  ]
  assert [c['name'] for c in many_tables.main(content)] == ['base', 'lr@100', 'other']
  assert content['settings'] == [['Run.loss', ["'one'", "'one'", "'two'"]]]
  assert content['remarks'] == content['notes'] == []


def test_the_figure_of_seeds_is_their_mean_with_the_nested_interval(sweep, content):
  (row,) = content['rows']
  cell = row['cells']['lr@100']
  reports = [schema.load(sweep / f'lr_s{seed}@100') for seed in range(3)]
  means = [report['results'][0]['mean'] for report in reports]
  assert cell['by_seed'] == pytest.approx(means, abs=1e-3)
  assert cell['mean'] == pytest.approx(np.mean(means), abs=1e-3)
  assert cell['std_over_seeds'] == pytest.approx(np.std(means, ddof=1), abs=1e-3)
  # The base is the same for all, so a seed's difference is off by a constant.
  assert cell['delta']['by_seed'] == pytest.approx(np.array(means) - 30, abs=1e-3)
  metric = metrics.METRICS['accuracy']
  known = [[[float(i < 10 + 4 * seed)] for i in range(40)] for seed in range(3)]
  scores = [np.array([each, each]) for each in known]
  draws = [0, *b'rte']
  expected = seeds.figure(scores, metric=metric, seed=draws)
  assert cell['ci95'] == pytest.approx(seeds.interval(expected), abs=1e-6)
  assert 'unpaired_reason' not in cell
  (average,) = content['averages']
  assert average['cells']['lr@100']['mean'] == cell['mean']
  assert average['cells']['lr@100']['ci95'] == pytest.approx(cell['ci95'], abs=1e-6)


def test_one_seed_has_the_report_s_own_figures(sweep, content):
  (row,) = content['rows']
  (result,) = schema.load(sweep / 'other')['results']
  cell = row['cells']['other']
  assert (cell['mean'], cell['ci95']) == (result['mean'], result['ci95'])
  assert cell['std_over_seeds'] is None
  assert cell['delta'] is None


def test_without_predictions_the_page_says_how_the_interval_is_made(sweep, tmp_path):
  for seed in range(3):
    shutil.copytree(sweep / f'lr_s{seed}@100', tmp_path / f's{seed}')
  (tmp_path / 's1' / 'predictions.jsonl').unlink()
  found = many.build(runs.load(runs.find([tmp_path])))
  cell = found['rows'][0]['cells']['s']
  assert cell['unpaired_reason'] == 'a report has no predictions'
  whole = many.build(runs.load(runs.find([sweep])))['rows'][0]['cells']['lr@100']
  assert cell['mean'] == pytest.approx(whole['mean'], abs=1e-3)
  assert cell['ci95'][1] - cell['ci95'][0] == pytest.approx(
    whole['ci95'][1] - whole['ci95'][0], rel=0.1
  )
  assert found['remarks'] == []
  assert found['notes'] == [
    'rte: a report has no predictions, so the interval over seeds takes the examples '
    "from each report's own interval"
  ]


def test_predictions_of_another_evaluation_are_not_taken(sweep, tmp_path):
  for seed in range(2):
    shutil.copytree(sweep / f'lr_s{seed}@100', tmp_path / f's{seed}')
  shutil.copy(
    sweep / 'lr_s2@100' / 'predictions.jsonl', tmp_path / 's0' / 'predictions.jsonl'
  )
  cell = many.build(runs.load(runs.find([tmp_path])))['rows'][0]['cells']['s']
  assert cell['unpaired_reason'] == 'the predictions are not those of the report'


def test_what_differs_in_more_than_the_seed_is_a_column_by_itself(tmp_path):
  always = lambda i: True  # noqa: E731
  evaluated(tmp_path / 'a', always, **trained('a', 0))
  evaluated(tmp_path / 'b', lambda i: i % 2, **trained('b', 0, weights='others'))
  evaluated(tmp_path / 'c', always, **trained('c', 1, settings='two'))
  evaluated(tmp_path / 'd', always, count=20, **trained('d', 1))
  evaluated(tmp_path / 'twin', always, **trained('a', 0))
  evaluated(tmp_path / 'old', always, training=None)
  found = many.build(runs.load(runs.find([tmp_path])))
  made = {column['name']: column['seeds'] for column in found['columns']}
  # d has SEED 1 and the settings of a, but fewer examples: no mean of the two.
  assert made == {'a': [0], 'b': [0], 'c': [1], 'd': [1], 'old': []}
  assert found['remarks'][:3] == [
    f'{tmp_path}/twin: left out; the weights and examples of {tmp_path}/a',
    f'{tmp_path}/b: SEED and settings of {tmp_path}/a, with other weights; a column by '
    'itself',
    f'{tmp_path}/d: settings of {tmp_path}/a, measured on other examples; a column by '
    'itself',
  ]
  assert found['remarks'][3:] == ['rte: the columns have different numbers of examples']


def test_evaluations_of_one_model_on_several_datasets_are_one_column(tmp_path):
  evaluated(tmp_path / 'rte', lambda i: i < 20, **trained('x', 0))
  evaluated(tmp_path / 'cb', lambda i: i < 30, dataset=CB, **trained('x', 0))
  found = many.build(runs.load(runs.find([tmp_path])))
  (made,) = found['columns']
  assert len(made['reports']) == 2
  assert [row['cells'][made['name']]['mean'] for row in found['rows']] == [75, 50]
  (average,) = found['averages']
  assert average['cells'][made['name']]['mean'] == 62.5


def test_validation_and_values_have_rows_of_their_own(sweep, tmp_path):
  for seed in range(2):
    shutil.copytree(sweep / f'lr_s{seed}@100', tmp_path / f's{seed}')
    path = tmp_path / f's{seed}' / 'report.json'
    report = json.loads(path.read_text())
    metric = {'metric': 'accuracy', 'value': 40 + seed, 'ci95': [30, 50], 'n': 9}
    report['validation'] = {
      'step': 100, 'examples': 9, 'loss': 1.0 + seed,
      'datasets': {'rte': {'metrics': {'rte': metric}}},
    }  # fmt: skip
    report['results'].append(
      {**report['results'][0], 'kind': 'value', 'metric': 'words', 'mean': 300 + seed}
    )
    path.write_text(json.dumps(report))
  found = many.build(runs.load(runs.find([tmp_path])))
  rows = [(schema.label(row), row['cells']['s']) for row in found['rows']]
  names = [name for name, _ in rows]
  assert names == ['rte', 'rte', 'rte words', 'dev loss in nats']
  assert [cell['mean'] for _, cell in rows] == [30, 40.5, 300.5, 1.5]
  low, high = rows[3][1]['ci95']
  assert (low, high) == pytest.approx((1.5 - 6.353, 1.5 + 6.353), abs=1e-3)
  own = "so the interval over seeds takes the examples from each report's own interval"
  assert found['notes'] == [
    f'training datasets, dev: validation keeps no predictions, {own}',
    f'rte words: the metric is in units of its own, {own}',
    'dev loss in nats: no interval over the examples, so that over seeds holds the '
    'seeds alone',
  ]
  assert [average['cluster'] for average in found['averages']] == ['nli', 'validation']
  assert 'training datasets, dev' in many_page.render(found)


def test_reports_of_older_versions_are_columns_too():
  """Reports in the docs: two share a base, two say nothing of their training."""
  kept = (
    'first_real_run', 'gemma3_270m/nli', 'gemma3_270m/sentiment', 'smollm2_zero_shot'
  )  # fmt: skip
  found = many.build(runs.load(runs.find([f'docs/results/{name}' for name in kept])))
  names = [made['name'] for made in found['columns']]
  assert names[:2] == ['base', 'gemma3_270m (base)']
  assert set(names[2:]) == {'first_real_run', 'nli', 'sentiment', 'smollm2_zero_shot'}
  folder = 'docs/results/gemma3_270m'
  (result, *_) = schema.load(f'{folder}/sentiment')['results']
  row = next(row for row in found['rows'] if row['dataset'] == result['dataset'])
  cells = row['cells']
  assert cells['gemma3_270m (base)']['mean'] == result['base']['mean']
  assert cells['sentiment']['delta']['ci95'] == result['delta_ci95']
  assert cells['nli'] is None


def test_an_older_report_of_a_run_has_the_settings_of_its_run():
  def report(**settings):
    given = {'Run.seed': 0, 'Run.train_steps': 5, 'Run.loss': 1, 'Run.keep': 2,
             'Run.model_dir': "'runs/x'", 'Evaluate.base': True} | settings  # fmt: skip
    text = '\n'.join(f'{name} = {value}  # default' for name, value in given.items())
    return {'data_digest': 'd', 'provenance': {'config': text}}

  first = runs.training(report())
  assert first[:3] == ('x', 0, 5)
  other = runs.training(report(**{'Run.seed': 1, 'Run.keep': 9, 'Evaluate.base': 0}))
  assert (other.seed, other.settings) == (1, first.settings)
  assert runs.training(report(**{'Run.loss': 2})).settings != first.settings
  assert runs.training({'data_digest': 'd'}) is None


def test_every_number_is_in_the_csv(content, tmp_path):
  many_tables.write_csv(tmp_path / 'x.csv', content)
  with (tmp_path / 'x.csv').open() as file:
    lines = list(csv.DictReader(file))
  cells = [c for row in (*content['rows'], *content['averages'])
           for c in row['cells'].values() if c]  # fmt: skip
  several = sum(c['seeds'] for c in cells if c['seeds'] > 1)
  points = sum(
    len(curve) for run in content['history'] for _, curve in many_tables.curves(run)
  )
  assert len(lines) == len(cells) + several + points
  assert len(content['history']) == 3
  assert points == 12
  line = next(
    line for line in lines if line['model'] == 'lr@100' and line['dataset'] == 'rte'
  )
  cell = content['rows'][0]['cells']['lr@100']
  assert float(line['ci95_low']) == cell['ci95'][0]
  assert float(line['delta']) == cell['delta']['mean']
  of_seed = [line for line in lines if line['model'] == 'lr@50' and line['seed'] == '2']
  assert {float(line['mean']) for line in of_seed} == {100 * 13 / 40}


@pytest.mark.parametrize('option', ['--html', '--csv', '--latex'])
def test_a_folder_is_no_file_to_write(option, sweep, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'x').mkdir()
  assert dispatch.main(['report', *map(str, sweep.glob('lr*')), option, 'x']) == 2
  assert f"{option}: 'x' is a folder; must be a file\n" in capsys.readouterr().err
  assert [path.name for path in tmp_path.rglob('*')] == ['x']


def test_two_files_to_write_are_two(sweep, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  given = ['report', str(sweep / 'other'), '--csv', 'x', '--latex']
  assert dispatch.main([*given, './x']) == 2
  assert "--latex: './x' is the file of --csv too" in capsys.readouterr().err
  assert not list(tmp_path.iterdir())
  assert dispatch.main([*given, 'y']) == 0
  assert capsys.readouterr().out.splitlines()[-2:] == ['x', 'y']


def test_latex_has_a_column_a_model(content):
  text = many_tables.latex(content)
  assert '\\begin{tabular}{lrrr}' in text
  assert 'Dataset & base & lr@100, 3 seeds & other \\\\' in text
  body = text[text.index('\\toprule') : text.index('\\bottomrule')]
  assert all(line.count('&') == 3 for line in body.splitlines() if 'rte' in line)


def test_the_page_names_every_figure_and_every_column(content):
  page = many_page.render(content)
  for name in ('means', 'steps', 'loss', 'held_out'):
    assert f'<title id="{name}-title">' in page
  assert page.count('<h2 id="steps-') == 1
  for made in content['columns']:
    assert made['name'] in page
  assert 'src=' not in page
  assert 'href="http' not in page
  assert 'a t interval on the seeds' in page
  for svg in curves.draw(content).values():
    assert made_report.text_on_a_phone(svg) >= 12


@pytest.mark.parametrize('other', ['microworld', 'flan'])
def test_a_figure_of_one_family_names_it_once_in_its_caption(content, other):
  content = copy.deepcopy(content)
  content['averages'].append(copy.deepcopy(content['averages'][0]))
  for row in (*content['rows'], *content['averages']):
    row['family'] = 'microworld'
  content['averages'][-1].update(cluster='sentiment', family=other)
  lanes = curves.draw(content)['means'].count('microworld')
  caption = 'Means on the microworld with 95 % intervals' in many_page.render(content)
  assert (lanes == 0, caption) == (
    (True, True) if other == 'microworld' else (False, False)
  )


def test_one_model_alone_claims_nothing_about_seeds_or_a_base(sweep):
  content = many.build(runs.load(runs.find([sweep / 'other'])))
  page = many_page.render(content)
  assert 'seeds' not in page
  assert 'difference from the base' not in page
  assert set(curves.draw(content)) == {'means'}


def test_a_folder_without_a_report_is_refused(tmp_path):
  with pytest.raises(InputError, match=r'no report.json; must be MODEL_DIR'):
    runs.find([tmp_path])


def test_the_terminal_has_the_table_and_the_steps(content):
  out = io.StringIO()
  many_tables.print_table(content, file=out)
  lines = out.getvalue().splitlines()
  assert sum('rte' in line for line in lines) == 2
  assert sum('from the base' in line for line in lines) == 2
  assert any(line.startswith('Steps of lr') for line in lines)


def test_the_command_line_writes_all_of_it(sweep, tmp_path, capsys):
  files = [f'--{kind}={tmp_path / kind}' for kind in ('html', 'csv', 'latex')]
  given = [str(sweep / name) for name in ('lr_s0@100', 'other/report.json')]
  assert dispatch.main(['report', *given, *files, '--json']) == 0
  found = json.loads(capsys.readouterr().out)
  assert [made['name'] for made in found['columns']] == ['base', 'lr_s0', 'other']
  assert {path.name for path in tmp_path.iterdir()} == {'html', 'csv', 'latex'}
  assert dispatch.main(['report', *given, '--against', given[0]]) == 2
  assert 'must be one' in capsys.readouterr().err
