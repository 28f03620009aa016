"""CSV and LaTeX: what report.json says, and nothing that breaks a paper."""

import csv
import io
import json

import pytest
from evaluated_report import NO, evaluated

from flan_jax.report import compare, schema, tables, terminal

FIGURES = {
  'mean': 51.25, 'std_over_templates': 1.5, 'ci95': [40.0, 60.0],
  'per_template': [
    {'template': 0, 'dev': 50.0, 'test': 49.75, 'n': 80},
    {'template': 3, 'dev': None, 'test': 52.75, 'n': 79},
  ],
  'best_dev_template': {'template': 0, 'dev': 50.0, 'test': 49.75},
  'prompt_style': 'instructions',
}  # fmt: skip


def result(dataset, cluster='nli', **changes):
  return {
    'dataset': dataset, 'cluster': cluster, 'metric': 'accuracy', 'split': 'test',
    'n': 1080, 'num_fewshot': 0, 'chance': 33.3333, 'majority': 40.0, **FIGURES,
    'published': {},
  } | changes  # fmt: skip


def compared(dataset, delta, p_holm, **changes):
  base = {**FIGURES, 'mean': 51.25 - delta}
  interval = [delta - 2, delta + 2]
  more = {'p': p_holm / 2, 'p_holm': p_holm, 'detectable': 5.1}
  return result(
    dataset, base=base, delta=delta, delta_ci95=interval, **more, **changes
  )  # fmt: skip


def made(*results):
  return {
    'model': 'm_1', 'checkpoint': 'runs/m_1', 'held_out': ['nli'],
    'trained_on': ['misc'], 'train_examples': {}, 'seed': 0, 'results': list(results),
  }  # fmt: skip


WHOLE = made(
  compared('anli_r1', 8.5, 0.01, published={
    'flan_137b_zero_shot': {'value': 47.7, 'mark': 'confirmed'}}),
  compared('rte', -4.5, 0.2, published={
    'flan_137b_zero_shot': {'value': 78.3, 'mark': 'M'}}),
  result('squad_v1', 'reading_comprehension', chance=None, majority=None),
)  # fmt: skip


class TestLatex:
  TEXT = tables.latex(WHOLE)

  def line(self, name):
    (found,) = [x for x in self.TEXT.splitlines() if x.startswith(name)]
    return [cell.strip() for cell in found.removesuffix('\\\\').split('&')]

  def test_every_line_has_as_many_cells_as_the_head(self):
    lines = [x for x in self.TEXT.splitlines() if ' & ' in x]
    assert len({x.count('&') for x in lines}) == 1
    assert lines[0].count('&') + 1 == len('lrrrrrrr')
    assert '{lrrrrrrr}' in self.TEXT

  def test_underscores_and_minus_signs_are_typeset(self):
    assert self.line('anli\\_r1')[0] == 'anli\\_r1'
    assert self.line('rte')[5] == '$-$4.5 [$-$6.5, $-$2.5]'

  def test_a_difference_that_holds_after_correction_is_bold(self):
    assert self.line('anli\\_r1')[5] == '\\textbf{+8.5 [6.5, 10.5]}'

  def test_what_is_not_known_is_a_dash_and_what_is_unverified_is_marked(self):
    assert self.line('squad\\_v1')[2:6] == ['--', '--', '51.2 $\\pm$ 1.5', '--']
    assert self.line('rte')[7] == '78.3 ?'

  def test_a_cluster_of_several_has_its_average(self):
    cells = self.line('average')
    assert cells[1] == '2\\,160'
    assert cells[4] == '51.2'

  def test_braces_are_balanced(self):
    assert self.TEXT.count('{') == self.TEXT.count('}')


@pytest.fixture
def written(tmp_path):
  (tmp_path / 'report.json').write_text(json.dumps(WHOLE), encoding='utf-8')
  tables.write(tmp_path)
  return tmp_path


def read(path):
  with path.open(encoding='utf-8', newline='') as file:
    return list(csv.DictReader(file))


def test_csv_has_a_line_a_dataset(written):
  first, second, third = read(written / 'report.csv')
  assert [x['dataset'] for x in (first, second, third)] == [
    'anli_r1',
    'rte',
    'squad_v1',
  ]
  assert (first['mean'], first['base_mean'], first['delta']) == (
    '51.25',
    '42.75',
    '8.5',
  )
  assert (first['delta_ci95_low'], first['delta_ci95_high']) == ('6.5', '10.5')
  assert (first['p_holm'], first['detectable']) == ('0.01', '5.1')
  assert (second['flan_137b_zero_shot'], second['flan_137b_mark']) == ('78.3', 'M')
  assert {third[name] for name in ('base_mean', 'delta', 'chance', 'ece')} == {''}


def test_csv_has_a_line_a_template_and_model(written):
  lines = read(written / 'templates.csv')
  assert len(lines) == 3 * 2 + 2 * 2
  assert lines[1] == {
    'dataset': 'anli_r1', 'direction': '', 'model': 'tuned', 'template': '3',
    'dev': '', 'test': '52.75', 'n': '79',
  }  # fmt: skip


@pytest.mark.parametrize(
  ('results', 'words'),
  [
    ([result('rte')], 'zero-shot'),
    ([result('rte', num_fewshot=5)], '5-shot'),
    ([result('rte', prompt_style='no_options')], 'zero-shot, no options'),
    ([result('rte'), result('cb', num_fewshot=2)], 'zero-shot; 2-shot'),
    ([], 'zero-shot'),
  ],
)
def test_how_the_models_were_described(results, words):
  assert tables.method(made(*results)) == words


def printed(report_):
  out = io.StringIO()
  terminal.print_table(report_, file=out)
  return out.getvalue()


class TestTheTerminal:
  def test_raw_p_stands_beside_holms(self):
    text = printed(made({**compared('rte', -16.7, 0.982), 'p': 0.031}))
    assert 'p (Holm)' in text
    assert '0.031 (0.982)' in text

  def test_a_star_has_its_footnote_and_no_star_has_none(self):
    assert '* differs' in printed(made(compared('rte', 8.5, 0.01)))
    without = printed(made(compared('rte', 8.5, 0.2)))
    assert '*' not in without
    assert '* differs' not in printed(made(result('rte')))

  def test_of_one_template_no_spread_is_printed(self):
    assert '± std' in printed(made(result('rte')))
    assert '±' not in printed(made(result('rte', std_over_templates=None)))

  def test_examples_stand_beside_those_declared(self):
    assert '56 of 1,080' in printed(made(result('rte', n=56, n_declared=1080)))

  def test_templates_stand_beside_those_declared(self):
    three = result('rte', templates_declared=10)
    assert 'mean over 2 of 10 templates' in printed(made(three))
    both = printed(made(three, result('cb', templates_declared=2)))
    assert 'rte: mean over 2 of 10 templates' in both
    assert 'mean over' not in printed(made(result('rte', templates_declared=2)))


def test_the_average_of_a_table_is_that_of_the_report():
  nli = schema.averages(WHOLE)[0]
  assert f'{nli["mean"]:.1f} &' in tables.latex(WHOLE)


def test_a_difference_has_a_table_for_a_paper_and_one_for_a_program(tmp_path):
  evaluated(tmp_path / 'new')
  evaluated(tmp_path / 'old', model=NO)
  (result,) = compare.write(tmp_path / 'new', tmp_path / 'old')['results']
  with (tmp_path / 'new' / 'difference.csv').open(encoding='utf-8', newline='') as file:
    (line,) = csv.DictReader(file)
  assert (line['dataset'], line['old'], line['new']) == ('rte', '50.0', '75.0')
  assert [line['gained'], line['lost'], line['p']] == [
    str(result[name]) for name in ('gained', 'lost', 'p')
  ]
  text = (tmp_path / 'new' / 'difference.tex').read_text(encoding='utf-8')
  assert 'rte & 20 & 50.0 & 75.0 & ' in text
  assert text.count('{') == text.count('}')
  assert len({line.count('&') for line in text.splitlines() if '&' in line}) == 1
