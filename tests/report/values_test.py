"""Results in units of their own: rows, tables and page, alone and beside the others."""

import csv
import dataclasses
import io
import json

import made_report
import numpy as np
import pytest

from flan_jax.evaluate.contamination import Overlap
from flan_jax.evaluate.task_metrics import NO_MEAN, Figure, TaskResult, TaskSplit
from flan_jax.report import build, html, schema, terminal, values
from flan_jax.report import write as write_lib

RIGHT = {
  'tuned': np.array([100.0, 0.0, 100.0, 100.0]),
  'base': np.array([0.0, 0.0, 100.0, 0.0]),
}
LOSS = {
  'tuned': np.array([1.5, 2.5, 3.0, 2.0]),
  'base': np.array([2.5, 3.25, 4.0, 3.25]),
}


def measured(models=('tuned', 'base')):
  dataset = dataclasses.replace(
    made_report.DATASETS[0], name='theirs', cluster='theirs'
  )
  examples = made_report.results().datasets[0].reported.examples[:4]
  figures = {
    model: {
      'accuracy': Figure(RIGHT[model].mean(), RIGHT[model], (0, 100)),
      'loss': Figure(LOSS[model].mean(), LOSS[model], (1.5, 4.0)),
      'bleu': Figure(0.12345678, reason=NO_MEAN),
      'undefined': Figure(np.nan, reason='it is not a number'),
    }
    for model in models
  }  # fmt: skip
  split = TaskSplit(examples=tuple(examples), total=9, figures=figures)
  return TaskResult(dataset=dataset, splits={'test': split})


def report(*, alone=False, **changes):
  found = made_report.results()
  if alone:
    found = dataclasses.replace(found, datasets=())
  found = dataclasses.replace(found, own=(measured(**changes),))
  return build.build(found, build.Metadata(**made_report.METADATA))


@pytest.fixture(params=[True, False], ids=['alone', 'beside'])
def written(request, tmp_path):
  made = report(alone=request.param)
  (tmp_path / 'report.json').write_text(json.dumps(made))
  record = {
    'example_id': 'test.0.0', 'dataset': 'theirs', 'template': 0, 'prompt': 'Which?',
    'options': [], 'text': 'red', 'gold': ['blue'], 'predicted': 'red',
    'log_probability': -1.5, 'values': {'accuracy': 0.0, 'loss': 1.5},
  }  # fmt: skip
  (tmp_path / 'predictions.jsonl').write_text(json.dumps(record) + '\n')
  write_lib.render(tmp_path)
  return tmp_path


def test_one_result_per_figure_as_the_metric_returns_it():
  found = {r['metric']: r for r in report()['results'] if schema.is_value(r)}
  assert list(found) == ['accuracy', 'loss', 'bleu', 'undefined']
  assert (found['accuracy']['mean'], found['accuracy']['highest']) == (75.0, 100.0)
  assert found['accuracy']['delta'] == 50.0
  low, high = found['accuracy']['delta_ci95']
  assert -100 <= low < 50 < high <= 100
  assert found['loss']['highest'] is None
  assert found['loss']['delta_ci95'] == pytest.approx([-1.3248, -0.6752], abs=1e-4)
  assert (found['bleu']['mean'], found['bleu']['ci95']) == (0.12345678, None)
  assert found['bleu']['delta_ci95'] is None
  assert 'p' not in found['bleu']
  assert (found['undefined']['mean'], found['undefined']['delta']) == (None, None)
  assert found['loss']['p_holm'] >= found['loss']['p']


def test_averages_are_of_results_in_percent():
  clusters = [average['cluster'] for average in schema.averages(report())]
  assert clusters == ['nli', 'summarization']


def test_clean_examples_have_a_figure_of_their_own():
  overlap = Overlap(np.arange(4) < 1, np.arange(4) < 3, np.zeros(4))
  found, *_ = values.results(measured(), seed=0, overlap=overlap)
  assert found['contamination']['mean'] == 50.0
  assert found['contamination']['contaminated'] == 1


def test_the_tables_have_every_figure(written):
  lines = list(csv.DictReader((written / 'report.csv').open()))
  own = {line['metric']: line for line in lines if line['kind'] == 'value'}
  assert (own['bleu']['mean'], own['bleu']['ci95_low']) == ('0.12345678', '')
  tex = (written / 'report.tex').read_text()
  assert 'theirs & bleu & 4 of 9' in tex
  out = io.StringIO()
  terminal.print_table(schema.load(written), file=out)
  shown = out.getvalue()
  assert 'theirs, zero-shot' in shown
  assert 'theirs bleu: no interval: it is a figure of all examples together' in shown


def test_the_page_has_every_figure_and_an_answer(written):
  page = (written / 'report.html').read_text()
  assert '75 [' in page
  assert '0.1235' in page
  assert 'log-probability of the target' in page
  assert 'accuracy 0, loss 1.5' in page


def test_a_report_without_a_base_has_no_difference(tmp_path):
  made = report(alone=True, models=('tuned',))
  assert all('delta' not in result for result in made['results'])
  page = html.render(made, plots={}, examples={})
  assert 'difference' not in page.partition('id="values"')[2].partition('</table>')[0]
