"""An option scores as the definition says; log_likelihood_test has what it rests on.

Most tests share one model, and sequences of 64 tokens.
"""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.inference import rank_options
from flan_jax.inference.rank_options import Request, Scorer
from flan_jax.runtime import metering

BYTES = tokenizers.load('bytes')
WITH_BOS = type('WithBos', (tokenizers.Bytes,), {'bos_id': 2})()
SEQUENCE_LENGTH = 64


def make_scorer(model, **changes):
  settings = {
    'tokenizer': BYTES,
    'batch_size': 2,
    'sequence_length': SEQUENCE_LENGTH,
  } | changes
  return Scorer(params=model.params, config=model.config, **settings)


@pytest.fixture(scope='module')
def scorer(tiny_model):
  return make_scorer(tiny_model())


def requests(count=12, seed=0):
  """Prompts of 3 to 40 tokens with two to four options of 1 to 20."""
  generator = np.random.default_rng(seed)

  def draw(low, high):
    return generator.integers(3, 259, generator.integers(low, high), dtype=np.int32)

  return [
    Request(
      draw(3, 41),
      tuple(draw(1, 21) for _ in range(generator.integers(2, 5))),
      f'request {i}',
    )
    for i in range(count)
  ]


def one_sequence_per_option(model, request, tokens):
  """The definition: a sequence of its own for every option, summed in float64.

  Without a prompt the option is a text, as it trains: `[BOS] option EOS`.
  """
  head = [] if tokens.bos_id is None else [tokens.bos_id]
  separator = [tokens.eos_id] if len(request.prompt) or not head else []
  prompt = [*head, *request.prompt, *separator]
  scores = []
  for option in request.options:
    answer = [*option, tokens.eos_id]
    read = [*prompt, *answer[:-1]]
    logits = model.logits(read, prefix=len(prompt), width=SEQUENCE_LENGTH)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    scores.append(logp[len(prompt) - 1 :][np.arange(len(answer)), answer].sum())
  return np.array(scores)


@pytest.mark.parametrize('tokens', [BYTES, WITH_BOS], ids=['no BOS', 'BOS'])
def test_equals_one_sequence_per_option(tiny_model, tokens):
  model = tiny_model()
  found = requests(8)
  found.append(found[0]._replace(prompt=found[0].prompt[:0]))
  scored = make_scorer(model, tokenizer=tokens).loglikelihood(found).log_probabilities
  for request, got in zip(found, scored, strict=True):
    expected = one_sequence_per_option(model, request, tokens)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got.argmax() == expected.argmax()


def test_a_batch_that_the_mesh_does_not_divide_is_refused(scorer):
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ('data', 'fsdp'))
  sharding = NamedSharding(mesh, P(('data', 'fsdp'), None))
  with pytest.raises(
    InputError, match=r'got 12; must be a multiple of the 8 parts.* is 16'
  ):
    dataclasses.replace(scorer, batch_size=12, sharding=sharding)


def test_options_with_equal_tokens_tie_exactly(scorer):
  prompt, option = np.array([5, 6, 7], np.int32), np.array([9, 9], np.int32)
  found = [*requests(3), Request(prompt, (option, option[:1], option.copy()))]
  first, other, second = scorer.loglikelihood(found).log_probabilities[-1]
  assert first == second != other


def test_counts_tokens(scorer):
  """Padding counts; the naive count has the prompt once per option."""
  prompt = np.full(20, 7, np.int32)
  options = tuple(np.full(k, 8, np.int32) for k in (1, 2, 3, 9))
  fresh = dataclasses.replace(scorer)  # no program of another shape to use again
  scored = fresh.loglikelihood([Request(prompt, options)])
  # 21 tokens of the prompt and, since these options begin alike, 9 of the longest, in
  # one sequence of 64; or naively two sequences padded to 30 and two padded to 23.
  assert scored.tokens_scored == 64
  assert scored.tokens_naive == 2 * 30 + 2 * 23


def test_reports_progress_to_the_end(scorer):
  meter = metering.Meter(9)
  with metering.listening(meter):
    scored = scorer.loglikelihood(requests(5))
  assert (round(meter.done, 6), meter.tokens) == (5, scored.tokens_scored)


def test_nothing_to_score(scorer):
  assert scorer.loglikelihood([])[:3] == ([], 0, 0)


def test_without_eos_the_option_alone_counts(scorer, tiny_model):
  model = tiny_model()
  request = requests(1)[0]
  with_eos = scorer.loglikelihood([request]).log_probabilities[0]
  without = dataclasses.replace(scorer, eos=False).loglikelihood([request])
  for k, option in enumerate(request.options):
    read = [*request.prompt, BYTES.eos_id, *option]
    logits = model.logits(read, prefix=0, width=SEQUENCE_LENGTH)[-1]
    end = logits[BYTES.eos_id] - np.log(np.exp(logits).sum())
    got = without.log_probabilities[0][k]
    np.testing.assert_allclose(got, with_eos[k] - end, rtol=1e-5)


def test_without_separator_the_option_follows_the_prompt(scorer):
  """A prompt that ends in EOS by itself scores as one with the separator."""
  plain = dataclasses.replace(scorer, separator=False)
  request = requests(1)[0]
  ended = request._replace(prompt=np.append(request.prompt, BYTES.eos_id))
  one = scorer.loglikelihood([request]).log_probabilities[0]
  other = plain.loglikelihood([ended]).log_probabilities[0]
  np.testing.assert_allclose(one, other, rtol=1e-6)
  nothing = request._replace(prompt=request.prompt[:0])
  one = scorer.loglikelihood([nothing]).log_probabilities[0]
  other = plain.loglikelihood([nothing]).log_probabilities[0]
  np.testing.assert_allclose(one, other, rtol=1e-6)


class TestNormalization:
  OPTIONS = tuple(BYTES.encode_batch(['no', 'ä', 'certainly', '']))

  def scores(self, scorer, **changes):
    request = Request(np.array([70, 80, 90], np.int32), self.OPTIONS)
    other = dataclasses.replace(scorer, **changes)
    return other.loglikelihood([request]).log_probabilities[0]

  def test_by_tokens_counts_eos(self, scorer):
    got = self.scores(scorer, normalization='token')
    np.testing.assert_allclose(got, self.scores(scorer) / [3, 3, 10, 1], rtol=1e-6)

  def test_by_bytes_does_not(self, scorer):
    got = self.scores(scorer, normalization='byte')
    np.testing.assert_allclose(got, self.scores(scorer) / [2, 2, 9, 1], rtol=1e-6)

  def test_unconditional_subtracts_the_score_after_an_empty_prompt(self, scorer):
    got = self.scores(scorer, normalization='unconditional')
    empty = Request(np.zeros(0, np.int32), self.OPTIONS)
    expected = self.scores(scorer) - scorer.loglikelihood([empty]).log_probabilities[0]
    np.testing.assert_allclose(got, expected, rtol=1e-4)

  def test_another_name_is_refused(self, scorer):
    with pytest.raises(InputError, match=r"got 'bytes'.*did you mean 'byte'"):
      dataclasses.replace(scorer, normalization='bytes')


def test_a_request_longer_than_the_model_is_refused_by_name(scorer):
  long = Request(
    np.full(127, 4, np.int32), (np.full(4, 4, np.int32),), 'rte, example 3'
  )
  bounded = dataclasses.replace(scorer, max_length=128)
  with pytest.raises(InputError, match=r'rte, example 3: .*option 0 .* 132 .*most 128'):
    bounded.loglikelihood([long])


def test_no_sequence_is_longer_than_the_position_table(tiny_model):
  model = tiny_model(
    positions='learned', max_positions=66, position_offset=2, num_layers=1
  )
  short = make_scorer(model)
  assert short.sequence_length == 64
  long = Request(np.full(60, 4, np.int32), (np.full(5, 4, np.int32),), 'rte, example 3')
  with pytest.raises(InputError, match=r'rte, example 3: .*option 0 .* 66 .*most 64'):
    short.loglikelihood([long])
  with pytest.raises(InputError, match=r'prompt 1 and 5 new .* 65 .*most 64'):
    short.generate([long.prompt[:3], long.prompt], max_tokens=5)
  assert np.isfinite(
    short.loglikelihood([long._replace(prompt=long.prompt[:58])])[0]
  ).all()
  assert not any(short.generate([long.prompt], max_tokens=4).nan)


def test_an_option_without_a_token_needs_eos(scorer):
  empty = Request(np.array([5], np.int32), (np.zeros(0, np.int32),), 'rte, example 3')
  assert np.isfinite(scorer.loglikelihood([empty]).log_probabilities[0]).all()
  with pytest.raises(InputError, match=r'rte, example 3: option 0 has no token'):
    dataclasses.replace(scorer, eos=False).loglikelihood([empty])


def test_options_with_equal_tokens_are_grouped():
  one, two = np.array([5], np.int32), np.array([6], np.int32)
  assert rank_options.alike([one, two, one.copy(), two, two[:0]]) == [(0, 2), (1, 3)]
  assert rank_options.alike([one, two]) == []
