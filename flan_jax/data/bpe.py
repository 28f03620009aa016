"""Trains a byte-pair encoding with SentencePiece."""

import contextlib
import io
import os
import pathlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import sentencepiece

from flan_jax.data.tokenizers import SentencePiece, Tokenizer
from flan_jax.errors import InputError


def trained_name(vocab_size: int) -> str:
  """Name that `train` gives a tokenizer of that size."""
  return f'bpe-{vocab_size}'


@contextlib.contextmanager
def _newlines(words_alike: bool) -> Iterator[dict[str, Any]]:
  """Settings of SentencePiece for newlines: tokens, or tokens with a blank after them.

  The blank is put there before a text is encoded, and taken away from what is decoded.
  SentencePiece reads such rules, in hexadecimal code points, from files.
  """
  if not words_alike:
    yield {'normalization_rule_name': 'identity', 'user_defined_symbols': ['\n']}
    return
  with tempfile.TemporaryDirectory() as folder:
    rules = {'normalization': 'A\tA 20\n', 'denormalization': 'A 20\tA\n'}
    paths = {f'{name}_rule_tsv': os.path.join(folder, name) for name in rules}
    for name, rule in rules.items():
      pathlib.Path(folder, name).write_text(rule)
    yield paths


def messages() -> Any:
  """The module of SentencePiece's messages, whose classes exist only at run time."""
  from sentencepiece import sentencepiece_model_pb2

  return sentencepiece_model_pb2


def _without_paths(model: bytes) -> bytes:
  """The model without the paths of its rules' files, which differ every time."""
  proto = messages().ModelProto.FromString(model)
  for spec in (proto.normalizer_spec, proto.denormalizer_spec):
    spec.ClearField('normalization_rule_tsv')
  return proto.SerializeToString(deterministic=True)


def train(
  texts: Iterable[str],
  *,
  vocab_size: int,
  bos: bool = False,
  words_alike: bool = False,
  path: str | os.PathLike | None = None,
) -> Tokenizer:
  """Trains a byte-pair encoding on `texts` with SentencePiece.

  The same texts give the same bytes: one thread counts pairs in whole numbers. Newlines
  and runs of blanks are tokens, text outside the vocabulary is spelled in bytes, and
  nothing else is normalized than newlines with `words_alike`, so
  `decode(encode(text)) == text`.

  Args:
    texts: training texts.
    vocab_size: number of ids, including pad 0, eos 1, unk 2 and 256 bytes. Too few
      texts give a smaller vocabulary.
    bos: whether to add a BOS token, id 3.
    words_alike: whether a word has the ids at the start of a text or a line that it has
      after a blank. A small model need not learn that two ids are one word.
    path: path of the `.model` to write; None to write nothing.

  Raises:
    InputError: if `vocab_size` leaves no room for the characters of the texts.
  """
  if vocab_size < 1:
    raise InputError(
      f'vocab_size {vocab_size}: must be at least 1; 32000 is usual',
      field='Run.vocab_size',
    )
  lines = (
    line for text in texts for line in text.replace('\0', '').split('\n') if line
  )
  out = io.BytesIO()
  try:
    with _newlines(words_alike) as newlines:
      sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines,
        model_writer=out,
        model_type='bpe',
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=0.9995,
        add_dummy_prefix=words_alike,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        max_sentence_length=1 << 24,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=3 if bos else -1,
        num_threads=1,
        minloglevel=2,
        **newlines,
      )
  except RuntimeError as error:
    if 'sentences_.empty()' in str(error):
      raise InputError('tokenizer: no text to train on') from None
    need = re.search(r'required_chars\D+(\d+) vs (\d+)', str(error))
    rule = f'must be at least {need[2]} for these texts' if need else str(error)
    raise InputError(
      f'vocab_size {vocab_size}: {rule}', field='Run.vocab_size'
    ) from None
  model = _without_paths(out.getvalue()) if words_alike else out.getvalue()
  tokenizer = SentencePiece(model, name=trained_name(vocab_size))
  if path is not None:
    tokenizer.save(path)
  return tokenizer
