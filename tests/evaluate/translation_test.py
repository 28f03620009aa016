"""Translation is measured both ways: a result, a prompt and a published figure each."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from oracle import Oracle

from flan_jax.catalog import continuation_prompts, registry
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.data.store import materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.evaluate import contamination, evaluator, metrics, predictions
from flan_jax.report import (  # fmt: skip
  build,
  compare,
  published,
  schema,
  shown_answers,
  terminal,
  write,
)
from flan_jax.runtime.progress import Progress

WMT = registry.get('wmt14_enfr')
TRANSLATION = [
  dataset
  for family in registry.families()
  for dataset in registry.datasets(family).values()
  if dataset.cluster == 'translation'
]
ABOUT = {
  'model': 'm', 'checkpoint': 'c', 'held_out': ['translation'], 'trained_on': ['nli'],
  'train_examples': {}, 'data_digest': 'd', 'seed': 0,
}  # fmt: skip

PAIRS = [
  (f'the cat number {i} sat down on the mat', f'le chat {i} est assis sur le tapis')
  for i in range(6)
]


def examples(name, split, pairs=PAIRS):
  """Examples as `Dataset.read` gives them: the answer is the English."""
  for i, (english, foreign) in enumerate(pairs):
    values = {'english': f'{english} of {split}', 'foreign': f'{foreign} de {split}'}
    answer = Answer(values['english'], references=(values['english'],))
    yield Example(f'{split}.0.{i}', {**values, 'answer': answer.text}, answer)


def into_french(prompt):
  """Answers with the French of the last English sentence; to French, with `rien`."""
  known = {
    example.values['english']: example.values['foreign']
    for split in ('train', 'dev', 'test')
    for example in examples('', split)
  }
  at = {english: prompt.rfind(english) for english in known if english in prompt}
  return known[max(at, key=at.get)] if at else 'rien'


def evaluate(rule=into_french, datasets=(WMT,), examples=examples, base=None, **more):
  seen = []
  model = Oracle(rule)
  model.sequence_length = 2048
  found = evaluator.evaluate(
    model,
    evaluator.Protocol(**more),
    datasets=datasets,
    examples=examples,
    base=base,
    emit=lambda record, split, model: seen.append((record, split, model)),
  )
  return found, seen


@pytest.mark.parametrize('dataset', TRANSLATION, ids=lambda d: d.name)
def test_seven_templates_go_into_english_and_three_out_of_it(dataset):
  into, out = dataset.by_direction
  assert (len(into.evaluated_templates), len(out.evaluated_templates)) == (7, 3)
  assert not any(template.inverted for template in dataset.templates)
  assert into.direction.endswith('-en')
  assert out.direction == '-'.join(into.direction.split('-')[::-1])
  for way, other in ((into, out), (out, into)):
    for index in way.evaluated_templates:
      shown = way.templates[index].input_fields
      assert shown == other.by_direction[0].templates[index].input_fields
      assert f'{{{shown[0]}}}' == other.answer.text, 'one language in, the other out'
      assert continuation_prompts.apply(way).templates[0].input_fields == shown


def test_only_translations_have_directions():
  for family in registry.families():
    for dataset in registry.datasets(family).values():
      assert bool(dataset.directions) == (dataset.cluster == 'translation')
      if not dataset.directions:
        assert dataset.by_direction == (dataset,)


def test_each_direction_has_its_own_score():
  found, seen = evaluate()
  into, out = found.datasets
  assert [result.dataset.direction for result in (into, out)] == ['fr-en', 'en-fr']
  assert (into.templates, out.templates) == ((0, 1, 2, 3, 4, 5, 6), (7, 8, 9))
  metric = metrics.get('bleu')
  scores = [
    [metric.aggregate(part) for part in result.splits['test'].tuned]
    for result in (into, out)
  ]
  assert scores == [[0] * 7, pytest.approx([100] * 3)]
  for record, split, _ in seen:
    english = record['example_id'].split('.')[2]
    if record['direction'] == 'en-fr':
      assert record['gold'] == [f'{PAIRS[int(english)][1]} de {split}']
      assert PAIRS[int(english)][0] in record['prompt']
      assert PAIRS[int(english)][1] not in record['prompt']
    else:
      assert record['gold'] == [f'{PAIRS[int(english)][0]} of {split}']
      assert PAIRS[int(english)][1] in record['prompt']


@pytest.mark.parametrize(
  ('templates', 'measured'),
  [
    (None, {'fr-en': (0, 1, 2, 3, 4, 5, 6), 'en-fr': (7, 8, 9)}),
    (1, {'fr-en': (0,), 'en-fr': (7,)}),
    (4, {'fr-en': (0, 1, 2, 3), 'en-fr': (7, 8, 9)}),
    ((2, 8), {'fr-en': (2,), 'en-fr': (8,)}),
    ((8,), {'en-fr': (8,)}),
  ],
)
def test_a_number_of_templates_is_of_each_direction(templates, measured):
  found, _ = evaluate(templates=templates, splits=('test',))
  assert {r.dataset.direction: r.templates for r in found.datasets} == measured


def test_templates_of_no_direction_are_left_out():
  found, _ = evaluate(templates=(10,))
  assert found.datasets == ()
  assert found.warnings[0].endswith('template 10 of TEMPLATES: it has 0 to 9')


def test_the_prompt_of_an_untuned_model_names_the_language():
  _, seen = evaluate(
    base=Oracle(into_french), base_prompt_style='continuation', templates=1
  )
  prompts = {
    (record['direction'], model): record['prompt']
    for record, split, model in seen
    if record['example_id'] == 'test.0.0'
  }
  french, english = 'le chat 0 est assis sur le tapis de test', PAIRS[0][0] + ' of test'
  assert prompts['fr-en', 'base'] == f'{french}\nIn English:'
  assert prompts['en-fr', 'base'] == f'{english}\nIn French:'
  assert prompts['en-fr', 'tuned'].startswith('Our French edition')


@pytest.mark.parametrize('way', [w for d in TRANSLATION for w in d.by_direction],
                         ids=lambda way: way.label)  # fmt: skip
def test_the_named_language_is_that_of_the_templates(way):
  prompt = continuation_prompts.apply(way).templates[0].inputs
  language = prompt.rpartition('In ')[2].rstrip(':')
  assert (language == 'English') == way.direction.endswith('-en')
  assert any(language in way.templates[index].inputs
             for index in way.evaluated_templates)  # fmt: skip


@pytest.mark.parametrize(
  ('prompt_style', 'into', 'out'),
  [
    ('no_template', '{fr}', '{en}'),
    (
      'dataset_name',
      '[translation: WMT14 EN/FR, fr-en]\n{fr}',
      '[translation: WMT14 EN/FR, en-fr]\n{en}',
    ),
  ],
)
def test_without_instructions_the_sentence_stands_alone(prompt_style, into, out):
  found, seen = evaluate(prompt_style=prompt_style, splits=('test',))
  assert [result.templates for result in found.datasets] == [(0,), (0,)]
  prompts = [r['prompt'] for r, *_ in seen if r['example_id'] == 'test.0.2']
  words = {'en': PAIRS[2][0] + ' of test', 'fr': PAIRS[2][1] + ' de test'}
  assert prompts == [text.format(**words) for text in (into, out)]


def test_exemplars_are_translated_the_same_way():
  _, seen = evaluate(num_fewshot=2, templates=1, splits=('test',))
  for record, *_ in seen:
    *shown, last = record['prompt'].split(prompt_lib.NEXT)
    assert len(shown) == len(record['exemplars']) == 2
    for text, example_id in zip(shown, record['exemplars'], strict=True):
      english, french = PAIRS[int(example_id.split('.')[2])]
      prompt, _, answer = text.partition(f'\n{prompt_lib.ANSWER}')
      if record['direction'] == 'en-fr':
        assert english in prompt
        assert answer == f'{french} de train'
      else:
        assert french in prompt
        assert answer == f'{english} of train'


def test_a_sentence_without_a_translation_is_left_out_one_way_only():
  def some(name, split):
    one, *others = examples(name, split)
    yield one._replace(values={**one.values, 'foreign': ' '})
    yield from others

  found, _ = evaluate(examples=some, splits=('test',))
  counts = {r.dataset.direction: len(r.splits['test'].examples) for r in found.datasets}
  assert counts['en-fr'] == 5
  assert (
    'wmt14_enfr en-fr: left out: the right answer is blank (example test.0.0)'
    in found.warnings
  )


def test_training_draws_from_all_ten_templates():
  """The declaration itself renders every template, the answer in English."""
  (example, *_) = examples('', 'train')
  targets = [prompt_lib.render(WMT, index, example).targets for index in range(10)]
  assert targets == [example.values['english']] * 7 + [example.values['foreign']] * 3


def test_a_store_gives_both_directions_their_answers(tmp_path):
  manifest = materialize.materialize(
    registry.mixture('microworld_mini_wmt'),
    materialize.StoreConfig(tokenizer='bytes', evaluate=('translation',), epochs=1),
    out=tmp_path / 'store',
  )
  assert manifest['evaluation']['mini_wmt']['examples']['dev'] > 0
  store = Store.open(tmp_path / 'store')
  into, out = registry.get('mini_wmt').by_direction
  (example, *_) = store.evaluation_examples('mini_wmt', 'dev')
  assert into.directed(example) == example
  assert out.directed(example).answer == Answer(
    example.values['vl'], references=(example.values['vl'],)
  )
  assert (
    out.directed(example).values['answer']
    == example.values['vl']
    != example.values['en']
  )


def test_directions_of_one_dataset_are_not_independent_draws():
  """Their bounds are averaged; those of two datasets add up by their variances."""

  def result(dataset, mean, half, **direction):
    bounds = [mean - half, mean + half]
    return {
      'dataset': dataset, 'cluster': 'translation', 'split': 'test', 'n': 10,
      'num_fewshot': 0,
      'mean': mean, 'ci95': bounds, 'chance': None, 'majority': None, **direction,
    }  # fmt: skip

  def average(*results):
    made = {'results': results, 'trained_on': [], 'train_examples': {}}
    (found,) = schema.averages(made)
    return found['mean'], pytest.approx(found['ci95'])

  two = average(
    result('a', 20, 2, direction='fr-en'), result('a', 40, 4, direction='en-fr')
  )  # fmt: skip
  assert two == (30, (27, 33))
  four = average(
    result('a', 20, 4, direction='fr-en'), result('a', 40, 4, direction='en-fr'),
    result('b', 10, 3, direction='de-en'), result('b', 50, 3, direction='en-de'),
  )  # fmt: skip
  assert four == (30, (30 - 2.5, 30 + 2.5)), 'half of the hypotenuse of 4 and 3'
  three = average(
    result('a', 20, 3, direction='fr-en'), result('a', 40, 3, direction='en-fr'),
    result('c', 60, 0),
  )  # fmt: skip
  assert three == (40, (38, 42)), 'two of three results vary, by 3'


def test_a_few_shot_result_is_compared_with_the_few_shot_figure(tmp_path):
  found, _ = evaluate(num_fewshot=2, splits=('test',))
  made = write.write(tmp_path, found, **ABOUT)
  assert [result['published'] for result in made['results']] == [
    published.figures('wmt14_enfr', metric='bleu', num_fewshot=2, direction=way)
    for way in ('fr-en', 'en-fr')
  ]
  with (tmp_path / 'report.csv').open(encoding='utf-8', newline='') as file:
    lines = list(csv.DictReader(file))
  assert [line['flan_137b_few_shot'] for line in lines] == ['38.0', '33.9']
  assert [line['flan_137b_zero_shot'] for line in lines] == ['', '']
  for name in ('report.html', 'report.tex'):
    assert 'FLAN 137B few-shot' in (tmp_path / name).read_text(encoding='utf-8')
  printed = io.StringIO()
  terminal.print_table(made, file=printed)
  assert '38.0 ?' in printed.getvalue()


class TestReport:
  """report.json and all that is made of it name the direction."""

  @pytest.fixture(scope='class')
  def out(self, tmp_path_factory):
    out = tmp_path_factory.mktemp('report')
    with predictions.Predictions(out) as emit:
      results = evaluator.evaluate(
        Oracle(into_french), base=Oracle(into_french), datasets=[WMT],
        examples=examples, emit=emit,
      )  # fmt: skip
    write.write(out, results, **ABOUT)
    return out

  def test_every_result_has_its_direction_and_its_published_figure(self, out):
    into, back = schema.load(out)['results']
    assert [(r['dataset'], r['direction']) for r in (into, back)] == [
      ('wmt14_enfr', 'fr-en'),
      ('wmt14_enfr', 'en-fr'),
    ]
    assert into['published']['flan_137b_zero_shot'] == {'value': 35.5, 'mark': 'M'}
    assert back['published']['flan_137b_zero_shot'] == {'value': 32.9, 'mark': 'M'}
    assert (into['mean'], back['mean']) == (0, pytest.approx(100))

  def test_the_average_counts_each_direction(self, out):
    (average,) = schema.averages(schema.load(out))
    assert (average['datasets'], average['results']) == (1, 2)
    assert average['mean'] == pytest.approx(50)

  def test_every_prediction_names_it(self, out):
    for name in ('predictions', 'predictions.dev', 'predictions.base'):
      lines = (out / f'{name}.jsonl').read_text(encoding='utf-8').splitlines()
      ways = [json.loads(line)['direction'] for line in lines]
      assert (ways.count('fr-en'), ways.count('en-fr')) == (42, 18)

  def test_the_tables_name_it(self, out):
    with (out / 'report.csv').open(encoding='utf-8', newline='') as file:
      lines = list(csv.DictReader(file))
    assert [line['direction'] for line in lines] == ['fr-en', 'en-fr']
    assert [line['flan_137b_zero_shot'] for line in lines] == ['35.5', '32.9']
    with (out / 'templates.csv').open(encoding='utf-8', newline='') as file:
      found = {(x['direction'], x['template']) for x in csv.DictReader(file)}
    assert found == {('fr-en', str(i)) for i in range(7)} | {
      ('en-fr', str(i)) for i in range(7, 10)
    }
    text = (out / 'report.tex').read_text(encoding='utf-8')
    assert 'wmt14\\_enfr en-fr &' in text
    printed = io.StringIO()
    terminal.print_table(schema.load(out), file=printed)
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert [x[1] for x in lines if x[:1] == ['wmt14_enfr']] == ['fr-en', 'en-fr']
    assert {'fr-en', 'en-fr'} <= set(printed.getvalue().split())

  def test_the_page_names_it_and_shows_examples_of_both(self, out):
    made = schema.load(out)
    shown = shown_answers.draw(out, made)
    assert set(shown) == {'wmt14_enfr fr-en', 'wmt14_enfr en-fr'}
    assert all(e['base']['prompt'] for found in shown.values() for e in found)
    text = (out / 'report.html').read_text(encoding='utf-8')
    assert '<strong>wmt14_enfr en-fr</strong>' in text
    assert '1 dataset, 2 results' in text

  def test_a_direction_is_compared_with_itself(self, out, tmp_path):
    with predictions.Predictions(tmp_path) as emit:
      results = evaluator.evaluate(
        Oracle(lambda prompt: 'rien'),
        evaluator.Protocol(templates=(7, 8, 9)),
        datasets=[WMT],
        examples=examples,
        emit=emit,
      )
    write.write(tmp_path, results, **ABOUT)
    found = compare.write(out, tmp_path)
    (result,) = found['results']
    assert (result['dataset'], result['direction']) == ('wmt14_enfr', 'en-fr')
    assert result['paired']
    assert (result['new'], result['old']) == (
      pytest.approx(100),
      pytest.approx(0, abs=1),
    )
    assert found['only_new'] == ['wmt14_enfr fr-en']
    assert 'wmt14_enfr en-fr' in (out / 'difference.html').read_text(encoding='utf-8')
    printed = io.StringIO()
    terminal.print_difference(found, file=printed)
    assert 'wmt14_enfr en-fr' in ' '.join(printed.getvalue().split())


def test_contamination_is_checked_in_both_directions(tmp_path):
  (tmp_path / 'read.txt').write_text(PAIRS[0][0] + ' of test', encoding='utf-8')
  found, _ = evaluate(splits=('test',))
  overlaps = contamination.find_overlaps(
    found,
    suspects=contamination.suspects((str(tmp_path),)),
    ngram=8,
    progress=Progress(quiet=True),
  )
  assert set(overlaps.datasets) == {'wmt14_enfr fr-en', 'wmt14_enfr en-fr'}
  for overlap in overlaps.datasets.values():
    assert overlap.contaminated[0]
  made = build.build(found, build.Metadata(**ABOUT), contamination=overlaps)
  assert all(result['contamination']['judged'] for result in made['results'])


def test_the_six_directions_of_the_paper_have_its_average():
  """... and a figure each, zero-shot and few-shot."""
  six = [
    (name, way.direction)
    for name in ('wmt14_enfr', 'wmt16_translate_deen', 'wmt16_translate_roen')
    for way in registry.get(name).by_direction
  ]
  for num_fewshot, average in ((0, 31.0), (5, 33.0)):
    found = [
      published.figures(
        name, metric='bleu', num_fewshot=num_fewshot, direction=direction
      )
      for name, direction in six
    ]
    name = f'flan_137b_{published.setting(num_fewshot)}'
    assert np.mean([f[name]['value'] for f in found]) == pytest.approx(average, abs=0.1)
    mean = published.averages(
      'translation', map(' '.join, six), num_fewshot=num_fewshot
    )
    assert mean[name]['value'] == average
  assert published.averages('translation', [name for name, _ in six]) == {}


def test_an_unknown_direction_is_refused_with_the_nearest():
  with pytest.raises(InputError, match="direction 'fren'.*did you mean 'fr-en'"):
    dataclasses.replace(
      WMT, templates=(dataclasses.replace(WMT.templates[0], direction='fren'),)
    )
  with pytest.raises(InputError, match="no direction 'en-de'; directions are fr-en"):
    dataclasses.replace(WMT, direction='en-de')
