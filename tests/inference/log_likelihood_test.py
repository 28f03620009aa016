"""The sum of an answer is that of its sequence run by itself, computed in trees.

Most tests use one model, and trees packed into sequences of 64 tokens, two a batch:
they share their compiled programs.
"""

import dataclasses
import types

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tiny_model import TINY

from flan_jax.inference import log_likelihood
from flan_jax.inference.log_likelihood import LogLikelihood
from flan_jax.inference.prefix_tree import ScoredSequence

LENGTH = 64
ARCHITECTURES = {
  'rotary': {'tied_embedding': False},
  't5': {'positions': 't5'},
  'learned': {'positions': 'learned', 'max_positions': 66, 'position_offset': 2},
  'prefix-rotary': {'attention': 'prefix'},
  'prefix-t5': {'attention': 'prefix', 'positions': 't5'},
  'windows': {'layer_pattern': 'LG', 'window': 7, 'rope_local_base': 100.0},
}
TELLING = ('rotary', 'prefix-t5', 'windows')


@pytest.fixture
def model(tiny_model):
  return tiny_model(**ARCHITECTURES['rotary'])


def make(model, **changes) -> LogLikelihood:
  settings = {'batch_size': 2, 'sequence_length': LENGTH} | changes
  params = settings.pop('params', model.params)
  return LogLikelihood(params, config=model.config, **settings)


def draw(generator, length: int) -> np.ndarray:
  return generator.integers(3, 200, length, dtype=np.int32)


def sequences(count: int = 6, seed: int = 0) -> list[ScoredSequence]:
  """Contexts of 3 to 40 tokens, each with two to four answers of 1 to 20."""
  generator = np.random.default_rng(seed)
  found = []
  for _ in range(count):
    context = draw(generator, generator.integers(3, 41))
    found += [
      ScoredSequence(context, draw(generator, generator.integers(1, 21)))
      for _ in range(generator.integers(2, 5))
    ]
  return found


def by_themselves(model, found, *, width: int = LENGTH) -> np.ndarray:
  """The definition: one forward pass a sequence, summed in float64."""
  sums = []
  for one in found:
    start = len(one.context)
    logits = model.logits(one.inputs, prefix=start, width=width)[start - 1 :]
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    sums.append(logp[np.arange(len(one.answer)), one.answer].sum())
  return np.array(sums)


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=[] if name in TELLING else pytest.mark.slow)
    for name in ARCHITECTURES
  ],
)
def test_a_sum_is_that_of_the_sequence_run_by_itself(tiny_model, name):
  model = tiny_model(**ARCHITECTURES[name])
  found = sequences()
  sums, _ = make(model).sums(found)
  np.testing.assert_allclose(sums, by_themselves(model, found), rtol=1e-5)


def test_the_answer_of_greedy_decoding_is_told(model):
  """Whole sequences, and one that runs in parts."""
  for length in (10, 70):
    context = draw(np.random.default_rng(length), length)
    whole = context
    for _ in range(3):
      following = model.logits(whole, prefix=len(whole), width=128)[-1].argmax()
      whole = np.append(whole, np.int32(following))
    answer = whole[length:]
    found = [
      ScoredSequence(context, answer),
      ScoredSequence(context, np.append(answer[:-1], (answer[-1] + 1) % 200)),
    ]
    scores, _ = make(model).scores(found)
    assert scores[0, 1] == 0 > scores[1, 1]
    np.testing.assert_array_equal(scores[:, 0], make(model).sums(found)[0])


def test_neither_order_nor_neighbors_matter(model):
  found = sequences()
  sums, _ = make(model).sums(found)
  order = np.random.default_rng(1).permutation(len(found))
  shuffled, _ = make(model).sums([found[i] for i in order])
  np.testing.assert_allclose(shuffled, sums[order], rtol=1e-5)
  for i in (0, 3):
    alone, _ = make(model, batch_size=1).sums([found[i]])
    np.testing.assert_allclose(alone, sums[i : i + 1], rtol=1e-5)


def test_a_mesh_does_not_matter(model):
  mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ('data', 'model'))
  found = sequences()
  spread = make(
    model,
    params=jax.device_put(model.params, NamedSharding(mesh, P())),
    sharding=NamedSharding(mesh, P('data', None)),
  )
  one, other = make(model).sums(found), spread.sums(found)
  np.testing.assert_allclose(other[0], one[0], rtol=1e-5)


@pytest.mark.parametrize(
  'name', ['rotary', pytest.param('prefix-t5', marks=pytest.mark.slow)]
)
def test_a_longer_sequence_runs_in_parts(tiny_model, name):
  """Longer contexts and answers, beside sequences that fit."""
  model = tiny_model(**ARCHITECTURES[name])
  generator = np.random.default_rng(5)
  lengths = [(10, 150), (140, 2), (120, 31), (5, 4)]
  found = [
    ScoredSequence(draw(generator, n), draw(generator, m)) for n, m in lengths
  ] + sequences(2)
  sums, _ = make(model).sums(found)
  np.testing.assert_allclose(sums, by_themselves(model, found, width=192), rtol=1e-5)


def test_answers_that_begin_alike_share_their_beginning(model):
  """As many answers as ReCoRD has entities, some of them prefixes of others."""
  generator = np.random.default_rng(6)
  context, long = draw(generator, 25), draw(generator, (20, 8))
  found = [ScoredSequence(context, answer[:n]) for answer in long for n in (1, 4, 5, 8)]
  sums, _ = make(model).sums(found)
  np.testing.assert_allclose(sums, by_themselves(model, found), rtol=1e-5)


def test_a_shared_beginning_is_computed_once(model):
  """Ten templates around one passage: the passage counts once, and sums stay."""
  generator = np.random.default_rng(4)
  passage = draw(generator, 40)
  ends = np.arange(20, 40, dtype=np.int32).reshape(10, 2)
  found = [
    ScoredSequence(np.concatenate([passage, end]), np.array([9], np.int32))
    for end in ends
  ]
  sums, computed = make(model).sums(found)
  assert computed.padded == LENGTH
  np.testing.assert_allclose(sums, by_themselves(model, found), rtol=1e-5)


def test_little_more_is_computed_than_the_trees_hold(model):
  """One sequence per answer would compute three times as much."""
  generator = np.random.default_rng(3)
  contexts, answers = draw(generator, (12, 21)), draw(generator, (12, 8, 6))
  found = [
    ScoredSequence(context, answer)
    for context, some in zip(contexts, answers, strict=True)
    for answer in some
  ]
  _, computed = make(model).sums(found)
  held = 12 * (21 + 8 * 5)
  assert held <= computed.padded <= sum(one.length for one in found) / 3


def test_one_token_may_have_more_answers_than_are_predicted_together(
  model, monkeypatch
):
  monkeypatch.setattr(log_likelihood, '_MAX_PREDICTIONS', 2)
  context = np.array([7, 8, 9], np.int32)
  found = [ScoredSequence(context, np.array([k], np.int32)) for k in range(3, 40)]
  sums, _ = make(model).sums(found)
  np.testing.assert_allclose(sums, by_themselves(model, found), rtol=1e-5)


def test_nan_spoils_its_own_sequence_only(model):
  """Token 200 embeds as NaN: its sums are NaN, its packed neighbors' are not."""
  found = sequences()
  bad = ScoredSequence(np.array([10, 200, 12], np.int32), found[0].answer)
  embedding = np.array(model.params['embedding'])
  embedding[200] = np.nan
  broken = make(model, params={**model.params, 'embedding': embedding})
  sums, _ = broken.sums([*found[:3], bad, *found[3:]])
  assert np.flatnonzero(np.isnan(sums)).tolist() == [3]
  np.testing.assert_allclose(np.delete(sums, 3), make(model).sums(found)[0], rtol=1e-5)


def test_a_broken_model_is_not_retried_sequence_by_sequence(model):
  found = sequences()
  sound, computed = make(model).sums(found)
  params = {**model.params, 'embedding': np.nan * np.array(model.params['embedding'])}
  sums, retried = make(model, params=params).sums(found)
  assert np.isfinite(sound).all()
  assert np.isnan(sums).all()
  assert retried.padded - computed.padded == 2 * LENGTH  # one batch more


def test_reports_progress_to_the_end_and_may_stop_before_a_batch(model):
  found = sequences()
  seen = []
  make(model).sums(found, progress=lambda *counts: seen.append(counts))
  assert len(seen) > 1
  assert seen == sorted(seen)
  assert seen[-1][:2] == (len(found), len(found))

  class Stop(Exception):
    pass

  def stop_at_the_second():
    nonlocal batches
    batches += 1
    if batches == 2:
      raise Stop

  batches, before = 0, []
  stopping = make(model, on_batch=stop_at_the_second)
  with pytest.raises(Stop):
    stopping.sums(found, progress=lambda *progress: before.append(progress))
  assert before == seen[:1]


def test_nothing_has_no_sums(model):
  sums, computed = make(model).sums([])
  assert (sums.tolist(), computed.padded) == ([], 0)


@pytest.mark.parametrize(
  ('platform', 'kind', 'dtype', 'runs'),
  [
    ('cpu', 'cpu', 'float32', False),
    ('gpu', 'NVIDIA H200', 'float32', False),
    ('tpu', 'TPU v3', 'float32', True),
    ('tpu', 'TPU v3', 'bfloat16', False),  # not supported by its compiler
    ('tpu', 'TPU v5 lite', 'bfloat16', True),
  ],
)
def test_where_the_tree_kernel_runs(monkeypatch, platform, kind, dtype, runs):
  device = types.SimpleNamespace(platform=platform, device_kind=kind)
  monkeypatch.setattr(log_likelihood.jax, 'devices', lambda: [device])
  config = dataclasses.replace(TINY, dtype=dtype)
  assert log_likelihood._runs_kernel(config) == runs
