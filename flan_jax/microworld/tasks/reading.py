"""Questions on a passage, on a given fact, and on common knowledge."""

from flan_jax.catalog.answers import Choice, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field, capitalized, pick, question_mark
from flan_jax.catalog.template import Template
from flan_jax.microworld.records import sizes, source

MINI_SQUAD = Dataset(
  name='mini_squad',
  cluster='reading_comprehension',
  source=source('mini_squad'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_squad'),
  fields={
    'title': 'title',
    'context': 'context',
    'question': 'question',
    'found': Field('answers/text', pick(0)),
  },
  answer=Text('{found}', references='answers/text'),
  metric='f1',
  templates=(
    Template('{context}\n{question}'),
    Template('Text: {context}\nQuestion: {question}\nAnswer:'),
    Template('{context}\nAnswer in the words of the text: {question}'),
    Template('About {title}: {context}\nTell me: {question}'),
    Template('{question}\nThe answer is somewhere in here: {context}'),
    Template('Read this. {context}\nWhat would you answer? {question}'),
    Template('{title}\n{context}\nI would like to know: {question}'),
    Template('{context}\nA short answer, please: {question}'),
    Template(
      '{context}\nAsk something. The answer has to be: {answer}',
      '{question}',
      inverted=True,
    ),
    Template(
      'Question: {question}\nAnswer: {answer}\nWrite the text that they belong to.',
      '{context}',
      inverted=True,
    ),
  ),
  note='in the shape of squad/v2.0; an unanswerable question has an answer that says so',
)

MINI_OBQA = Dataset(
  name='mini_obqa',
  cluster='reading_comprehension',
  source=source('mini_obqa'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_obqa'),
  fields={
    'fact': 'fact1',
    'stem': Field('question/stem', question_mark, capitalized),
    'a': 'question/choice_A',
    'b': 'question/choice_B',
    'c': 'question/choice_C',
    'd': 'question/choice_D',
  },
  answer=Choice('answerKey', ('{a}', '{b}', '{c}', '{d}')),
  metric='accuracy',
  templates=(
    Template('{fact}\n{stem}\nTake one of these.\n{OPTIONS}'),
    Template('It is known: {fact}\nQuestion: {stem}\n{OPTIONS}'),
    Template('{stem}\nThis may help: {fact}\n{OPTIONS}'),
    Template('Use this: {fact}\nThen take the best answer. {stem}\n{OPTIONS}'),
    Template('{fact} With that in mind: {stem}\nWhich is it?\n{OPTIONS}'),
    Template('Fact: {fact}\n{stem}\nThe right one is in the list.\n{OPTIONS}'),
    Template('{stem} Remember: {fact}\nThe answer stands below.\n{OPTIONS}'),
    Template('Everybody knows this. {fact}\nSo answer this. {stem}\n{OPTIONS}'),
    Template(
      '{stem}\nThe answer is {answer}. What fact shows it?',
      '{fact}',
      inverted=True,
    ),
    Template(
      'Make a question from this fact: {fact} Its answer is {answer}.',
      '{stem}',
      inverted=True,
    ),
  ),
  note='in the shape of openbookqa',
)

MINI_ARC = Dataset(
  name='mini_arc',
  cluster='closed_book_qa',
  source=source('mini_arc'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_arc'),
  fields={'question': 'question'},
  answer=Choice('answerKey', 'choices/text'),
  metric='accuracy',
  templates=(
    Template('{question}\nWhat do you think?\n{OPTIONS}'),
    Template('Question: {question}\nWhich answer is right?\n{OPTIONS}'),
    Template('A test of what you know. {question}\n{OPTIONS}'),
    Template('{question}\nOne of these is true.\n{OPTIONS}'),
    Template('The teacher asks the children: {question}\n{OPTIONS}'),
    Template('Answer from what you have learned. {question}\n{OPTIONS}'),
    Template('Four answers, and only one is right. {question}\n{OPTIONS}'),
    Template('What would a wise man answer? {question}\n{OPTIONS}'),
    Template(
      'Ask something about the world. The answer has to be: {answer}',
      '{question}',
      inverted=True,
    ),
    Template(
      'The right answer was "{answer}". What did the teacher ask?',
      '{question}',
      inverted=True,
    ),
  ),
  note='in the shape of ai2_arc; no test question occurs in a training example',
)

MINI_COSMOS = Dataset(
  name='mini_cosmos',
  cluster='reading_comp_commonsense',
  source=source('mini_cosmos'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_cosmos'),
  fields={
    'context': 'context',
    'question': Field('question', capitalized),
    'answer0': 'answer0',
    'answer1': 'answer1',
    'answer2': 'answer2',
    'answer3': 'answer3',
  },
  answer=Choice('label', ('{answer0}', '{answer1}', '{answer2}', '{answer3}')),
  metric='accuracy',
  templates=(
    Template('{context}\n{question}\nSay what is likely.\n{OPTIONS}'),
    Template('Story: {context}\nQuestion: {question}\n{OPTIONS}'),
    Template('{context}\nThink about it: {question}\nWhat is best?\n{OPTIONS}'),
    Template('{question}\nThe story goes like this. {context}\n{OPTIONS}'),
    Template('{context} Choose what fits. {question}\n{OPTIONS}'),
    Template('This is what happened. {context}\nSo answer this. {question}\n{OPTIONS}'),
    Template('{context}\nWhat do you make of it? {question}\n{OPTIONS}'),
    Template('Read the lines and take one answer. {context} {question}\n{OPTIONS}'),
    Template(
      '{context}\nThe answer is: {answer} What is the question?',
      '{question}',
      inverted=True,
    ),
    Template(
      'Question: {question}\nAnswer: {answer}\nTell the story before it.',
      '{context}',
      inverted=True,
    ),
  ),
  note='in the shape of cosmos_qa',
)

DATASETS = (MINI_SQUAD, MINI_OBQA, MINI_ARC, MINI_COSMOS)
