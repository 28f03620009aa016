"""Small tokenizers, one of each kind that treats text differently.

`of(kind, folder)` trains one on `CORPUS` and loads it.
"""

import io
import json

import pytest
import sentencepiece

from flan_jax.data import bpe
from flan_jax.data import tokenizers as tokenizers_lib

CORPUS = [
  'Question: is the cat on the mat?\nAnswer: yes',
  'Question: does the dog eat the bread?\nAnswer: no',
  'Premise: two birds sing.\nSo a bird sings: true or false',
  'The feeling of this text is positive', 'The feeling of this text is negative',
  'Fact 345 of test 6789.',
  '{"a": [1, 2]} <b> & more: it rains, they say; 10 dogs  and   12 cats',
] * 8  # fmt: skip
BAR = '\u2581'


def sentence_pieces(*, without: str = '', **changes) -> bytes:
  """Trains a SentencePiece model without the letters `without`; returns its bytes."""
  out = io.BytesIO()
  settings = {
    'model_type': 'bpe', 'vocab_size': 420, 'byte_fallback': True, 'pad_id': 0,
    'eos_id': 1, 'unk_id': 2, 'bos_id': -1, 'normalization_rule_name': 'identity',
    'remove_extra_whitespaces': False, 'add_dummy_prefix': True,
    'hard_vocab_limit': False, 'minloglevel': 2, 'num_threads': 1,
  }  # fmt: skip
  lines = [line for text in CORPUS for line in text.split('\n')]
  lines = [line.translate(dict.fromkeys(map(ord, without))) for line in lines]
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=out, **settings | changes
  )
  return out.getvalue()


def byte_level(*, special=('<s>', '</s>', '<pad>')):
  """Trains a byte-level BPE with `tokenizers`, as in GPT-2."""
  tokenizers = pytest.importorskip('tokenizers')
  out = tokenizers.Tokenizer(tokenizers.models.BPE())
  out.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  out.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=420,
    special_tokens=list(special),
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  out.train_from_iterator(CORPUS, trainer)
  return out


def prepending() -> str:
  """Translates the dummy-prefix model to a tokenizer.json with Prepend and Replace."""
  pytest.importorskip('tokenizers')
  from flan_jax.interop.huggingface import sentencepiece_json

  pieces = tokenizers_lib.SentencePiece(sentence_pieces(), name='dummy')
  return sentencepiece_json.translate(pieces)[0].decode()


def t5_like(**changes) -> bytes:
  """Trains unigram pieces as T5's: no bytes, newline or braces; blanks collapse."""
  lines = {
    'model_type': 'unigram', 'vocab_size': 140, 'byte_fallback': False,
    'remove_extra_whitespaces': True, 'normalization_rule_name': 'nmt_nfkc',
    'character_coverage': 1.0, 'without': '{}<>',
  }  # fmt: skip
  return sentence_pieces(**lines | changes)


def of(kind: str, folder) -> tokenizers_lib.Tokenizer:
  """Trains a tokenizer of `kind`, with its file in `folder`."""
  if kind == 'bytes':
    return tokenizers_lib.Bytes()
  if kind in ('dummy_prefix', 't5_like', 'own'):
    path = folder / 'tokenizer.model'
    if kind == 'own':
      return bpe.train(CORPUS, vocab_size=400, path=path)
    path.write_bytes(sentence_pieces() if kind == 'dummy_prefix' else t5_like())
    return tokenizers_lib.load(path)
  path = folder / 'tokenizer.json'
  text = byte_level().to_str() if kind == 'byte_level' else prepending()
  path.write_text(text, encoding='utf-8')
  names = {'eos_token': '</s>', 'pad_token': '<pad>', 'add_bos_token': False}
  path.with_name('tokenizer_config.json').write_text(json.dumps(names))
  return tokenizers_lib.load(path)


KINDS = ('bytes', 'own', 'byte_level', 'dummy_prefix', 'prepending', 't5_like')
