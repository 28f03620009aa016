"""Tokenizers: nothing is lost between text and tokens."""

import json
import sys

import numpy as np
import pytest
import real_examples
import small_tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flan_jax.data import bpe
from flan_jax.data import tokenizers as tokenizers_lib
from flan_jax.errors import InputError

TEXTS = [
  f'Question {i}: is the cat on the mat?\n\nOPTIONS:\n- yes\n- no\n  indented {i}\tx'
  for i in range(200)
]
BAR = '\u2581'

printable = st.text(
  st.characters(exclude_categories=('Cs', 'Cc', 'Cn')) | st.just('\n')
)


@pytest.fixture(scope='module')
def trained():
  return bpe.train(TEXTS, vocab_size=400)


@given(text=printable)
@example(text='  two  blanks\n\n\nand lines  \n')
@example(text=f'{BAR}{BAR} sign {BAR}\n{BAR}')
@example(text='</s><pad><0x41> <s>')
@example(text='\tx\u3000\u2028\U0001f600')
@settings(max_examples=300, deadline=None)
def test_the_trained_round_trip_is_exact(trained, text):
  ids = trained.encode(text)
  assert trained.decode(ids) == text
  assert ids.dtype == np.int32
  assert not set(ids.tolist()) & {trained.pad_id, trained.eos_id}


@given(text=printable)
def test_the_round_trip_of_bytes_is_exact(text):
  found = tokenizers_lib.load('bytes')
  assert found.decode(found.encode(text)) == text


def test_a_newline_is_one_token(trained):
  assert len(trained.encode('\n')) == 1
  assert len(trained.encode('yes\nno')) == len(trained.encode('yes')) + 1 + len(
    trained.encode('no')
  )


def test_training_is_deterministic(trained):
  assert bpe.train(TEXTS, vocab_size=400).digest == trained.digest
  assert bpe.train([*TEXTS, 'mice ' * 99], vocab_size=400).digest != trained.digest


def test_a_batch_encodes_as_its_texts_one_by_one(trained):
  texts = ['', 'a b', *TEXTS[:5], f'x{BAR}y']
  for found in (trained, tokenizers_lib.load('bytes')):
    batch = found.encode_batch(texts)
    for text, ids in zip(texts, batch, strict=True):
      np.testing.assert_array_equal(ids, found.encode(text))


def test_a_saved_tokenizer_loads_as_the_same_tokenizer(trained, tmp_path):
  path = tmp_path / 'tokenizer.model'
  trained.save(path)
  found = tokenizers_lib.load(path)
  assert found.digest == trained.digest
  assert found.vocab_size == trained.vocab_size
  assert (found.bos_id, found.eos_id, found.pad_id) == (None, 1, 0)


def test_ids_past_the_vocabulary_are_left_out(trained):
  """A model's vocabulary is often padded to a round number."""
  ids = [*trained.encode('yes').tolist(), trained.vocab_size + 5, trained.eos_id]
  assert trained.decode(ids) == 'yes'


@pytest.mark.parametrize(
  ('changes', 'padding'),
  [
    ({'pad_id': 3}, 3),
    ({'pad_id': -1}, 2),  # EOS, since unknown letters become piece 0
    ({'pad_id': -1, 'byte_fallback': True, 'vocab_size': 420}, 0),  # unused by text
    ({'pad_id': -1, 'unk_id': 1, 'bos_id': 0}, 2),
  ],
)
def test_no_text_becomes_padding_whatever_pieces_a_model_has(changes, padding):
  roles = {'unk_id': 0, 'bos_id': 1, 'eos_id': 2}
  model = small_tokenizers.t5_like(**roles | changes)
  found = tokenizers_lib.SentencePiece(model, name='pieces')
  assert found.pad_id == padding
  text = 'a cat, \u2047 \ue000 Да {<pad></s><unk>}'
  ids = found.encode(text).tolist()
  assert found.pad_id not in ids
  assert (found.unk_id in ids) == ('byte_fallback' not in changes)


def test_no_letter_that_a_tokenizer_json_lacks_becomes_its_padding(tmp_path):
  """Its config may say that the unknown token is the padding."""
  tokenizers = pytest.importorskip('tokenizers')
  ids = {'<unk>': 0, '</s>': 1, 'cat': 2}
  made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token='<unk>'))
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  made.add_special_tokens(['<unk>', '</s>'])
  path = tmp_path / 'tokenizer.json'
  made.save(str(path))
  roles = {'pad_token': '<unk>', 'unk_token': '<unk>', 'eos_token': '</s>'}
  path.with_name('tokenizer_config.json').write_text(json.dumps(roles))
  found = tokenizers_lib.load(path)
  assert found.encode('cat dog').tolist() == [2, 0]
  assert (found.pad_id, found.eos_id, found.unk_id) == (1, 1, 0)
  (tmp_path / 'saved').mkdir()
  found.save(tmp_path / 'saved' / 'tokenizer.json')
  again = tokenizers_lib.load(tmp_path / 'saved' / 'tokenizer.json')
  assert (again.pad_id, again.digest) == (1, found.digest)


def hugging_face(path, *, bos=False, config=None):
  """Trains a byte-level tokenizer.json at `path`."""
  tokenizers = pytest.importorskip('tokenizers')
  made = tokenizers.Tokenizer(tokenizers.models.BPE())
  made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = tokenizers.decoders.ByteLevel()
  made.train_from_iterator(
    TEXTS,
    tokenizers.trainers.BpeTrainer(
      vocab_size=400,
      special_tokens=['<s>', '</s>'],
      initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
    ),
  )
  if bos:
    made.post_processor = tokenizers.processors.TemplateProcessing(
      single='<s> $A', special_tokens=[('<s>', made.token_to_id('<s>'))]
    )
  made.enable_truncation(4)
  made.save(str(path))
  if config is not None:
    path.with_name('tokenizer_config.json').write_text(json.dumps(config))
  return tokenizers_lib.load(path)


@pytest.fixture(scope='module')
def byte_level(tmp_path_factory):
  return hugging_face(tmp_path_factory.mktemp('hf') / 'tokenizer.json')


@given(text=printable)
@settings(deadline=None)
def test_the_round_trip_of_a_hugging_face_tokenizer(byte_level, text):
  assert byte_level.decode(byte_level.encode(text)) == text


@pytest.mark.parametrize(
  ('bos', 'config', 'want'),
  [
    (False, None, None),
    (True, None, 0),
    (True, {'add_bos_token': False, 'bos_token': '<s>'}, None),
    (False, {'add_bos_token': True, 'bos_token': {'content': '<s>'}}, 0),
    (True, {'add_bos_token': None, 'bos_token': '<s>'}, 0),
    (False, {'add_bos_token': None, 'bos_token': '<s>'}, None),
  ],
)
def test_a_hugging_face_tokenizer_has_bos_where_it_adds_one(
  tmp_path, bos, config, want
):
  found = hugging_face(tmp_path / 'tokenizer.json', bos=bos, config=config)
  assert (found.bos_id, found.eos_id) == (want, 1)
  assert len(found.encode(TEXTS[0])) > 4  # the file's own truncation is off
  (tmp_path / 'saved').mkdir()
  found.save(tmp_path / 'saved' / 'tokenizer.json')
  again = tokenizers_lib.load(tmp_path / 'saved' / 'tokenizer.json')
  assert (again.bos_id, again.eos_id, again.pad_id) == (want, 1, found.pad_id)
  assert again.digest == found.digest


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    (
      {'eos_token': '<|eot|>'},
      '"eos_token" in tokenizer_config.json is \'<|eot|>\'; must be a token of its '
      'vocabulary',
    ),
    (
      {'eos_token': {'content': '</S>'}},
      '"eos_token" in tokenizer_config.json is \'</S>\'; must be a token of its '
      "vocabulary; did you mean '</s>'",
    ),
    (
      {'bos_token': '<bos>', 'add_bos_token': True},
      '"bos_token" in tokenizer_config.json is \'<bos>\'; must be a token of its '
      'vocabulary',
    ),
  ],
)
def test_a_role_of_a_token_that_does_not_exist_is_refused(tmp_path, config, message):
  """Another token in its place would end or begin sequences unlike the model's."""
  with pytest.raises(InputError) as caught:
    hugging_face(tmp_path / 'tokenizer.json', config=config)
  assert str(caught.value).startswith(f"tokenizer 'tokenizer.json': {message}")
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'config', [{'pad_token': '[PAD]'}, {'bos_token': '<bos>'}, {'eos_token': None}]
)
def test_a_role_that_nothing_rests_on_may_name_a_token_that_does_not_exist(
  tmp_path, config
):
  found = hugging_face(tmp_path / 'tokenizer.json', config=config)
  assert (found.bos_id, found.eos_id, found.pad_id) == (None, 1, 1)


@pytest.mark.parametrize('post_processor', [True, False])
@pytest.mark.parametrize('says', [{}, {'add_bos_token': None}])
def test_bos_is_where_transformers_puts_it(tmp_path, post_processor, says):
  transformers = pytest.importorskip('transformers')
  names = {'bos_token': '<s>', 'eos_token': '</s>'}
  config = {**names, 'tokenizer_class': 'PreTrainedTokenizerFast', **says}
  ours = hugging_face(tmp_path / 'tokenizer.json', bos=post_processor, config=config)
  there = transformers.AutoTokenizer.from_pretrained(tmp_path)
  starts = there('a')['input_ids'][0] == there.bos_token_id
  assert (ours.bos_id is not None) == starts == post_processor


LOSSLESS = ('bytes', 'own', 'byte_level', 'dummy_prefix', 'prepending')


@pytest.mark.parametrize('kind', LOSSLESS)
@given(text=printable)
@example(text=f'a{BAR}b')
@example(text=f'{BAR} a {BAR}{BAR}b {BAR}')
@example(text=f'a{BAR}\ue000\uf8ff b')
@example(text='two  blanks \n')
@settings(max_examples=100, deadline=None)
def test_every_byte_complete_kind_gives_text_back(kinds, kind, text):
  if kind == 'prepending' and BAR in text:
    text = text.replace(BAR, '')  # a tokenizer.json takes it for a blank
  assert kinds[kind].decode(kinds[kind].encode(text)) == text


def test_unknown_text_is_counted_and_shown(kinds):
  found = kinds['t5_like']
  ids = found.encode('the кот {on} the mat').tolist()
  assert ids.count(found.unk_id) == 3  # each run of unknown letters is one token
  assert '\u2047' in found.decode(ids)
  from flan_jax.interop.huggingface import sentencepiece_json

  model, names = sentencepiece_json.translate(found)
  there = tokenizers_lib.HuggingFace(model, names, name='tokenizer.json')
  assert there.unk_id == found.unk_id
  assert there.encode('the кот {on} the mat').tolist() == ids
  assert there.decode(ids).split() == found.decode(ids).split()


@pytest.mark.parametrize(
  ('text', 'kept'),
  [
    ('the cat', True),
    (' the   cat ', True),  # runs of blanks are evened out
    ('\uff54he cat', True),  # a full-width letter is its own compatibility form
    ('the\ncat', False),
    ('{the} cat', False),
    ('кот', False),
  ],
)
def test_what_a_vocabulary_loses(kinds, text, kept):
  found = kinds['t5_like']
  assert found.keeps(text, found.encode(text)) == kept
  own = kinds['own']
  assert own.keeps(text, own.encode(text))


def test_the_real_vocabulary_of_t5_loses_newlines_braces_and_cyrillic():
  path = real_examples.FOLDER / 'vocabs/t5_cc_all.32000.100extra.sentencepiece.model'
  if not path.is_file():
    pytest.skip('no T5 vocabulary here')
  found = tokenizers_lib.load(path)
  assert found.keeps('Is it so?  Yes.', found.encode('Is it so?  Yes.'))
  for text in ('a\nb', '{a}', 'ещё фильм'):
    assert not found.keeps(text, found.encode(text))
  assert found.unk_id in found.encode('ещё фильм')
  assert found.eos_id not in found.encode('</s>')


def test_bad_tokenizers_are_named(tmp_path):
  (tmp_path / 'broken.model').write_bytes(b'nothing')
  (tmp_path / 'tokenizer.json').write_text('{}')
  for name, message in [
    ('byte', "'byte'.*did you mean 'bytes'"),
    (tmp_path / 'brokn.model', "no such file; did you mean 'broken.model'"),
    (tmp_path / 'broken.model', 'not a SentencePiece model'),
    (tmp_path / 'tokenizer.json', 'not a tokenizer.json'),
  ]:
    with pytest.raises(InputError, match=message):
      tokenizers_lib.load(name)
  with pytest.raises(InputError, match='vocab_size 50: must be at least 2..'):
    bpe.train(TEXTS, vocab_size=50)
  with pytest.raises(InputError, match='no text'):
    bpe.train([], vocab_size=400)


def test_the_missing_library_is_named(tmp_path, monkeypatch):
  (tmp_path / 'tokenizer.json').write_text('{}')
  monkeypatch.setitem(sys.modules, 'tokenizers', None)
  with pytest.raises(InputError, match=r"pip install 'flan_jax\[hf\]'"):
    tokenizers_lib.load(tmp_path / 'tokenizer.json')


def test_a_batch_decodes_as_its_ids_one_by_one(kinds):
  texts = ['Is  the cat\non the mat? ', '', 'кот </s> ▁ 🙂', '<pad>']
  for tokenizer in kinds.values():
    marks = [0, tokenizer.eos_id, -1, tokenizer.vocab_size, tokenizer.pad_id]
    batch = [
      np.concatenate([marks, ids, marks]).astype(np.int32)
      for ids in tokenizer.encode_batch(texts)
    ]
    assert tokenizer.decode_batch(batch) == [tokenizer.decode(ids) for ids in batch]
    assert tokenizer.decode_batch([]) == []


@pytest.mark.parametrize(
  'pattern', [r'(a+)+$', r'(x|xx)+$', r'(?:[a-z]|q)*$', r'(\d|1)*$']
)
def test_a_pattern_that_backtracks_without_end_is_refused(pattern, tmp_path, capfd):
  library = pytest.importorskip('tokenizers')
  tokenizer = small_tokenizers.byte_level(special=['</s>'])
  tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence(
    [
      library.pre_tokenizers.Split(library.Regex(pattern), 'isolated'),
      tokenizer.pre_tokenizer,
    ]
  )
  path = tmp_path / 'tokenizer.json'
  path.write_text(tokenizer.to_str())
  with pytest.raises(InputError, match='must not backtrack so'):
    tokenizers_lib.load(path)
  assert not capfd.readouterr().err
