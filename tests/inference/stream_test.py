"""A stream gives the tokens and the text of `generate`, each as soon as it is known."""

import numpy as np
import pytest
import small_tokenizers

from flan_jax.config.decoding import GREEDY, Decoding
from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.inference import generate, stream
from flan_jax.inference.rank_options import Scorer

BYTES = tokenizers.load('bytes')
PROMPT = BYTES.encode('Is it raining? ' * 8)
STEPS = 128
"""A length whose padding `generate` and a stream agree on: they share programs."""


@pytest.fixture(scope='module')
def scorer(tiny_model):
  model = tiny_model()
  return Scorer(params=model.params, config=model.config, tokenizer=BYTES)


@pytest.mark.parametrize(
  'decoding',
  [
    GREEDY,
    pytest.param(Decoding(temperature=0.8, seed=3), marks=pytest.mark.slow),
  ],
)
def test_a_stream_is_what_generate_returns(decoding, scorer):
  """A random model of bytes: most of its text is no whole character."""
  found = generate.generate(
    scorer.params,
    [PROMPT],
    config=scorer.config,
    tokenizer=BYTES,
    max_tokens=STEPS,
    decoding=decoding,
  )
  settings = {'config': scorer.config, 'tokenizer': BYTES, 'decoding': decoding}
  sequence = np.append(PROMPT, BYTES.eos_id).astype(np.int32)
  tokens = list(stream.tokens(scorer.params, sequence, max_tokens=STEPS, **settings))
  assert tokens == found.tokens[0]
  assert ''.join(stream.text(tokens, BYTES)) == found.texts[0]


def test_a_token_is_given_before_the_next_is_computed(scorer, monkeypatch):
  calls = []
  decode = generate.decode

  def counted(*arguments, **settings):
    calls.append(1)
    return decode(*arguments, **settings)

  monkeypatch.setattr(generate, 'decode', counted)
  pieces = scorer.stream(PROMPT, max_tokens=STEPS)
  for number in range(4):
    next(pieces)
    assert len(calls) == number


def test_a_prompt_that_is_too_long_is_refused_at_the_call(scorer):
  short = Scorer(
    params=scorer.params, config=scorer.config, tokenizer=BYTES, max_length=32
  )
  with pytest.raises(InputError, match='the prompt and 128 new tokens have 248 tokens'):
    short.stream(PROMPT, max_tokens=STEPS)


def test_logits_that_are_nan_are_refused(scorer):
  spoiled = {**scorer.params, 'embedding': scorer.params['embedding'] * np.nan}
  broken = Scorer(params=spoiled, config=scorer.config, tokenizer=BYTES)
  with pytest.raises(InputError, match='logits: got NaN'):
    list(broken.stream(PROMPT, max_tokens=STEPS))


@pytest.mark.parametrize('kind', small_tokenizers.KINDS)
def test_text_never_takes_back_what_it_gave(kind, tmp_path):
  """Texts of characters of one to four bytes, and random tokens."""
  tokenizer = small_tokenizers.of(kind, tmp_path)
  generator = np.random.default_rng(0)
  texts = [
    'the cat — née Ünal — ate 12 €\n',
    '猫は🐈です',
    ' two  blanks',
    '\ufffd?',
    '',
  ]
  cases = [tokenizer.encode(text).tolist() for text in texts]
  size = tokenizer.vocab_size
  cases += [generator.integers(0, size, 40).tolist() for _ in range(20)]
  for ids in cases:
    pieces = list(stream.text(ids, tokenizer))
    assert ''.join(pieces) == tokenizer.decode(ids)
    assert len(ids) <= len(pieces) <= len(ids) + 1


def test_a_character_is_given_once_it_is_whole():
  ids = BYTES.encode('a€b').tolist()
  assert list(stream.text(ids, BYTES)) == ['a', '', '', '€', 'b']
