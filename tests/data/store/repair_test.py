"""Repair: damaged parts are named, and rebuilt byte for byte."""

import dataclasses

import pytest

from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data.store import shard
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.repair import repair
from flan_jax.data.store.store import Store
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


def contents(folder):
  return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def overwrite(path, start, count):
  """Zeroes `count` bytes from `start`; the size stays."""
  data = bytearray(path.read_bytes())
  data[start : start + count] = bytes(count)
  path.write_bytes(data)


def test_a_whole_store_needs_no_repair(out):
  before = contents(out)
  assert repair(out) == []
  assert contents(out) == before


def test_only_the_damaged_shard_is_rebuilt(out):
  before = contents(out)
  path = out / 'train' / 'pairs.01.array_record'
  overwrite(path, 3_000, 40)
  with pytest.raises(InputError, match=r'pairs.01.array_record is corrupt') as raised:
    Store.open(out).examples('pairs', range(35, 70))
  assert f'`flan materialize --repair --out {out}`' in str(raised.value)
  lost = shard.lost(out / 'train', 'pairs', 1, 35)
  assert 1 <= len(lost) <= 3  # the records that the forty bytes hit
  assert f'{len(lost)} of its 35 examples are lost' in str(raised.value)
  others = [i for i in range(35) if i not in lost]
  assert len(Store.open(out).examples('pairs', [35 + i for i in others])) == len(others)

  (damage,) = repair(out)
  assert damage.dataset == 'pairs'
  assert (damage.part, damage.examples, damage.lost) == ('epoch 1', 35, len(lost))
  assert contents(out) == before
  assert [path.name for path in out.parent.iterdir()] == ['out']


@pytest.mark.parametrize(
  'style', [PromptStyle(num_fewshot=2), PromptStyle(prompt_style='dataset_name')]
)
def test_a_shard_in_another_prompt_style_is_rebuilt_in_it(
  tiny_datasets, tmp_path, style
):
  mixture = dataclasses.replace(tiny_datasets.mixture, style=style)
  out = tmp_path / 'out'
  materialize(mixture, StoreConfig(tokenizer='bytes'), out=out)
  before = contents(out)
  (out / 'train' / 'pairs.00.array_record').unlink()
  (damage,) = repair(out)
  assert (damage.dataset, damage.lost) == ('pairs', 35)
  assert contents(out) == before


def test_a_dataset_with_a_style_of_its_own_is_rebuilt_in_it(tiny_datasets, tmp_path):
  styles = {'pairs': PromptStyle(prompt_style='no_template')}
  mixture = dataclasses.replace(tiny_datasets.mixture, styles=styles)
  out = tmp_path / 'out'
  materialize(mixture, StoreConfig(tokenizer='bytes'), out=out)
  before = contents(out)
  overwrite(out / 'train' / 'pairs.00.array_record', 1_000, 40)
  assert [damage.dataset for damage in repair(out)] == ['pairs']
  assert contents(out) == before


def test_missing_and_truncated_files_are_rebuilt(out):
  before = contents(out)
  (out / 'train' / 'stories.00.array_record').unlink()
  (out / 'train' / 'picks.01.index.npy').write_bytes(b'')
  path = out / 'evaluation' / 'twins.test.jsonl'
  path.write_bytes(path.read_bytes()[:-30])
  with pytest.raises(InputError, match='bytes, the manifest says'):
    Store.open(out)
  mended = {(one.dataset, one.part): one.lost for one in repair(out)}
  assert mended == {
    ('stories', 'epoch 0'): 23,
    ('picks', 'epoch 1'): 0,  # its records are whole, their sizes were lost
    ('twins', 'test'): 1,
  }
  assert contents(out) == before


def test_a_store_whose_raw_data_changed_is_unchanged(tiny_datasets, out):
  overwrite(out / 'train' / 'pairs.01.array_record', 3_000, 40)
  damaged = contents(out)
  tiny_datasets.examples['pairs']['train'][9]['premise'] = 'another'
  with pytest.raises(InputError, match=r"'pairs', epoch 1: .*have changed since"):
    repair(out)
  assert contents(out) == damaged
  assert [path.name for path in out.parent.iterdir()] == ['out']


def test_a_tokenizer_cannot_be_rebuilt(tiny_datasets, tmp_path):
  materialize(tiny_datasets.mixture, StoreConfig(vocab_size=420), out=tmp_path / 'out')
  (tmp_path / 'out' / 'tokenizer.model').unlink()
  with pytest.raises(
    InputError, match='tokenizer.model is missing or damaged; restore it'
  ):
    repair(tmp_path / 'out')


def test_spans_of_examples_are_short():
  assert shard.spans([3, 4, 5, 9]) == '3-5, 9'
  assert shard.spans([]) == ''
  assert shard.spans(range(0, 100, 2), max_spans=2) == '0, 2, ...'


@pytest.mark.parametrize('file', ['picks.dev.jsonl', 'pairs.00.array_record'])
def test_dev_of_a_training_dataset_is_rebuilt(file, out):
  before = contents(out)
  (out / 'validation' / file).write_bytes(b'')
  (damage,) = repair(out)
  assert (damage.dataset, damage.part) == (file.partition('.')[0], 'dev of training')
  assert contents(out) == before


def test_bytes_after_the_end_of_an_index_are_found(out):
  before = contents(out)
  with (out / 'train' / 'pairs.01.index.npy').open('ab') as file:
    file.write(b'xxxxxxx')
  with pytest.raises(InputError, match='--repair'):
    Store.open(out)
  assert [damage.part for damage in repair(out)] == ['epoch 1']
  assert contents(out) == before


def test_flipped_answers_are_refused_and_rebuilt(out):
  """Of the same size, so that only the content tells."""
  before = contents(out)
  path = out / 'evaluation' / 'twins.test.jsonl'
  text = path.read_text()
  path.write_text(text.replace('"gold": [0]', '"gold": [1]'))
  assert path.read_text() != text
  with pytest.raises(InputError, match='twins.test.jsonl is damaged: .*--repair'):
    Store.open(out).evaluation_examples('twins', 'test')
  assert [damage.part for damage in repair(out)] == ['test']
  assert contents(out) == before


def test_a_damaged_plan_is_refused_and_made_again(out):
  names = {'seed': 1, 'sequences': 3, 'sequence_length': 600}
  plan = Store.open(out).plan(**names)
  first = [plan.sequence(k) for k in range(3)]
  overwrite(out / 'plans' / plan.digest / 'entry.npy', 130, 4)
  with pytest.raises(InputError, match='entry.npy is damaged: .*; delete it'):
    Store.open(out).plan(**names)
  (damage,) = repair(out)
  assert damage.files == (f'plans/{plan.digest}',)
  again = Store.open(out).plan(**names)
  assert [again.sequence(k) for k in range(3)] == first


def test_checksums_are_added_and_rebuilt(out):
  before = contents(out)
  path = out / checksums.FILE
  path.unlink()
  assert '--repair' in Store.open(out).unchecked
  assert repair(out) == []
  assert contents(out) == before
  path.write_text('{}')
  with pytest.raises(InputError, match='is damaged itself; .*--repair'):
    Store.open(out)
  assert repair(out) == []
  assert contents(out) == before
  assert Store.open(out).unchecked is None
