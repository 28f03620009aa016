"""Importing this module registers every task and mixture with seqio.

For t5x and any other seqio user: `import flan_jax.seqio_tasks`. The vocabulary is the
one that the environment variable FLAN_TOKENIZER names (a SentencePiece model, or a
Hugging Face tokenizer.json), or bytes; call
`flan_jax.interop.seqio.tasks.register` yourself for anything else.
"""

import seqio

from flan_jax.catalog.registry import FAMILIES
from flan_jax.config import gin
from flan_jax.data import tokenizers
from flan_jax.interop.seqio import tasks
from flan_jax.interop.seqio import vocabulary as vocabulary_lib


def vocabulary() -> seqio.Vocabulary:
  """The vocabulary that the environment asks for."""
  path = gin.environment('FLAN_TOKENIZER')
  if path is None:
    return seqio.ByteVocabulary()
  if path.endswith('.json'):
    return vocabulary_lib.Vocabulary(tokenizers.load(path))
  return seqio.SentencePieceVocabulary(path)


for _family in FAMILIES:
  tasks.register(vocabulary(), family=_family)
