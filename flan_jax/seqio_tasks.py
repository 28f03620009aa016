"""Registers every task and mixture with seqio when it is imported.

For t5x and any other seqio user: `import flan_jax.seqio_tasks`. The environment
variable FLAN_TOKENIZER names the vocabulary (a SentencePiece model or a Hugging Face
tokenizer.json); the default is bytes. Call `flan_jax.interop.seqio.tasks.register`
yourself for anything else.
"""

import seqio

from flan_jax.config import gin
from flan_jax.data import tokenizers
from flan_jax.interop.seqio import tasks
from flan_jax.interop.seqio import vocabulary as vocabulary_lib


def vocabulary() -> seqio.Vocabulary:
  """The vocabulary that FLAN_TOKENIZER names; bytes if it is unset."""
  path = gin.environment('FLAN_TOKENIZER')
  if path is None:
    return seqio.ByteVocabulary()
  if path.endswith('.json'):
    return vocabulary_lib.Vocabulary(tokenizers.load(path))
  return seqio.SentencePieceVocabulary(path)


tasks.register(vocabulary())
