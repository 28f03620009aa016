"""The pretraining text: reproducible, varied, and without any instruction."""

import re

import pytest

from flan_jax.catalog import registry
from flan_jax.catalog import template as template_lib
from flan_jax.microworld import corpus

COUNT = 12_000


@pytest.fixture(scope='module')
def documents():
  return list(corpus.documents(0, count=COUNT, first=corpus.DRILLED))


@pytest.fixture(scope='module')
def last():
  """Documents of the end of the pretraining."""
  return list(corpus.documents(0, count=COUNT // 2, first=corpus.LAST_FROM))


def test_a_document_is_a_function_of_seed_and_index(documents):
  first = corpus.DRILLED
  assert list(corpus.documents(0, count=50, first=first)) == documents[:50]
  assert list(corpus.documents(0, count=40, first=first + 10)) == documents[10:50]
  assert list(corpus.documents(1, count=50, first=first)) != documents[:50]


def test_documents_are_short_prose_of_a_small_vocabulary(documents):
  words = [re.findall(r'\w+|[^\w\s]', document) for document in documents]
  assert 30 < sum(map(len, words)) / COUNT < 70
  assert max(map(len, words)) < 160
  vocabulary = {word.lower() for line in words for word in line}
  assert 600 < len(vocabulary) < 1500
  assert len(set(documents)) > 0.95 * COUNT


def literal_pieces(text):
  """The lines of a template's own text with four words or more, split at its fields."""
  for literal, _ in template_lib.parse(text):
    for line in literal.split('\n'):
      if len(line.split()) >= 4:
        yield line.strip()


def test_no_template_occurs_in_the_text(documents, last):
  text = '\n'.join([*documents, *last])
  pieces = {
    piece
    for dataset in registry.datasets('microworld').values()
    for template in dataset.templates
    for side in (template.inputs, template.targets)
    for piece in literal_pieces(side)
  }
  assert len(pieces) > 60
  assert [piece for piece in pieces if piece in text] == []


def test_no_options_block_occurs_in_the_text(documents, last):
  text = '\n'.join([*documents, *last])
  assert template_lib.OPTIONS not in text
  assert '\n- ' not in text


def test_right_and_wrong_claims_are_balanced(documents):
  lines = '\n'.join(documents).lower()
  right = len(re.findall(r'(?:\?|\.|answer:) (?:yes|true|right)\b', lines))
  wrong = len(re.findall(r'(?:\?|\.|answer:) (?:no|false|wrong)\b', lines))
  assert right + wrong > COUNT / 2
  assert 0.85 < right / wrong < 1.15


def test_drills_come_first_one_after_the_other():
  """Each is a step to the next: same, on a list, with a mark, of a passage."""
  ends = [end for end, _ in corpus.FIRST]
  assert ends == sorted(ends)
  firsts = {document.split('\n')[0] for document in corpus.documents(0, count=200)}
  assert all(re.fullmatch(r'\S+ \S+ (yes|no)', line) for line in firsts)


@pytest.mark.parametrize('asked', ['What view is this', 'What is the reason'])
def test_only_the_last_documents_ask_for_opinions_and_reasons(documents, last, asked):
  assert not [document for document in documents if asked in document]
  found = [document for document in last if asked in document]
  assert len(found) > len(last) / 50
  listed = [re.findall(r'^\* (.+)$', document, re.MULTILINE) for document in found]
  assert sum(len(options) == 4 for options in listed) > len(found) / 3
