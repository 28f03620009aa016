"""Greedy generation is the argmax of full forward passes, prompt by prompt."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flan_jax.checkpoints import decoding_weights
from flan_jax.config.decoding import GREEDY, Decoding
from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.inference import generate as generate_lib
from flan_jax.inference.sampling import choose, likely, padded_length
from flan_jax.model.decoder import Decoder
from flan_jax.model.kernels import native

BYTES = tokenizers.load('bytes')
EOS = BYTES.eos_id
STEPS = 12
LENGTHS = [7, 40, 3, 18, 25]
"""Prompts of two padded lengths. Tests of the same model whose longest prompt has 33 to
47 tokens share their compiled programs."""


@pytest.fixture
def model(tiny_model):
  """A model whose head is apart from its embedding."""
  return fond_of_eos(tiny_model(tied_embedding=False))


def prompts(lengths, seed=0):
  generator = np.random.default_rng(seed)
  return [generator.integers(3, 259, n, dtype=np.int32) for n in lengths]


def generate(model, given, **changes):
  settings = {'tokenizer': BYTES, 'max_tokens': STEPS, 'batch_size': 2} | changes
  return generate_lib.generate(model.params, given, config=model.config, **settings)


def fond_of_eos(model):
  """Scales the logit of EOS: a random model hardly ever generates it."""
  if model.config.tied_embedding:
    own(model, 'embedding')[EOS] *= 1.5
  else:
    own(model, 'head')[:, EOS] *= 1.5
  return model


def own(model, name):
  """Gives a model its own copy of a parameter; returns it, to be changed in place."""
  array = np.array(model.params[name])
  model.params = {**model.params, name: array}
  return array


def by_full_forward(model, prompt):
  """Generates without a cache: the whole sequence again for every token."""
  start = [*prompt, EOS]
  answer = []
  while len(answer) < STEPS:
    logits = model.logits([*start, *answer], prefix=len(start), width=64)
    answer.append(int(logits[-1].argmax()))
    if answer[-1] == EOS:
      return answer[:-1]
  return answer


@pytest.mark.parametrize(
  ('attention', 'positions', 'lengths'),
  [('causal', 'rotary', LENGTHS), ('prefix', 't5', [7, 28, 3, 18, 25])],
)
def test_equals_the_argmax_of_full_forward_passes(
  tiny_model, attention, positions, lengths
):
  model = tiny_model(
    attention=attention, positions=positions, tied_embedding=attention == 'prefix'
  )
  model = fond_of_eos(model)
  given = prompts(lengths)
  found = generate(model, given)
  assert found.tokens == [by_full_forward(model, prompt) for prompt in given]
  assert found.nan == [False] * 5


@pytest.fixture(params=['panels', 'rows'])
def products(request, monkeypatch):
  """Generates by the kernel of panels, where it can be built, or by XLA's products."""
  if request.param == 'rows':
    monkeypatch.setattr(native, 'available', lambda: False)


@pytest.mark.parametrize('scan_layers', [True, False])
def test_the_layout_for_decoding_changes_no_logits(tiny_model, scan_layers, products):
  model = tiny_model(
    tied_embedding=False, attention_bias='all', mlp_bias=True, scan_layers=scan_layers
  )
  laid_out = decoding_weights.for_decoding(model.params, model.config)
  tokens_BxL = jnp.asarray([[3, 4, 5, 6]])
  kept, other = (
    Decoder(config).apply(
      {'params': params},
      tokens_BxL,
      positions_BxL=jnp.arange(4)[None],
      segment_ids_BxL=jnp.ones_like(tokens_BxL),
    )
    for params, config in ((model.params, model.config), laid_out)
  )
  np.testing.assert_allclose(other, kept, atol=1e-5)
  assert decoding_weights.for_decoding(*laid_out)[0] is laid_out[0]


def test_tokens_do_not_depend_on_the_kernel(model, monkeypatch):
  """The draws have the keys of a prompt and a token; greedy is the test above."""
  given, found = prompts(LENGTHS), []
  for available in (native.available(), False):
    monkeypatch.setattr(native, 'available', lambda available=available: available)
    sampled = Decoding(temperature=0.7, seed=3)
    found.append(generate(model, given, decoding=sampled).tokens)
  assert found[0] == found[1]


@pytest.mark.parametrize(('dtype', 'error'), [('bfloat16', 0.004), ('int8', 0.005)])
def test_smaller_matrices_have_rounded_values(tiny_model, dtype, error, products):
  model = tiny_model(tied_embedding=False)
  laid_out, _ = decoding_weights.for_decoding(model.params, model.config, dtype=dtype)
  layer = laid_out['layers_0']
  up = layer['up_panels'] if 'up_panels' in layer else layer['up_rows']
  assert up.dtype == dtype
  if up.ndim == 3:
    up = up.swapaxes(1, 2).reshape(-1, up.shape[1])
  exact = np.asarray(model.params['layers']['up'][0]).T
  rounded = np.asarray(up, np.float32)[: len(exact)]
  rounded *= np.asarray(layer.get('up_scale', np.ones(len(exact))))[:, None]
  np.testing.assert_allclose(rounded, exact, atol=error * abs(exact).max())


def test_a_layout_is_made_once_and_goes_with_its_parameters(model):
  params = jax.tree.map(lambda x: jnp.array(x), model.params)
  settings = {'dtype': None, 'sharded': False}
  first = decoding_weights.prepared(params, model.config, **settings)
  assert decoding_weights.prepared(params, model.config, **settings) is first
  other = decoding_weights.prepared(params, model.config, dtype='int8', sharded=False)
  assert other is not first
  del params, first, other
  assert not decoding_weights._kept


def test_int8_on_a_mesh_is_refused(model):
  with pytest.raises(
    InputError, match=r'Decoding\.weight_dtype: got .int8. with a mesh'
  ):
    decoding_weights.prepared(model.params, model.config, dtype='int8', sharded=True)


def test_a_slot_that_is_done_takes_a_waiting_prompt(model):
  """Answers of 2 to 12 tokens in two slots: hardly a step more than they need."""
  given = prompts(range(11, 41))
  expected = [by_full_forward(model, prompt) for prompt in given]
  found = generate(model, given)
  assert found.tokens == expected
  lengths = [min(len(answer) + 1, STEPS) for answer in expected]
  assert min(lengths) < STEPS / 2
  in_batches = sum(2 * max(lengths[i : i + 2]) for i in range(0, len(lengths), 2))
  # The first token of an answer comes with its prompt.
  assert found.generated_tokens <= sum(lengths) - len(lengths) + 2 * STEPS < in_batches


def test_stops_once_every_slot_has_generated_eos(model):
  """If a model always generates EOS, one step ends the batch."""
  # The embedding is so large that all hidden states are nearly 1.
  own(model, 'embedding')[:] = 1000
  head = own(model, 'head')
  head[:], head[:, EOS] = 0, 1
  found = generate(model, prompts([5, 40, 4]))
  assert found.tokens == [[], [], []]
  assert found.generated_tokens == 0  # EOS came with the prompts


def test_neighbors_and_order_do_not_matter(model):
  given = prompts([40, 34, 41, 38, 35, 45, 36])
  straight = generate(model, given).tokens
  assert generate(model, given[::-1], batch_size=3).tokens == straight[::-1]


@pytest.mark.parametrize('attention', ['causal', 'prefix'])
def test_what_prompts_share_is_prefilled_once(tiny_model, attention):
  """Each beginning once, of prompts in any order; a prefix model shares equal prompts.

  Without packing each prompt would have a slot and a length of its own.
  """
  model = fond_of_eos(tiny_model(attention=attention, tied_embedding=False))
  document, *questions = prompts([30, 7, 9, 4])
  given = [np.concatenate([document, question]) for question in questions]
  given = [given[0], *prompts([20], seed=1), given[1], document, given[2], given[1]]
  found = generate(model, given, batch_size=4)
  assert found.tokens == [by_full_forward(model, prompt) for prompt in given]
  whole = [len(prompt) + 1 for prompt in given]
  shared = {'causal': 30 + 8 + 10 + 5 + 1 + 21, 'prefix': sum(whole) - whole[-1]}
  decoded = sum(min(len(answer), STEPS - 1) for answer in found.tokens)
  assert found.unpadded_tokens - decoded == shared[attention]


def poisoned(model):
  """Returns a model that is NaN after token 200, and prompts: the second has it."""
  own(model, 'embedding')[200] = np.nan
  own(model, 'head')[:, 200] = 0  # hardly ever generated
  given = [ids % 150 + 3 for ids in prompts([40, 34, 38])]
  given[1][2] = 200
  return model, given


def test_nan_is_reported_by_prompt(model):
  model, given = poisoned(model)
  assert generate(model, given).nan == [False, True, False]


def test_counts_the_tokens_computed(tiny_model):
  model = tiny_model(tied_embedding=False)
  found = generate(model, prompts([40, 2, 2]))
  assert found.prefill_tokens == 48  # of 41 + 3 + 3
  assert found.unpadded_tokens == 47 + 3 * 11
  # Two slots take 11 steps after the first tokens, and then one of them 11 more.
  assert found.generated_tokens == 2 * (11 + 11)


def test_no_prompts(model):
  assert generate(model, [])[:5] == ([], [], [], 0, 0)


@pytest.mark.parametrize(
  ('length', 'padded'),
  [(1, 32), (32, 32), (33, 40), (49, 56), (57, 64), (65, 80), (1025, 1280)],
)
def test_few_shapes_are_compiled(length, padded):
  assert padded_length(length) == padded


@pytest.mark.parametrize(
  'decoding',
  [GREEDY, pytest.param(Decoding(beams=2), marks=pytest.mark.slow)],
  ids=['greedy', 'beams'],
)
def test_a_mesh_does_not_matter(model, decoding, monkeypatch):
  """Each device holds its slots and heads of the cache only."""
  decode, held = generate_lib.decode, set()

  def spy(params, state, *limits, **settings):
    state = decode(params, state, *limits, **settings)
    keys = state.cache.keys
    held.add((keys.shape[1:3], keys.sharding.shard_shape(keys.shape)[1:3]))
    return state

  given = prompts([40, 34, 41, 38, 35, 45])
  mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ('data', 'model'))
  params = jax.device_put(model.params, NamedSharding(mesh, P()))
  one = generate(model, given, batch_size=2 * decoding.beams, decoding=decoding)
  monkeypatch.setattr(generate_lib, 'decode', spy)
  other = generate_lib.generate(
    params,
    given,
    config=model.config,
    tokenizer=BYTES,
    max_tokens=STEPS,
    batch_size=4,
    decoding=decoding,
    sharding=NamedSharding(mesh, P('data', None)),
  )
  assert other.tokens == one.tokens
  assert held == (set() if decoding.beams > 1 else {((4, 2), (2, 1))})


class TestSampling:
  draw = staticmethod(jax.jit(choose, static_argnames='decoding'))

  def test_depends_on_the_seed_and_not_on_the_batch(self, tiny_model):
    """Other neighbors, which come before or after in other slots, change nothing."""
    given = prompts([11, 20, 8])
    model = tiny_model(num_layers=1)
    first, second = (Decoding(temperature=1.0, seed=seed) for seed in (1, 2))
    one = generate(model, given, decoding=first).tokens
    more = generate(model, given + prompts([30, 4, 15]), decoding=first).tokens
    other = generate(model, given, decoding=second).tokens
    assert one == more[:3] != other

  def test_greedy_takes_the_first_of_equal_logits(self):
    logits = np.zeros((3, 30), np.float32)
    logits[1, [4, 20]] = 2
    logits[2] = np.nan
    found = self.draw(
      logits,
      decoding=GREEDY,
      prompt_B=np.arange(3),
      count_B=np.zeros(3, np.int32),
    )
    assert found[:2].tolist() == [0, 4]
    assert 0 <= found[2] < 30

  @pytest.mark.parametrize('narrow', [{'top_k': 1}, {'top_p': 1e-6}])
  def test_the_most_probable_token_alone_is_greedy(self, narrow):
    logits = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32)
    drawn = self.draw(
      logits,
      decoding=Decoding(temperature=1.0, **narrow),
      prompt_B=np.arange(50),
      count_B=np.zeros(50, np.int32),
    )
    np.testing.assert_array_equal(drawn, logits.argmax(-1))

  @pytest.mark.parametrize(
    ('settings', 'kept'),
    [
      ({}, [0.1, 0.4, 0.2, 0.3]),
      ({'top_k': 3}, [0, 0.4, 0.2, 0.3]),
      ({'top_k': 9}, [0.1, 0.4, 0.2, 0.3]),
      ({'top_p': 0.35}, [0, 0.4, 0, 0]),
      ({'top_p': 0.65}, [0, 0.4, 0, 0.3]),
      ({'top_p': 0.75}, [0, 0.4, 0.2, 0.3]),
      ({'top_k': 2, 'top_p': 0.5}, [0, 0.4, 0, 0]),  # of 0.7, 0.4 is more than half
    ],
  )
  def test_excluded_tokens(self, settings, kept):
    logits = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], np.float32))
    found = likely(logits, decoding=Decoding(temperature=1.0, **settings))
    np.testing.assert_allclose(np.exp(found)[0], kept, rtol=1e-6)

  def test_frequencies_follow_the_softmax(self):
    """4,000 draws at temperature 2: within four standard errors."""
    logits = np.tile(np.log(np.array([0.1, 0.5, 0.4], np.float32)), (4000, 1))
    drawn = self.draw(
      logits,
      decoding=Decoding(temperature=2.0),
      prompt_B=np.arange(4000),
      count_B=np.zeros(4000, np.int32),
    )
    chances = np.sqrt([0.1, 0.5, 0.4]) / np.sqrt([0.1, 0.5, 0.4]).sum()
    seen = np.bincount(drawn, minlength=3) / 4000
    assert (abs(seen - chances) < 4 * np.sqrt(chances * (1 - chances) / 4000)).all()


class TestStopStrings:
  def answers(self, tiny_model):
    """A model, prompts, and its greedy answers as text."""
    model = tiny_model(tied_embedding=False)
    given = prompts(LENGTHS)
    texts = generate(model, given).texts
    return model, given, texts

  def test_an_answer_ends_before_the_first_of_them(self, tiny_model):
    model, given, texts = self.answers(tiny_model)
    stop = texts[1][3:5]
    decoding = Decoding(stop=('never generated', stop))
    found = generate(model, given, decoding=decoding)
    assert found.texts == [decoding.trimmed(text) for text in texts]
    assert found.texts[1] == texts[1][: texts[1].index(stop)]
    assert len(found.tokens[1]) < STEPS

  def test_tokens_end_with_the_one_that_completes_it(self, tiny_model):
    model, given, texts = self.answers(tiny_model)
    stop = texts[1][3:5]
    found = generate(model, given, decoding=Decoding(stop=(stop,)))
    assert stop in BYTES.decode(found.tokens[1])
    assert stop not in BYTES.decode(found.tokens[1][:-1])


class TestBeamSearch:
  SMALL = 11

  def best(self, model, prompt, *, steps, alpha):
    """Finds the best of all answers that end in EOS or have `steps` tokens."""
    ids = [i for i in range(self.SMALL) if i != EOS]
    scores = {}
    for length in range(steps + 1):
      for body in itertools.product(ids, repeat=length):
        answer = [*body, EOS] if length < steps else [*body]
        read = [*prompt, EOS, *answer]
        logits = model.logits(read, prefix=0, width=16)
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        at = np.arange(len(prompt), len(prompt) + len(answer))
        total = logp[at, answer].sum() / ((5 + len(answer)) / 6) ** alpha
        scores[body] = total
    return list(max(scores, key=scores.get))

  @pytest.mark.parametrize('alpha', [pytest.param(0.0, marks=pytest.mark.slow), 2.0])
  def test_wide_enough_it_finds_the_best_of_all_answers(self, tiny_model, alpha):
    model = tiny_model(vocab_size=self.SMALL, num_layers=1)
    own(model, 'embedding')[EOS] *= 0.5
    given = [np.array(ids, np.int32) for ids in ([3, 4, 5], [7], [9, 2])]
    decoding = Decoding(beams=self.SMALL**2, length_penalty=alpha)
    found = generate(
      model, given, decoding=decoding, max_tokens=2, batch_size=self.SMALL**2
    )
    expected = [self.best(model, prompt, steps=2, alpha=alpha) for prompt in given]
    assert found.tokens == expected

  def test_is_never_worse_than_greedy(self, model):
    given = prompts([40, 34, 41, 38])

    def logp(prompt, answer):
      answer = answer if len(answer) == STEPS else [*answer, EOS]
      logits = model.logits([*prompt, EOS, *answer], prefix=0, width=64)
      logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
      at = np.arange(len(prompt), len(prompt) + len(answer))
      return logp[at, answer].sum()

    greedy = generate(model, given).tokens
    beams = generate(model, given, decoding=Decoding(beams=8), batch_size=16).tokens
    gains = [
      logp(p, b) - logp(p, g) for p, b, g in zip(given, beams, greedy, strict=True)
    ]
    assert min(gains) > -1e-4
    assert max(gains) > 0

  def test_nan_is_reported_by_prompt(self, model):
    model, given = poisoned(model)
    found = generate(model, given, decoding=Decoding(beams=8), batch_size=16)
    assert found.nan == [False, True, False]


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'temperature': -1.0}, 'temperature: got -1.0'),
    ({'temperature': 1.0, 'top_k': 0}, 'top_k: got 0.*nearest is 1'),
    ({'temperature': 1.0, 'top_p': 1.5}, 'top_p: got 1.5.*nearest is 1'),
    ({'top_k': 5}, 'top_k: got 5 with temperature 0'),
    ({'top_p': 0.9}, 'top_p: got 0.9 with temperature 0'),
    ({'beams': 0}, 'beams: got 0'),
    ({'beams': 4, 'temperature': 0.5}, 'temperature: got 0.5 with 4 beams'),
    ({'length_penalty': 0.6}, 'length_penalty: got 0.6 with 1 beams'),
    ({'stop': 'end'}, "stop: got 'end'"),
    ({'stop': ('',)}, 'stop: got'),
  ],
)
def test_settings_out_of_range_or_without_effect_are_refused(settings, message):
  with pytest.raises(InputError, match=message):
    Decoding(**settings)
