"""Packing plan: exact shares, the same draws in any packing, hardly any padding."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flan_jax.data import packing
from flan_jax.data.packing import PackingPlan
from flan_jax.errors import InputError


def lognormal(n, *, mean=5.0, sigma=0.7, longest=1280, seed=0):
  """Lengths like those of FLAN's examples: most near 150 tokens, some over 1,000."""
  drawn = np.random.default_rng(seed).lognormal(mean, sigma, n)
  return np.clip(drawn, 4, longest).astype(np.int32)


def build(sizes, *, rates=None, rendered=None, **kwargs):
  names = [f'd{i}' for i in range(len(sizes))]
  rendered = dict(zip(names, rendered or [1] * len(sizes), strict=True))
  lengths = {
    name: lognormal(n * rendered[name], longest=200, seed=n)
    for name, n in zip(names, sizes, strict=True)
  }
  rates = dict(zip(names, rates or sizes, strict=True))
  given = {
    'seed': 0,
    'sequences': 20,
    'sequence_length': 256,
    'digest': 'store',
  } | kwargs
  return PackingPlan.build(lengths, rates, rendered, **given)


def draws(plan):
  return [draw for k in range(len(plan)) for draw in plan.sequence(k)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.randoms())
@settings(max_examples=100, deadline=None)
def test_every_prefix_has_each_share_to_within_one(rates, random):
  order = random.sample(range(len(rates)), len(rates))
  period = packing.schedule(rates, order)
  total = sum(rates)
  assert len(period) == total
  for i, rate in enumerate(rates):
    # In whole numbers, over two periods: |count - t * rate / total| < 1.
    count = np.cumsum(np.tile(period, 2) == i)
    share = np.arange(1, 2 * total + 1) * rate
    assert np.all(np.abs(count * total - share) < total)


def test_shares_of_the_paper_are_kept_over_every_prefix():
  """Ten small datasets and 59 at the cap (facts: rates sum to 188,371)."""
  small = [200, 350, 504, 605, 919, 1122, 1659, 1671, 2051, 2290]
  rates = np.array(small + [3000] * 59)
  assert rates.sum() == 188_371
  period = packing.schedule(rates.tolist(), range(len(rates)))
  for t in range(0, len(period), 997):
    counts = np.bincount(period[:t], minlength=len(rates))
    assert np.all(np.abs(counts * rates.sum() - t * rates) < rates.sum())


def test_an_epoch_draws_every_example_once_in_a_new_order():
  plan = build([50, 30], sequences=3 * 80, pack=False)
  for dataset, n in (('d0', 50), ('d1', 30)):
    entries = [entry for name, entry in draws(plan) if name == dataset]
    epochs = [entries[i : i + n] for i in range(0, 3 * n, n)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_epochs_draw_their_own_entries_and_wrap():
  """With two epochs rendered, draws of epochs 0, 1, 2 are entries of 0, 1, 0."""
  plan = build([40], rendered=[2], sequences=120, pack=False)
  entries = np.array([entry for _, entry in draws(plan)])
  assert (entries // 40).tolist() == [0] * 40 + [1] * 40 + [0] * 40


@given(
  sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4),
  seed=st.integers(0, 2**32),
  sequences=st.integers(1, 400),
  more=st.integers(1, 400),
  pack=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_a_longer_plan_begins_with_the_shorter(sizes, seed, sequences, more, pack):
  short = build(sizes, seed=seed, sequences=sequences, pack=pack)
  long = build(sizes, seed=seed, sequences=sequences + more, pack=pack)
  assert [long.sequence(k) for k in range(sequences)] == [
    short.sequence(k) for k in range(sequences)
  ]
  assert short.stream == long.stream
  assert short.digest != long.digest


@given(st.lists(st.integers(1, 64), min_size=1, max_size=300))
@settings(max_examples=100, deadline=None)
def test_best_fit_places_every_example_and_overfills_no_sequence(lengths):
  lengths = np.array(lengths)
  sequences = packing.best_fit(lengths, 64)
  used = np.bincount(sequences, weights=lengths)
  assert len(sequences) == len(lengths)
  assert set(sequences.tolist()) == set(range(len(used)))
  assert used.max() <= 64
  # Best fit: no two sequences could have been one.
  assert len(used) == 1 or np.sort(used)[:2].sum() > 64


@given(st.lists(st.integers(1, 64), min_size=1, max_size=300))
@settings(max_examples=100, deadline=None)
def test_exact_fit_places_every_example_and_overfills_no_sequence(lengths):
  lengths = np.array(lengths)
  sequences = packing.exact_fit(lengths, 64)
  used = np.bincount(sequences, weights=lengths)
  assert set(sequences.tolist()) == set(range(len(used)))
  assert used.max() <= 64


def test_a_sequence_keeps_the_order_of_the_draws():
  """Short examples are spread: the number of examples per sequence varies little."""
  lengths = lognormal(8192, seed=3)
  per_sequence = [np.bincount(pack(lengths, 2048)).std() for pack in
             (packing.exact_fit, packing.best_fit)]  # fmt: skip
  assert per_sequence[0] < per_sequence[1] / 2


def test_packing_keeps_the_draws():
  """A packed window has the same examples as an unpacked one."""
  windows = [1024, 2048, 4096, 8192, 8192]
  loose = iter(draws(build([70, 900, 33], sequences=sum(windows), pack=False)))
  packed = build([70, 900, 33], sequences=16_000)
  k = 0
  for size in windows:
    want = collections.Counter(itertools.islice(loose, size))
    got = collections.Counter()
    while got.total() < size:
      got.update(packed.sequence(k))
      k += 1
    assert got == want
  assert k < sum(windows)  # some sequences hold several


def test_drawn_is_where_a_window_ends():
  assert [packing.drawn(n) for n in (1, 1024, 1025, 7168, 7169, 20_000)] == [
    1024, 1024, 3072, 7168, 15_360, 23_552,
  ]  # fmt: skip


@pytest.mark.parametrize(('mean', 'sigma'), [(4.0, 0.5), (5.0, 0.7), (5.5, 1.0)])
def test_realistic_lengths_fill_the_sequences(mean, sigma):
  """Sequences of 2,048 tokens are over 99 % full, and none is too long."""
  lengths = {
    name: lognormal(4000, mean=mean, sigma=sigma, seed=i)
    for i, name in enumerate('abcde')
  }
  plan = PackingPlan.build(
    lengths, dict.fromkeys(lengths, 3000), dict.fromkeys(lengths, 1),
    seed=1, sequences=2000, sequence_length=2048, digest='store',
  )  # fmt: skip
  used = [sum(int(lengths[d][e]) for d, e in plan.sequence(k)) for k in range(2000)]
  assert used == [plan.used(k) for k in range(2000)]
  assert max(used) <= 2048
  assert plan.fill == sum(used) / (2000 * 2048)
  assert plan.fill >= 0.995


def test_counts_are_those_of_the_first_sequences():
  plan = build([70, 900, 33], sequences=50)
  for sequences in (0, 1, 17, 50):
    names = [name for k in range(sequences) for name, _ in plan.sequence(k)]
    assert plan.counts(sequences) == {d: names.count(d) for d in plan.datasets}
  assert sum(plan.counts().values()) == plan.examples


def test_a_saved_plan_opens_as_the_same_plan(tmp_path):
  plan = build([70, 900, 33])
  plan.save(tmp_path / 'plans' / plan.digest)
  plan.save(tmp_path / 'plans' / plan.digest)  # the second of two processes
  found = PackingPlan.open(tmp_path / 'plans' / plan.digest)
  assert draws(found) == draws(plan)
  assert (found.digest, found.stream, found.fill) == (
    plan.digest,
    plan.stream,
    plan.fill,
  )
  assert [p.name for p in (tmp_path / 'plans').iterdir()] == [plan.digest]


def test_a_truncated_plan_is_named(tmp_path):
  plan = build([70])
  plan.save(tmp_path / 'plan')
  entries = tmp_path / 'plan' / 'entry.npy'
  entries.write_bytes(entries.read_bytes()[:-4])
  with pytest.raises(InputError, match='plan .*truncated'):
    PackingPlan.open(tmp_path / 'plan')


def test_the_digest_covers_everything_a_plan_depends_on():
  changes = [
    {}, {'seed': 1}, {'sequences': 21}, {'sequence_length': 512}, {'pack': False},
    {'digest': 'other'}, {'rates': [1, 2]},
  ]  # fmt: skip
  digests = [build([70, 33], **change).digest for change in changes]
  assert len(set(digests)) == len(digests)


def test_a_plan_too_long_for_memory_is_refused_at_once():
  with pytest.raises(InputError, match='must be 134,217,728 or fewer'):
    PackingPlan.build(
      {'a': [4]}, {'a': 1}, {'a': 1}, seed=0, sequences=2**27 + 1, sequence_length=8,
      digest='x',
    )  # fmt: skip


def test_bad_plans_are_named():
  with pytest.raises(
    InputError, match="sequence_length 64: an example of 'd0' .* at least"
  ):
    build([70], sequence_length=64)
  with pytest.raises(InputError, match='no dataset has a rate'):
    build([70], rates=[0])
  with pytest.raises(InputError, match='sequence 20: must be 0 to 19'):
    build([70]).sequence(20)
