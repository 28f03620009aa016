"""The generated records: well-formed, balanced, reproducible, disjoint, and right."""

import collections
import functools
import itertools
import json

import pytest
from microworld_reader import (
  Knowledge,
  answers,
  mood_of,
  read,
  read_passage,
  stated,
)

from flan_jax.errors import InputError
from flan_jax.microworld import (
  commonsense,
  corpus,
  language,
  makers,
  records,
  velish,
  vocabulary,
)
from flan_jax.microworld.world import World

NAMES = tuple(records.DATASETS)
LABELED = {
  'mini_rte': ('label', 2),
  'mini_cb': ('label', 3),
  'mini_boolq': ('answer', 2),
  'mini_multirc': ('label', 2),
  'mini_obqa': ('answerKey', 4),
  'mini_arc': ('answerKey', 4),
  'mini_copa': ('label', 2),
  'mini_winogrande': ('label', 2),
  'mini_cosmos': ('label', 4),
  'mini_sst2': ('label', 2),
  'mini_mrpc': ('label', 2),
  'mini_trec': ('label-coarse', 6),
  'mini_cola': ('label', 2),
}


@pytest.fixture(scope='module')
def text():
  parts = (corpus.DRILLED, 12_000), (corpus.LAST_FROM, 6_000)
  return '\n'.join(
    document
    for first, count in parts
    for document in corpus.documents(0, count=count, first=first)
  )


@pytest.fixture(scope='module')
def knowledge(text):
  return Knowledge(text)


@functools.cache
def made(name, split, count):
  """The first records of a split; a test reads them only."""
  drawn = itertools.islice(records.records(name, split), count)
  return tuple(record for _, record in drawn)


def examples(name, split='test', count=200):
  return made(name, split, 300 if split == 'test' else count)[:count]


@pytest.mark.parametrize('name', NAMES)
def test_sizes_are_kept(name):
  sizes = records.sizes(name)
  assert (sizes['validation'], sizes['test']) == (150, 300)
  assert 500 <= sizes['train'] <= 5000


@pytest.mark.parametrize(
  'name',
  [
    'mini_sst2',
    *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n != 'mini_sst2'),
  ],
)
def test_a_split_has_its_size_and_no_id_twice(name):
  ids = [example_id for example_id, _ in records.records(name, 'validation')]
  assert len(set(ids)) == 150


@pytest.mark.parametrize('name', NAMES)
def test_an_example_is_a_function_of_its_index_alone(name):
  in_order = examples(name, 'validation', 12)
  assert records.record(name, 'validation', 11) == in_order[11]
  assert records.record(name, 'validation', 3) == in_order[3]
  assert records.record(name, 'validation', 3, seed=1) != in_order[3]
  assert records.record(name, 'train', 3) != in_order[3]


@pytest.mark.parametrize('name', LABELED)
def test_labels_are_balanced(name):
  key, classes = LABELED[name]
  counts = collections.Counter(
    int(example[key]) for example in examples(name, 'test', 300)
  )
  assert len(counts) == classes
  # Label ids cycle; the position of an option is drawn.
  tolerance = 0 if key != 'answerKey' and name != 'mini_cosmos' else 40
  assert max(counts.values()) - min(counts.values()) <= tolerance


def test_an_unknown_dataset_or_split_is_refused():
  with pytest.raises(InputError, match="dataset 'mini_rt'.*did you mean 'mini_rte'"):
    records.sizes('mini_rt')
  with pytest.raises(InputError, match="split 'dev'.*train, validation, test"):
    next(records.records('mini_rte', 'dev'))


# What an example tells or asks is of its own side.

TOLD = {
  'mini_rte': lambda example: example['premise'],
  'mini_cb': lambda example: example['premise'],
  'mini_boolq': lambda example: example['passage'],
  'mini_multirc': lambda example: example['paragraph'],
  'mini_squad': lambda example: example['context'],
  'mini_arc': lambda example: example['question'],
  'mini_obqa': lambda example: language.question(example['question']['stem']),
  'mini_copa': lambda example: example['premise'],
  'mini_winogrande': lambda example: example['sentence'].replace(' _ ', ' '),
  'mini_cosmos': lambda example: example['context'],
  'mini_mrpc': lambda example: f'{example["sentence1"]} {example["sentence2"]}',
  'mini_common_gen': lambda example: example['target'],
  'mini_wmt': lambda example: example['en'],
  'mini_xsum': lambda example: example['summary'],
  'mini_trec': lambda example: example['text'],
  'mini_cola': lambda example: example['sentence'],
}


@pytest.mark.parametrize(
  'split', ['test', pytest.param('validation', marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('name', TOLD)
def test_no_test_passage_or_question_occurs_in_training_or_text(name, split, text):
  told = TOLD[name]
  train = {told(example) for example in examples(name, 'train', 5000)}
  for example in examples(name, split, 300):
    assert told(example) not in train
    assert told(example) not in text


def test_no_test_premise_occurs_in_a_training_passage():
  passages = ' '.join(
    example['passage'] for example in examples('mini_boolq', 'train', 5000)
  ) + ' '.join(
    example['paragraph'] for example in examples('mini_multirc', 'train', 5000)
  )
  for example in examples('mini_rte', 'test', 300):
    assert example['premise'] not in passages


# An independent reader of the passages confirms labels and answers.


def test_rte_and_cb_labels(knowledge):
  for example in examples('mini_rte'):
    verdict = knowledge.judge(example['premise'], example['hypothesis'])
    assert (verdict == 'true') == (example['label'] == 0), example
  for example in examples('mini_cb'):
    verdict = knowledge.judge(example['premise'], example['hypothesis'])
    assert verdict == ('true', 'untrue', 'unsaid')[example['label']], example


def test_claims_need_more_than_copying():
  """Some claims repeat the passage; most reword it or draw a conclusion."""
  copied = followed = 0
  true = [
    example for example in examples('mini_rte', count=300) if example['label'] == 0
  ]
  for example in true:
    copied += example['hypothesis'] in example['premise']
    followed += read(example['hypothesis'])[0] in (
      'deed', 'near', 'pet kind', 'likes kind', 'hates kind', 'owns', 'visits'
    )  # fmt: skip
  assert 0.05 < copied / len(true) < 0.5
  assert 0.15 < followed / len(true) < 0.35


def test_boolq_answers(knowledge):
  for example in examples('mini_boolq'):
    verdict = knowledge.judge(example['passage'], stated(example['question']))
    assert (verdict == 'true') == example['answer'], example


def short(answer):
  return mood_of(answer) if answer in vocabulary.MOOD_GROUP else answer


def test_multirc_labels(knowledge):
  for example in examples('mini_multirc'):
    if example['answer'].endswith('.'):
      right = knowledge.judge(example['paragraph'], example['answer']) == 'true'
    else:
      right = short(example['answer']) in answers(
        example['paragraph'], example['question']
      )
    assert right == example['label'], example


def test_squad_answers():
  for example in examples('mini_squad'):
    found = answers(example['context'], example['question'])
    (answer,) = example['answers']['text']
    if example['is_impossible']:
      assert (answer, found) == (makers.UNANSWERABLE, set()), example
    else:
      assert found == {short(answer)}, example
      start = example['answers']['answer_start'][0]
      assert example['context'][start:].startswith(answer)


def test_obqa_answers_follow_from_the_fact(knowledge):
  for example in examples('mini_obqa'):
    (fact,) = read_passage(example['fact1'])
    implied = {follows[2] for follows in knowledge.closure([fact])}
    implied |= {text.partition(' ')[2] for text in implied}  # what someone makes
    choices = [example['question'][f'choice_{letter}'] for letter in 'ABCD']
    fits = [i for i, choice in enumerate(choices) if short(choice) in implied]
    assert fits == [example['answerKey']], example


def test_arc_answers_agree_with_the_text(text):
  tables = collections.defaultdict(set)
  for relation, subject, value in World(0).knowledge():
    tables[subject].add(value)
    tables[value].add(subject)
    saying = [commonsense.known(_Always(i), relation, subject, value) for i in range(3)]
    assert any(sentence in text for sentence in saying)
  for example in examples('mini_arc'):
    asked = example['question'].rstrip('?').lower()
    known = [
      key for key in tables if f' {key.lower()} ' in f' {asked} '.replace(':', ' ')
    ]
    right = {value for key in known for value in tables[key]}
    fits = [i for i, choice in enumerate(example['choices']['text']) if choice in right]
    assert fits == [example['answerKey']], example


class _Always:
  """Draws one given element of a sequence."""

  def __init__(self, index):
    self.index = index

  def choice(self, options):
    return options[self.index % len(options)]


def predicate(sentence):
  return sentence.rstrip('.').split(' ', 1)[1]


def test_copa_and_cosmos_answers_are_causes_in_the_text(knowledge):
  def linked(cause, effect):
    return predicate(effect) in knowledge.effects.get(predicate(cause), ())

  for example in examples('mini_copa'):
    for i, choice in enumerate((example['choice1'], example['choice2'])):
      ends = (
        (choice, example['premise'])
        if example['question'] == 'cause'
        else (example['premise'], choice)
      )
      assert linked(*ends) == (i == example['label']), example
  for example in examples('mini_cosmos'):
    told = example['context'].split('. ')[-1]
    for i in range(4):
      ends = (
        (example[f'answer{i}'], told)
        if 'reason' in example['question']
        else (told, example[f'answer{i}'])
      )
      assert linked(*ends) == (i == example['label']), example


def test_winogrande_answers_are_reasons_in_the_text(knowledge):
  for example in examples('mini_winogrande'):
    start, reason = example['sentence'].rstrip('.').split(' because _ ')
    first, *verb, second = start.split()
    named = (first, second)[knowledge.reasons[' '.join(verb), reason]]
    assert named == (example['option1'], example['option2'])[example['label']], example


def test_sst2_labels_follow_the_adjectives():
  for example in examples('mini_sst2'):
    words = example['sentence'].rstrip('.').lower().replace('not ', 'not_').split()
    praise = sum(word in commonsense.GOOD for word in words)
    blame = sum(word in commonsense.BAD for word in words)
    assert (praise > blame, blame > praise) == (
      bool(example['label']),
      not example['label'],
    ), example


def test_mrpc_labels():
  for example in examples('mini_mrpc'):
    same = read(example['sentence1']) == read(example['sentence2'])
    assert same == example['label'], example
    assert example['sentence1'] != example['sentence2']


def test_cola_labels():
  """A garbled sentence is not two sentences of the language."""
  for example in examples('mini_cola'):
    said = [read(part) for part in example['sentence'].rstrip('.').split(' and ')]
    fine = all(part is not None and part[0] != 'deed' for part in said)
    assert fine == example['label'], example


def test_trec_labels():
  def wanted(question):
    first = question.split()[0].lower()
    if first in ('who', 'where', 'when'):
      return {'who': 'person', 'where': 'place', 'when': 'time'}[first]
    hints = {
      'colour': 'colour', 'town': 'place', 'animal': 'animal', 'pet': 'animal',
      'look': 'animal', 'food': 'food', 'like': 'food', 'fond': 'food',
      'hate': 'food', 'dislike': 'food',
    }  # fmt: skip
    words = question.rstrip('?').lower().split()
    return next(kind for hint, kind in hints.items() if hint in words)

  for example in examples('mini_trec'):
    assert wanted(example['text']) == makers.TREC[example['label-coarse']], example


def test_common_gen_sentences_hold_every_concept():
  for example in examples('mini_common_gen'):
    for sentence in (example['target'], *example['references']):
      assert set(example['concepts']) <= set(sentence.rstrip('.').split())


def test_translations_can_be_inverted_word_by_word():
  back = {new: english for english, new in velish.lexicon(0).items()}
  assert len(back) == len(velish.lexicon(0))
  for example in examples('mini_wmt'):
    words = example['vl'].rstrip('.').split()
    english = example['en'].rstrip('.').replace('On ', '').split()
    again = [back.get(word.lower(), word) for word in words]
    assert sorted(again) == sorted(word for word in english if word != 'a')
    assert back[words[-1]].endswith('s')  # the verb comes last


def test_summaries_agree_with_the_story():
  for example in examples('mini_xsum'):
    story = set(example['document'].replace('.', ' ').replace(',', ' ').lower().split())
    assert set(example['summary'].rstrip('.').lower().split()) <= story | {'at', 'a'}


def test_records_are_plain_data():
  for name in NAMES:
    assert (
      json.loads(json.dumps(examples(name, count=1)[0])) == examples(name, count=1)[0]
    )
