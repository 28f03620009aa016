"""Importing this module registers every task and mixture with seqio.

For t5x and any other seqio user: `import flan_jax.seqio_tasks`. The vocabulary is the
one that the environment variable FLAN_TOKENIZER names (a SentencePiece model, or a
Hugging Face tokenizer.json), or bytes; call `flan_jax.registry.register` yourself for
anything else.
"""

import seqio

from flan_jax import config, registry
from flan_jax.catalogue import WORLDS
from flan_jax.data import tokenizer
from flan_jax.interop import seqio_vocabulary


def vocabulary() -> seqio.Vocabulary:
  """The vocabulary that the environment asks for."""
  path = config.environment('FLAN_TOKENIZER')
  if path is None:
    return seqio.ByteVocabulary()
  if path.endswith('.json'):
    return seqio_vocabulary.Vocabulary(tokenizer.load(path))
  return seqio.SentencePieceVocabulary(path)


for _family in WORLDS:
  registry.register(vocabulary(), family=_family)
