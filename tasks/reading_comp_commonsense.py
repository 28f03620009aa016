"""Reading comprehension with commonsense: the text only implies the answer."""

from flan_jax.catalog.answers import Choice
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.evidence import Evidence
from flan_jax.catalog.fields import (
  Field,
  capitalized,
  question_mark,
  replace,
  substitute,
)
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

_COSMOS_QA_TEMPLATES = (
  Template(
    '{context}\n\n{question}\nThe writer does not say so outright; choose what is most likely.\n\n{OPTIONS}'
  ),
  Template(
    'There is more to this diary entry than meets the eye.\n\n{context}\n\n{question}\n{OPTIONS}'
  ),
  Template(
    'Put yourself in the place of the person who tells the story. {question}\n\nStory: {context}\n\n{OPTIONS}'
  ),
  Template(
    'A friend sends you this message:\n{context}\n\nLater a common acquaintance asks you about it: {question}\nWhich would be your best guess?\n\n{OPTIONS}'
  ),
  Template(
    'What an anecdote leaves unsaid can often be filled in by common sense. Fill in the following.\n\nUnsaid: {question}\nAnecdote: {context}\n\n{OPTIONS}'
  ),
  Template(
    'Blog post: {context}\nTo be inferred: {question}\nMost plausible inference:\n{OPTIONS}'
  ),
  Template(
    'One of four explanations or predictions suits the episode better than the others. Pick it out.\n\n{question}\n\nEpisode: {context}\n\n{OPTIONS}'
  ),
  Template(
    '{context}\n\nHad you been there, you would know. Since you were not, draw on your experience of people. {question}\n\n{OPTIONS}'
  ),
  Template(
    '{question}\n\nA detective of everyday life would have a view on that after a look at these lines. What is it?\n\n{context}\n{OPTIONS}'
  ),
  Template(
    '{context}\n\nAsk something about this that is not said outright and that a thoughtful reader could nevertheless guess.',
    '{question}',
    inverted=True,
  ),
  Template(
    'Make up a few lines from a personal blog. They should lead a curious reader to ask what stands below, and leave the answer to common sense.\n\n{question}',
    '{context}',
    inverted=True,
  ),
)

_RECORD_TEMPLATES = (
  Template(
    '{passage}\n\nThe story goes on with a line that lacks a name:\n{line}\n\nGive it again from the gap to the end, name and all.\n\n{OPTIONS}'
  ),
  Template(
    'News report: {passage}\n\nA line further on in the report has lost a name: {line}\nCopy it from the gap to its end, with the right name put in.\n\n{OPTIONS}'
  ),
  Template(
    'A page is stained, and in the last line a name cannot be read. Restore the name, and what comes after it.\n\n{passage}\n\n{line}\n\n{OPTIONS}'
  ),
  Template(
    'The sub-editor has a sentence in which a blank stands for a name she cannot make out.\n\nSentence: {line}\nArticle so far: {passage}\n\nWrite it out for her, from that name onward.\n{OPTIONS}'
  ),
  Template(
    'Who or what is meant by the blank in this line?\n{line}\n\nThe article will tell you. Of the versions listed, all of which start at the blank, take the one in which the right person, place or thing is named.\n\n{passage}\n\n{OPTIONS}'
  ),
  Template(
    '{passage}\n{line}\n\nFill the gap so that the report agrees with itself, and go on to the end of the line.\n{OPTIONS}'
  ),
  Template(
    'You typed up a story from a newspaper and left out a name that you could not make out.\n\nTyped: {passage}\n\nLast line: {line}\n\nOf the versions in the list, which start at the gap, one is what the newspaper had. Find it.\n\n{OPTIONS}'
  ),
  Template(
    'The candidates at the end differ in a single name only. Having studied the background, choose the one that makes sense from the gap on.\n\nBackground: {passage}\n\nSentence with a gap: {line}\n\n{OPTIONS}'
  ),
  Template(
    'A newsreader has this item to read aloud:\n\n{passage}\n\nOn her screen the last line lacks a name: {line}\nWhat should she say from there on?\n\n{OPTIONS}'
  ),
  Template(
    'Source: {passage}\nQuotation with a name left out: {line}\nThe same from the name to the end:\n{OPTIONS}'
  ),
)

DATASETS = (
  Dataset(
    name='cosmos_qa',
    paper_name='CosmosQA',
    cluster='reading_comp_commonsense',
    source=Tfds('cosmos_qa:1.0.0'),
    train='train[:-200]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 25262, 'validation': 2985},
    fields={
      'context': Field('context', prose, capitalized),
      'question': Field('question', prose, question_mark, capitalized),
      'answer0': 'answer0',
      'answer1': 'answer1',
      'answer2': 'answer2',
      'answer3': 'answer3',
    },
    cleaning=prose,
    answer=Choice('label', ('{answer0}', '{answer1}', '{answer2}', '{answer3}')),
    metric='accuracy',
    templates=_COSMOS_QA_TEMPLATES,
    license='CC BY 4.0',
    citation='Huang et al. 2019, "Cosmos QA", EMNLP',
    note='the source text is tokenized; it is joined here, except for hyphens, which may be dashes',
  ),
  Dataset(
    name='record',
    paper_name='ReCoRD',
    derived_from=('cnn_dailymail',),
    cluster='reading_comp_commonsense',
    source=Tfds('super_glue/record:1.0.2'),
    train='train[:30000]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 100730, 'validation': 10000},
    fields={
      'passage': Field('passage', substitute(r'\s*@highlight\s*', '\n')),
      'line': Field('query', replace('@placeholder', '____')),
      'ending': Field('query', substitute(r'(?s)^.*?(?=@placeholder)', '')),
    },
    cleaning=prose,
    answer=Choice('answers', 'entities', gap=('ending', '@placeholder')),
    evidence=Evidence(field='passage', texts='entities'),
    metric='accuracy',
    reference_metric="exact match and F1 in SQuAD's form, of text that is generated; the paper reports accuracy",
    templates=_RECORD_TEMPLATES,
    license='CNN and Daily Mail text: research use (SuperGLUE)',
    citation='Zhang et al. 2018, "ReCoRD"; arXiv:1810.12885',
    note='as many options as the passage has entities, each with the rest of the sentence; several may be right. The highlights at the end of an article are lines of the passage: some answers appear nowhere else',
  ),
)
