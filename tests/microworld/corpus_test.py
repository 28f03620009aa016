"""The pretraining text: reproducible, varied, and without any instruction."""

import re

import pytest

from flan_jax.catalog import registry
from flan_jax.catalog import template as template_lib
from flan_jax.microworld import corpus

COUNT = 12_000


@pytest.fixture(scope='module')
def documents():
  return list(corpus.documents(0, count=COUNT))


def test_a_document_is_a_function_of_seed_and_index(documents):
  assert list(corpus.documents(0, count=50)) == documents[:50]
  assert list(corpus.documents(1, count=50)) != documents[:50]


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


def test_no_template_occurs_in_the_text(documents):
  text = '\n'.join(documents)
  pieces = {
    piece
    for dataset in registry.datasets('microworld').values()
    for template in dataset.templates
    for side in (template.inputs, template.targets)
    for piece in literal_pieces(side)
  }
  assert len(pieces) > 60
  assert [piece for piece in pieces if piece in text] == []


def test_no_options_block_occurs_in_the_text(documents):
  text = '\n'.join(documents)
  assert template_lib.OPTIONS not in text
  assert '\n- ' not in text


def test_right_and_wrong_beliefs_are_balanced(documents):
  text = ' '.join(documents)
  right = len(re.findall(r'is right|is true|That follows', text))
  wrong = len(re.findall(r'is wrong|That is false|That does not follow', text))
  assert right + wrong > COUNT / 10
  assert 0.85 < right / wrong < 1.15
