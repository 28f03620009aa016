"""Choices: commonsense, coreference, sentiment, and the miscellaneous cluster."""

from flan_jax.catalog.answers import Choice, Label
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field, after, before
from flan_jax.catalog.template import Template
from flan_jax.microworld.makers import TREC
from flan_jax.microworld.records import sizes, source

MINI_COPA = Dataset(
  name='mini_copa',
  cluster='commonsense',
  source=source('mini_copa'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_copa'),
  fields={
    'premise': 'premise',
    'wanted': 'question',
    'choice1': 'choice1',
    'choice2': 'choice2',
  },
  answer=Choice('label', ('{choice1}', '{choice2}')),
  metric='accuracy',
  templates=(
    Template('{premise}\nWhat is the {wanted}?\n{OPTIONS}'),
    Template('{premise} Find the {wanted} of this.\n{OPTIONS}'),
    Template('We look for the {wanted}. {premise}\nWhich line is it?\n{OPTIONS}'),
    Template('{premise}\nOne of two things is the {wanted}. Which?\n{OPTIONS}'),
    Template('Cause or effect? The {wanted}, please. {premise}\n{OPTIONS}'),
    Template(
      '{premise}\nHere are two lines. Which of them tells the {wanted}?\n{OPTIONS}'
    ),
    Template('What is the most likely {wanted} here? {premise}\n{OPTIONS}'),
    Template('{premise}\nTake the line that tells the {wanted}.\n{OPTIONS}'),
    Template(
      '{answer}\nThis is the {wanted} of something. Of what?',
      '{premise}',
      inverted=True,
    ),
    Template(
      'Tell me what happens, and give it this {wanted}: {answer}',
      '{premise}',
      inverted=True,
    ),
  ),
  note='in the shape of super_glue/copa',
)

MINI_WINOGRANDE = Dataset(
  name='mini_winogrande',
  cluster='coreference',
  source=source('mini_winogrande'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_winogrande'),
  fields={
    'start': Field('sentence', before('_')),
    'rest': Field('sentence', after('_')),
    'option1': 'option1',
    'option2': 'option2',
  },
  answer=Choice('label', ('{option1} {rest}', '{option2} {rest}')),
  metric='accuracy',
  templates=(
    Template('{start}\nGo on from there.\n{OPTIONS}'),
    Template('How does this go on? {start}\n{OPTIONS}'),
    Template('{start} ...\nWhat comes next?\n{OPTIONS}'),
    Template('Somebody begins to say: {start}\nHelp to end it.\n{OPTIONS}'),
    Template('End the sentence in the way that makes sense. {start}\n{OPTIONS}'),
    Template('{start}\nWho is it? Choose the end.\n{OPTIONS}'),
    Template('Only one of the two ends is right.\n{start}\n{OPTIONS}'),
    Template('It can be {option1} or {option2}. {start}\n{OPTIONS}'),
    Template(
      'A sentence ends so: {answer}\nHow did it begin?',
      '{start}',
      inverted=True,
    ),
    Template(
      'Write about {option1} and {option2}, ending with: {answer}',
      '{start} {answer}',
      inverted=True,
    ),
  ),
  note='in the shape of winogrande',
)

MINI_SST2 = Dataset(
  name='mini_sst2',
  cluster='sentiment',
  source=source('mini_sst2'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_sst2'),
  fields={'sentence': 'sentence'},
  answer=Label('label', ('bad', 'good')),
  metric='accuracy',
  templates=(
    Template('{sentence}\nIs that a good or a bad opinion?\n{OPTIONS}'),
    Template('Opinion: {sentence}\nGood or bad?\n{OPTIONS}'),
    Template('{sentence} What does the speaker think of it?\n{OPTIONS}'),
    Template('Sort this report: {sentence}\n{OPTIONS}'),
    Template('Somebody wrote: {sentence} How did they find it?\n{OPTIONS}'),
    Template('{sentence}\nIf I hear this, what must the thing be?\n{OPTIONS}'),
    Template('Is the feeling behind these words good or bad? {sentence}\n{OPTIONS}'),
    Template('What kind of report is it? {sentence}\n{OPTIONS}'),
    Template('Give a {answer} opinion of something.', '{sentence}', inverted=True),
    Template(
      'Write one line for the paper. The report is {answer}.',
      '{sentence}',
      inverted=True,
    ),
  ),
  note='in the shape of glue/sst2',
)

MINI_TREC = Dataset(
  name='mini_trec',
  cluster='misc',
  source=source('mini_trec'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_trec'),
  fields={'text': 'text'},
  answer=Label('label-coarse', TREC),
  metric='accuracy',
  templates=(
    Template('{text}\nWhat kind of thing is asked for?\n{OPTIONS}'),
    Template('Question: {text}\nThe kind of the answer is\n{OPTIONS}'),
    Template('Do not answer, only sort the question: {text}\n{OPTIONS}'),
    Template('{text} To answer that, what must one name?\n{OPTIONS}'),
    Template('Which of these does the question want? {text}\n{OPTIONS}'),
    Template('Somebody asks: {text}\nWhat are they looking for?\n{OPTIONS}'),
    Template('Into which box does this question go? {text}\n{OPTIONS}'),
    Template('{text}\nSay what sort of answer is needed.\n{OPTIONS}'),
    Template('Ask a question whose answer is a {answer}.', '{text}', inverted=True),
    Template(
      'I want to know about a {answer}. How would you ask?',
      '{text}',
      inverted=True,
    ),
  ),
  note='in the shape of trec, with its own six classes',
)

MINI_COLA = Dataset(
  name='mini_cola',
  cluster='misc',
  source=source('mini_cola'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_cola'),
  fields={'sentence': 'sentence'},
  answer=Label('label', ('badly said', 'well said')),
  metric='accuracy',
  templates=(
    Template('{sentence}\nIs the sentence well said or badly said?\n{OPTIONS}'),
    Template('Look at the order of the words: {sentence}\n{OPTIONS}'),
    Template('{sentence}\nHow would a teacher of English judge this?\n{OPTIONS}'),
    Template('Judge the way this is put. {sentence}\n{OPTIONS}'),
    Template('A stranger said: {sentence} In what manner was it said?\n{OPTIONS}'),
    Template('Sentence: {sentence}\nWell or badly?\n{OPTIONS}'),
    Template('Look for slips among these words: {sentence}\nYour verdict:\n{OPTIONS}'),
    Template('{sentence}\nJudge only the words, not the sense.\n{OPTIONS}'),
    Template('Write a line that is {answer}.', '{sentence}', inverted=True),
    Template(
      'Show me how a sentence looks when it is {answer}.',
      '{sentence}',
      inverted=True,
    ),
  ),
  note='in the shape of glue/cola',
)

DATASETS = (MINI_COPA, MINI_WINOGRANDE, MINI_SST2, MINI_TREC, MINI_COLA)
