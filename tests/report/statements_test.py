"""Headline, title and provenance of every kind of report, word by word."""

import csv
import dataclasses
import html
import io
import itertools
import re

import numpy as np
import pytest
from oracle import Oracle
from written_once import written_once

from flan_jax.catalog import leakage, lineage, registry
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.catalog.lineage import Lineage, Training
from flan_jax.cli import show_prompts
from flan_jax.config.decoding import Decoding
from flan_jax.data import raw_records
from flan_jax.evaluate import evaluator, measured_data, metrics, predictions
from flan_jax.report import compare, schema, statements, tables, terminal
from flan_jax.report import write as write_lib

CLEAN = lineage.RANDOM.then(
  lineage.of_mixture(registry.mixture('flan_sentiment140'), model='tiny')
)
SEEN = lineage.RANDOM.then(
  lineage.of_mixture(registry.mixture('flan_rte'), model='tiny')
)
UNKNOWN = Lineage((lineage.unknown('smollm2'),))
PROSE = Lineage((Training(model='prose', datasets=(), note='prose'),))
SMALL_WORLD = lineage.RANDOM.then(
  lineage.of_mixture(registry.mixture('microworld_mini_cb'), model='tiny')
)

MOSTLY = Oracle(
  lambda prompt: 'no' if int(re.findall(r'Fact (\d+)', prompt)[-1]) % 4 else 'yes'
)
NO = Oracle(lambda prompt: 'no')
MOSTLY.sequence_length = NO.sequence_length = 2048
WRITER = Oracle(lambda prompt: 'the old house\n\nby the sea')


def rte(name, split, count=20):
  """MOSTLY is right on three of four examples, NO on two."""
  for i in range(count):
    gold = int(i % 4 in (0, 1))
    values = {'premise': f'Fact {i} of {split}.', 'hypothesis': f'It is {i}.'}
    words = ('no', 'yes')
    answer = Answer(words[gold], ('yes', 'no'), (1 - gold,), (words[gold],))
    yield Example(f'{split}.0.{i}', {**values, 'answer': answer.text}, answer)


def texts(name, split):
  """Examples with a text to generate: a summary, or a translation."""
  for i in range(4):
    text = f'the old red house by the sea number {i}'
    values = {
      'chat': f'Dialogue {i} of {split}', 'beginning': 'Dialogue', 'summary': text,
      'english': text, 'foreign': f'la maison {i} de {split}',
    }  # fmt: skip
    yield Example(
      f'{split}.0.{i}', {**values, 'answer': text}, Answer(text, (), (), (text,))
    )


def small_world(name, split):
  dataset = registry.get(name)
  for example_id, record in itertools.islice(raw_records.records(dataset, split), 8):
    yield dataset.read(record, example_id)


@written_once
def evaluated(
  out, *, dataset='rte', family='flan', model=MOSTLY, base=None, name='tiny',
  chain=CLEAN, allow_overlap=None, examples=rte, where=None, answers=None,
  weights=None, beside=None, **more
):  # fmt: skip
  """Measures a model and writes its report, as `flan eval` does."""
  declared = registry.get(dataset)
  proof = leakage.check_checkpoint(
    chain, declared.cluster, family=family, allow_overlap=allow_overlap
  )
  with predictions.Predictions(out) as emit:
    results = evaluator.evaluate(
      model,
      evaluator.Protocol(**more),
      datasets=[declared],
      examples=examples,
      base=base,
      emit=emit,
    )
  return write_lib.write(
    out,
    results,
    model=name,
    checkpoint=f'runs/{name}',
    held_out=[declared.cluster],
    data_digest='',
    data=where or measured_data.in_raw([declared], '/data/tfds'),
    seed=0,
    leakage=leakage.with_base(proof, beside),
    answers=answers,
    provenance={
      'config': '',
      'versions': {},
      'models': {
        which: {
          'fingerprint': (weights or {}).get(which, which[0]),
          'parameters': 1,
          'tokenizer': {'name': 'b', 'digest': 'd'},
        }  # fmt: skip
        for which in (['tuned'] if base is None else ['tuned', 'base'])
      },
    },
    **chain.summary(family),
  )


def page(out):
  return (out / 'report.html').read_text(encoding='utf-8')


def said(out, pattern):
  """The text of the only element that matches, without its tags and intervals."""
  (found,) = re.findall(pattern, page(out), re.DOTALL)
  return re.sub(r'\[[^]]*\]', '[..]', html.unescape(re.sub(r'<[^>]+>', '', found)))


def provenance(out, name):
  return said(out, f'<dt>{name}</dt><dd>(.*?)</dd>')


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
    'Evaluation, in percent: zero-shot',
    'NLI: no exemplars, trained on',
    'NLI',
  ),
  'microworld': (
    {
      'dataset': 'mini_copa',
      'family': 'microworld',
      'examples': small_world,
      'model': NO,
      'base': NO,
      'chain': SMALL_WORLD,
    },  # fmt: skip
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
  flat = compare._flat({'models': {'tuned': of, 'base': of}})
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


@pytest.mark.parametrize(
  ('chain', 'on', 'words'),
  [
    (SMALL_WORLD, '', 'NLI of the microworld'),
    (CLEAN.then(*SMALL_WORLD.trainings), '', 'Sentiment, NLI of the microworld'),
    (CLEAN, 'microworld', 'Sentiment of FLAN'),
    (SMALL_WORLD, 'microworld', 'NLI'),
  ],
)
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


class TestData:
  """The data that were measured are named."""

  def test_on_the_page_in_json_csv_and_tex(self, tmp_path):
    found = evaluated(tmp_path)
    assert found['data'] == {
      'directory': '/data/tfds',
      'family': 'flan',
      'digest': found['data_digest'],
      'datasets': [
        {
          'dataset': 'rte',
          'tfds': 'super_glue/rte:1.0.2',
          'digest': measured_data.digest(
            [list(rte('rte', s)) for s in ('dev', 'test')]
          ),
          'splits': {
            'dev': {'examples': 20, 'declared': 200},
            'test': {'examples': 20, 'declared': 277},
          },
        }
      ],
    }
    assert provenance(tmp_path, 'data') == 'TFDS data in /data/tfds'
    assert provenance(tmp_path, 'measured examples') == f'digest {found["data_digest"]}'
    short = found['data']['datasets'][0]['digest']
    (cells,) = re.findall(r'<tr>[^\n]*super_glue/rte:1.0.2[^\n]*</tr>', page(tmp_path))
    assert 'dev 20 of 200 examples, test 20 of 277 examples' in cells
    assert short[:16] in cells
    comments = [line for line in tables.latex(found).splitlines() if line[0] == '%']
    assert '% data: TFDS data in /data/tfds' in comments
    assert (
      '% rte: super_glue/rte:1.0.2, dev 20 of 200 examples, test 20 of 277 examples, '
      f'digest {short[:16]}'
    ) in comments
    with (tmp_path / 'report.csv').open(encoding='utf-8', newline='') as file:
      (line,) = csv.DictReader(file)
    assert (line['tfds'], line['examples_digest']) == ('super_glue/rte:1.0.2', short)

  def test_each_direction_is_named(self, tmp_path):
    found = evaluated(tmp_path, dataset='wmt14_enfr', examples=texts, model=WRITER)
    into, out = found['data']['datasets']
    assert [into['direction'], out['direction']] == ['fr-en', 'en-fr']
    assert into['digest'] != out['digest'], 'other answers'
    assert 'wmt14_enfr en-fr: wmt14_translate/fr-en:1.0.0, dev 4 of 200 examples, ' in (
      tables.latex(found)
    )

  def test_the_directory_is_the_one_that_the_environment_names(self, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', '/some/where/../place')
    assert measured_data.in_raw([registry.get('rte')], None) == {
      'directory': '/some/place'
    }
    assert measured_data.in_raw([registry.get('rte')], '/given') == {
      'directory': '/given'
    }
    monkeypatch.delenv('TFDS_DATA_DIR')
    monkeypatch.setenv('HOME', '/home/x')
    assert (
      measured_data.in_raw([registry.get('rte')], None)['directory']
      == '/home/x/tensorflow_datasets'
    )

  def test_a_generated_world_is_read_from_nowhere(self, tmp_path, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', '/some/where')
    evaluated(
      tmp_path,
      **KINDS['microworld'][0],
      where=measured_data.in_raw([registry.get('mini_rte')], None),
    )
    assert provenance(tmp_path, 'data') == 'generated by the microworld'

  def test_a_store_is_named_with_its_digest_and_seed(self):
    where = {'store': 'runs/s', 'store_digest': 'abc', 'template_seed': 7}
    words = 'store runs/s (digest abc, template seed 7)'
    assert statements.source({'data': where}) == words
    shown = {'data': {**where, 'directory': '/d', 'family': 'flan'}}
    assert statements.source(shown) == f'{words}; exemplars: TFDS data in /d'

  def test_the_digest_is_of_ids_texts_and_answers(self):
    some = list(rte('rte', 'test', 4))
    same = measured_data.digest([some])
    assert same == measured_data.digest([list(rte('rte', 'test', 4))])
    first, *others = some
    changed = (
      first._replace(example_id='test.0.9'),
      first._replace(values={**first.values, 'premise': 'x'}),
      first._replace(answer=dataclasses.replace(first.answer, gold=(1,))),
    )
    digests = {measured_data.digest([[one, *others]]) for one in changed}
    assert len(digests | {same, measured_data.digest([others])}) == 5

  def test_a_difference_names_the_results_of_other_examples(self, tmp_path):
    evaluated(tmp_path / 'a')
    evaluated(tmp_path / 'b', model=NO)
    assert compare.compare(tmp_path / 'a', tmp_path / 'b')['other_examples'] == []
    evaluated(tmp_path / 'c', max_examples=10)
    found = compare.write(tmp_path / 'a', tmp_path / 'c')
    assert found['other_examples'] == ['rte']
    words = 'The two did not measure the same examples of rte.'
    assert words in (tmp_path / 'a' / 'difference.html').read_text(encoding='utf-8')


@pytest.mark.parametrize(
  ('templates', 'words'), [(1, '1 template,'), (3, '3 templates,')]
)
def test_templates_are_counted_as_they_were_measured(templates, words, tmp_path):
  evaluated(tmp_path, templates=templates)
  assert f'<span class="quiet">{words}' in page(tmp_path)
  assert '1 templates' not in page(tmp_path)
  assert 'over every template' not in page(tmp_path)


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


class TestWidth:
  LONG = 'definite_pronoun_resolution'

  def text(self, tmp_path):
    found = evaluated(tmp_path, **BASE)
    for result in found['results']:
      result['dataset'] = self.LONG
    out = io.StringIO()
    terminal.print_table(found, file=out)
    return out.getvalue()

  @pytest.mark.parametrize('columns', [None, '120', '200'])
  def test_names_are_whole(self, columns, tmp_path, monkeypatch):
    monkeypatch.delenv('COLUMNS', raising=False)
    if columns:
      monkeypatch.setenv('COLUMNS', columns)
    assert self.LONG in self.text(tmp_path)

  def test_columns_are_respected(self, tmp_path, monkeypatch):
    monkeypatch.setenv('COLUMNS', '90')
    assert max(map(len, self.text(tmp_path).splitlines())) <= 90

  @pytest.mark.parametrize(('columns', 'width'), [(None, 80), ('70', 70)])
  def test_the_rule_of_show(self, columns, width, monkeypatch, capsys):
    monkeypatch.delenv('COLUMNS', raising=False)
    if columns:
      monkeypatch.setenv('COLUMNS', columns)
    show_prompts.show(
      'microworld_mini_cb', count=1, template=0, split='train', tokenizer='bytes',
      data_dir=None,
    )  # fmt: skip
    (rule,) = [line for line in capsys.readouterr().out.splitlines() if '──' in line]
    assert len(rule) == width
    assert rule.startswith('microworld_mini_cb template 0, example ')
