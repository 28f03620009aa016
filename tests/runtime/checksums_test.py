"""Checksums: a block is checked when it is read, a changed list is no list."""

import json
import resource
import time

import numpy as np
import pytest

from flan_jax.checkpoints import model_dir, weights
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data.packing import PackingPlan
from flan_jax.errors import InputError
from flan_jax.runtime import checksums, input_file, json_lines

DATA = bytes(range(256)) * 40
FIRST, LAST = 100, 10_200  # a byte in the first block, and one in the last


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder with a file of three blocks, and its list."""
  monkeypatch.setattr(checksums, 'BLOCK', 4096)
  (tmp_path / 'x.bin').write_bytes(DATA)
  (tmp_path / 'empty').touch()
  (tmp_path / 'inner').mkdir()
  (tmp_path / 'inner' / 'y.json').write_text('{}')
  checksums.record(tmp_path, ['x.bin', 'empty', 'inner/y.json'], notes={'of': 'x'})
  return tmp_path


def flip(path, at):
  data = bytearray(path.read_bytes())
  data[at] ^= 1
  path.write_bytes(data)


def test_whole_files_pass(folder):
  known = checksums.of(folder)
  assert list(known.files) == ['empty', 'inner/y.json', 'x.bin']
  assert known.notes == {'of': 'x'}
  assert all(map(known.is_whole, known.files))
  known.check('x.bin', DATA)
  known.check('another', b'of which nothing is known')
  assert input_file.read_bytes(folder / 'x.bin') == DATA


def test_only_the_blocks_that_are_read_are_checked(folder):
  flip(folder / 'x.bin', LAST)
  blocks = checksums.of(folder).open('x.bin')
  blocks.check(0, 8192)
  with pytest.raises(checksums.Damaged, match='bytes 8,192 to 10,239 are not those'):
    blocks.check(8191, 8193)


def test_what_a_reader_of_input_reads_is_checked(folder):
  flip(folder / 'x.bin', FIRST)
  with pytest.raises(InputError, match='x.bin: is damaged: .*; restore it'):
    input_file.read_bytes(folder / 'x.bin')
  (folder / 'x.bin').write_bytes(DATA[:-1])
  with pytest.raises(InputError, match='has 10,239 bytes, 10,240 were written'):
    input_file.read_bytes(folder / 'x.bin')
  (folder / 'x.bin').unlink()
  with pytest.raises(InputError, match='x.bin: is missing'):
    checksums.of(folder).open('x.bin')


def test_a_file_written_again_is_listed_again(folder):
  (folder / 'x.bin').write_bytes(b'another')
  checksums.update(folder, 'x.bin')
  assert input_file.read_bytes(folder / 'x.bin') == b'another'
  assert checksums.of(folder).is_whole('inner/y.json')
  assert checksums.of(folder).notes == {}
  checksums.remove(folder)
  checksums.update(folder, 'x.bin')
  assert checksums.of(folder) is None


def test_every_changed_byte_of_the_list_is_seen(folder):
  path = folder / checksums.FILE
  whole = path.read_bytes()
  for at in range(len(whole)):
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(InputError, match='is damaged itself; delete it'):
      checksums.of(folder)
  path.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(InputError, match='is damaged itself'):
    input_file.read_bytes(folder / 'x.bin')


class TestJsonLines:
  """Bookkeeping."""

  def test_damaged_lines_are_skipped_with_one_warning(self, tmp_path, capsys):
    path = tmp_path / 'log.jsonl'
    path.write_bytes(
      b'{"step": 1}\n{"st\xffep": 2}\n[3]\n{"step": "4"}\n{"step": 5}\n{'
    )
    for _ in range(2):
      assert json_lines.read(path, json_lines.step) == [1, 5]
    assert capsys.readouterr().err.count('log.jsonl: 3 damaged lines are skipped') == 1

  def test_a_line_torn_by_a_kill_is_skipped_without_a_word(self, tmp_path, capsys):
    path = tmp_path / 'log.jsonl'
    path.write_text('{"step": 1}\n{"step": 2')
    assert json_lines.read(path) == [{'step': 1}]
    assert json_lines.read(tmp_path / 'absent') == []
    assert capsys.readouterr().err == ''


def seconds(call) -> tuple[float, float]:
  """(wall clock, CPU time) of a call."""
  used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])  # noqa: E731
  began, before = time.perf_counter(), used()
  call()
  return time.perf_counter() - began, used() - before


def compare(name, folder, call) -> float:
  """Prints the cost of checking in turn with and without; returns the ratio of CPU."""
  list_, aside = folder / checksums.FILE, folder / 'aside'
  found = {True: [], False: []}
  for turn in range(8):
    with_list = turn % 2 == 0
    if not with_list:
      list_.rename(aside)
    found[with_list].append(seconds(call))
    if not with_list:
      aside.rename(list_)
  (wall, cpu), (bare_wall, bare_cpu) = (
    map(min, zip(*found[each], strict=True)) for each in (True, False)
  )
  print(f'{name}: checked {wall:.3f} s ({cpu:.3f} s of CPU), unchecked '
        f'{bare_wall:.3f} s ({bare_cpu:.3f}): {cpu / bare_cpu - 1:+.1%}')  # fmt: skip
  return cpu / bare_cpu


@pytest.mark.slow
def test_checking_costs_little(tmp_path):
  """Figures of docs/explanation/reliability.md."""
  config = DecoderConfig(
    vocab_size=32_000, num_layers=8, d_model=1024, d_ff=4096, num_heads=16,
    num_kv_heads=16, head_dim=64,
  )  # fmt: skip
  import jax

  from flan_jax.model import params as params_lib

  shapes, _ = params_lib.abstract_params(config)
  draw = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: draw.normal(size=leaf.shape).astype(leaf.dtype), shapes
  )
  folder = tmp_path / 'model'
  weights.save(folder, params, config=config)
  (folder / 'tokenizer.bytes').touch()
  checksum = model_dir.checksum(folder)
  trained = json.loads((model_dir.SHIPPED / 'training.json').read_text())
  model_dir.write_provenance(folder, trained, checksum=checksum)
  model_dir.finish(folder, checksum=checksum)

  def load():
    jax.block_until_ready(
      jax.device_put(model_dir.load(str(folder), config=config, shapes=shapes))
    )

  def load_with_lineage():
    assert model_dir.lineage(folder).known
    load()

  size = (folder / weights.WEIGHTS).stat().st_size
  print(f'\nmodel of {size / 2**20:,.0f} MiB')
  compare('weights', folder, load)
  assert compare('lineage and weights', folder, load_with_lineage) < 1.1

  lengths = {'a': draw.integers(50, 900, 60_000).astype(np.int32)}
  plan = PackingPlan.build(
    lengths, {'a': 1}, {'a': 1}, seed=0, sequences=40_000, sequence_length=2048,
    digest='a',
  )  # fmt: skip
  plan.save(tmp_path / 'plan')

  def every_sequence():
    opened = PackingPlan.open(tmp_path / 'plan')
    for k in range(len(opened)):
      opened.sequence(k)

  compare('open a plan', tmp_path / 'plan', lambda: PackingPlan.open(tmp_path / 'plan'))
  compare('look up 40,000 sequences', tmp_path / 'plan', every_sequence)
