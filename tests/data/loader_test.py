"""Loader: the same global batches for any number of processes and any start step."""

import subprocess
import sys

import numpy as np
import pytest

from flan_jax.data.batch import Batch, sequence_digest
from flan_jax.data.loader import Loader
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError

BATCH_SIZE = 8
LENGTH = 512


@pytest.fixture
def store(tiny_datasets, tmp_path):
  materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', epochs=2),
    out=tmp_path / 'out',
  )
  return Store.open(tmp_path / 'out')


@pytest.fixture
def plan(store):
  return store.plan(seed=7, sequences=6 * BATCH_SIZE, sequence_length=LENGTH)


def digests(batch):
  return [sequence_digest(Batch(*arrays)) for arrays in zip(*batch, strict=True)]


def test_any_number_of_processes_loads_the_same_global_batches(store, plan):
  want = [sequence_digest(store.sequence(plan, k)) for k in range(len(plan))]
  assert len(set(want)) > len(want) // 2  # the tiny datasets repeat themselves
  for count in (1, 2, 4, 8):
    loaders = [
      Loader(
        store, plan, batch_size=BATCH_SIZE, process_index=index, process_count=count
      )
      for index in range(count)
    ]
    got = []
    for step, batches in enumerate(zip(*loaders, strict=True)):
      for loader, batch in zip(loaders, batches, strict=True):
        assert {array.shape for array in batch} == {(BATCH_SIZE // count, LENGTH)}
        assert loader.first_sequence(step) == len(got)
        got += digests(batch)
    assert got == want


def test_a_loader_starts_at_any_step(store, plan):
  whole = [digests(batch) for batch in Loader(store, plan, batch_size=BATCH_SIZE)]
  assert len(whole) == 6
  for start in (0, 1, 5, 6):
    loader = Loader(store, plan, batch_size=BATCH_SIZE, start_step=start)
    assert [digests(batch) for batch in loader] == whole[start:]
    assert [digests(batch) for batch in loader] == whole[start:]  # and again


def test_batches_have_the_dtypes_of_a_batch(store, plan):
  batch = next(iter(Loader(store, plan, batch_size=BATCH_SIZE)))
  assert isinstance(batch, Batch)
  assert {array.dtype for array in batch} == {np.dtype('int32'), np.dtype('float32')}
  assert batch.loss_mask.dtype == np.float32


def test_an_unpacked_plan_has_one_example_a_sequence(store):
  plan = store.plan(seed=7, sequences=BATCH_SIZE, sequence_length=LENGTH, pack=False)
  batch = next(iter(Loader(store, plan, batch_size=BATCH_SIZE)))
  assert batch.segment_ids.max(axis=1).tolist() == [1] * BATCH_SIZE


def test_examples_seen_are_counted_by_cluster(store, plan):
  loader = Loader(store, plan, batch_size=BATCH_SIZE)
  clusters = {'pairs': 'nli', 'stories': 'summarization', 'picks': 'commonsense'}
  for steps in (0, 2, 6):
    drawn = [d for k in range(steps * BATCH_SIZE) for d, _ in plan.sequence(k)]
    want = {c: sum(clusters[d] == c for d in drawn) for c in clusters.values()}
    assert loader.examples_seen(steps) == want


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (
      {'batch_size': 6, 'process_count': 4, 'process_index': 0},
      'batch_size 6: must be a multiple of the 4 processes; nearest is 8',
    ),
    ({'sequence_length': 1024}, 'sequence_length 1024: must be 512'),
    ({'start_step': 7}, 'start_step 7: must be 0 to 6'),
    (
      {'process_index': 2, 'process_count': 2},
      'process_index 2: must be 0 to 1',
    ),
  ],
)
def test_bad_loaders_are_named(store, plan, given, message):
  with pytest.raises(InputError, match=message):
    Loader(store, plan, **{'batch_size': BATCH_SIZE} | given)


def test_loading_never_imports_tensorflow(store, plan):
  """A machine without TensorFlow trains from a store."""
  code = f"""
import sys
from flan_jax.data.loader import Loader
from flan_jax.data.store.store import Store
store = Store.open({str(store.path)!r})
plan = store.plan(seed=7, sequences={len(plan)}, sequence_length={LENGTH})
next(iter(Loader(store, plan, batch_size={BATCH_SIZE})))
store.tokenizer()
print(sorted({{'tensorflow', 'seqio', 'tensorflow_datasets'}} & set(sys.modules)))
"""
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'
