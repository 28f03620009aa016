"""Loader: the same global rows whoever feeds them and wherever they start."""

import subprocess
import sys

import numpy as np
import pytest

from flan_jax.data.batch import Batch, sequence_digest
from flan_jax.data.loader import Loader
from flan_jax.data.store.materialize import materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError

ROWS = 8
LENGTH = 512


@pytest.fixture
def store(world, tmp_path):
  materialize(world.mixture, out=tmp_path / 'out', tokenizer='bytes', epochs=2)
  return Store.open(tmp_path / 'out')


@pytest.fixture
def plan(store):
  return store.plan(seed=7, sequences=6 * ROWS, sequence_length=LENGTH)


def digests(batch):
  return [sequence_digest(Batch(*arrays)) for arrays in zip(*batch, strict=True)]


def test_any_number_of_hosts_reads_the_same_global_rows(store, plan):
  want = [sequence_digest(store.row(plan, k)) for k in range(len(plan))]
  assert len(set(want)) > len(want) // 2  # the tiny world repeats itself
  for hosts in (1, 2, 4, 8):
    loaders = [
      Loader(store, plan, batch_size=ROWS, host=host, hosts=hosts)
      for host in range(hosts)
    ]
    got = []
    for step, batches in enumerate(zip(*loaders, strict=True)):
      for loader, batch in zip(loaders, batches, strict=True):
        assert {array.shape for array in batch} == {(ROWS // hosts, LENGTH)}
        assert loader.first_sequence(step) == len(got)
        got += digests(batch)
    assert got == want


def test_it_starts_anywhere(store, plan):
  whole = [digests(batch) for batch in Loader(store, plan, batch_size=ROWS)]
  assert len(whole) == 6
  for start in (0, 1, 5, 6):
    loader = Loader(store, plan, batch_size=ROWS, start_step=start)
    assert [digests(batch) for batch in loader] == whole[start:]
    assert [digests(batch) for batch in loader] == whole[start:]  # and again


def test_batches_have_the_dtypes_of_a_batch(store, plan):
  batch = next(iter(Loader(store, plan, batch_size=ROWS)))
  assert isinstance(batch, Batch)
  assert {array.dtype for array in batch} == {np.dtype('int32'), np.dtype('float32')}
  assert batch.loss_mask.dtype == np.float32


def test_an_unpacked_plan_has_one_example_a_row(store):
  plan = store.plan(seed=7, sequences=ROWS, sequence_length=LENGTH, pack=False)
  batch = next(iter(Loader(store, plan, batch_size=ROWS)))
  assert batch.segment_ids.max(axis=1).tolist() == [1] * ROWS


def test_rows_seen_counts_examples_by_cluster(store, plan):
  loader = Loader(store, plan, batch_size=ROWS)
  clusters = {'pairs': 'nli', 'stories': 'summarization', 'picks': 'commonsense'}
  for steps in (0, 2, 6):
    drawn = [d for k in range(steps * ROWS) for d, _ in plan.row(k)]
    want = {c: sum(clusters[d] == c for d in drawn) for c in clusters.values()}
    assert loader.examples_seen(steps) == want


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'batch_size': 6, 'hosts': 4, 'host': 0}, 'multiple of the 4 hosts; nearest is 8'),
    ({'sequence_length': 1024}, 'sequence_length 1024: must be 512'),
    ({'start_step': 7}, 'start_step 7: must be 0 to 6'),
    ({'host': 2, 'hosts': 2}, 'host 2: must be 0 to 1'),
  ],
)
def test_bad_loaders_are_named(store, plan, given, message):
  with pytest.raises(InputError, match=message):
    Loader(store, plan, **{'batch_size': ROWS} | given)


def test_loading_never_imports_tensorflow(store, plan):
  """Accelerator machines without TensorFlow train from a store."""
  code = f"""
import sys
from flan_jax.data.loader import Loader
from flan_jax.data.store.store import Store
store = Store.open({str(store.path)!r})
plan = store.plan(seed=7, sequences={len(plan)}, sequence_length={LENGTH})
next(iter(Loader(store, plan, batch_size={ROWS})))
store.tokenizer()
print(sorted({{'tensorflow', 'seqio', 'tensorflow_datasets'}} & set(sys.modules)))
"""
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'
