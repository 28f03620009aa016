import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_jax.data import bpe

TEXTS = ['The cook met the guard.\nthe guard has a lamp.\n\nYes. a lamp?'] * 20


@pytest.mark.parametrize('words_alike', [False, True])
def test_the_same_texts_give_the_same_bytes(words_alike):
  first, second = (
    bpe.train(TEXTS, vocab_size=330, words_alike=words_alike) for _ in range(2)
  )
  assert first.model == second.model


def test_a_word_is_the_same_tokens_wherever_it_stands():
  tokenizer = alike()
  alone = list(tokenizer.encode('guard'))
  for before in ('the ', 'a lamp.\n', 'a lamp.\n\n'):
    found = list(tokenizer.encode(f'{before}guard'))
    assert found[-len(alone) :] == alone, before
  plain = bpe.train(TEXTS, vocab_size=330)
  assert list(plain.encode('the guard'))[-1] != list(plain.encode('guard'))[-1]


@functools.cache
def alike():
  return bpe.train(TEXTS, vocab_size=330, words_alike=True)


@given(st.text(st.sampled_from('theguard .\n\u00e9\u4e2d'), max_size=40))
def test_what_is_encoded_is_decoded(text):
  assert alike().decode(alike().encode(text)) == text
