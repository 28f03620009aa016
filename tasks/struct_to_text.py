"""Struct-to-text: tables, graphs and forms in, sentences out."""

from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field, attributes, drop, join, replace, triples
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

COMMON_GEN = Dataset(
  name='common_gen',
  paper_name='CommonGen',
  derived_from=('Flickr30k captions', 'ActivityNet captions'),
  cluster='struct_to_text',
  source=Tfds('gem/common_gen:1.1.0'),
  train='train[:30000]',
  dev='train[-200:]',
  test='validation',
  sizes={'train': 67_389, 'validation': 993},
  fields={
    'concepts': Field('concepts', join(', ')),
    'sentence': 'target',
  },
  cleaning=prose,
  answer=Text('{sentence}', references='references'),
  metric='rouge',
  templates=(
    Template(
      'Think of an everyday scene in which all of these turn up: {concepts}. Describe it in one sentence.'
    ),
    Template(
      '{concepts}\n\nMake the words above into a single natural sentence. You may change their endings.'
    ),
    Template(
      'A photograph has been tagged as follows. Caption it.\n\nTags: {concepts}'
    ),
    Template(
      'Say something that could plausibly happen, and work in each item of this list, in whatever order and form suits you.\n\nList: {concepts}'
    ),
    Template('Can one short, believable line hold all of this: {concepts}? Show me.'),
    Template(
      'My vocabulary homework is to use these words together: {concepts}. What should I hand in?'
    ),
    Template(
      'Required words: {concepts}\nRemark about ordinary life that has room for every one of them:'
    ),
    Template(
      'Someone filmed a brief clip and labeled it with these words.\n\n{concepts}\n\nWhat does the clip show?'
    ),
    Template(
      '{sentence}\n\nWhich bare words, in dictionary form, was that built around? Separate them with commas.',
      '{concepts}',
      inverted=True,
    ),
    Template(
      'I am indexing captions by keyword. Which keywords should this one get?\n\n{sentence}',
      '{concepts}',
      inverted=True,
    ),
  ),
  license='MIT',
  citation='Lin et al. 2020, "CommonGen", Findings of EMNLP; Gehrmann et al. 2021, "The GEM Benchmark", GEM workshop',
)

DART = Dataset(
  name='dart',
  paper_name='DART',
  derived_from=('web_nlg_en', 'e2e_nlg'),
  cluster='struct_to_text',
  source=Tfds('gem/dart:1.1.0'),
  train='train[:30000]',
  dev='train[-200:]',
  test='validation',
  sizes={'train': 62_659, 'validation': 2_768},
  fields={
    # TFDS joins subject, relation and value with blanks and no separator.
    'facts': Field(
      'tripleset',
      join('\n'),
      drop(r'\[TABLECONTEXT\] '),
      replace('[TITLE]', 'TITLE'),
      replace('_', ' '),
      replace(' eatType ', ' eat type '),
      replace(' priceRange ', ' price range '),
      replace(' familyFriendly ', ' family friendly '),
    ),
    'text': 'target',
  },
  cleaning=prose,
  answer=Text('{text}', references='references'),
  metric='rouge',
  templates=(
    Template(
      'The records below come from a table, one fact a line.\n\n{facts}\n\nState them all in fluent prose.'
    ),
    Template(
      'Turn these database entries into something a person would actually write:\n{facts}'
    ),
    Template(
      '{facts}\n\nWork every one of the facts above into good English, briefly.'
    ),
    Template(
      'Each line pairs a thing with one of its properties.\n\n{facts}\n\nHow would you put all this to somebody who cannot see the table?'
    ),
    Template(
      'You are drafting an encyclopedia stub and have nothing but these notes:\n\n{facts}\n\nDraft:'
    ),
    Template(
      'No lists and no column names, please: just tell me what is so.\n\n{facts}'
    ),
    Template(
      'What do we learn from the following entries? Reply in complete sentences and leave nothing out.\n\n{facts}'
    ),
    Template(
      'Cells picked from a spreadsheet:\n{facts}\n\nTheir content as running text:'
    ),
    Template(
      '{text}\n\nBreak that up into separate facts, one a line: the subject, then the relation, then the value.',
      '{facts}',
      inverted=True,
    ),
    Template(
      'A knowledge base is to be filled from the passage below. Which entries does the passage support?\n\nPassage: {text}',
      '{facts}',
      inverted=True,
    ),
  ),
  license='MIT',
  citation='Nan et al. 2021, "DART: Open-Domain Structured Data Record to Text Generation", NAACL; Gehrmann et al. 2021, "The GEM Benchmark", GEM workshop',
)

E2E_NLG = Dataset(
  name='e2e_nlg',
  paper_name='E2E NLG',
  cluster='struct_to_text',
  source=Tfds('gem/e2e_nlg:1.1.0'),
  train='train[:30000]',
  dev='train[-200:]',
  test='validation',
  sizes={'train': 33_525, 'validation': 4_299},
  fields={
    'listing': Field('meaning_representation', attributes),
    'description': 'target',
  },
  cleaning=prose,
  answer=Text('{description}', references='references'),
  metric='rouge',
  templates=(
    Template(
      'Contribute a short entry to a dining guide, about the place with this profile.\n\n{listing}'
    ),
    Template(
      '{listing}\n\nTell a friend about the venue above without skipping any detail.'
    ),
    Template(
      'A phone assistant has looked up somewhere to eat and found this:\n{listing}\n\nWhat should it say out loud?'
    ),
    Template('Put the form into words.\n\n{listing}'),
    Template(
      'Record of a venue:\n{listing}\n\nThe same information as a short paragraph for a website:'
    ),
    Template(
      'All I know about a certain pub, café or restaurant is written here.\n\n{listing}\n\nHow might I describe it to a visitor?'
    ),
    Template(
      'What would a local blogger write about a venue like this one, sticking to the facts given?\n\n{listing}'
    ),
    Template(
      'Speak for the tourist office. Introduce the establishment, mention each of its attributes, and add none.\n\n{listing}'
    ),
    Template(
      'Fill in a listing from this description, one property a line, in the form "property = value".\n\n{description}',
      '{listing}',
      inverted=True,
    ),
    Template(
      'Blurb: {description}\n\nWhich fields (name, food, price range, area and so on) can be read off the blurb, and what do they hold?',
      '{listing}',
      inverted=True,
    ),
  ),
  license='CC BY-SA 4.0',
  citation='Dušek, Howcroft and Rieser 2019, "Semantic Noise Matters for Neural Natural Language Generation", INLG; Gehrmann et al. 2021, "The GEM Benchmark", GEM workshop',
)

WEB_NLG_EN = Dataset(
  name='web_nlg_en',
  paper_name='WebNLG (en)',
  cluster='struct_to_text',
  source=Tfds('gem/web_nlg_en:1.1.0'),
  train='train[:30000]',
  dev='train[-200:]',
  test='validation',
  sizes={'train': 35_426, 'validation': 1_667},
  fields={
    'triples': Field('input', triples),
    'text': 'target',
  },
  cleaning=prose,
  answer=Text('{text}', references='references'),
  metric='rouge',
  templates=(
    Template(
      '{triples}\n\nEach row reads subject, property, value. Retell the rows in plain sentences.'
    ),
    Template('Verbalize this small knowledge graph:\n\n{triples}'),
    Template(
      'A radio presenter has only the card below to read from, and cannot simply read out a list. What goes on air?\n\n{triples}'
    ),
    Template(
      'Edges of a graph, written node | link | node:\n{triples}\n\nPut the whole graph into words, edge by edge or all at once.'
    ),
    Template(
      'Explain what is asserted here to a reader who has never come across such notation.\n\n{triples}'
    ),
    Template(
      'The infobox of an article says:\n{triples}\n\nIts text has to say the same. Write that text.'
    ),
    Template(
      'What is a natural way of expressing these statements in English, all of them together?\n\n{triples}'
    ),
    Template(
      'Statements:\n{triples}\n\nA fact-checked passage that uses them and nothing else:'
    ),
    Template(
      'Extract the claims that follow as lines of the form subject | property | value.\n\n{text}',
      '{triples}',
      inverted=True,
    ),
    Template(
      '{text}\n\nWhat rows would a triple store need to hold for you to have been able to write this? Put vertical bars between the three parts of a row.',
      '{triples}',
      inverted=True,
    ),
  ),
  license='CC BY-NC-SA 4.0',
  citation='Gardent et al. 2017, "The WebNLG Challenge: Generating Text from RDF Data", INLG; Gehrmann et al. 2021, "The GEM Benchmark", GEM workshop',
)

DATASETS = (COMMON_GEN, DART, E2E_NLG, WEB_NLG_EN)
