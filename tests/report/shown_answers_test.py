"""Answers that a page shows: a draw of right and wrong ones, or of graded ones."""

import dataclasses
import json
import random
import re

import made_report
import pytest
from evaluated_report import (
  WRITER,
  evaluated,
  page,
  said,
  texts,
)
from made_report import record
from scored_report import record as scored

from flan_jax.config.decoding import Decoding
from flan_jax.evaluate import metrics, predictions
from flan_jax.report import shown_answers

REPORT = made_report.report()
RTE, _, AESLC = made_report.DATASETS


class TestGeneration:
  STOP = ('\n\n\n', 'END')

  def write(self, out):
    decoding = dataclasses.asdict(Decoding(temperature=0.7, stop=self.STOP))
    answers = {'normalization': 'none', 'decoding': decoding}
    return evaluated(
      out, dataset='samsum', examples=texts, model=WRITER, base=WRITER, answers=answers
    )

  def test_graded_answers_are_neither_right_nor_wrong(self, tmp_path):
    self.write(tmp_path)
    written = page(tmp_path)
    examples = written[
      written.index('id="examples"') : written.index('id="provenance"')
    ]
    for word in ('Right', 'Wrong', ' right', ' wrong', 'class="wrong"', 'log-prob'):
      assert word not in examples
    metric = metrics.get('rouge')
    gold = 'the old red house by the sea number 0'
    score = metric.value(metric.scores(['the old house\n\nby the sea'], [[gold]]))[0]
    assert f'<h3>rougeLsum {100 * score:.1f} <span' in examples
    assert f'<dt>base generated ({100 * score:.1f})</dt>' in examples
    scores = f'{100 * score:.1f} to {100 * score:.1f}'
    assert f'4 answers shown, rougeLsum {scores}' in examples

  def test_line_breaks_and_capitals_are_kept(self, tmp_path):
    self.write(tmp_path)
    assert '<dt>generated</dt><dd>the old house\n\nby the sea</dd>' in page(tmp_path)
    assert '.said dd { white-space: pre-wrap; }' in page(tmp_path)
    kicker = said(tmp_path, '<p class="eyebrow">(.*?)</p>')
    assert kicker.startswith(
      'Evaluation, in percent: zero-shot; temperature 0.7; stop '
    )
    assert r'\n\n\n' in re.findall('<p class="eyebrow">(.*?)</p>', page(tmp_path))[0]
    assert 'text-transform' not in page(tmp_path)

  def test_what_has_no_chance_has_no_legend_of_it(self, tmp_path):
    self.write(tmp_path)
    for plot in ('averages', 'templates'):
      text = (tmp_path / 'plots' / f'{plot}.svg').read_text(encoding='utf-8')
      assert 'chance' not in text
      assert 'majority' not in text
    assert 'Chance draws' not in page(tmp_path)

  def test_ranked_options_have_both(self, tmp_path):
    evaluated(tmp_path)
    text = (tmp_path / 'plots' / 'averages.svg').read_text(encoding='utf-8')
    assert 'chance' in text
    assert 'Chance draws' in page(tmp_path)
    assert (
      'Scores are log-probabilities of the whole option, in nats; the option with'
      in (page(tmp_path))
    )


@pytest.mark.parametrize('name', metrics.METRICS)
def test_a_metric_is_graded_where_an_answer_can_be_half_right(name):
  near = {'f1a': ('no', 'yes'), 'pearson': ('3', '5')}
  one, gold = near.get(name, ('the red old house stood', 'the red old house fell'))
  metric = metrics.get(name)
  (value,) = metric.value(metric.scores([one], [[gold]]))
  assert metric.graded == (value not in (0, 1))


class TestExamples:
  LINES = [
    record(of, i, template=template, right=(i + template) % 3 > 0)
    for of in (RTE, AESLC)
    for i in range(12)
    for template in (0, 1)
  ]

  def drawn(self, out, lines, *, base=(), **changes):
    for name, found in (('', lines), ('.base', base)):
      text = ''.join(json.dumps(line) + '\n' for line in found)
      (out / f'predictions{name}.jsonl').write_text(text, encoding='utf-8')
    return shown_answers.draw(out, REPORT, **changes)

  def test_as_many_right_ones_as_wrong_ones_and_of_different_examples(self, tmp_path):
    found = self.drawn(tmp_path, self.LINES, each=2)
    assert [one['right'] for one in found['rte']] == [True, True, False, False]
    assert [one['right'] for one in found['aeslc']] == [None] * 4
    for right in (True, False):
      ids = [one['example_id'] for one in found['rte'] if one['right'] is right]
      assert len(ids) == len(set(ids))
    assert 'anli_r1' not in found

  def test_the_order_of_the_file_does_not_matter(self, tmp_path):
    found = self.drawn(tmp_path, self.LINES)
    for seed in range(3):
      lines = random.Random(seed).sample(self.LINES, len(self.LINES))
      assert self.drawn(tmp_path, lines) == found

  def test_a_graded_answer_has_its_score_and_a_ranked_one_its_options(self, tmp_path):
    found = self.drawn(tmp_path, self.LINES)
    scores = {one['text']: one['score'] for one in found['aeslc']}
    assert scores['yes'] == 100
    assert scores['nay'] < 100
    for one in found['rte']:
      assert [choice['option'] for choice in one['choices']] == one['options']
      (predicted,) = [c['option'] for c in one['choices'] if c['predicted']]
      assert predicted == one['options'][one['predicted']]

  def test_the_answer_of_the_base_to_the_same_prompt_stands_beside(self, tmp_path):
    found = self.drawn(tmp_path, self.LINES, base=self.LINES[::-1])
    for one in (*found['rte'], *found['aeslc']):
      key = one['example_id'], one['template']
      assert (one['base']['example_id'], one['base']['template']) == key

  def test_without_predictions_there_are_none(self, tmp_path):
    assert shown_answers.draw(tmp_path, REPORT) == {}


def test_at_most_one_template_of_an_example_is_shown(tmp_path):
  with predictions.Predictions(tmp_path) as emit:
    for i in range(4):
      for template in range(5):
        emit(scored(i, predicted=0, template=template), split='test', model='tuned')
  of = {'seed': 0, 'results': [{'dataset': 'rte', 'split': 'test', 'prompt_style': ''}]}
  found = shown_answers.draw(tmp_path, of, each=3)
  assert len({one['example_id'] for one in found['rte']}) == len(found['rte']) == 3


def test_an_example_is_right_by_the_metric_of_its_dataset(tmp_path):
  with predictions.Predictions(tmp_path) as emit:
    for i, said in enumerate(('-5', '5')):
      one = scored(i, predicted=said, dataset='math_dataset', text=said, gold=['5'])
      emit(one | {'options': []}, split='test', model='tuned')
  result = {'dataset': 'math_dataset', 'split': 'test', 'prompt_style': ''}
  of = {'seed': 0, 'results': [result]}
  found = shown_answers.draw(tmp_path, of)
  assert {one['text']: one['right'] for one in found['math_dataset']} == {
    '-5': False,
    '5': True,
  }


class TestUnitsOfTheirOwn:
  """A metric in units of its own has values, and neither right nor wrong."""

  RESULT = {
    'dataset': 'rte', 'kind': 'value', 'metric': 'words', 'split': 'test',
    'prompt_style': 'instructions', 'base': {'prompt_style': 'instructions'},
  }  # fmt: skip

  def drawn(self, out, **changes):
    for name in ('', '.base'):
      lines = [
        scored(i, predicted=i % 2, template=template, values={'words': 1.0})
        for i in range(9)
        for template in (0, 1)
      ]
      text = ''.join(json.dumps(line) + '\n' for line in lines)
      (out / f'predictions{name}.jsonl').write_text(text, encoding='utf-8')
    of = {'seed': 0, 'results': [self.RESULT | changes]}
    return shown_answers.draw(out, of)['rte']

  def test_one_template_of_an_example_stands_beside_the_base_s_same_prompt(
    self, tmp_path
  ):
    shown = self.drawn(tmp_path)
    assert len({one['example_id'] for one in shown}) == len(shown) == 6
    for one in shown:
      assert (one['right'], one['expected']) == (None, ['yes'])
      assert 'score' not in one
      assert one['base']['template'] == one['template']
      assert [choice['gold'] for choice in one['choices']] == [True, False]

  def test_a_seqio_task_has_no_templates(self, tmp_path):
    shown = self.drawn(tmp_path, prompt_style='seqio_task', base={'prompt_style': 'x'})
    assert {one['template'] for one in shown} == {None}
