"""The difference of two reports: paired where it can be, and honest where it cannot."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle, examples
from sacrebleu import sentence_bleu
from written_once import written_once

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import registry
from flan_jax.catalog.answers import Answer
from flan_jax.errors import InputError
from flan_jax.evaluate import evaluator, metrics, predictions
from flan_jax.report import compare, schema, statements, terminal
from flan_jax.report import html as html_lib
from flan_jax.report import write as write_lib

RTE = dataclasses.replace(
  registry.get('rte'),
  templates=registry.get('rte').templates[:3],
  test='validation',
)
EXAMPLES = examples(RTE, 60)('rte', 'test')
ABOUT = {
  'model': 'm', 'checkpoint': 'c', 'held_out': ['nli'], 'trained_on': [],
  'train_examples': {}, 'data_digest': 'd',
}  # fmt: skip


def evaluated(
  out, right, *, some=None, config='Evaluate.num_fewshot = 0  # default', said=None,
  dataset=RTE, **more,
):  # fmt: skip
  """Evaluates a model that is right on example i if `right(i)`, or answers `said`."""
  some = EXAMPLES if some is None else some
  known = None if said is not None else {i for i in range(len(EXAMPLES)) if right(i)}
  return _evaluated(out, known, some, config, said, dataset, **more)


@written_once
def _evaluated(out, known, some, config, said, dataset, **more):
  def rule(prompt):
    blank = ' ' * (more.get('prompt_style') == 'continuation')
    if said is not None:
      return blank + said
    i = int(re.findall(r'Fact (\d+) of', prompt)[-1])
    return blank + ('yes', 'no')[i % 2 if i in known else 1 - i % 2]

  model = Oracle(rule)
  model.sequence_length = 4096  # the oracle's tokens are bytes
  train = examples(RTE, 8)('rte', 'train')
  with predictions.Predictions(out) as emit:
    results = evaluator.evaluate(
      model,
      evaluator.Protocol(splits=('test',), **more),
      datasets=[dataset],
      examples=lambda _, split: train if split == 'train' else some,
      emit=emit,
    )
  provenance = {'config': config, 'models': {}, 'versions': {}}
  return write_lib.write(out, results, seed=0, provenance=provenance, **ABOUT)


def test_a_report_differs_by_nothing_from_itself(tmp_path):
  evaluated(tmp_path, lambda i: i % 3)
  found = compare.compare(tmp_path, tmp_path)
  (result,) = found['results']
  assert (result['delta'], result['p']) == (0, 1)
  low, high = result['delta_ci95']  # 60 examples cannot tell models apart to the point
  assert -low == high == pytest.approx(100 * 3.84 / 63.84, abs=0.01)
  assert (result['gained'], result['lost'], result['examples']) == (0, 0, [])
  assert found['settings'] == []


def test_figures_are_those_of_the_reports_and_changes_are_counted(tmp_path):
  new = evaluated(tmp_path / 'new', lambda i: i < 50)
  old = evaluated(tmp_path / 'old', lambda i: i >= 5 and i < 40)
  found = compare.write(tmp_path / 'new', tmp_path / 'old')
  (result,) = found['results']
  assert (result['new'], result['old']) == (
    new['results'][0]['mean'],
    old['results'][0]['mean'],
  )
  assert result['delta'] == pytest.approx(result['new'] - result['old'], abs=1e-3)
  assert result['paired']
  assert (result['gained'], result['lost']) == (15 * 3, 0)
  assert result['p_holm'] < 0.01
  assert {example['kind'] for example in result['examples']} == {'gained'}
  assert len({example['example_id'] for example in result['examples']}) == 3
  for example in result['examples']:
    assert example['new'] == example['expected'] != example['old']


def test_only_examples_with_the_same_right_answer_are_paired(tmp_path):
  evaluated(tmp_path / 'new', lambda i: True)
  other = [
    example._replace(answer=EXAMPLES[i + 1].answer) if i < 10 else example
    for i, example in enumerate(EXAMPLES[:40])
  ]
  evaluated(tmp_path / 'old', lambda i: True, some=other)
  (result,) = compare.compare(tmp_path / 'new', tmp_path / 'old')['results']
  assert result['n'] == 30


SAMSUM = dataclasses.replace(
  registry.get('samsum'),
  templates=registry.get('samsum').templates[:2],
  test='test',
)
GOLD = 'the old red house by the sea was sold to a young man from the town'
NOVEL = GOLD.split()


def summaries(out, texts, gold):
  """Evaluates a model that writes `texts`, a summary per example."""
  some = [
    dataset_lib.Example(
      f'test.0.{i}',
      {'chat': f'Dialogue number {i} it is', 'summary': gold, 'answer': gold},
      Answer(gold, references=(gold,)),
    )
    for i in range(len(texts))
  ]
  model = Oracle(lambda prompt: texts[int(re.search(r'number (\d+) it', prompt)[1])])
  with predictions.Predictions(out) as emit:
    results = evaluator.evaluate(
      model,
      evaluator.Protocol(splits=('test',)),
      datasets=[SAMSUM],
      examples=lambda *_: some,
      emit=emit,
    )
  return write_lib.write(out, results, seed=0, **ABOUT)


@pytest.mark.parametrize('worse', [NOVEL[:4], NOVEL[::-1]])
def test_where_rouge_is_better_nothing_is_lost(worse, tmp_path):
  """Whether every ROUGE is better, or ROUGE-Lsum alone, which is the headline."""
  new, old = tmp_path / 'new', tmp_path / 'old'
  summaries(new, [' '.join(NOVEL[:9])] * 8, GOLD)
  summaries(old, [' '.join(worse)] * 8, GOLD)
  (result,) = compare.compare(new, old)['results']
  assert result['delta'] > 20
  assert (result['gained'], result['lost']) == (8 * 2, 0)
  (result,) = compare.compare(old, new)['results']
  assert (result['gained'], result['lost']) == (0, 8 * 2)


TEXTS = st.lists(st.sampled_from(NOVEL), max_size=6).map(' '.join)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(metrics.METRICS)), st.data())
def test_a_better_answer_is_never_listed_as_lost(name, data):
  """By the figure of the one answer, where the metric has one."""
  metric = metrics.get(name)
  texts = {'f1a': st.sampled_from(['yes', 'no']), 'pearson': st.sampled_from('012345')}
  some = texts.get(name, TEXTS)
  pairs = data.draw(st.lists(st.tuples(some, some, some), min_size=1, max_size=6))
  new, old, gold = zip(*pairs, strict=True)
  scores = [metric.scores(said, [[g] for g in gold]) for said in (new, old)]
  gain = metric.value(scores[0]) - metric.value(scores[1])
  ids = [str(i) for i in range(len(pairs))]
  found = compare._changed(gain[None], ids, [0])
  lost = {example_id for example_id, _ in found['lost']}
  gained = {example_id for example_id, _ in found['gained']}
  assert not lost & gained
  for example_id, ours, theirs, right in zip(ids, new, old, gold, strict=True):
    better = round(alone(name, ours, right) - alone(name, theirs, right), 6)
    assert (example_id in gained, example_id in lost) == (better > 0, better < 0)


def alone(name, said, right):
  """Scores one answer without the metric's own `value`."""
  if name == 'f1a':
    return float(said == right)
  if name == 'pearson':
    return -abs(int(said) - int(right))
  if name == 'bleu':
    return sentence_bleu(said, [right], tokenize='intl').score
  metric = metrics.get(name)
  return metric.aggregate(metric.scores([said], [[right]]))


def test_f1a_counts_a_false_alarm_that_is_gone_as_better(tmp_path):
  multirc = registry.get('multirc')
  multirc = dataclasses.replace(multirc, templates=multirc.templates[:1])
  words = ('no', 'yes')
  some = [
    example._replace(
      values={'paragraph': example.values['premise'], 'question': 'q', 'response': 'r'}
      | {'answer': words[i % 3 == 0]},
      answer=Answer(words[i % 3 == 0], words, (int(i % 3 == 0),)),
    )
    for i, example in enumerate(EXAMPLES)
  ]
  for name, said in (('new', 'no'), ('old', 'yes')):
    evaluated(tmp_path / name, None, said=said, some=some, dataset=multirc)
  (result,) = compare.compare(tmp_path / 'new', tmp_path / 'old')['results']
  assert (result['gained'], result['lost']) == (40, 20)
  assert result['delta'] == -50  # F1 of no `yes` at all is 0, of nothing but `yes` 50


class TestAskedOtherwise:
  """NUM_FEWSHOT and PROMPT_STYLE differ: the answers are paired all the same."""

  def write(self, out, right, **more):
    evaluated(out, right, **more)
    return out

  def test_few_shot_pairs_template_by_template(self, tmp_path):
    new = self.write(tmp_path / 'new', lambda i: i < 50, num_fewshot=2)
    old = self.write(tmp_path / 'old', lambda i: 5 <= i < 40)
    found = compare.compare(new, old)
    (result,) = found['results']
    assert (result['unit'], result['paired']) == ('template', True)
    assert (result['gained'], result['lost']) == (15 * 3, 0)
    assert result['p'] < 0.01
    assert found['old']['title'] == 'm, zero-shot'
    assert found['new']['title'] == 'm, 2-shot'
    for example in result['examples']:
      assert example['template_text'] == RTE.templates[example['template']].inputs
      assert example['old_prompt'] is not None
      assert example['prompt'].endswith(example['old_prompt'])

  def test_other_prompt_styles_pair_example_by_example(self, tmp_path):
    """One prompt against three templates: 38 examples are better and 14 worse."""
    new = self.write(tmp_path / 'new', lambda i: i < 38, prompt_style='continuation')
    old = self.write(tmp_path / 'old', lambda i: i >= 46)
    found = compare.compare(new, old)
    (result,) = found['results']
    assert (result['unit'], result['paired']) == ('example', True)
    assert (result['gained'], result['lost']) == (38, 14)
    assert result['delta'] == pytest.approx(100 * (38 - 14) / 60, abs=1e-3)
    assert result['p'] is not None
    assert [example['template'] for example in result['examples']] == [None] * 6
    assert found['new']['title'] == 'm, zero-shot, continuation'
    (back,) = compare.compare(old, new)['results']
    assert (back['gained'], back['lost']) == (14, 38)
    assert back['p'] == result['p']

  def test_without_options_the_templates_are_the_same(self, tmp_path):
    new = self.write(tmp_path / 'new', lambda i: i < 50, prompt_style='no_options')
    old = self.write(tmp_path / 'old', lambda i: 5 <= i < 40)
    (result,) = compare.compare(new, old)['results']
    assert (result['unit'], result['gained'], result['lost']) == ('template', 45, 0)

  def test_what_cannot_be_paired_is_unknown_and_not_zero(self, tmp_path):
    new = self.write(tmp_path / 'new', lambda i: True)
    other = [
      example._replace(example_id=f'x{example.example_id}') for example in EXAMPLES
    ]
    old = self.write(tmp_path / 'old', lambda i: False, some=other)
    (result,) = compare.write(new, old)['results']
    assert (result['gained'], result['lost'], result['unit']) == (None, None, None)
    html = (new / 'difference.html').read_text(encoding='utf-8')
    assert '<td>\u2013</td><td>\u2013</td>' in html

  def test_the_page_names_what_differs_and_shows_the_template(self, tmp_path):
    new = self.write(tmp_path / 'new', lambda i: i < 50, num_fewshot=2)
    old = self.write(tmp_path / 'old', lambda i: i < 20)
    compare.write(new, old)
    html = (new / 'difference.html').read_text(encoding='utf-8')
    assert '<h1>m, zero-shot \u2192 m, 2-shot</h1>' in html
    assert 'Template: <code>' in html
    assert 'The old prompt' in html


def both_say(new, old):
  """The difference, its page without tags, and what the terminal says."""
  found = compare.write(new, old)
  out = io.StringIO()
  terminal.print_difference(found, file=out)
  written = (new / 'difference.html').read_text(encoding='utf-8')
  return found, re.sub(r'<[^>]+>', '', written), out.getvalue()


class TestOverLess:
  """What the two have in common is less than what one of them measured."""

  def test_of_other_templates_those_of_both_are_compared_and_named(self, tmp_path):
    other = dataclasses.replace(RTE, templates=RTE.templates[:1])
    new = evaluated(tmp_path / 'new', lambda i: i < 35, dataset=other)
    old = evaluated(tmp_path / 'old', lambda i: i < 35)
    # Of the other two templates the old model answered half as much.
    path = tmp_path / 'old' / 'report.json'
    old['results'][0]['mean'] = 50.7
    path.write_text(json.dumps(old), encoding='utf-8')
    found, *texts = both_say(tmp_path / 'new', tmp_path / 'old')
    (result,) = found['results']
    assert (result['old'], result['new'], result['templates']) == (58.3333, 58.3333, 1)
    assert result['reports']['old'] == {'mean': 50.7, 'n': 60, 'templates': 3}
    assert result['reports']['new']['mean'] == new['results'][0]['mean'] == 58.3333
    words = 'rte: over the 1 template of both; the reports themselves: 50.7 → 58.3'
    for text in texts:
      assert words in text
    tex = (tmp_path / 'new' / 'difference.tex').read_text(encoding='utf-8')
    assert f'% {words}' in tex

  def test_of_fewer_examples_those_of_both(self, tmp_path):
    evaluated(tmp_path / 'new', lambda i: True, some=EXAMPLES[:30])
    evaluated(tmp_path / 'old', lambda i: i < 15)
    found, *texts = both_say(tmp_path / 'new', tmp_path / 'old')
    assert found['results'][0]['n'] == 30
    for text in texts:
      assert (
        'rte: over the 30 examples of both; the reports themselves: 25.0 → 100.0'
      ) in text

  def test_other_prompt_styles_have_templates_of_their_own(self, tmp_path):
    evaluated(tmp_path / 'new', lambda i: True, prompt_style='continuation')
    evaluated(tmp_path / 'old', lambda i: True)
    _, *texts = both_say(tmp_path / 'new', tmp_path / 'old')
    for text in texts:
      assert 'rte: each over its own templates (3 → 1); the reports' in text

  def test_nothing_is_said_where_all_is_of_both(self, tmp_path):
    evaluated(tmp_path / 'new', lambda i: True)
    evaluated(tmp_path / 'old', lambda i: True)
    found, *texts = both_say(tmp_path / 'new', tmp_path / 'old')
    assert statements.remarks(found, schema.label) == []
    for text in texts:
      assert '1 result in both: 1 not significant' in text
    assert 'None.' in texts[0]


class TestNotPaired:
  """No answer of one is an answer of the other: that is said, and nothing counted."""

  def check(self, new, old, why, counted):
    found, written, printed = both_say(new, old)
    (result,) = found['results']
    assert (result['n'], result['templates'], result['unpaired_reason']) == (
      None,
      0,
      why,
    )
    for text in (written, printed):
      assert f'rte: the predictions could not be paired: {why}' in text
      assert '1 result in both: 1 not tested' in text
      assert 'not significant' not in text
      assert counted in text
    assert 'None.' not in written
    return found, printed

  def test_other_examples(self, tmp_path):
    other = [
      example._replace(example_id=f'x{example.example_id}') for example in EXAMPLES[:6]
    ]
    evaluated(tmp_path / 'new', lambda i: True, some=EXAMPLES[:3])
    evaluated(tmp_path / 'old', lambda i: False, some=other)
    why = 'the two share no example with the same right answer'
    found, printed = self.check(tmp_path / 'new', tmp_path / 'old', why, '6 → 3')
    assert found['other_examples'] == ['rte']
    assert 'The two did not measure the same examples of rte.' in printed

  @pytest.mark.parametrize(
    ('lost', 'why'),
    [
      (['old'], 'old has no predictions'),
      (['new', 'old'], 'new and old have no predictions'),
    ],
  )
  def test_without_predictions(self, lost, why, tmp_path):
    for name in ('new', 'old'):
      evaluated(tmp_path / name, lambda i: True)
    for name in lost:
      (tmp_path / name / 'predictions.jsonl').unlink()
    self.check(tmp_path / 'new', tmp_path / 'old', why, '60')


def test_one_model_set_otherwise_is_told_apart_by_name(tmp_path):
  evaluated(tmp_path / 'new', lambda i: True)
  evaluated(
    tmp_path / 'old', lambda i: True, config='Evaluate.max_examples = 9  # flag'
  )
  found = compare.compare(tmp_path / 'new', tmp_path / 'old')
  assert found['old']['title'] == 'm, Evaluate.max_examples 9 and 1 more'
  assert found['new']['title'] == 'm, Evaluate.max_examples - and 1 more'


def test_the_title_says_what_differs(tmp_path):
  """The prompts and the checkpoint; without either, a setting; or that nothing does."""
  made = evaluated(tmp_path / 'old', lambda i: True)
  evaluated(tmp_path / 'new', lambda i: True)
  again = compare.compare(tmp_path / 'new', tmp_path / 'old')
  assert statements.comparison(again) == 'm, twice: no recorded setting differs'
  made['checkpoint'] = 'runs/other'
  made['results'][0]['num_fewshot'] = 2
  (tmp_path / 'old' / 'report.json').write_text(json.dumps(made), encoding='utf-8')
  found = compare.write(tmp_path / 'new', tmp_path / 'old')
  title = 'm, 2-shot, runs/other → m, zero-shot, c'
  assert statements.comparison(found) == title
  page = (tmp_path / 'new' / 'difference.html').read_text(encoding='utf-8')
  assert f'<h1>{title}</h1>' in page
  out = io.StringIO()
  terminal.print_difference(found, file=out)
  assert title in out.getvalue()


def test_answers_that_a_metric_grades_have_their_scores(tmp_path):
  summaries(tmp_path / 'new', ['the red house'], 'the red house')
  summaries(tmp_path / 'old', ['the old house'], 'the red house')
  found = compare.write(tmp_path / 'new', tmp_path / 'old')
  ((example,),) = (result['examples'] for result in found['results'])
  assert example['scores']['new'] == 100
  assert example['scores']['old'] == pytest.approx(200 / 3, abs=1e-3)
  page = (tmp_path / 'new' / 'difference.html').read_text(encoding='utf-8')
  assert '<dt>old (66.7)</dt><dd>the old house</dd><dt>new (100.0)</dt>' in page


def test_without_predictions_two_figures_stand_apart(tmp_path):
  evaluated(tmp_path / 'new', lambda i: i < 50)
  evaluated(tmp_path / 'old', lambda i: i < 20)
  paired = compare.compare(tmp_path / 'new', tmp_path / 'old')['results'][0]
  (tmp_path / 'old' / 'predictions.jsonl').unlink()
  (result,) = compare.compare(tmp_path / 'new', tmp_path / 'old')['results']
  assert not result['paired']
  assert result['delta'] == pytest.approx(paired['delta'])
  assert result['p'] is result['gained'] is None
  assert np.diff(result['delta_ci95']) > 0


def test_what_was_set_otherwise_is_named(tmp_path):
  evaluated(tmp_path / 'new', lambda i: True)
  config = (
    "Evaluate.num_fewshot = 4  # --gin.NUM_FEWSHOT\nEvaluation.output_dir = 'x'  # flag"
  )
  evaluated(tmp_path / 'old', lambda i: True, config=config)
  found = compare.compare(tmp_path / 'new', tmp_path / 'old')
  assert found['settings'] == [['Evaluate.num_fewshot', '4', '0']]


def test_datasets_of_one_alone_are_listed(tmp_path):
  evaluated(tmp_path / 'new', lambda i: True)
  made = evaluated(tmp_path / 'old', lambda i: True)
  made['results'].append({**made['results'][0], 'dataset': 'cb'})
  (tmp_path / 'old' / 'report.json').write_text(json.dumps(made), encoding='utf-8')
  found = compare.compare(tmp_path / 'new', tmp_path / 'old')
  assert (found['only_new'], found['only_old']) == ([], ['cb'])


def test_reports_without_a_dataset_in_common_are_refused(tmp_path):
  evaluated(tmp_path / 'new', lambda i: True)
  made = evaluated(tmp_path / 'old', lambda i: True)
  made['results'][0]['dataset'] = 'cb'
  (tmp_path / 'old' / 'report.json').write_text(json.dumps(made), encoding='utf-8')
  with pytest.raises(InputError, match=r'measured cb, and .* rte; must have a dataset'):
    compare.write(tmp_path / 'new', tmp_path / 'old')
  assert not (tmp_path / 'new' / 'difference.json').exists()


@pytest.mark.parametrize('line', ['{"example_id": "r', '[]', '{}', ''])
def test_a_torn_line_of_predictions_is_named(line, tmp_path):
  evaluated(tmp_path, lambda i: True)
  path = tmp_path / 'predictions.jsonl'
  lines = path.read_text(encoding='utf-8').splitlines()
  path.write_text('\n'.join([lines[0], line, lines[2]]), encoding='utf-8')
  for reader in (
    lambda: compare.compare(tmp_path, tmp_path),
    lambda: html_lib.write(tmp_path),
  ):
    with pytest.raises(
      InputError, match='predictions.jsonl: line 2 is not a whole prediction'
    ):
      reader()


def test_the_page_and_the_terminal_say_the_same(tmp_path):
  evaluated(tmp_path / 'new', lambda i: i < 50)
  evaluated(tmp_path / 'old', lambda i: i < 20)
  found = compare.write(tmp_path / 'new', tmp_path / 'old')
  html = (tmp_path / 'new' / 'difference.html').read_text(encoding='utf-8')
  assert html == html_lib.difference(found)
  out = io.StringIO()
  terminal.print_difference(found, file=out)
  for text in (html, out.getvalue()):
    assert '+50.0' in text
  for outside in ('http:', 'https:', '//', '<script', '<link', 'src='):
    assert outside not in html
  assert html.count('<h1') == 1
