"""Files of a report, made from its report.json."""

import json

import pytest
from scored_report import (
  ABOUT,
  RIGHT,
  WRONG,
  dataset,
  record,
  results,
  split,
)

from flan_jax.errors import InputError
from flan_jax.evaluate import predictions
from flan_jax.report import schema
from flan_jax.report import write as write_lib


class TestFiles:
  def write(self, out, *, records=(), warnings=()):
    with predictions.Predictions(out) as emit:
      for one in records:
        emit(one, split='test', model='tuned')
        emit(one, split='test', model='base')
      emit(record(99, predicted=0), split='dev', model='tuned')
    parts = (dataset(), {'dev': split(RIGHT, WRONG), 'test': split(RIGHT, WRONG)})
    return write_lib.write(out, results(parts, warnings=warnings), **ABOUT)

  def test_everything_is_there_and_nothing_else(self, tmp_path):
    found = self.write(tmp_path, records=[record(0, predicted=0)])
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob('*') if p.is_file()}
    assert names == {
      'report.json', 'report.html', 'predictions.jsonl', 'predictions.dev.jsonl',
      'predictions.base.jsonl', 'plots/averages.svg', 'plots/templates.svg',
      'report.csv', 'templates.csv', 'report.tex',
    }  # fmt: skip
    assert schema.load(tmp_path) == found

  def test_predictions_hold_the_reported_examples_of_the_tuned_model(self, tmp_path):
    self.write(tmp_path, records=[record(i, predicted=0) for i in range(3)])
    lines = (tmp_path / 'predictions.jsonl').read_text(encoding='utf-8').splitlines()
    assert [json.loads(line) for line in lines] == [
      record(i, predicted=0) for i in range(3)
    ]

  def fill_the_disk(self, out):
    with predictions.Predictions(out) as emit:
      emit(record(1, predicted=1), split='test', model='tuned')
      raise OSError(28, 'No space left on device')

  def test_predictions_of_an_earlier_base_model_do_not_stay(self, tmp_path):
    self.write(tmp_path, records=[record(0, predicted=0)])
    with predictions.Predictions(tmp_path) as emit:
      emit(record(0, predicted=0), split='test', model='tuned')
    assert [p.name for p in tmp_path.glob('*.jsonl')] == ['predictions.jsonl']

  def test_a_truncated_report_is_refused(self, tmp_path):
    (tmp_path / 'report.json').write_text('{"model": ', encoding='utf-8')
    with pytest.raises(InputError, match='not a report'):
      schema.load(tmp_path)

  def test_a_failure_leaves_what_was_there(self, tmp_path):
    self.write(tmp_path, records=[record(0, predicted=0)])
    before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    with pytest.raises(OSError, match='No space left'):
      self.fill_the_disk(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()} == before

  def test_the_same_evaluation_gives_the_same_bytes(self, tmp_path):
    for name in ('one', 'two'):
      self.write(tmp_path / name, records=[record(0, predicted=0)])
    for path in (tmp_path / 'one').rglob('*.*'):
      other = tmp_path / 'two' / path.relative_to(tmp_path / 'one')
      assert path.read_bytes() == other.read_bytes(), path

  def test_the_page_reaches_for_nothing_outside(self, tmp_path):
    records = [record(i, predicted=i % 2, prompt='See <b>x</b>') for i in range(6)]
    self.write(tmp_path, records=records)
    html = (tmp_path / 'report.html').read_text(encoding='utf-8')
    for outside in ('http:', 'https:', '//', '<script', '<link', '@import', 'src='):
      assert outside not in html, outside

  def test_the_page_is_accessible(self, tmp_path):
    self.write(tmp_path, records=[record(i, predicted=i % 2) for i in range(6)])
    html = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert '<html lang="en">' in html
    assert 'name="viewport"' in html
    assert html.count('<h1') == 1
    assert html.count('<svg role="img" aria-labelledby=') == 2
    assert html.count('<svg aria-hidden="true"') == html.count('<svg') - 2 == 1
    assert html.count('<table') <= html.count('<caption') + html.count(
      'aria-label="Opt'
    )
    ids = [part.split('"')[0] for part in html.split(' id="')[1:]]
    assert len(ids) == len(set(ids))

  def test_the_page_shows_headline_examples_and_warnings(self, tmp_path):
    records = [record(i, predicted=i % 2, prompt='Is 1 < 2?') for i in range(6)]
    found = self.write(tmp_path, records=records, warnings=('rte: something odd',))
    html = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert schema.headline(schema.averages(found)[0]) in html
    assert 'rte: something odd' in html
    assert 'Is 1 &lt; 2?' in html
    assert html.count('class="right"') == html.count('class="wrong"') == 3
    assert '-2.250' in html

  def test_the_page_shows_raw_p_and_holms_and_no_spread_of_one_template(self, tmp_path):
    found = self.write(tmp_path, records=[record(0, predicted=0)])
    html = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert found['results'][0]['p'] < 0.001
    assert '] p &lt; 0.001</span>' in html, 'of one result there is no correction'
    assert '±' in html.partition('<tbody>')[2].partition('</tbody>')[0]
    one = {'test': split(RIGHT[:1], WRONG[:1])}
    write_lib.write(tmp_path, results((dataset(), one), templates=(0,)), **ABOUT)
    html = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert '±' not in html.partition('<tbody>')[2].partition('</tbody>')[0]
    assert '>1 of 3 templates<' in html

  def test_an_evaluation_of_nothing_still_makes_a_page(self, tmp_path):
    with predictions.Predictions(tmp_path):
      pass
    write_lib.write(tmp_path, results(), **ABOUT)
    html = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert 'nothing was measured' in html
