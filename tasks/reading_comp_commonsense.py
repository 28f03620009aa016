"""Reading comprehension with commonsense: the text does not say it outright."""

from flan_jax.catalogue import Dataset
from flan_jax.evidence import Evidence
from flan_jax.fields import Choice, Field, substitute, untokenised
from flan_jax.templates import Template

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
    turned_around=True,
  ),
  Template(
    'Make up a few lines from a personal blog. They should lead a curious reader to ask what stands below, and leave the answer to common sense.\n\n{question}',
    '{context}',
    turned_around=True,
  ),
)

_RECORD_TEMPLATES = (
  Template(
    '{passage}\n\nThe story goes on:\n{opening}\n\nTake up the sentence where it was dropped.\n\n{OPTIONS}'
  ),
  Template(
    'News report: {passage}\n\nLater in the report a sentence sets out like this: {opening}\nWhich ending belongs to it?\n\n{OPTIONS}'
  ),
  Template(
    'A page was torn, and the rest of the last sentence is gone. Restore it.\n\n{passage}\n\n{opening}\n\n{OPTIONS}'
  ),
  Template(
    'The sub-editor has a beginning but lacks the name that comes next and all that stands after it.\n\nBeginning: {opening}\nArticle so far: {passage}\n\nSupply what is lacking.\n{OPTIONS}'
  ),
  Template(
    'Who or what is meant at the point where this line breaks off?\n{opening}\n\nThe article will tell you. Take the continuation in which the right person, place or thing is named.\n\n{passage}\n\n{OPTIONS}'
  ),
  Template(
    '{passage}\n{opening}\n\nComplete the text so that it agrees with the facts reported in it.\n{OPTIONS}'
  ),
  Template(
    'You typed up a story from a newspaper until your keyboard failed.\n\nTyped before it failed: {passage}\n\nAnd then only: {opening}\n\nOf the versions in the list, one is what the newspaper had. Find it.\n\n{OPTIONS}'
  ),
  Template(
    'The candidates at the end differ in a single name only. Having studied the background, choose the one that makes sense after the words shown.\n\nBackground: {passage}\n\nWords: {opening}\n\n{OPTIONS}'
  ),
  Template(
    'A newsreader loses her place in the middle of this item:\n\n{passage}\n\nShe had just begun to say: {opening}\nWhat must she say next?\n\n{OPTIONS}'
  ),
  Template(
    'Source: {passage}\nQuotation to be finished: {opening}\nEnding:\n{OPTIONS}'
  ),
)

DATASETS = (
  Dataset(
    name='cosmos_qa',
    paper_name='CosmosQA',
    cluster='reading_comp_commonsense',
    tfds='cosmos_qa:1.0.0',
    train='train[:-200]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 25262, 'validation': 2985},
    fields={
      'context': Field('context', untokenised),
      'question': Field('question', untokenised),
      'answer0': Field('answer0', untokenised),
      'answer1': Field('answer1', untokenised),
      'answer2': Field('answer2', untokenised),
      'answer3': Field('answer3', untokenised),
    },
    answer=Choice('label', ('{answer0}', '{answer1}', '{answer2}', '{answer3}')),
    metric='accuracy',
    templates=_COSMOS_QA_TEMPLATES,
    licence='CC BY 4.0',
    citation='Huang et al. 2019, "Cosmos QA", EMNLP',
    note='the text is tokenised in the source; it is joined up here',
  ),
  Dataset(
    name='record',
    paper_name='ReCoRD',
    derived_from=('cnn_dailymail',),
    cluster='reading_comp_commonsense',
    tfds='super_glue/record:1.0.2',
    train='train[:30000]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 100730, 'validation': 10000},
    fields={
      'passage': Field('passage', substitute(r'\s*@highlight\s*', '\n')),
      'opening': Field('query', substitute(r'(?s)\s*@placeholder.*', ' ...')),
      'ending': Field('query', substitute(r'(?s)^.*?(?=@placeholder)', '')),
    },
    answer=Choice('answers', 'entities', gap=('ending', '@placeholder')),
    evidence=Evidence(field='passage', texts='entities'),
    metric='accuracy',
    reference_metric="exact match and F1 in SQuAD's form, of text that is generated; the paper reports accuracy",
    templates=_RECORD_TEMPLATES,
    licence='CNN and Daily Mail text: research use (SuperGLUE)',
    citation='Zhang et al. 2018, "ReCoRD"; arXiv:1810.12885',
    note='as many options as the passage has entities, each with the rest of the sentence; several may be right. The highlights at the end of an article are lines of the passage: some answers stand nowhere else',
  ),
)
