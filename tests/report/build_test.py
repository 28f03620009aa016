"""report.json, predictions, the published figures, the terminal table."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from scored_report import (
  ABOUT,
  RIGHT,
  WRONG,
  build,
  dataset,
  results,
  split,
)

from flan_jax.catalog import leakage, lineage, registry
from flan_jax.catalog.answers import Answer, Text
from flan_jax.catalog.dataset import Example
from flan_jax.evaluate import evaluator
from flan_jax.report import build as build_lib
from flan_jax.report import schema, tables, terminal
from flan_jax.report import write as write_lib

TUNED = lineage.RANDOM.then(
  lineage.of_mixture(registry.mixture('flan_sst2'), model='m')
)
UNKNOWN = lineage.Lineage((lineage.unknown('gemma'),))


def test_it_is_json_without_nan():
  found = build((dataset(), {'dev': split(RIGHT, WRONG), 'test': split(RIGHT, WRONG)}))
  assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_figures_are_those_of_the_scores():
  tuned = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
  base = [[1, 0, 0, 0]] * 3
  (result,) = build((dataset(), {'test': split(tuned, base)}))['results']
  assert result['n'] == 4
  assert result['mean'] == 50
  assert result['std_over_templates'] == pytest.approx(math.sqrt(1250 / 3), abs=1e-4)
  assert result['base']['mean'] == 25
  assert result['delta'] == 25
  assert [entry['test'] for entry in result['per_template']] == [75, 50, 25]
  assert (result['chance'], result['majority']) == (50, 100)
  assert result['ci95'][0] < 50 < result['ci95'][1]


def test_best_template_is_chosen_on_dev_alone():
  """Template 2 is best on dev and worst on test, and it is the one reported."""
  dev = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
  test = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
  (result,) = build((dataset(), {'dev': split(dev), 'test': split(test)}))['results']
  assert result['best_dev_template'] == {'template': 2, 'dev': 75, 'test': 25}


def test_a_dataset_with_dev_and_no_test_ends_in_a_report(tmp_path):
  """Its dev figures are reported, and no template was chosen by them."""
  found = write_lib.write(
    tmp_path, results((dataset(), {'dev': split(RIGHT, WRONG)})), **ABOUT
  )
  (result,) = found['results']
  assert result['split'] == 'dev'
  assert result['mean'] == pytest.approx(100 * RIGHT.mean(), abs=1e-3)
  assert result['best_dev_template']['test'] is None
  (line,) = [
    text
    for text in (tmp_path / 'report.tex').read_text().splitlines()
    if text.startswith('rte')
  ]
  assert '--' in line
  assert 'rte' in (tmp_path / 'report.html').read_text()
  terminal.print_table(found, file=io.StringIO())


def test_without_dev_there_is_no_best_template():
  (result,) = build((dataset(), {'test': split(RIGHT)}))['results']
  assert result['best_dev_template'] is None
  assert {entry['dev'] for entry in result['per_template']} == {None}


def test_free_text_has_no_chance():
  written = dataset(metric='edit_distance', answer=Text('{premise}'))
  (result,) = build((written, {'test': split(RIGHT, options=())}))['results']
  assert result['chance'] is result['majority'] is None


def test_missing_cells_are_counted():
  scores = RIGHT.copy()
  scores[1, :4] = np.nan
  (result,) = build((dataset(), {'test': split(scores)}))['results']
  assert [entry['n'] for entry in result['per_template']] == [40, 36, 40]


def test_a_template_that_was_not_measured_is_null():
  scores = RIGHT.copy()
  scores[1] = np.nan
  (result,) = build((dataset(), {'dev': split(scores), 'test': split(scores)}))[
    'results'
  ]
  assert result['per_template'][1] == {'template': 1, 'dev': None, 'test': None, 'n': 0}
  assert result['best_dev_template']['template'] != 1
  assert result['mean'] == pytest.approx(100 * np.nanmean(scores), abs=1e-4)


def test_of_one_template_there_is_no_spread():
  (result,) = build((dataset(), {'test': split(RIGHT[:1])}), templates=(0,))['results']
  assert result['std_over_templates'] is None
  assert result['templates_declared'] == 3


class TestTheBestTemplateOfAFewExamples:
  def warnings(self, count, templates=3):
    dev, test = split(RIGHT[:templates, :count]), split(RIGHT[:templates])
    splits = {'dev': dev, 'test': test}
    return build((dataset(), splits), templates=tuple(range(templates)))['warnings']

  def test_is_chosen_with_a_warning(self):
    (line,) = self.warnings(4)
    assert line.startswith('rte: the best template was chosen on 4 dev examples; ')

  def test_is_a_choice_where_examples_are_enough(self):
    assert self.warnings(build_lib.FEW) == []

  def test_is_no_choice_where_there_is_one(self):
    assert self.warnings(4, templates=1) == []


def test_the_declared_size_stands_beside_a_part_of_it():
  declared = dataclasses.replace(dataset(), sizes={'dev': 9, 'test': 1080})
  (result,) = build((declared, {'test': split(RIGHT)}))['results']
  assert (result['n'], result['n_declared']) == (40, 1080)
  assert schema.examples_of(result) == '40 of 1,080'
  assert schema.examples_of({**result, 'n_declared': 40}) == '40'


def test_same_scores_same_report():
  parts = (dataset(), {'dev': split(RIGHT, WRONG), 'test': split(RIGHT, WRONG)})
  assert build(parts) == build(parts)


def test_bleu_is_named_with_its_signature():
  written = dataset('wmt14_enfr', 'translation', 'bleu', Text('{premise}'))
  statistics = np.ones((3, 4, 10))
  examples = tuple(
    Example(f'test.0.{i}', {}, Answer('a b', references=('a b',))) for i in range(4)
  )
  part = evaluator.SplitResult(examples=examples, tuned=statistics, base=None)
  found = build((written, {'test': part}))
  (result,) = found['results']
  assert result['signature'].startswith('nrefs:1|case:mixed|eff:no|tok:intl|smooth:exp')
  assert f'bleu: {result["signature"]}' in tables.footnotes(found)
  (ranked,) = build((dataset(), {'test': split(RIGHT)}))['results']
  assert 'signature' not in ranked


def test_a_published_figure_of_other_examples_is_marked(tmp_path):
  """Sentiment140 is measured without the tweets that the paper calls negative."""
  declared = registry.get('sentiment140')
  other = dataset(name='sentiment140', cluster='sentiment', differs=declared.differs)
  found = build(
    (other, {'test': split(RIGHT)}),
    (dataset(name='imdb_reviews', cluster='sentiment'), {'test': split(RIGHT)}),
  )
  assert [result.get('differs') for result in found['results']] == [
    declared.differs,
    None,
  ]
  note = f'\u2020 sentiment140: {declared.differs}'
  out = io.StringIO()
  terminal.print_table(found, file=out)
  assert note in out.getvalue()
  marked = {
    line.split()[0]: line.rstrip().endswith(tables.DIFFERS)
    for line in out.getvalue().splitlines()
    if line.startswith((' sentiment140', ' imdb'))
  }
  assert marked == {'sentiment140': True, 'imdb_reviews': False}
  assert '$^\\dagger$' in tables.latex(found)
  (tmp_path / 'report.json').write_text(json.dumps(found), encoding='utf-8')
  write_lib.render(tmp_path)
  html = (tmp_path / 'report.html').read_text(encoding='utf-8')
  assert note in html.replace('&#39;', "'")
  assert html.count('\u2020') == 2


class TestAverages:
  PARTS = (
    (dataset('rte'), {'test': split(RIGHT, WRONG)}),
    (dataset('cb'), {'test': split(WRONG, WRONG)}),
  )

  def test_mean_over_datasets(self):
    found = build(*self.PARTS)
    (average,) = schema.averages(found)
    means = [result['mean'] for result in found['results']]
    assert average['mean'] == pytest.approx(np.mean(means))
    assert average['delta'] == pytest.approx(
      average['mean'] - average['base']['mean'], abs=1e-3
    )

  def test_one_dataset_keeps_its_own_interval(self):
    found = build(self.PARTS[0])
    (average,) = schema.averages(found)
    assert average['delta_ci95'] == pytest.approx(found['results'][0]['delta_ci95'])

  def test_headline(self):
    never = {'seen': {'nli': leakage.NEVER}}
    (average,) = schema.averages(build(*self.PARTS, leakage=never))
    low, high = average['delta_ci95']
    assert schema.headline(average) == (
      f'NLI, zero-shot, never trained on: base {average["base"]["mean"]:.1f} → tuned '
      f'{average["mean"]:.1f}, {average["delta"]:+.1f} [{low:.1f}, {high:.1f}]'
    )

  @pytest.mark.parametrize(
    ('trained_on', 'train_examples', 'seen'),
    [
      (['sentiment'], {}, 'zero-shot (training unknown)'),
      (['nli'], {}, 'no exemplars, trained on'),
      ([], {'nli': 3}, 'no exemplars, trained on'),
      ('unknown', {'nli': 3}, 'no exemplars, trained on'),
      ([], {}, 'zero-shot (training unknown)'),
      ('unknown', {}, 'zero-shot (training unknown)'),
    ],
  )
  def test_claims_no_more_than_is_known(self, trained_on, train_examples, seen):
    """What nobody has proven is not claimed, whatever did not train."""
    found = build(*self.PARTS, trained_on=trained_on, train_examples=train_examples)
    assert schema.headline(schema.averages(found)[0]).startswith(f'NLI, {seen}: ')

  @pytest.mark.parametrize(
    ('chain', 'allow_overlap', 'seen', 'trained_on', 'history'),
    [
      (
        TUNED,
        None,
        'zero-shot, never trained on',
        'Sentiment',
        'Sentiment (flan_sst2)',
      ),
      (
        UNKNOWN.then(*TUNED.trainings),
        None,
        'zero-shot (training unknown)',
        'unknown',
        '<code>gemma</code>: unknown → <code>m</code>: Sentiment (flan_sst2)',
      ),
      (
        UNKNOWN,
        None,
        'zero-shot (training unknown)',
        'unknown',
        'gemma</code>: unknown',
      ),
      (
        TUNED.then(lineage.of_mixture(registry.mixture('flan_rte'), model='n')),
        'nli',
        'no exemplars, trained on',
        'NLI, Sentiment',
        'Sentiment (flan_sst2) → <code>n</code>: NLI (flan_rte)',
      ),
      (
        lineage.Lineage((lineage.Training(model='b', datasets=(), note='prose'),)),
        None,
        'zero-shot, never trained on',
        'no dataset',
        '<code>b</code>: no dataset (prose)',
      ),
    ],
    ids=['clean', 'unknown base', 'unknown', 'allowed_overlap', 'a base'],
  )
  def test_headline_and_provenance_say_what_the_lineage_does(
    self, chain, allow_overlap, seen, trained_on, history, tmp_path
  ):
    proof = leakage.check_checkpoint(
      chain, 'nli', family='flan', allow_overlap=allow_overlap
    )
    parts = [(d, {'test': splits['test']}) for d, splits in self.PARTS]
    about = {**ABOUT, **chain.summary('flan'), 'leakage': proof.as_json()}
    found = write_lib.write(tmp_path, results(*parts), **about)
    assert schema.headline(schema.averages(found)[0]).startswith(f'NLI, {seen}: ')
    assert found['lineage'] == chain.as_json()
    page = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert f'<dt>trained on</dt><dd>{trained_on}</dd>' in page
    assert history in page
    assert ('never trained on' in page) == seen.endswith(leakage.NEVER)

  def test_the_base_s_lineage_is_told_too(self, tmp_path):
    model, base = (
      leakage.check_checkpoint(chain, 'nli', family='flan')
      for chain in (TUNED, UNKNOWN)
    )
    about = {
      **ABOUT,
      **TUNED.summary('flan'),
      'leakage': leakage.with_base(model, base),
    }
    found = write_lib.write(tmp_path, results(*self.PARTS), **about)
    assert schema.headline(schema.averages(found)[0]).startswith(
      'NLI, zero-shot (base model: training unknown): '
    )
    page = (tmp_path / 'report.html').read_text(encoding='utf-8')
    assert '<dt>lineage of the base</dt><dd><code>gemma</code>: unknown</dd>' in page


def test_a_generated_world_has_none():
  (result,) = build((dataset(family='microworld'), {'test': split(RIGHT)}))['results']
  assert result['published'] == {}


def test_the_leakage_report_is_in_the_report_and_its_warnings():
  proof = leakage.check(registry.mixture('flan_held_out_coreference')).as_json()
  found = build((dataset(), {'test': split(RIGHT)}), leakage=proof)
  assert found['leakage'] == proof
  assert found['warnings'][0] == proof['warnings'][0]
  assert found['warnings'][0].startswith('leakage: wnli trains and shares Winograd')


def test_datasets_that_the_store_was_made_without_are_named():
  part = dataset(), {'test': split(RIGHT, WRONG)}
  found = build(part, missing=('gigaword', 'newsroom'))
  assert [line.partition(':')[0] for line in found['warnings']] == [
    'gigaword',
    'newsroom',
  ]
  assert build(part)['warnings'] == []
