"""Tokenizers from every file format: ids, special tokens, decoding."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_jax.data import bpe
from flan_jax.data import tokenizers as tokenizers_lib
from flan_jax.data.tokenizers import HuggingFace, SentencePiece
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import export_tokenizer, sentencepiece_json
from flan_jax.interop.huggingface import tokenizers as files_lib
from flan_jax.runtime.progress import Progress

tokenizers = pytest.importorskip('tokenizers')

TEXTS = [
  'The quick brown fox jumps over the lazy dog.', 'It was 1987, not 2024!',
  'blanks   and\ttabs\n\nand lines', "don't, won't, I'll", 'naïve café 🙂',
]  # fmt: skip
SPECIAL = ('<|end|>', '<|start|>', '<|pad|>')


@pytest.fixture(scope='module')
def byte_level():
  """A byte-level BPE trained by `tokenizers`."""
  out = tokenizers.Tokenizer(tokenizers.models.BPE())
  out.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  out.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=400,
    special_tokens=list(SPECIAL),
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  out.train_from_iterator(TEXTS * 3, trainer)
  return out


@pytest.fixture(scope='module')
def pieces():
  """A small SentencePiece model."""
  return bpe.train(TEXTS * 3, vocab_size=330)


class Metadata:
  """The part of `gguf.File` that from_gguf uses."""

  where = 'x.gguf'

  def __init__(self, **fields):
    self._fields = {f'tokenizer.ggml.{key}': value for key, value in fields.items()}

  def field(self, name, default=None):
    return self._fields.get(name, default)


def bpe_metadata(byte_level, **more):
  model = json.loads(byte_level.to_str())['model']
  tokens = sorted(model['vocab'], key=model['vocab'].get)
  kinds = [3 if token in SPECIAL else 1 for token in tokens]
  merges = [' '.join(pair) for pair in model['merges']]
  fields = {'model': 'gpt2', 'pre': 'gpt-2', 'tokens': tokens, 'token_type': kinds,
            'merges': merges, 'eos_token_id': 0, 'bos_token_id': 1,
            'padding_token_id': 2}  # fmt: skip
  return Metadata(**(fields | more))


def test_a_bpe_inside_a_gguf_tokenizes_as_its_tokenizer_json(byte_level):
  found = files_lib.from_gguf(bpe_metadata(byte_level))
  assert (found.eos_id, found.bos_id, found.pad_id) == (0, None, 2)
  for text in TEXTS:
    assert found.encode(text).tolist() == byte_level.encode(text).ids
    assert found.decode(found.encode(text)) == text


def test_a_gguf_file_states_whether_bos_is_added(byte_level):
  starts = files_lib.from_gguf(bpe_metadata(byte_level, add_bos_token=True))
  assert starts.bos_id == 1


def test_smollm_splits_digits(byte_level):
  found = files_lib.from_gguf(bpe_metadata(byte_level, pre='smollm'))
  assert len(found.encode('1987')) == 4


@pytest.mark.parametrize('field', ['model', 'pre'])
def test_an_unknown_model_or_pre_tokenizer_is_refused(field, byte_level):
  with pytest.raises(InputError, match=f"tokenizer.ggml.{field}: got 'odd'"):
    files_lib.from_gguf(bpe_metadata(byte_level, **{field: 'odd'}))


def test_pieces_inside_a_gguf_tokenize_as_the_sentencepiece_model(pieces):
  from sentencepiece import sentencepiece_model_pb2 as spm

  model = spm.ModelProto.FromString(pieces.model)
  found = files_lib.from_gguf(
    Metadata(
      model='llama',
      tokens=[piece.piece for piece in model.pieces],
      scores=[piece.score for piece in model.pieces],
      token_type=[piece.type for piece in model.pieces],
      eos_token_id=1,
      padding_token_id=0,
      unknown_token_id=2,
      add_bos_token=False,
      add_space_prefix=False,
    )
  )
  assert isinstance(found, SentencePiece)
  assert (found.eos_id, found.bos_id, found.pad_id) == (1, None, 0)
  for text in TEXTS:
    np.testing.assert_array_equal(found.encode(text), pieces.encode(text))
    assert found.decode(found.encode(text)) == text


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\0')))
def test_a_translated_sentencepiece_model_tokenizes_alike(text, pieces):
  if '\u2581' in text:
    return  # encoded as bytes by SentencePiece; tokenizer.json cannot
  model, names = _translated(pieces)
  found = HuggingFace(model, names, name='tokenizer.json')
  assert found.encode(text).tolist() == pieces.encode(text).tolist()
  assert found.decode(found.encode(text)) == text
  assert found.eos_id == pieces.eos_id


_CACHE = {}


def _translated(pieces):
  if pieces.digest not in _CACHE:
    _CACHE[pieces.digest] = sentencepiece_json.translate(pieces)
  return _CACHE[pieces.digest]


def test_special_ids_are_the_models_if_the_tokenizer_names_none(byte_level, tmp_path):
  (tmp_path / 'tokenizer.json').write_text(byte_level.to_str())
  config = {'eos_token_id': [0, 2], 'bos_token_id': 1, 'pad_token_id': None}
  found = files_lib.from_folder(tmp_path, config)
  assert (found.eos_id, found.bos_id, found.pad_id) == (0, None, 0)
  (tmp_path / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': '<|pad|>', 'add_bos_token': True})
  )
  found = files_lib.from_folder(tmp_path, config)
  assert (found.eos_id, found.bos_id) == (2, 1)


def test_vocabulary_and_merges_make_the_same_tokenizer(byte_level, tmp_path):
  byte_level.model.save(str(tmp_path))
  found = files_lib.from_folder(tmp_path, {'eos_token_id': 0})
  for text in TEXTS:
    assert found.encode(text).tolist() == byte_level.encode(text).ids


@pytest.mark.parametrize('source', ['folder', 'merges', 'gguf'])
def test_text_that_spells_a_control_token_stays_text(source, byte_level, tmp_path):
  if source == 'gguf':
    found = files_lib.from_gguf(bpe_metadata(byte_level))
  else:
    if source == 'folder':
      (tmp_path / 'tokenizer.json').write_text(byte_level.to_str())
    else:
      byte_level.model.save(str(tmp_path))
    found = files_lib.from_folder(tmp_path, {'eos_token_id': 0})
  text = 'text<|end|> and <|start|><|pad|>'
  assert not set(found.encode(text).tolist()) & {0, 1, 2}
  assert found.decode(found.encode(text)) == text


def test_the_roles_of_pieces_inside_a_gguf_are_control_tokens(pieces):
  """Some files mark the end-of-turn token as one that text may encode to."""
  from sentencepiece import sentencepiece_model_pb2 as spm

  model = spm.ModelProto.FromString(pieces.model)
  tokens = [piece.piece for piece in model.pieces] + ['<end_of_turn>', '<ctx>']
  found = files_lib.from_gguf(
    Metadata(
      model='llama',
      tokens=tokens,
      scores=[piece.score for piece in model.pieces] + [0.0, 0.0],
      token_type=[piece.type for piece in model.pieces] + [4, 4],
      eos_token_id=len(tokens) - 2,
      padding_token_id=0,
      unknown_token_id=2,
      add_bos_token=False,
    )
  )
  text = 'a <ctx> b <end_of_turn>'
  ids = found.encode(text).tolist()
  assert len(tokens) - 1 in ids
  assert found.eos_id not in ids
  assert found.decode(ids) == text


def test_a_folder_without_a_tokenizer_has_none(tmp_path):
  assert files_lib.from_folder(tmp_path, {}) is None


def test_an_exported_tokenizer_loads_in_transformers(pieces, tmp_path):
  transformers = pytest.importorskip('transformers')
  for name, tokenizer in [('pieces', pieces), ('bytes', tokenizers_lib.Bytes())]:
    folder = tmp_path / name
    folder.mkdir()
    export_tokenizer.save(
      tokenizer, folder, source=folder, tuned=False, progress=Progress(quiet=True)
    )
    there = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
      ids = there(text, add_special_tokens=False)['input_ids']
      assert ids == tokenizer.encode(text).tolist()
      assert there.decode(ids) == text
    assert there.eos_token_id == tokenizer.eos_id
