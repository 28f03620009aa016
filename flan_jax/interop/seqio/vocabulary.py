"""seqio vocabularies of our tokenizers. Imports TensorFlow.

`flan_jax.data.sources.seqio_vocabulary` converts the other way.
"""

from collections.abc import Sequence

import numpy as np
import seqio
import tensorflow as tf

from flan_jax.data.tokenizers import Tokenizer


class Vocabulary(seqio.Vocabulary):
  """`seqio.Vocabulary` of a `flan_jax` tokenizer.

  The code that materializes stores tokenizes the text, inside a `tf.numpy_function`.
  """

  def __init__(self, tokenizer: Tokenizer, *, extra_ids: int = 0):
    super().__init__(extra_ids=extra_ids)
    self.tokenizer = tokenizer

  @property
  def bos_id(self) -> int | None:
    return self.tokenizer.bos_id

  @property
  def eos_id(self) -> int:
    return self.tokenizer.eos_id

  @property
  def pad_id(self) -> int:
    return self.tokenizer.pad_id

  @property
  def unk_id(self) -> int | None:
    """None: seqio would substitute it for ids past the vocabulary; the tokenizer drops
    those ids and encodes unknown text by itself."""
    return None

  @property
  def _base_vocab_size(self) -> int:
    return self.tokenizer.vocab_size

  def _encode(self, s: str) -> Sequence[int]:
    return self.tokenizer.encode(s).tolist()

  def _decode(self, ids: Sequence[int]) -> str:
    return self.tokenizer.decode(ids)

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    def encode(text: bytes | np.ndarray) -> np.ndarray:
      text = np.asarray(text, object).item()  # in eager mode it is an array
      return self.tokenizer.encode(tf.compat.as_text(text))

    ids = tf.numpy_function(encode, [s], tf.int32)
    ids.set_shape([None])
    return ids

  def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
    def decode(values: np.ndarray) -> np.ndarray:
      rows = values.reshape(-1, values.shape[-1])
      texts = [self.tokenizer.decode(row.tolist()).encode('utf-8') for row in rows]
      return np.array(texts, object).reshape(values.shape[:-1])

    text = tf.numpy_function(decode, [ids], tf.string)
    text.set_shape(ids.shape[:-1])
    return text

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, Vocabulary):
      return False
    mine = (self.tokenizer.digest, self.extra_ids)
    return mine == (other.tokenizer.digest, other.extra_ids)

  def __hash__(self) -> int:
    return hash((self.tokenizer.digest, self.extra_ids))

  def __str__(self) -> str:
    return f'Vocabulary({self.tokenizer.name}, {self.tokenizer.digest[:12]})'
