"""Split arithmetic: splits stay disjoint and in bounds for data of any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_jax.catalog import registry, splits
from flan_jax.catalog.splits import Slice
from flan_jax.errors import InputError

DATASETS = registry.datasets('flan')
any_dataset = st.sampled_from(sorted(DATASETS)).map(DATASETS.__getitem__)


def spans(dataset, real):
  """Canonical split -> (TFDS split, start, stop) of the data present."""
  return {
    name: (part.split, *part.bounds(real.get(part.split, 0)))
    for name, part in dataset.resolve_splits(real).items()
  }


@pytest.mark.parametrize(
  ('text', 'part'),
  [
    ('train', Slice('train', None, None)),
    ('train[:30000]', Slice('train', None, 30_000)),
    ('train[-200:]', Slice('train', -200, None)),
    ('train[-1200:-1000]', Slice('train', -1200, -1000)),
    ('train_xl[30000:30200]', Slice('train_xl', 30_000, 30_200)),
  ],
)
def test_a_slice_is_read_and_written(text, part):
  assert splits.parse(text) == part
  assert str(part) == text


@pytest.mark.parametrize('text', ['', 'train[', 'train[1:2:3]', 'train[:10%]'])
def test_a_malformed_slice_is_refused(text):
  with pytest.raises(InputError, match='must be a TFDS slice'):
    splits.parse(text)


@given(any_dataset, st.data())
def test_no_example_is_in_two_splits_of_any_size(dataset, data):
  real = {
    split: data.draw(st.integers(0, size) | st.integers(0, 30), label=split)
    for split, size in dataset.sizes.items()
  }
  found = spans(dataset, real)
  assert set(found) == set(dataset.slices)
  for name, (split, start, stop) in found.items():
    assert 0 <= start <= stop <= real[split]
    assert stop - start <= dataset.num_examples(name)
    for other, (same, lo, hi) in found.items():
      if other != name and same == split:
        assert stop <= lo or hi <= start or start == stop or lo == hi


@given(any_dataset, st.data())
def test_no_split_is_empty_if_examples_suffice(dataset, data):
  real = {split: data.draw(st.integers(3, 500)) for split in dataset.sizes}
  assert all(start < stop for _, start, stop in spans(dataset, real).values())


@pytest.mark.parametrize('name', DATASETS)
def test_the_full_data_gives_the_declared_slices(name):
  dataset = DATASETS[name]
  for split, (tfds_split, start, stop) in spans(dataset, dataset.sizes).items():
    size = dataset.sizes[tfds_split]
    declared = splits.parse(dataset.slices[split])
    assert (start, stop) == declared.bounds(size)


@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=6), st.integers(0, 3_000))
def test_shares_add_up_and_keep_their_proportion(sizes, total):
  found = splits.shares(sizes, total)
  assert sum(found) == total
  if total >= len(sizes):
    assert min(found) >= 1
  exact = [size * total / sum(sizes) for size in sizes]
  small = sum(share < 1 for share in exact)  # raised to 1 at the others' cost
  assert all(
    abs(got - share) < 1 + small for got, share in zip(found, exact, strict=True)
  ) or total <= len(sizes)
