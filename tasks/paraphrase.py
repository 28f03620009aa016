"""Paraphrase: MRPC, QQP, PAWS Wiki and STS-B."""

from flan_jax.catalog.answers import Label
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field, capitalized, question_mark
from flan_jax.catalog.prose import prose
from flan_jax.catalog.source import Tfds
from flan_jax.catalog.template import Template

_PAIR = {
  'sentence1': Field('sentence1', prose, capitalized),
  'sentence2': Field('sentence2', prose, capitalized),
}
_WORDS = ('no', 'yes')

DATASETS = (
  Dataset(
    name='glue_mrpc',
    paper_name='MRPC',
    cluster='paraphrase',
    source=Tfds('glue/mrpc:2.0.0'),
    train='train[:-200]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 3_668, 'validation': 408},
    fields=_PAIR,
    cleaning=prose,
    answer=Label('label', _WORDS),
    metric='accuracy',
    reference_metric='accuracy, and F1 of the answer "yes"; the paper reports accuracy',
    license='Microsoft research license',
    citation='Dolan and Brockett 2005, "Automatically Constructing a Corpus of Sentential Paraphrases", IWP; Wang et al. 2019, "GLUE", ICLR',
    templates=(
      Template(
        'Two newspapers carried these lines.\n\n{sentence1}\n{sentence2}\n\nCould one have been reworded from the other without altering the news?\n{OPTIONS}'
      ),
      Template(
        'An agency does not want to run one report twice. Is the second item merely the first in other words?\n\nFirst: {sentence1}\nSecond: {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        '{sentence1}\n\nHaving read that, may you skip the next line because it merely says so again?\n\n{sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Compare the content, not the phrasing. Do A and B report one and the same thing?\n\nA: {sentence1}\nB: {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Sentence: {sentence1}\nSuggested paraphrase: {sentence2}\nAcceptable?\n{OPTIONS}'
      ),
      Template(
        'Is it fair to treat these statements as equivalent, small details aside?\n\n(1) {sentence1}\n(2) {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'A journalist filed the upper version and an hour later replaced it with the lower one. Did the story stay what it was?\n\n{sentence1}\n\n{sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Check a rewrite for the copy desk.\n\nOriginal: {sentence1}\nRewrite: {sentence2}\n\nHas its message been preserved?\n{OPTIONS}'
      ),
      Template(
        '{sentence2}\n\nDoes this amount to a restatement of the line below?\n\n{sentence1}\n\n{OPTIONS}'
      ),
      Template(
        'Match or mismatch? Write yes if both members of the pair tell us the same facts, and no if they do not.\n\n{sentence1}\n{sentence2}\n{OPTIONS}'
      ),
    ),
  ),
  Dataset(
    name='glue_qqp',
    paper_name='QQP',
    cluster='paraphrase',
    source=Tfds('glue/qqp:2.0.0'),
    train='train[:30000]',
    dev='train[-200:]',
    test='validation',
    sizes={'train': 363_846, 'validation': 40_430},
    fields={
      'question1': Field('question1', prose, question_mark, capitalized),
      'question2': Field('question2', prose, question_mark, capitalized),
    },
    cleaning=prose,
    answer=Label('label', _WORDS),
    metric='accuracy',
    reference_metric='accuracy, and F1 of the answer "yes"; the paper reports accuracy',
    license='Quora terms; non-commercial',
    citation='Iyer, Dandekar and Csernai 2017, "First Quora Dataset Release: Question Pairs"; Wang et al. 2019, "GLUE", ICLR',
    templates=(
      Template(
        'Two people typed these into a help forum.\n\n{question1}\n{question2}\n\nWould a single reply satisfy them both?\n{OPTIONS}'
      ),
      Template(
        'A moderator may merge threads whose authors are after the same information. Should these threads be merged?\n\nThread 1: {question1}\nThread 2: {question2}\n\n{OPTIONS}'
      ),
      Template(
        'Is the first question just the second in disguise?\n\n{question1}\n{question2}\n{OPTIONS}'
      ),
      Template(
        'New question: {question1}\nAlready on file: {question2}\nDuplicate?\n\n{OPTIONS}'
      ),
      Template(
        'You have a good answer ready for this: {question1}\nWill it do, as it stands, for this as well: {question2}\n\n{OPTIONS}'
      ),
      Template(
        'Look past how things are put. Do both askers want to know the same thing?\n\na) {question1}\nb) {question2}\n\n{OPTIONS}'
      ),
      Template(
        '{question1}\n\nThe user deletes those words and enters others instead:\n\n{question2}\n\nHas the intention remained unchanged?\n{OPTIONS}'
      ),
      Template(
        'Suppose that somebody answers one of the following questions in full. Does that settle the other one too?\n\n{question1}\n\n{question2}\n\n{OPTIONS}'
      ),
      Template(
        'A search engine treats these two queries as interchangeable. Is it justified in doing so?\n\n{question1}\n{question2}\n\n{OPTIONS}'
      ),
      Template(
        'For a page of frequently asked questions, copies are to be struck out.\n\nOn the page: {question2}\nCandidate: {question1}\n\nIs the candidate a copy?\n{OPTIONS}'
      ),
    ),
  ),
  Dataset(
    name='paws_wiki',
    paper_name='PAWS Wiki',
    cluster='paraphrase',
    source=Tfds('paws_wiki:1.1.0'),
    train='train[:30000]',
    dev='validation[:200]',
    test='test',
    sizes={'train': 49_401, 'validation': 8_000, 'test': 8_000},
    fields=_PAIR,
    cleaning=prose,
    answer=Label('label', _WORDS),
    metric='accuracy',
    license='free for any purpose, with acknowledgement',
    citation='Zhang, Baldridge and He 2019, "PAWS: Paraphrase Adversaries from Word Scrambling", NAACL',
    templates=(
      Template(
        'The sentences below have nearly all their words in common, which proves nothing. Do they have their meaning in common too?\n\n{sentence1}\n{sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Version A: {sentence1}\nVersion B: {sentence2}\n\nSwapping a few terms around can turn a fact on its head. Are we still being told one thing by both versions?\n{OPTIONS}'
      ),
      Template(
        'In an encyclopedia, somebody changed a sentence as shown. Was the edit a purely stylistic one?\n\nOld: {sentence1}\nNew: {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Who did what to whom, when, and where? Reply yes if (i) and (ii) agree on every point, and no otherwise.\n\n(i) {sentence1}\n(ii) {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Must both of these be true if either of them is?\n\n{sentence1}\n\n{sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Text: {sentence1}\nReordered text: {sentence2}\nSense kept?\n{OPTIONS}'
      ),
      Template(
        'A fact-checker has approved the upper line. Can she wave the lower line through without a second look?\n\n{sentence1}\n{sentence2}\n\n{OPTIONS}'
      ),
      Template(
        '{sentence1}\n{sentence2}\n\nWatch the word order and what modifies what. Is the latter a faithful paraphrase of the former?\n\n{OPTIONS}'
      ),
      Template(
        '{sentence2}\n\nA student offers that as another way to put the following.\n\n{sentence1}\n\nDoes the attempt deserve full marks?\n{OPTIONS}'
      ),
      Template(
        'Is wording all that sets this statement apart from the next?\n\n{sentence1}\n{sentence2}\n{OPTIONS}'
      ),
    ),
  ),
  Dataset(
    name='stsb',
    paper_name='STS-B',
    derived_from=('glue_mrpc',),
    cluster='paraphrase',
    source=Tfds('glue/stsb:2.0.0'),
    train='train[:-100]',
    dev='train[-100:]',
    test='validation',
    sizes={'train': 5_749, 'validation': 1_500},
    fields=_PAIR,
    cleaning=prose,
    answer=Label('label', ('0', '1', '2', '3', '4', '5'), round, measured=True),
    metric='pearson',
    reference_metric='the same two correlations, with the rounded score',
    license='CC BY-SA 4.0',
    citation='Cer et al. 2017, "SemEval-2017 Task 1: Semantic Textual Similarity", SemEval; Wang et al. 2019, "GLUE", ICLR',
    note='The score, 0 to 5, is rounded to the nearest integer for training (halves to the even one), and measured unrounded.',
    templates=(
      Template(
        'How near do these two come to each other in what they say? Mark them from 0 (nothing shared) to 5 (equivalent).\n\n{sentence1}\n{sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'One line: {sentence1}\nThe other line: {sentence2}\nCloseness of content, out of 5:\n{OPTIONS}'
      ),
      Template(
        'Award 5 points for full agreement, 0 for lines on unrelated matters, and something in between for partial agreement.\n\n* {sentence1}\n* {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'As an exercise, a student was given the upper sentence to put differently and handed in the lower. How many of five marks has the student earned for keeping the sense?\n\n{sentence1}\n\n{sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'Judges placed pairs of sentences on a ladder whose bottom rung, 0, means that they have no connection and whose top rung, 5, means that either could replace the other. On which rung did this pair end up?\n\n{sentence1}\n{sentence2}\n{OPTIONS}'
      ),
      Template(
        '{sentence1}\n\nHow much of that does the next line convey as well?\n\n{sentence2}\n\nAnswer with a whole number, where 0 is none and 5 is all.\n\n{OPTIONS}'
      ),
      Template(
        'Estimate the overlap in meaning as a score of at most 5.\n\n(a) {sentence1}\n(b) {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        'A dial points to 5 for texts that coincide in substance and sinks toward 0 the further they drift apart. Read the dial.\n\nText one: {sentence1}\nText two: {sentence2}\n\n{OPTIONS}'
      ),
      Template(
        '{sentence1}\n\nWrite a companion to that sentence, such that judges would rate the likeness of the two at {answer} out of 5.',
        '{sentence2}',
        inverted=True,
      ),
      Template(
        'The pair you complete must score {answer} out of 5 for similarity. Its second half reads: {sentence2}\nSupply its first half.',
        '{sentence1}',
        inverted=True,
      ),
    ),
  ),
)
