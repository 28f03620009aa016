"""Packed scoring is one row per option, faster; nothing else changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flan_jax.data import tokenizer
from flan_jax.errors import InputError
from flan_jax.evaluate.scoring import Request, Scorer

BYTES = tokenizer.load('bytes')
WITH_BOS = type('WithBos', (tokenizer.Bytes,), {'bos_id': 2})()
ROW_LENGTH = 128


def make_scorer(model, **changes):
  settings = {'tokenizer': BYTES, 'rows': 3, 'row_length': ROW_LENGTH} | changes
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
      f'row {i}',
    )
    for i in range(count)
  ]


def one_row_per_option(model, request, tokens):
  """The definition: a row of its own for every option, summed in float64."""
  head = [] if tokens.bos_id is None else [tokens.bos_id]
  prompt = [*head, *request.prompt, tokens.eos_id]
  scores = []
  for option in request.options:
    answer = [*option, tokens.eos_id]
    read = [*prompt, *answer[:-1]]
    logits = model.logits(read, prefix=len(prompt), width=ROW_LENGTH)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    scores.append(logp[len(prompt) - 1 :][np.arange(len(answer)), answer].sum())
  return np.array(scores)


@pytest.mark.parametrize(
  ('attention', 'positions', 'tokens'),
  [
    ('causal', 'rotary', BYTES),
    ('causal', 't5', WITH_BOS),
    ('prefix', 'rotary', WITH_BOS),
    ('prefix', 't5', BYTES),
  ],
  ids=['causal-rotary', 'causal-t5-bos', 'prefix-rotary-bos', 'prefix-t5'],
)
def test_equals_one_row_per_option(tiny_model, attention, positions, tokens):
  model = tiny_model(attention=attention, positions=positions)
  found = requests(8)
  scored = make_scorer(model, tokenizer=tokens).score(found).log_probabilities
  for request, got in zip(found, scored, strict=True):
    wanted = one_row_per_option(model, request, tokens)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert got.argmax() == wanted.argmax()


def test_order_of_requests_does_not_matter(scorer):
  found = requests()
  order = np.random.default_rng(1).permutation(len(found))
  straight = scorer.score(found).log_probabilities
  shuffled = scorer.score([found[i] for i in order]).log_probabilities
  for place, i in enumerate(order):
    np.testing.assert_allclose(shuffled[place], straight[i], rtol=1e-5)


def test_packing_does_not_matter(scorer):
  """Other rows, other neighbours, other padding: the same scores."""
  found = requests()
  straight = scorer.score(found).log_probabilities
  other = dataclasses.replace(scorer, rows=1, row_length=64)
  for i, request in enumerate(found):
    alone = other.score([request]).log_probabilities[0]
    np.testing.assert_allclose(alone, straight[i], rtol=1e-5)


def test_a_mesh_does_not_matter(scorer):
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ('data', 'model'))
  spread = dataclasses.replace(
    scorer,
    params=jax.device_put(scorer.params, NamedSharding(mesh, P())),
    rows=4,
    sharding=NamedSharding(mesh, P('data', None)),
  )
  found = requests()
  one, other = scorer.score(found), spread.score(found)
  for got, wanted in zip(other.log_probabilities, one.log_probabilities, strict=True):
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_rows_that_the_mesh_does_not_divide_are_refused(scorer):
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ('data', 'fsdp'))
  sharding = NamedSharding(mesh, P(('data', 'fsdp'), None))
  with pytest.raises(InputError, match=r'got 12; the mesh splits them in 8.* is 16'):
    dataclasses.replace(scorer, rows=12, sharding=sharding)


def test_options_that_tokenise_alike_tie_exactly(scorer):
  prompt, option = np.array([5, 6, 7], np.int32), np.array([9, 9], np.int32)
  found = [*requests(3), Request(prompt, (option, option[:1], option.copy()))]
  first, other, second = scorer.score(found).log_probabilities[-1]
  assert first == second != other


def test_counts_tokens(scorer):
  """Padding counts; the naive way pays for the prompt once per option."""
  prompt = np.full(20, 7, np.int32)
  options = tuple(np.full(k, 8, np.int32) for k in (1, 2, 3, 9))
  scored = scorer.score([Request(prompt, options)])
  # 22, 23, 24 and 30 positions: one batch here; three rows padded to 30 and one of
  # 22 the naive way.
  assert scored.tokens_scored == 3 * ROW_LENGTH
  assert scored.tokens_naive == 3 * 30 + 22


def test_short_sequences_get_short_rows(scorer):
  """A batch keeps its size: attention over the length of a row is what is saved."""
  short = [r for r in requests(40) if len(r.prompt) < 20]
  assert scorer._layout(np.full(60, 30))[1:] == (6, 64)
  assert scorer._layout(np.array([30, 65]))[1:] == (3, 128)
  long = Request(np.full(100, 5, np.int32), short[0].options)
  with_long = scorer.score([*short, long]).log_probabilities
  for got, wanted in zip(
    scorer.score(short).log_probabilities, with_long, strict=False
  ):
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_reports_progress_to_the_end(scorer):
  seen = []
  found = requests(5)
  scorer.score(found, progress=lambda done, total: seen.append((done, total)))
  options = sum(len(request.options) for request in found)
  assert seen[-1] == (options, options)
  assert seen == sorted(seen)


def test_nothing_to_score(scorer):
  assert scorer.score([])[:-1] == ([], 0, 0)


def test_too_long_is_refused_by_name(scorer):
  long = Request(np.full(127, 4, np.int32), (np.full(4, 4, np.int32),), 'rte, row 3')
  with pytest.raises(InputError, match=r'rte, row 3.* 132 positions.* row_length 128'):
    scorer.score([long])


def test_nan_spoils_its_own_request_only(tiny_model):
  """Token 200 reads as NaN: its request is NaN, its neighbours in the row are not."""
  model = tiny_model(tied_embedding=False)
  poison = model.params['embedding'].at[200].set(jnp.nan)
  sound = make_scorer(model)
  broken = dataclasses.replace(sound, params={**model.params, 'embedding': poison})
  clean = [
    Request(r.prompt % 150 + 3, tuple(o % 150 + 3 for o in r.options))
    for r in requests(6)
  ]
  bad = Request(np.array([10, 200, 12], np.int32), clean[0].options)
  got = broken.score([*clean[:3], bad, *clean[3:]]).log_probabilities
  assert np.isnan(got[3]).all()
  wanted = sound.score(clean).log_probabilities
  for one, other in zip(got[:3] + got[4:], wanted, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5)
