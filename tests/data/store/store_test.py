"""Store: opens whole or not at all; a packing plan over it is built once."""

import json

import numpy as np
import pytest

from flan_jax.data import batch
from flan_jax.data.store import repair
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store, describe
from flan_jax.errors import InputError
from flan_jax.runtime import checksums


@pytest.fixture
def out(tiny_datasets, tmp_path):
  materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', epochs=2),
    out=tmp_path / 'out',
  )
  return tmp_path / 'out'


def test_lengths_are_those_of_the_examples(out):
  store = Store.open(out)
  for dataset in store.datasets:
    lengths = store.lengths(dataset)
    assert len(lengths) == store.num_examples(dataset) * store.rendered[dataset]
    for entry in (0, 5, len(lengths) - 1):
      inputs, targets = store.example(dataset, entry).tokens
      assert lengths[entry] == batch.length(len(inputs), len(targets), store.bos_id)
      assert inputs.dtype == targets.dtype == np.int32


def test_examples_come_in_the_order_of_their_entries(out):
  store = Store.open(out)
  ids = [stored.example_id for stored in store.examples('pairs', [9, 0, 9, 36])]
  assert ids == ['train.0.9', 'train.0.0', 'train.0.9', 'train.0.1']


def test_a_plan_is_built_once_and_then_opened(out):
  store = Store.open(out)
  plan = store.plan(seed=3, sequences=30, sequence_length=512)
  (kept,) = (out / 'plans').iterdir()
  assert kept.name == plan.digest
  stamp = (kept / 'entry.npy').stat().st_mtime_ns
  again = Store.open(out).plan(seed=3, sequences=30, sequence_length=512)
  assert [again.sequence(k) for k in range(30)] == [plan.sequence(k) for k in range(30)]
  assert (kept / 'entry.npy').stat().st_mtime_ns == stamp


def test_describe_lists_the_segments_of_a_sequence(out):
  store = Store.open(out)
  plan = store.plan(seed=3, sequences=30, sequence_length=512)
  for k in (0, 11):
    found = describe(store, plan, k)
    sequence = store.sequence(plan, k)
    assert list(found) == ['sequence', 'length', 'segments']
    assert (found['sequence'], found['length']) == (
      k,
      int(np.sum(sequence.segment_ids > 0)),
    )
    assert found['length'] == plan.used(k)
    drawn = plan.sequence(k)
    assert [s['dataset'] for s in found['segments']] == [
      dataset for dataset, _ in drawn
    ]
    for number, (segment, (dataset, entry)) in enumerate(
      zip(found['segments'], drawn, strict=True), start=1
    ):
      at = np.flatnonzero(sequence.segment_ids == number)
      assert (segment['start'], segment['length']) == (at[0], len(at))
      stored = store.example(dataset, entry)
      assert (segment['example_id'], segment['template']) == (
        stored.example_id,
        stored.template,
      )
      assert segment['cluster'] == store.clusters[dataset]


def test_a_path_that_is_not_a_store_is_refused(tmp_path):
  with pytest.raises(InputError, match=r"store '.*absent': no such directory"):
    Store.open(tmp_path / 'absent')
  with pytest.raises(InputError, match='no manifest.json'):
    Store.open(tmp_path)


def test_a_truncated_store_is_named(out):
  shard = out / 'train' / 'pairs.00.array_record'
  whole = shard.read_bytes()
  shard.write_bytes(whole[:-10])
  with pytest.raises(
    InputError,
    match='pairs.00.array_record has .*; the 35 examples of that shard are lost; .*rep',
  ):
    Store.open(out)
  shard.unlink()
  with pytest.raises(InputError, match='train/pairs.00.array_record has no bytes'):
    Store.open(out)
  shard.write_bytes(whole)
  manifest = out / 'manifest.json'
  text = manifest.read_text()
  manifest.write_text(text[:200])
  with pytest.raises(InputError, match='manifest.json: is damaged: has 200 bytes'):
    Store.open(out)
  checksums.remove(out)  # a store of an older version has none
  with pytest.raises(InputError, match='manifest.json is truncated'):
    Store.open(out)


@pytest.mark.parametrize('version', [0, 2, 3])
def test_a_store_of_an_older_format_is_refused(out, version):
  """Its prompts were cut by other rules."""
  manifest = out / 'manifest.json'
  found = json.loads(manifest.read_text())
  manifest.write_text(json.dumps({**found, 'version': version}))
  checksums.remove(out)
  with pytest.raises(
    InputError, match=f'format {version}; .* 4 and 5: materialize again'
  ) as e:
    Store.open(out)
  assert '\n' not in str(e.value)
  with pytest.raises(InputError, match='materialize again'):
    repair.repair(out)


def test_a_corrupt_shard_is_named(out):
  shard = out / 'train' / 'pairs.00.array_record'
  data = bytearray(shard.read_bytes())
  data[: len(data) * 3 // 4] = bytes(len(data) * 3 // 4)
  shard.write_bytes(data)
  with pytest.raises(
    InputError,
    match='train/pairs.00.array_record is corrupt at examples 3 .* of its 35 examples',
  ):
    Store.open(out).example('pairs', 3)


def test_a_corrupt_index_is_named(out):
  index = out / 'train' / 'pairs.01.index.npy'
  index.write_bytes(bytes(index.stat().st_size))
  with pytest.raises(InputError, match='pairs.01.index.npy is damaged: .*--repair'):
    Store.open(out).lengths('pairs')


def test_a_store_of_another_tokenizer_or_templates_is_refused_with_both_digests(out):
  store = Store.open(out)
  digests = {key: store.manifest['digests'][key] for key in ('tokenizer', 'templates')}
  store.require(digests, of='the checkpoint')
  for key in digests:
    other = {**digests, key: 'f' * 64}
    with pytest.raises(InputError, match=key) as raised:
      store.require(other, of='the checkpoint')
    assert digests[key][:12] in str(raised.value)
    assert 'the checkpoint has ffffffffffff' in str(raised.value)


def test_many_shards_are_read_with_few_open(out, monkeypatch):
  """A process may open about 1,000 files; a store may have more shards."""
  monkeypatch.setattr('flan_jax.data.store.store.READERS', 2)
  store = Store.open(out)
  want = {name: Store.open(out).examples(name, [0]) for name in store.datasets}
  for _ in range(2):
    for name in store.datasets:
      for entry in (0, store.num_examples(name)):
        assert store.example(name, entry).example_id == want[name][0].example_id
  assert len(store._readers) == 2


def test_a_dataset_or_entry_that_is_not_in_the_store_is_refused(out):
  store = Store.open(out)
  with pytest.raises(InputError, match="dataset 'pair': .* did you mean 'pairs'"):
    store.lengths('pair')
  with pytest.raises(InputError, match="entry 70 of 'pairs': must be 0 to 69"):
    store.example('pairs', 70)
  with pytest.raises(InputError, match=r'twins.tst: .* did you mean .twins.test'):
    store.evaluation_examples('twins', 'tst')
