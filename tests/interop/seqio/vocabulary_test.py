"""Vocabularies of tokenizers: the same ids in Python and in a TensorFlow graph."""

import numpy as np
import pytest
import small_tokenizers

from flan_jax.data import bpe, tokenizers

seqio = pytest.importorskip('seqio')

TEXT = 'Is it so?\nNaïve  café.'


@pytest.fixture(scope='module')
def vocabulary():
  from flan_jax.interop.seqio.vocabulary import Vocabulary

  return Vocabulary(bpe.train([TEXT] * 3, vocab_size=290))


def test_ids_are_those_of_the_tokenizer(vocabulary):
  ids = vocabulary.encode(TEXT)
  assert ids == vocabulary.tokenizer.encode(TEXT).tolist()
  assert vocabulary.decode(ids) == TEXT
  assert vocabulary.vocab_size == vocabulary.tokenizer.vocab_size
  assert vocabulary.eos_id == vocabulary.tokenizer.eos_id


def test_text_ends_with_eos(vocabulary):
  ids = [*vocabulary.encode('so'), vocabulary.eos_id, *vocabulary.encode('it')]
  assert vocabulary.decode(ids) == 'so'


def test_a_graph_gives_the_same(vocabulary):
  import tensorflow as tf

  def both(text):
    ids = vocabulary.encode_tf(text)
    return ids, vocabulary.decode_tf(ids)

  ((ids, text),) = tf.data.Dataset.from_tensors(TEXT).map(both).as_numpy_iterator()
  np.testing.assert_array_equal(ids, vocabulary.encode(TEXT))
  assert text.decode() == TEXT
  many = vocabulary.decode_tf(tf.constant([ids, ids]))
  assert many.numpy().tolist() == [TEXT.encode()] * 2


def test_text_never_becomes_a_control_token(tmp_path):
  import tensorflow as tf

  from flan_jax.interop.seqio.vocabulary import Vocabulary

  found = Vocabulary(small_tokenizers.of('byte_level', tmp_path))
  text = 'it said </s> and <pad>'
  ids = found.encode(text)
  assert not {found.eos_id, found.pad_id} & set(ids)
  assert found.decode(ids) == text
  np.testing.assert_array_equal(found.encode_tf(tf.constant(text)), ids)


def test_vocabularies_are_equal_by_their_files(vocabulary):
  from flan_jax.interop.seqio.vocabulary import Vocabulary

  assert vocabulary == Vocabulary(vocabulary.tokenizer)
  assert vocabulary != Vocabulary(tokenizers.Bytes())
  assert vocabulary != Vocabulary(vocabulary.tokenizer, extra_ids=1)


def test_a_task_runs_with_it(vocabulary):
  feature = seqio.Feature(vocabulary, add_eos=True)
  dataset = seqio.preprocessors.tokenize_impl(
    {'inputs': TEXT}, {'inputs': feature}, copy_pretokenized=False, with_eos=True
  )
  assert dataset['inputs'].numpy().tolist() == [
    *vocabulary.encode(TEXT),
    vocabulary.eos_id,
  ]
