"""Judgments: inference, paraphrase, and yes-no reading comprehension."""

from flan_jax.catalog.answers import Label
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field, capitalized, question_mark
from flan_jax.catalog.template import Template
from flan_jax.microworld.makers import UNANSWERABLE
from flan_jax.microworld.records import sizes, source

MINI_RTE = Dataset(
  name='mini_rte',
  cluster='nli',
  source=source('mini_rte'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_rte'),
  fields={'premise': 'premise', 'hypothesis': 'hypothesis'},
  answer=Label('label', ('yes', 'no')),
  metric='accuracy',
  templates=(
    Template('{premise}\nDoes this follow from it? {hypothesis}\n{OPTIONS}'),
    Template('Text: {premise}\nClaim: {hypothesis}\nIs the claim true?\n{OPTIONS}'),
    Template('{premise}\nSomebody says: {hypothesis}\nIs that right?\n{OPTIONS}'),
    Template(
      'We know this: {premise}\nMay we believe the next line?\n{hypothesis}\n{OPTIONS}'
    ),
    Template('{premise}\nIs it true, then, to say this: {hypothesis}\n{OPTIONS}'),
    Template(
      'Claim: {hypothesis}\nText: {premise}\nDoes the text make the claim true?\n{OPTIONS}'
    ),
    Template('Read this: {premise}\nNow say yes or no: {hypothesis}\n{OPTIONS}'),
    Template(
      '{premise}\nIf all of that is true, is this true too? {hypothesis}\n{OPTIONS}'
    ),
    Template(
      '{premise}\nWrite a claim. Does it follow from the text? {answer}',
      '{hypothesis}',
      inverted=True,
    ),
    Template(
      'Make up a report. One must say {answer} if it is asked whether this is so: {hypothesis}',
      '{premise}',
      inverted=True,
    ),
  ),
  note='in the shape of super_glue/rte',
)

MINI_CB = Dataset(
  name='mini_cb',
  cluster='nli',
  source=source('mini_cb'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_cb'),
  fields={'premise': 'premise', 'hypothesis': 'hypothesis'},
  answer=Label('label', ('yes', 'no', UNANSWERABLE)),
  metric='accuracy',
  templates=(
    Template('{premise}\nBy this, is the next line true? {hypothesis}\n{OPTIONS}'),
    Template('Text: {premise}\nClaim: {hypothesis}\nIs it so?\n{OPTIONS}'),
    Template('{premise}\nSuppose we say: {hypothesis}\nAre we right?\n{OPTIONS}'),
    Template('{premise}\nWhat does the text say of this: {hypothesis}\n{OPTIONS}'),
    Template(
      'Here is a report. {premise}\nIs this claim true by the report? {hypothesis}\n{OPTIONS}'
    ),
    Template(
      '{hypothesis}\nIs that true? All we have heard is this: {premise}\n{OPTIONS}'
    ),
    Template(
      'Story: {premise}\nIs the line below true in the story?\n{hypothesis}\n{OPTIONS}'
    ),
    Template('{premise}\nTrue, false or not told? {hypothesis}\n{OPTIONS}'),
    Template(
      '{premise}\nIs it so? The answer is: {answer}\nWhat was claimed?',
      '{hypothesis}',
      inverted=True,
    ),
    Template(
      '{hypothesis}\nWrite a report that answers this with: {answer}',
      '{premise}',
      inverted=True,
    ),
  ),
  note='in the shape of super_glue/cb',
)

MINI_BOOLQ = Dataset(
  name='mini_boolq',
  cluster='reading_comprehension',
  source=source('mini_boolq'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_boolq'),
  fields={
    'title': 'title',
    'passage': 'passage',
    'question': Field('question', question_mark, capitalized),
  },
  answer=Label('answer', ('no', 'yes')),
  metric='accuracy',
  templates=(
    Template('{passage}\n{question}\n{OPTIONS}'),
    Template('Text: {passage}\nQuestion: {question}\nYes or no?\n{OPTIONS}'),
    Template('This is about {title}. {passage}\nAnswer: {question}\n{OPTIONS}'),
    Template('{question}\nYou find the answer here: {passage}\n{OPTIONS}'),
    Template('{passage}\nNow somebody asks: {question}\nWhat is true?\n{OPTIONS}'),
    Template('{title}\n{passage}\nIs it yes or is it no? {question}\n{OPTIONS}'),
    Template('Read: {passage}\nBy what you have read: {question}\n{OPTIONS}'),
    Template('{passage}\nA child wants to know: {question}\nThe answer?\n{OPTIONS}'),
    Template(
      '{passage}\nAsk about this so that the right answer is: {answer}',
      '{question}',
      inverted=True,
    ),
    Template(
      'To the question "{question}" the answer is {answer}. Write the text about {title}.',
      '{passage}',
      inverted=True,
    ),
  ),
  note='in the shape of bool_q',
)

MINI_MULTIRC = Dataset(
  name='mini_multirc',
  cluster='reading_comprehension',
  source=source('mini_multirc'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_multirc'),
  fields={'paragraph': 'paragraph', 'question': 'question', 'response': 'answer'},
  answer=Label('label', ('no', 'yes')),
  metric='accuracy',
  templates=(
    Template(
      '{paragraph}\nQuestion: {question}\nAnswer: {response}\nIs the answer right?\n{OPTIONS}'
    ),
    Template('{paragraph}\n{question}\n{response}\nRight or wrong?\n{OPTIONS}'),
    Template(
      '{paragraph}\n{question}\nA child answers: {response}\nIs the child right?\n{OPTIONS}'
    ),
    Template(
      'Text: {paragraph}\n{question}\nIs this a true answer? {response}\n{OPTIONS}'
    ),
    Template(
      '{question} - {response}\nIs that what this text tells us? {paragraph}\n{OPTIONS}'
    ),
    Template(
      'Question: {question}\nText: {paragraph}\nCan the answer be this: {response}\n{OPTIONS}'
    ),
    Template(
      '{paragraph}\nI ask: {question}\nYou say: {response}\nDo you say what is true?\n{OPTIONS}'
    ),
    Template(
      'Look at the text. {paragraph}\n{question} The answer given is: {response}\nDoes it stand?\n{OPTIONS}'
    ),
    Template(
      '{paragraph}\n{question}\nGive an answer. Is it right? {answer}',
      '{response}',
      inverted=True,
    ),
    Template(
      '{paragraph}\nAnswer: {response}\nIs the answer right? {answer}\nWhat was asked?',
      '{question}',
      inverted=True,
    ),
  ),
  note='in the shape of super_glue/multirc',
)

MINI_MRPC = Dataset(
  name='mini_mrpc',
  cluster='paraphrase',
  source=source('mini_mrpc'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_mrpc'),
  fields={'sentence1': 'sentence1', 'sentence2': 'sentence2'},
  answer=Label('label', ('no', 'yes')),
  metric='accuracy',
  templates=(
    Template('{sentence1}\n{sentence2}\nDo the two say the same?\n{OPTIONS}'),
    Template('Line one, line two.\n{sentence1}\n{sentence2}\nSame thing?\n{OPTIONS}'),
    Template('{sentence1}\nIs that another way to say this? {sentence2}\n{OPTIONS}'),
    Template('One: {sentence1}\nTwo: {sentence2}\nDoes two repeat one?\n{OPTIONS}'),
    Template(
      '{sentence1}\nIn other words, is it this? {sentence2}\nAnswer.\n{OPTIONS}'
    ),
    Template('Anna says: {sentence1} Otto says: {sentence2} Do they agree?\n{OPTIONS}'),
    Template('{sentence1}\nHas this the same sense? {sentence2}\n{OPTIONS}'),
    Template('Compare.\n{sentence1}\n{sentence2}\nIs the news the same?\n{OPTIONS}'),
    Template(
      '{sentence1}\nWrite a second line. Same sense? {answer}',
      '{sentence2}',
      inverted=True,
    ),
    Template(
      'Which line came before this one? {sentence2}\nSame sense? {answer}',
      '{sentence1}',
      inverted=True,
    ),
  ),
  note='in the shape of glue/mrpc',
)

DATASETS = (MINI_RTE, MINI_CB, MINI_BOOLQ, MINI_MULTIRC, MINI_MRPC)
