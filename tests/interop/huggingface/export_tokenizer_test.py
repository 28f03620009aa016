"""The tokenizer.json of a tuned model: BOS and the tokens of training, for any text."""

import json
import pathlib

import pytest
import small_tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_jax.data import tokenizers as tokenizers_lib
from flan_jax.errors import InputError
from flan_jax.inference.sampling import context
from flan_jax.interop.huggingface import chat_template, export_tokenizer
from flan_jax.runtime.progress import Progress

tokenizers = pytest.importorskip('tokenizers')

FRAGMENTS = (
  '</s>', '<s>', '<pad>', '<unk>', '<', '/s>', chat_template.JOINT, '\ue0fb', '\ue0fd',
  ' ', '  ', 'the cat', 'é', '中', '0', '<0x0A>',
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map(''.join)


@pytest.fixture(scope='module')
def with_bos(tmp_path_factory):
  """A Llama-style SentencePiece model with BOS."""
  path = tmp_path_factory.mktemp('llama') / 'tokenizer.model'
  path.write_bytes(small_tokenizers.sentence_pieces(bos_id=3))
  return tokenizers_lib.load(path)


def save(tokenizer, folder: pathlib.Path, *, tuned=True, lines=None):
  """Exports a tokenizer; returns (tokenizer.json loaded, tokenizer_config.json)."""
  source = folder / 'flan'
  source.mkdir()
  if tokenizer.filename:
    tokenizer.save(source / tokenizer.filename)
  progress = Progress(quiet=True)
  if lines is not None:
    progress.line = lines.append
  export_tokenizer.save(
    tokenizer, folder, source=source, tuned=tuned, progress=progress
  )
  config = json.loads((folder / 'tokenizer_config.json').read_text())
  return tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json')), config


@pytest.mark.parametrize('kind', ['bytes', 'own', 'byte_level', 'llama', 'prepending'])
def test_any_prompt_has_the_tokens_of_training(kind, kinds, with_bos, tmp_path):
  own = with_bos if kind == 'llama' else kinds[kind]
  lines = []
  there, config = save(own, tmp_path, lines=lines)
  assert not lines
  file = json.loads((tmp_path / 'tokenizer.json').read_text())
  control = [token['content'] for token in file['added_tokens'] if token['special']]
  other = [token['content'] for token in file['added_tokens'] if not token['special']]
  marks = chat_template.marks_of(control, other)
  begin = '' if own.bos_id is None else config['bos_token']
  head = [] if own.bos_id is None else [own.bos_id]

  @settings(max_examples=60)
  @given(text=TEXTS)
  def check(text):
    prompt = chat_template.render(text, marks)
    assert not any(token in prompt for token in control)
    chat = there.encode(
      f'{begin}{prompt}{config["eos_token"]}', add_special_tokens=False
    )
    assert chat.ids == context(own.encode(text), own).tolist()
    if not any(token in text for token in (*control, chat_template.JOINT)):
      assert there.encode(text).ids == [*head, *own.encode(text).tolist()]

  check()


def test_what_no_template_can_break_is_named(kinds, tmp_path):
  """Where `<` is no piece, `</s>` is the only way to tokenize its text."""
  lines = []
  save(kinds['t5_like'], tmp_path, lines=lines)
  (line,) = lines
  assert 'text that spells </s> or <pad> becomes a control token' in line


def test_a_first_word_has_its_blank_after_a_control_token_too(kinds, tmp_path):
  """Newer Llama files put the blank before the first word of the whole text alone."""
  file = json.loads(small_tokenizers.prepending())
  file['normalizer'] = None
  file['pre_tokenizer'] = {
    'type': 'Metaspace', 'replacement': small_tokenizers.BAR, 'split': False,
    'prepend_scheme': 'first',
  }  # fmt: skip
  names = {'eos_token': '</s>', 'pad_token': '<pad>', 'add_bos_token': False}
  own = tokenizers_lib.HuggingFace(
    json.dumps(file).encode(), names, name='tokenizer.json'
  )
  there, _ = save(own, tmp_path)
  both = there.encode('the cat</s>yes</s>', add_special_tokens=False).ids
  prompt, answer = (own.encode(text).tolist() for text in ('the cat', 'yes'))
  assert both == [*prompt, own.eos_id, *answer, own.eos_id]


def test_a_users_own_token_stays_one(tmp_path):
  own = small_tokenizers.byte_level()
  own.add_tokens(['<ctx>'])
  names = {'eos_token': '</s>', 'pad_token': '<pad>', 'add_bos_token': False}
  found = tokenizers_lib.HuggingFace(
    own.to_str().encode(), names, name='tokenizer.json'
  )
  there, _ = save(found, tmp_path)
  ids = there.encode('a<ctx>b</s>', add_special_tokens=False).ids
  assert ids == context(found.encode('a<ctx>b'), found).tolist()
  assert own.token_to_id('<ctx>') in ids


def test_a_model_not_tuned_here_keeps_its_sources_files(tmp_path):
  """Its post-processor too, even one that ends a text with EOS."""
  own = small_tokenizers.byte_level()
  own.post_processor = tokenizers.processors.TemplateProcessing(
    single='$A </s>', special_tokens=[('</s>', own.token_to_id('</s>'))]
  )
  names = {'eos_token': '</s>', 'bos_token': '<s>'}
  found = tokenizers_lib.HuggingFace(
    own.to_str().encode(), names, name='tokenizer.json'
  )
  there, _ = save(found, tmp_path, tuned=False)
  assert json.loads(there.to_str()) == json.loads(own.to_str())
  assert not (tmp_path / chat_template.FILE).exists()


def test_a_sentencepiece_model_not_tuned_here_begins_with_bos(with_bos, tmp_path):
  there, _ = save(with_bos, tmp_path, tuned=False)
  assert there.encode('a').ids == [with_bos.bos_id, *with_bos.encode('a')]


def test_a_tokenizer_that_would_differ_is_refused(tmp_path, monkeypatch, with_bos):
  monkeypatch.setattr(export_tokenizer, '_without_joint', lambda normalizer: None)
  with pytest.raises(InputError, match='tokenizes .* differently; this model cannot'):
    save(with_bos, tmp_path)


def test_control_tokens_share_a_beginning_to_break():
  control = [f'<unused{i}>' for i in range(99)] + ['</s>', '<|im_end|>', '<mine0>']
  assert chat_template.marks_of(control, ['<mine>']) == [
    '</s', '<mine0>', '<unused', '<|im_end',
  ]  # fmt: skip
