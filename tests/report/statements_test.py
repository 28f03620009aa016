"""Headline, title and provenance of every kind of report, word by word."""

import csv
import dataclasses
import io
import re

import numpy as np
import pytest
from evaluated_report import (
  CLEAN,
  MICROWORLD,
  MOSTLY,
  NO,
  PROSE,
  SEEN,
  SMALL_WORLD,
  UNKNOWN,
  WRITER,
  evaluated,
  page,
  provenance,
  rte,
  said,
  texts,
)
from oracle import Oracle

from flan_jax.catalog import leakage, lineage
from flan_jax.catalog.lineage import Lineage
from flan_jax.report import compare, schema, settings, statements, tables, terminal

BASE = {'base': NO, 'name': 'tiny'}
KINDS = {
  'tuned beside base': (
    BASE,
    'NLI, zero-shot, never trained on: base 50.0 → tuned 75.0, +25.0 [..]',
    'Evaluation, in percent: zero-shot',
    'NLI: zero-shot, never trained on',
    'Sentiment',
  ),
  'tuned alone': (
    {},
    'NLI, zero-shot, never trained on: tuned 75.0 [..]',
    'Evaluation, in percent: zero-shot',
    'NLI: zero-shot, never trained on',
    'Sentiment',
  ),
  'untuned by name': (
    {'name': 'prose', 'chain': PROSE, 'base': NO},
    'NLI, zero-shot, never trained on: base 50.0 → prose 75.0, +25.0 [..]',
    'Evaluation, in percent: zero-shot',
    'NLI: zero-shot, never trained on',
    'no dataset',
  ),
  'k-shot': (
    {'num_fewshot': 3, 'templates': 1, **BASE},
    'NLI, 3-shot, never trained on: base 50.0 → tuned 75.0, +25.0 [..]',
    'Evaluation, in percent: 3-shot',
    'NLI: 3-shot, never trained on',
    'Sentiment',
  ),
  'unknown history': (
    {'name': 'smollm2', 'chain': UNKNOWN},
    'NLI, zero-shot (training unknown): smollm2 75.0 [..]',
    'Evaluation, in percent: zero-shot',
    'NLI: zero-shot (training unknown)',
    'unknown',
  ),
  'unknown history, k-shot': (
    {'name': 'smollm2', 'chain': UNKNOWN, 'num_fewshot': 2, 'templates': 1},
    'NLI, 2-shot (training unknown): smollm2 75.0 [..]',
    'Evaluation, in percent: 2-shot',
    'NLI: 2-shot (training unknown)',
    'unknown',
  ),
  'allowed overlap': (
    {'chain': SEEN, 'allow_overlap': 'nli'},
    'NLI, no exemplars, trained on: tuned 75.0 [..]',
    'Evaluation, in percent: no exemplars',
    'NLI: no exemplars, trained on',
    'NLI',
  ),
  'microworld': (
    MICROWORLD,
    'Commonsense of the microworld, zero-shot, never trained on: base 50.0 → tuned '
    '50.0, +0.0 [..]',
    'Evaluation on the microworld, in percent: zero-shot',
    'Commonsense: zero-shot, never trained on',
    'NLI',
  ),
  'translation': (
    {'dataset': 'wmt14_enfr', 'examples': texts, 'model': WRITER},
    None,
    'Evaluation, in percent: zero-shot',
    'Translation: zero-shot, never trained on',
    'Sentiment',
  ),
  'base in its own words': (
    {**BASE, 'base_prompt_style': 'continuation', 'templates': 2},
    None,
    'Evaluation, in percent: zero-shot, base: continuation',
    'NLI: zero-shot, never trained on',
    'Sentiment',
  ),
}


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_of_report_says_what_was_done(kind, tmp_path):
  changes, headline, kicker, claim, trained_on = KINDS[kind]
  found = evaluated(tmp_path, **changes)
  lines = [schema.headline(average) for average in schema.averages(found)]
  if headline is not None:
    assert [re.sub(r'\[[^]]*\]', '[..]', line) for line in lines] == [headline]
  h1, title = (said(tmp_path, f'<{tag}>(.*?)</{tag}>') for tag in ('h1', 'title'))
  assert not set(re.findall('<title>(.*?)</title>', page(tmp_path))) ^ set(lines[:1])
  assert h1 == title == re.sub(r'\[[^]]*\]', '[..]', lines[0])
  assert said(tmp_path, '<p class="eyebrow">(.*?)</p>') == kicker
  assert provenance(tmp_path, 'evaluated') == claim
  assert provenance(tmp_path, 'trained on') == trained_on
  alternative = said(tmp_path, '<title id="averages-title">(.*?)</title>')
  assert alternative.endswith(h1)
  out = io.StringIO()
  terminal.print_table(found, file=out)
  assert lines[0] in out.getvalue()


@pytest.mark.parametrize('kind', ['untuned by name', 'unknown history'])
def test_a_model_that_was_not_tuned_is_never_called_tuned(kind, tmp_path):
  changes = {**KINDS[kind][0], 'base': NO}
  found = evaluated(tmp_path, **changes)
  name = changes['name']
  written = page(tmp_path).replace('var(--tuned)', '').replace('--tuned:', '')
  without = re.sub(r'Examples seen in tuning|fill="[^"]*"', '', written)
  assert not re.findall(r'\b(?:before tuning|tuned)\b', without, re.IGNORECASE)
  assert f'<th scope="col">{name}</th>' in written
  for path in ('report.tex', 'templates.csv', *(p for p in tmp_path.glob('plots/*'))):
    text = (tmp_path / path).read_text(encoding='utf-8')
    assert 'tuned' not in text.lower()
    assert name in text
  with (tmp_path / 'templates.csv').open(encoding='utf-8', newline='') as file:
    assert {line['model'] for line in csv.DictReader(file)} == {name, 'base'}
  out = io.StringIO()
  terminal.print_table(found, file=out)
  assert 'tuned' not in out.getvalue()
  evaluated(tmp_path / 'other', **{**changes, 'model': NO})
  again = compare.compare(tmp_path, tmp_path / 'other')
  assert not any('tuned' in name for name, *_ in again['settings'])


def test_a_difference_names_the_weights_of_the_model_and_of_the_base():
  of = {'fingerprint': 'f', 'tokenizer': {'digest': 'd'}}
  flat = settings.flat({'models': {'tuned': of, 'base': of}})
  assert [name for name in flat if name.startswith('weights')] == [
    'weights of the model',
    'weights of the base',
  ]


def test_a_model_called_base_is_not_taken_for_the_base():
  found = {'model': 'base', 'lineage': PROSE.as_json(), 'results': [{}]}
  assert statements.models(found)['tuned'] == 'base'
  found['results'] = [{'base': {}}]
  assert statements.models(found) == {'base': 'base', 'tuned': 'the model'}


@pytest.mark.parametrize(
  ('chain', 'tuned'),
  [
    (CLEAN, True),
    (Lineage((*UNKNOWN.trainings, *CLEAN.trainings)), True),
    (UNKNOWN, False),
    (PROSE, False),
    (lineage.RANDOM, False),
  ],
)
def test_only_a_model_that_read_a_dataset_is_tuned(chain, tuned):
  assert statements.is_tuned({'lineage': chain.as_json()}) == tuned


STOOD = Lineage(
  (dataclasses.replace(CLEAN.trainings[0], train_examples={'sentiment': 0}),)
)


class TestNotTuned:
  """`tuned` is said of a model that read a dataset, whatever its folder is called."""

  def everything(self, out, found):
    printed = io.StringIO()
    terminal.print_table(found, file=printed)
    written = page(out)
    shown = written[written.index('</style>') : written.index('id="provenance"')]
    paths = ('templates.csv', *(path for path in out.glob('plots/*')))
    texts = [(out / path).read_text(encoding='utf-8') for path in paths]
    body = [line for line in tables.latex(found).splitlines() if line[0] != '%']
    return '\n'.join([printed.getvalue(), shown, *texts, *body])

  @pytest.mark.parametrize(
    ('changes', 'headline'),
    [
      (
        {'chain': STOOD, 'base': NO},
        'NLI, zero-shot, never trained on: base 50.0 → tiny 75.0, +25.0 [..]',
      ),
      (
        {'chain': STOOD, 'name': 'flan_sentiment140'},
        'NLI, zero-shot, never trained on: the model 75.0 [..]',
      ),
      (
        {'base': NO, 'weights': {'tuned': 'f', 'base': 'f'}},
        'NLI, zero-shot, never trained on: base 50.0 → tiny 75.0, +25.0 [..]',
      ),
      (
        {'chain': UNKNOWN, 'name': 'tuned', 'base': NO},
        'NLI, zero-shot (training unknown): base 50.0 → the model 75.0, +25.0 [..]',
      ),
    ],
    ids=['no step', 'no step of a mixture', 'the weights of its base', 'folder'],
  )
  def test_it_is_not_called_so(self, changes, headline, tmp_path):
    found = evaluated(tmp_path, **changes)
    (average,) = schema.averages(found)
    assert re.sub(r'\[[^]]*\]', '[..]', schema.headline(average)) == headline
    text = self.everything(tmp_path, found).replace('runs/tuned', '')
    assert not re.findall(r'\btuned\b', re.sub(r'fill="[^"]*"', '', text), re.I)

  def test_one_step_tunes(self):
    counts = {'sentiment': 8}
    chain = Lineage((dataclasses.replace(CLEAN.trainings[0], train_examples=counts),))
    for lineages, tuned in (
      (chain, True),
      (Lineage((*chain.trainings, *STOOD.trainings)), True),
      (STOOD, False),
    ):
      assert statements.is_tuned({'lineage': lineages.as_json()}) == tuned


OWN_NLI = lineage.RANDOM.then(
  lineage.Training(
    model='mine', datasets=(lineage.Trained('mine', 'nli', ('mine',)),), mixture='mine'
  )
)
"""A model of a mixture without a dataset family."""


@pytest.mark.parametrize(
  ('chain', 'on', 'words'),
  [
    (SMALL_WORLD, '', 'NLI of the microworld'),
    (CLEAN.then(*SMALL_WORLD.trainings), '', 'Sentiment, NLI of the microworld'),
    (CLEAN, 'microworld', 'Sentiment of FLAN'),
    (SMALL_WORLD, 'microworld', 'NLI'),
    (OWN_NLI, 'microworld', 'NLI of no single dataset family'),
    (OWN_NLI.then(*SMALL_WORLD.trainings), 'microworld',
     'NLI of no single dataset family, NLI'),
  ],
)  # fmt: skip
def test_what_trained_is_named_with_its_world(chain, on, words, tmp_path):
  measured = KINDS['microworld'][0]
  evaluated(tmp_path, **((measured if on else {}) | {'chain': chain}))
  assert provenance(tmp_path, 'trained on') == words
  lineages = provenance(tmp_path, 'lineage')
  assert words.split(', ')[-1] in lineages


class TestNoNumbers:
  """Every answer of a model is NaN, and of the other none is."""

  class Broken(Oracle):
    def loglikelihood(self, requests):
      found = super().loglikelihood(requests)
      return found._replace(
        log_probabilities=[np.full_like(one, np.nan) for one in found.log_probabilities]
      )

  @pytest.mark.parametrize('broken', ['tuned', 'base', 'both'])
  def test_the_page_is_written(self, broken, tmp_path):
    wrong = self.Broken(lambda prompt: 'no')
    wrong.sequence_length = 2048
    models = {'model': MOSTLY, 'base': NO}
    models |= {'model': wrong} if broken != 'base' else {}
    models |= {'base': wrong} if broken != 'tuned' else {}
    (result,) = evaluated(tmp_path, **models)['results']
    assert ('calibration' in result) == (broken == 'base')
    assert ('calibration' in result['base']) == (broken == 'tuned')
    drawn = (tmp_path / 'plots' / 'calibration.svg').is_file()
    assert drawn == ('id="calibration"' in page(tmp_path)) == (broken != 'both')
    if broken == 'tuned':
      ece = result['base']['calibration']['ece']
      n = result['base']['calibration']['n']
      cells = f'<td>–</td><td>{ece:.1f}</td><td>0, base {n:,}</td>'
      assert f'<tr><th scope="row">rte</th>{cells}</tr>' in page(tmp_path)


class TestDev:
  """A dataset without test is reported by dev; that is said wherever it is named."""

  def of_dev(self, name, split):
    return rte(name, split) if split == 'dev' else []

  def test_on_the_page_in_the_terminal_and_in_tex(self, tmp_path):
    found = evaluated(tmp_path, examples=self.of_dev, **BASE)
    (average,) = schema.averages(found)
    assert schema.headline(average).startswith('NLI (dev), zero-shot, never trained on')
    out = io.StringIO()
    terminal.print_table(found, file=out)
    line = 'rte: dev figures; no test split was measured, and no template was chosen'
    assert re.search(r'^ *rte \(dev\) ', out.getvalue(), re.MULTILINE)
    assert line in out.getvalue()
    text = tables.latex(found)
    assert '\nrte (dev) & 20' in text
    assert f'% {line}' in text
    written = page(tmp_path)
    assert '<h1>NLI (dev), ' in written
    assert '<th scope="row">rte (dev)</th>' in written
    assert line in written
    for words in ('its test score is reported', 'best on dev', 'class="best"'):
      assert words not in written
    for plot in ('averages', 'templates'):
      svg = (tmp_path / 'plots' / f'{plot}.svg').read_text(encoding='utf-8')
      assert '(dev)' in svg
    assert 'id="examples"' in written, 'its answers are in predictions.dev.jsonl'

  def test_of_test_nothing_is_said(self, tmp_path):
    evaluated(tmp_path, **BASE)
    assert '(dev)' not in page(tmp_path)
    assert 'its test score is reported' in page(tmp_path)

  def test_a_cluster_says_in_how_many(self):
    assert statements.dev(['dev', 'test', 'test']) == ' (dev in 1 of 3)'
    assert statements.dev(['dev', 'dev']) == ' (dev)'
    assert statements.dev(['test']) == ''

  def test_two_are_paired_by_the_answers_to_dev(self, tmp_path):
    evaluated(tmp_path / 'new', examples=self.of_dev)
    evaluated(tmp_path / 'old', examples=self.of_dev, model=NO)
    (result,) = compare.write(tmp_path / 'new', tmp_path / 'old')['results']
    assert (result['n'], result['paired']) == (20, True)
    evaluated(tmp_path / 'test', model=NO)
    (result,) = compare.write(tmp_path / 'new', tmp_path / 'test')['results']
    assert not result['paired']
    written = (tmp_path / 'new' / 'difference.html').read_text(encoding='utf-8')
    assert 'rte (old test, new dev)' in written


def test_a_base_that_trained_on_the_cluster_is_said_beside_any_model(tmp_path):
  beside = leakage.check_checkpoint(SEEN, 'nli', family='flan', allow_overlap='nli')
  found = evaluated(tmp_path, chain=UNKNOWN, name='smollm2', base=NO, beside=beside)
  (average,) = schema.averages(found)
  assert schema.headline(average).startswith(
    'NLI, zero-shot (training unknown; base model: trained on): base 50.0 → smollm2'
  )


@pytest.mark.parametrize(
  ('templates', 'words'), [(1, '1 template,'), (3, '3 templates,')]
)
def test_templates_are_counted_as_they_were_measured(templates, words, tmp_path):
  evaluated(tmp_path, templates=templates)
  assert f'<span class="quiet">{words}' in page(tmp_path)
  assert '1 templates' not in page(tmp_path)
  assert 'over every template' not in page(tmp_path)


def test_normalized_scores_are_called_so():
  found = {'answers': {'normalization': 'byte'}}
  assert statements.scores(found).endswith('divided by its bytes')


def test_exemplars_that_did_not_fit_are_counted():
  results = [
    {'num_fewshot': 4, 'num_fewshot_shown': 2.5},
    {'num_fewshot': 4, 'num_fewshot_shown': 4.0},
    {'num_fewshot': 0},
  ]
  (line,) = statements.exemplars({'results': results}, lambda result: 'rte')
  assert line.startswith('rte: 2.5 of 4 exemplars on average; ')
