"""Closed-book question answering: the prompt holds no text with the answer."""

from flan_jax.catalog.answers import Choice, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.extracts import spelled
from flan_jax.catalog.fields import Field, capitalized, first_or, question_mark
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

_ARC_TEMPLATES = (
  Template('Science, multiple choice. Mark the right line.\n\n{question}\n\n{OPTIONS}'),
  Template(
    '{question}\n\nOne of these is what a physics, chemistry or biology teacher would accept. Which?\n{OPTIONS}'
  ),
  Template(
    'A pupil revising for a test is stuck here: {question}\nWhat should the pupil put?\n\n{OPTIONS}'
  ),
  Template(
    'Choose the answer, or the end of the sentence, that agrees with what scientists have found.\n\n{question}\n\n{OPTIONS}'
  ),
  Template('Item: {question}\nKey:\n{OPTIONS}'),
  Template(
    'Before you commit yourself, consider how nature works. {question}\n\n{OPTIONS}'
  ),
  Template(
    "It is the final of a children's science competition, and the next card is turned over:\n{question}\nGive the reply that wins the point.\n\n{OPTIONS}"
  ),
  Template(
    '{question}\n\nAll but one of the lines that follow are wrong. Copy the one that is right.\n{OPTIONS}'
  ),
  Template(
    'No textbook is allowed for this problem, only your own understanding of matter, energy, living things and the earth.\n\n{question}\n\n{OPTIONS}'
  ),
  Template(
    'How would you complete or answer this if you had to explain it to ten-year-olds afterwards? {question}\n\n{OPTIONS}'
  ),
  Template(
    'You are drafting an examination in the natural sciences. Write an item whose correct choice is the one given here, and leave all of its choices out.\n\nCorrect choice: {answer}',
    '{question}',
    inverted=True,
  ),
)

_ARC = {
  'cluster': 'closed_book_qa',
  'train': 'train[:-200]',
  'dev': 'train[-200:]',
  'test': 'test',
  'fields': {'question': 'question'},
  'cleaning': prose,
  'answer': Choice('answerKey', 'choices/text', count=4),
  'metric': 'accuracy',
  'templates': _ARC_TEMPLATES,
  'license': 'CC BY-SA 4.0',
  'citation': 'Clark et al. 2018, "Think you have Solved Question Answering?"; arXiv:1803.05457',
  'note': 'the few items with three or five options are dropped, as in FLAN',
}

_NATURAL_QUESTIONS_TEMPLATES = (
  Template('{question}\n\nGive the bare fact, with no sentence around it.'),
  Template(
    'A person types into a search engine: {question}\nSpare them the list of links and tell them outright.'
  ),
  Template('From memory, and in as few words as you can: {question}'),
  Template('Query: {question}\nResult:'),
  Template(
    'You work at the information desk of a library, and the telephone rings.\n\nCaller: {question}\n\nWhat do you tell the caller?'
  ),
  Template('Fill in the back of this flash card.\n\nFront: {question}\nBack:'),
  Template(
    'Many have wondered about this. {question} Put an end to their doubts in a phrase.'
  ),
  Template('I have looked everywhere and cannot find it. {question}'),
  Template('Without opening a book or a browser, resolve this:\n\n{question}'),
  Template(
    'A name, a date, a place, a number: whatever kind of thing is called for, write just that.\n\n{question}'
  ),
  Template(
    'Somebody typed something into a search box and was glad to be shown this: {answer}\nWhat had they typed?',
    '{question}',
    inverted=True,
  ),
)

_TRIVIA_QA_TEMPLATES = (
  Template('Pub quiz, first round. {question}'),
  Template(
    '{question}\n\nYour team scores with the right name or term. Write it on the slip.'
  ),
  Template('Host: {question}\nContestant, sure of herself:'),
  Template(
    'Here is one for lovers of trivia.\n\n{question}\n\nThe solution, printed upside down at the foot of the page:'
  ),
  Template(
    'A historian and a compiler of crosswords are quarrelling over the following. End the quarrel with the one expression that decides it.\n\n{question}'
  ),
  Template('Do you happen to know this?\n{question}'),
  Template(
    'How broad is your general knowledge? A few words will be enough to show it.\n\n{question}'
  ),
  Template('For ten points: {question}'),
  Template(
    'The quizmaster reads out, slowly and twice:\n{question}\nWhat does it say on the answer sheet in his hand?'
  ),
  Template(
    'Call to mind what you have picked up about history, sport, film, music, science and the wide world, and reply as tersely as possible to what is put to you.\n\nPut to you: {question}\nYour reply:'
  ),
  Template(
    'You set the puzzles for a radio show. Tonight the listeners have to come up with this: {answer}\nWhat will you ask them?',
    '{question}',
    inverted=True,
  ),
)

DATASETS = (
  Dataset(
    name='arc_challenge',
    paper_name='ARC',
    source=Tfds('ai2_arc/ARC-Challenge:1.0.0'),
    sizes={'train': 1119, 'test': 1172},
    **_ARC,
  ),
  Dataset(
    name='arc_easy',
    paper_name='ARC',
    source=Tfds('ai2_arc/ARC-Easy:1.0.0'),
    sizes={'train': 2251, 'test': 2376},
    **_ARC,
  ),
  Dataset(
    name='natural_questions',
    paper_name='Natural Questions',
    cluster='closed_book_qa',
    source=Tfds('natural_questions_open:1.0.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 87925, 'validation': 3610},
    fields={
      'question': Field('question', question_mark, capitalized),
      'answer': Field('answer', first_or('')),
    },
    cleaning=prose,
    answer=Text('{answer}', references='answer'),
    metric='trivia_em',
    templates=_NATURAL_QUESTIONS_TEMPLATES,
    license='CC BY-SA 3.0',
    citation='Kwiatkowski et al. 2019, "Natural Questions", TACL; open version by Lee et al. 2019',
    note='questions are queries in lower case without a question mark; every answer of the list counts as right; the first is the target',
  ),
  Dataset(
    name='trivia_qa',
    paper_name='TriviaQA',
    cluster='closed_book_qa',
    source=Tfds('trivia_qa/rc:1.1.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 138384, 'validation': 18669},
    fields={
      # Some questions keep the quotes of a CSV file: "Who wrote ""Emma""?"
      'question': Field('question', prose, question_mark, capitalized),
      'answer': Field('', spelled('answer/value', among='answer/aliases')),
    },
    cleaning=prose,
    answer=Text('{answer}', references='answer/aliases'),
    metric='trivia_em',
    templates=_TRIVIA_QA_TEMPLATES,
    license='Apache-2.0',
    citation='Joshi et al. 2017, "TriviaQA", ACL',
    note='the target is the answer as written (the quarter in capitals is mended); the reference code trains on a normalized form, "gray s inn" for "Gray\'s Inn": the metric normalizes both sides. Contexts are not used',
  ),
)
