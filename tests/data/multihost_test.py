"""Hosts as real processes: each reads its slice, and together they read every row."""

import os
import socket
import subprocess
import sys

import pytest

from flan_jax.catalog import registry
from flan_jax.data.batch import Batch, sequence_digest
from flan_jax.data.loader import Loader
from flan_jax.data.store.materialize import materialize
from flan_jax.data.store.store import Store

ROWS = 8
LENGTH = 512
STEPS = 3
SEED = 7

HOST = f"""
import sys
import jax

address, hosts, host, path, start = sys.argv[1:]
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.distributed.initialize(address, int(hosts), int(host))
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flan_jax.data.loader import Loader
from flan_jax.data.batch import Batch, sequence_digest
from flan_jax.data.store.store import Store

assert jax.process_count() == int(hosts)
store = Store.open(path)
plan = store.plan(seed={SEED}, sequences={STEPS * ROWS}, sequence_length={LENGTH})
loader = Loader(store, plan, batch_size={ROWS}, start_step=int(start))
mesh = Mesh(np.array(jax.devices()), ('data',))
sharding = NamedSharding(mesh, PartitionSpec('data'))
for step, batch in enumerate(loader, int(start)):
  for k, arrays in zip(loader.sequence_numbers(step), zip(*batch), strict=True):
    print('row', k, sequence_digest(Batch(*arrays)))
  # As the devices of all hosts see it: one global array, summed over every process.
  tokens = jax.make_array_from_process_local_data(sharding, batch.tokens)
  assert tokens.shape == ({ROWS}, {LENGTH})
  total = jax.jit(lambda x: x.astype('float32').sum())(tokens)
  print('sum', step, int(total.addressable_data(0)))
assert not {{'tensorflow', 'seqio'}} & set(sys.modules)
"""


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  out = tmp_path_factory.mktemp('hosts') / 'out'
  mixture = registry.mixture('microworld_mini_trec')
  materialize(mixture, out=out, tokenizer='bytes')
  return Store.open(out)


def free_port():
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


def feed(store, hosts, *, start=0):
  """Runs `hosts` processes; (row -> digest, step -> sum of its tokens on each)."""
  address = f'127.0.0.1:{free_port()}'
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', HOST, address, str(hosts), str(host), str(store.path),
       str(start)],
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env=_environment(),
    )
    for host in range(hosts)
  ]  # fmt: skip
  rows, sums = {}, {}
  try:
    for process in processes:
      out, error = process.communicate(timeout=120)
      assert process.returncode == 0, error[-2000:]
      for line in out.splitlines():
        if not line.startswith(('row ', 'sum ')):
          continue  # Gloo says on standard output whom it is connected to
        what, number, value = line.split()
        if what == 'row':
          assert int(number) not in rows  # no row is read by two hosts
          rows[int(number)] = value
        else:
          sums.setdefault(int(number), set()).add(int(value))
  finally:
    for process in processes:
      process.kill()
  return rows, sums


def _environment():
  kept = {k: v for k, v in os.environ.items() if k not in ('XLA_FLAGS', 'PYTHONPATH')}
  return {**kept, 'JAX_PLATFORMS': 'cpu'}


def printed(store, *more):
  """What `flan rows --digest` prints of the same run."""
  command = [
    sys.executable, '-m', 'flan_jax', 'rows', str(store.path), '--digest',
    '--seed', str(SEED), '--sequence-length', str(LENGTH), '--count', str(STEPS * ROWS),
    *more,
  ]  # fmt: skip
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return {
    int(number): digest for number, digest in map(str.split, done.stdout.splitlines())
  }


@pytest.mark.parametrize('hosts', [2, 4])
def test_processes_read_what_flan_rows_prints(store, hosts):
  rows, sums = feed(store, hosts)
  assert rows == printed(store)
  assert len(rows) == STEPS * ROWS
  plan = store.plan(seed=SEED, sequences=STEPS * ROWS, sequence_length=LENGTH)
  for step, seen in sums.items():
    whole = Loader(store, plan, batch_size=ROWS, host=0, hosts=1).batch(step)
    assert seen == {int(whole.tokens.sum())}


def test_a_run_goes_on_with_another_number_of_hosts(store):
  """Four hosts to step 1, then two: the same global rows."""
  before, _ = feed(store, 4)
  after, _ = feed(store, 2, start=1)
  assert {k: before[k] for k in after} == after
  assert min(after) == ROWS


def test_flan_rows_prints_one_host_s_own(store):
  shares = [
    printed(store, '--hosts', '2', '--host', str(host), '--batch-size', str(ROWS))
    for host in range(2)
  ]
  assert [k % ROWS for k in sorted(shares[0])] == [0, 1, 2, 3] * STEPS
  assert {**shares[0], **shares[1]} == printed(store)


def test_the_last_step_of_a_long_plan_is_a_look_up(store, monkeypatch):
  """The first batch at step 30,000 reads the entries of its own rows and no more."""
  steps, batch = 30_000, 4
  plan = store.plan(seed=SEED, sequences=steps * batch, sequence_length=LENGTH)
  read = []
  records = Store.records
  monkeypatch.setattr(
    Store, 'records', lambda self, d, e: read.extend(e) or records(self, d, e)
  )
  for step in (0, steps - 1):
    read.clear()
    loader = Loader(
      store, plan, batch_size=batch, start_step=step, threads=0, host=0, hosts=1
    )
    first = next(iter(loader))
    wanted = [entry for k in loader.sequence_numbers(step) for _, entry in plan.row(k)]
    assert sorted(read) == sorted(wanted)
    assert [sequence_digest(Batch(*row)) for row in zip(*first, strict=True)] == [
      sequence_digest(store.row(plan, k))
      for k in range(step * batch, (step + 1) * batch)
    ]
