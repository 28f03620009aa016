"""Several processes: each loads its slice, and together they load every sequence."""

import contextlib
import functools
import io
import os
import socket
import subprocess
import sys

import pytest

from flan_jax.catalog import registry
from flan_jax.cli import dispatch
from flan_jax.data.batch import Batch, sequence_digest
from flan_jax.data.loader import Loader
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store

BATCH_SIZE = 8
LENGTH = 512
STEPS = 3
SEED = 7

CODE = f"""
import sys
import jax

address, count, index, path, start = sys.argv[1:]
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.distributed.initialize(address, int(count), int(index))
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flan_jax.data.loader import Loader
from flan_jax.data.batch import Batch, sequence_digest
from flan_jax.data.store.store import Store

assert jax.process_count() == int(count)
store = Store.open(path)
plan = store.plan(seed={SEED}, sequences={STEPS * BATCH_SIZE}, sequence_length={LENGTH})
loader = Loader(store, plan, batch_size={BATCH_SIZE}, start_step=int(start))
mesh = Mesh(np.array(jax.devices()), ('data',))
sharding = NamedSharding(mesh, PartitionSpec('data'))
for step, batch in enumerate(loader, int(start)):
  for k, arrays in zip(loader.sequence_numbers(step), zip(*batch), strict=True):
    print('sequence', k, sequence_digest(Batch(*arrays)))
  # One global array over the devices of all processes, summed.
  tokens = jax.make_array_from_process_local_data(sharding, batch.tokens)
  assert tokens.shape == ({BATCH_SIZE}, {LENGTH})
  total = jax.jit(lambda x: x.astype('float32').sum())(tokens)
  print('sum', step, int(total.addressable_data(0)))
assert not {{'tensorflow', 'seqio'}} & set(sys.modules)
"""


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  out = tmp_path_factory.mktemp('processes') / 'out'
  mixture = registry.mixture('microworld_mini_trec')
  materialize(mixture, StoreConfig(tokenizer='bytes'), out=out)
  return Store.open(out)


def free_port():
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


def load(store, count, *, start=0):
  """Runs `count` processes; (sequence -> digest, step -> sums of its tokens)."""
  address = f'127.0.0.1:{free_port()}'
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', CODE, address, str(count), str(index), str(store.path),
       str(start)],
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env=_environment(),
    )
    for index in range(count)
  ]  # fmt: skip
  digests, sums = {}, {}
  try:
    for process in processes:
      out, error = process.communicate(timeout=120)
      assert process.returncode == 0, error[-2000:]
      for line in out.splitlines():
        if not line.startswith(('sequence ', 'sum ')):
          continue  # Gloo prints its connections to standard output
        kind, number, value = line.split()
        if kind == 'sequence':
          assert int(number) not in digests  # no sequence is loaded twice
          digests[int(number)] = value
        else:
          sums.setdefault(int(number), set()).add(int(value))
  finally:
    for process in processes:
      process.kill()
  return digests, sums


def _environment():
  kept = {k: v for k, v in os.environ.items() if k not in ('XLA_FLAGS', 'PYTHONPATH')}
  return {**kept, 'JAX_PLATFORMS': 'cpu'}


@pytest.fixture(scope='module')
def loaded(store):
  """Returns a function: number of processes -> what they load of the whole run."""
  return functools.cache(lambda count: load(store, count))


def printed(store, *more):
  """Sequence number -> digest, as `flan rows --digest` prints them."""
  command = [
    'rows', str(store.path), '--digest', '--seed', str(SEED),
    '--sequence-length', str(LENGTH), '--count', str(STEPS * BATCH_SIZE), *more,
  ]  # fmt: skip
  with contextlib.redirect_stdout(io.StringIO()) as out:
    assert dispatch.main(command) == 0
  return {
    int(number): digest
    for number, digest in map(str.split, out.getvalue().splitlines())
  }


@pytest.mark.parametrize('count', [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_load_what_flan_rows_prints(store, loaded, count):
  digests, sums = loaded(count)
  assert digests == printed(store)
  assert len(digests) == STEPS * BATCH_SIZE
  plan = store.plan(seed=SEED, sequences=STEPS * BATCH_SIZE, sequence_length=LENGTH)
  for step, seen in sums.items():
    whole = Loader(
      store, plan, batch_size=BATCH_SIZE, process_index=0, process_count=1
    ).batch(step)
    assert seen == {int(whole.tokens.sum())}


@pytest.mark.parametrize(
  ('first', 'then'), [(2, 1), pytest.param(4, 2, marks=pytest.mark.slow)]
)
def test_a_run_resumes_with_another_number_of_processes(store, loaded, first, then):
  """One number of processes to step 1, then another: the same global batches."""
  before, _ = loaded(first)
  after, _ = load(store, then, start=1)
  assert {k: before[k] for k in after} == after
  assert min(after) == BATCH_SIZE


def test_flan_rows_prints_the_share_of_one_host(store):
  shares = [
    printed(store, '--hosts', '2', '--host', str(host), '--batch-size', str(BATCH_SIZE))
    for host in range(2)
  ]
  assert [k % BATCH_SIZE for k in sorted(shares[0])] == [0, 1, 2, 3] * STEPS
  assert {**shares[0], **shares[1]} == printed(store)


def test_the_last_step_of_a_long_plan_is_a_look_up(store, monkeypatch):
  """The first batch at step 30,000 reads the entries of its own sequences only."""
  steps, batch = 30_000, 4
  plan = store.plan(seed=SEED, sequences=steps * batch, sequence_length=LENGTH)
  read = []
  examples = Store.examples
  monkeypatch.setattr(
    Store, 'examples', lambda self, d, e: read.extend(e) or examples(self, d, e)
  )
  for step in (0, steps - 1):
    read.clear()
    loader = Loader(
      store,
      plan,
      batch_size=batch,
      start_step=step,
      threads=0,
      process_index=0,
      process_count=1,
    )
    first = next(iter(loader))
    wanted = [
      entry for k in loader.sequence_numbers(step) for _, entry in plan.sequence(k)
    ]
    assert sorted(read) == sorted(wanted)
    assert [sequence_digest(Batch(*arrays)) for arrays in zip(*first, strict=True)] == [
      sequence_digest(store.sequence(plan, k))
      for k in range(step * batch, (step + 1) * batch)
    ]
