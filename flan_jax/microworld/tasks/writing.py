"""Generation: sentences from concepts, translation, summaries."""

from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field, join
from flan_jax.catalog.template import Template
from flan_jax.microworld.records import sizes, source

MINI_COMMON_GEN = Dataset(
  name='mini_common_gen',
  cluster='struct_to_text',
  source=source('mini_common_gen'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_common_gen'),
  fields={'concepts': Field('concepts', join(', ')), 'target': 'target'},
  answer=Text('{target}', references='references'),
  metric='rouge',
  templates=(
    Template('Put these into one sentence: {concepts}'),
    Template('Concepts: {concepts}\nSentence:'),
    Template('Write a line with all of these in it: {concepts}'),
    Template('{concepts}\nWhat could be going on?'),
    Template('What can you tell from these words? {concepts}'),
    Template('From {concepts}, make a sentence.'),
    Template('Use every one of the words {concepts} to say something.'),
    Template('{concepts}: say it in a whole sentence.'),
    Template(
      'What are the main words of this sentence? {answer}',
      '{concepts}',
      inverted=True,
    ),
    Template('{answer}\nList who, what and where.', '{concepts}', inverted=True),
  ),
  note='in the shape of gem/common_gen',
)

MINI_WMT = Dataset(
  name='mini_wmt',
  cluster='translation',
  source=source('mini_wmt'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_wmt'),
  fields={'en': 'en', 'vl': 'vl'},
  answer=Text('{en}'),
  metric='bleu',
  templates=(
    Template('{vl}\nWhat is that in English?', direction='vl-en'),
    Template('From Velish into English: {vl}', direction='vl-en'),
    Template('Velish: {vl}\nSay it in English.', direction='vl-en'),
    Template(
      'Somebody from abroad says: {vl}\nPut it into English for me.', direction='vl-en'
    ),
    Template('Turn this Velish line into English. {vl}', direction='vl-en'),
    Template('{vl}\nI do not know Velish. What does it mean?', direction='vl-en'),
    Template('How would you say this in English? {vl}', direction='vl-en'),
    Template(
      '{en}\nHow does that sound abroad, where they speak Velish?',
      '{vl}',
      direction='en-vl',
    ),
    Template('English: {en}\nVelish:', '{vl}', direction='en-vl'),
    Template('How would a Velish man put this? {en}', '{vl}', direction='en-vl'),
  ),
  directions={'vl-en': '{en}', 'en-vl': '{vl}'},
  note='in the shape of wmt16_translate, from an invented language (Velish)',
)

MINI_XSUM = Dataset(
  name='mini_xsum',
  cluster='summarization',
  source=source('mini_xsum'),
  train='train',
  dev='validation',
  test='test',
  sizes=sizes('mini_xsum'),
  fields={'document': 'document', 'summary': 'summary'},
  answer=Text('{summary}'),
  metric='rouge',
  templates=(
    Template('{document}\nTell it in one sentence.'),
    Template('Story: {document}\nThe gist:'),
    Template('Make this short: {document}'),
    Template('{document}\nWhat is the main thing here?'),
    Template('I have no time. What happens here? {document}'),
    Template('Write one line that sums up the story. {document}'),
    Template('{document}\nSum up.'),
    Template('Read the story and say what it is about. {document}'),
    Template('Make a longer story of this: {summary}', '{document}', inverted=True),
    Template(
      'The gist is: {summary}\nTell the whole story.', '{document}', inverted=True
    ),
  ),
  note='in the shape of xsum',
)

DATASETS = (MINI_COMMON_GEN, MINI_WMT, MINI_XSUM)
