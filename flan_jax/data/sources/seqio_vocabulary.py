"""Tokenizers of seqio vocabularies. Imports TensorFlow."""

import os
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import seqio

from flan_jax.data import tokenizers
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError


class _Vocabulary(Tokenizer):
  """Wraps any other seqio vocabulary, for the Renderer only."""

  filename = ''
  bos_id = None

  def __init__(self, vocabulary: seqio.Vocabulary):
    self._vocabulary = vocabulary
    self.name = self.digest = str(vocabulary)
    self.vocab_size = vocabulary.vocab_size
    self.eos_id = cast(int, vocabulary.eos_id)  # features end with EOS
    self.pad_id = vocabulary.pad_id
    self.unk_id = vocabulary.unk_id

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [np.array(self._vocabulary.encode(text), np.int32) for text in texts]

  def decode(self, ids: Iterable[int]) -> str:
    return self._vocabulary.decode([int(i) for i in ids])

  def save(self, path) -> None:
    raise InputError(
      f'vocabulary {self.name}: cannot be saved; must be a SentencePiece or a byte '
      'vocabulary'
    )


def tokenizer_of(vocabulary: seqio.Vocabulary) -> Tokenizer:
  """Returns the tokenizer of a store that encodes as `vocabulary` does."""
  given = getattr(vocabulary, 'tokenizer', None)
  if isinstance(given, Tokenizer):  # a vocabulary of ours
    return given
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    name = os.path.basename(str(vocabulary.sentencepiece_model_file))
    return tokenizers.SentencePiece(cast(bytes, vocabulary.sp_model), name=name)
  if isinstance(vocabulary, seqio.ByteVocabulary):
    return tokenizers.Bytes()
  return _Vocabulary(vocabulary)


def can_be_saved(tokenizer: Tokenizer) -> bool:
  """True if a store can hold the tokenizer."""
  return not isinstance(tokenizer, _Vocabulary)
