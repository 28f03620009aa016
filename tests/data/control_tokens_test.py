"""Text never becomes a control token; a user's own tokens stay tokens."""

import json

import pytest
import small_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_jax.data import tokenizers

CONTROL = '<|im_end|> and </s> or <s>, <pad>; <|im_start|>user <unk> <|endoftext|>'


def chat(path, *, special=True):
  """A byte-level tokenizer.json whose chat tokens were trained with it, or added."""
  made = small_tokenizers.byte_level(
    special=('<|endoftext|>', '<|im_start|>', '<|im_end|>', '</s>')
  )
  made.add_special_tokens(['<s>', '<pad>', '<|reserved_7|>', '<ctx>'])
  made.add_tokens(['</ctx>', '<|mine|>', ' spaced out '])
  path.write_text(made.to_str(), encoding='utf-8')
  config = {'bos_token': '<s>', 'eos_token': '<|im_end|>', 'pad_token': '<pad>'}
  path.with_name('tokenizer_config.json').write_text(json.dumps(config))
  return tokenizers.load(path), made


@pytest.mark.parametrize('kind', small_tokenizers.KINDS)
def test_text_never_becomes_a_control_token(kinds, kind):
  found = kinds[kind]
  ids = found.encode(CONTROL).tolist()
  assert not {found.eos_id, found.pad_id, found.bos_id} & set(ids)
  if kind != 't5_like':  # which has no angle brackets
    assert found.decode(ids) == CONTROL
    assert found.unk_id not in ids


@given(text=st.lists(st.sampled_from(
  ['<|im_end|>', '<s>', '<pad>', '</s>', '<|im_start|>', '<|reserved_7|>', 'a', ' ',
   '<ctx>', '</ctx>', '<|mine|>', '\n', '<', '|>']
)).map(''.join))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_a_chat_models_control_tokens_are_text_and_a_users_are_tokens(
  tmp_path_factory, text
):
  found, made = _chat(tmp_path_factory)
  ids = found.encode(text).tolist()
  assert found.decode(ids) == text
  control = ('<|im_end|>', '<s>', '<pad>', '</s>', '<|im_start|>', '<|reserved_7|>')
  assert not {made.token_to_id(token) for token in control} & set(ids)
  for token in ('<ctx>', '</ctx>', '<|mine|>'):
    assert ids.count(made.token_to_id(token)) == text.count(token)


_CHAT = []


def _chat(tmp_path_factory):
  if not _CHAT:
    _CHAT.append(chat(tmp_path_factory.mktemp('chat') / 'tokenizer.json'))
  return _CHAT[0]


def test_other_text_has_the_ids_of_the_file(tmp_path):
  found, made = chat(tmp_path / 'tokenizer.json')
  for text in (*small_tokenizers.CORPUS, 'a <ctx> b </ctx> c spaced out d'):
    assert found.encode(text).tolist() == made.encode(text).ids
    assert found.decode(found.encode(text)) == text
  assert found.vocab_size == made.get_vocab_size()


def test_control_tokens_are_left_out_of_decoded_text(tmp_path):
  found, made = chat(tmp_path / 'tokenizer.json')
  ids = [made.token_to_id('<|im_start|>'), *found.encode('a <ctx> b'), found.eos_id]
  assert found.decode(ids) == 'a <ctx> b'


def test_saved_and_loaded_a_chat_model_keeps_the_same_tokens_out(tmp_path):
  found, _ = chat(tmp_path / 'tokenizer.json')
  (tmp_path / 'saved').mkdir()
  found.save(tmp_path / 'saved' / 'tokenizer.json')
  again = tokenizers.load(tmp_path / 'saved' / 'tokenizer.json')
  assert again.digest == found.digest
  assert again.encode(CONTROL).tolist() == found.encode(CONTROL).tolist()


def test_the_bos_of_the_post_processor_stays_out_of_text_and_in_saved_files(tmp_path):
  from tokenizers.processors import TemplateProcessing

  made = small_tokenizers.byte_level(special=('</s>', '<bos>'))
  made.add_tokens(['START'])
  start = made.token_to_id('START')
  made.post_processor = TemplateProcessing(
    single='START $A', special_tokens=[('START', start)]
  )
  (tmp_path / 'tokenizer.json').write_text(made.to_str())
  config = {'bos_token': '<bos>', 'add_bos_token': None}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  found = tokenizers.load(tmp_path / 'tokenizer.json')
  (tmp_path / 'saved').mkdir()
  found.save(tmp_path / 'saved' / 'tokenizer.json')
  for one in (found, tokenizers.load(tmp_path / 'saved' / 'tokenizer.json')):
    assert one.bos_id == start
    assert start not in one.encode('START <bos>').tolist()
    assert one.decode(one.encode('START <bos>')) == 'START <bos>'
    assert one.digest == found.digest


def test_a_role_keeps_its_token_out_even_if_it_is_not_special(tmp_path):
  made = small_tokenizers.byte_level(special=('</s>',))
  made.add_tokens(['END', 'stop'])
  (tmp_path / 'tokenizer.json').write_text(made.to_str())
  path = tmp_path / 'tokenizer_config.json'
  path.write_text(json.dumps({'eos_token': 'END', 'pad_token': '!'}))
  found = tokenizers.load(tmp_path / 'tokenizer.json')
  assert found.eos_id == made.token_to_id('END')
  ids = found.encode('END stop !').tolist()
  assert found.eos_id not in ids
  assert found.decode(ids) == 'END stop !'  # of one character, a token stays text


def test_pieces_of_a_unigram_model_are_kept_out_of_text(tmp_path):
  """`tokenizers` takes every piece of a unigram vocabulary for text."""
  from flan_jax.interop.huggingface import sentencepiece_json

  model = small_tokenizers.sentence_pieces(model_type='unigram', vocab_size=330)
  pieces = tokenizers.SentencePiece(model, name='unigram')
  text, names = sentencepiece_json.translate(pieces)
  found = tokenizers.HuggingFace(text, names, name='tokenizer.json')
  for spelled in ('</s>', '<pad>', 'a</s>b <unk>'):
    assert found.encode(spelled).tolist() == pieces.encode(spelled).tolist()
    assert found.decode(found.encode(spelled)) == spelled
  assert found.unk_id == pieces.unk_id == 2


def test_symbols_that_a_sentencepiece_user_defined_are_tokens():
  model = small_tokenizers.sentence_pieces(user_defined_symbols=['<ctx>'])
  found = tokenizers.SentencePiece(model, name='user')
  ids = found.encode('a <ctx> b').tolist()
  assert found._processor.piece_to_id('<ctx>') in ids
  assert found.decode(ids) == 'a <ctx> b'
