"""The work folder: locked, kept for the same recipe, and cleared of anything else."""

import os

import pytest

from flan_jax.data.store import parts, work_folder
from flan_jax.errors import InputError
from flan_jax.runtime import lock


@pytest.fixture
def out(tmp_path):
  return tmp_path / 'stores' / 'out'


def interrupted(out, recipe, *finished, by):
  """Opens the work folder, finishes parts, and fails in the middle of another."""
  with work_folder.opened(out, recipe) as folder:
    for part in finished:
      (folder / parts.WORK / f'{part}.json').write_text('{}')
    (folder / 'train' / '.77.half').write_text('half')
    raise by


def names(folder):
  return {path.name for path in folder.rglob('*') if path.is_file()}


def test_a_finished_part_stays_for_the_same_recipe_alone(out):
  with pytest.raises(InputError, match='stopped'):
    interrupted(out, 'one', 'read.pairs', by=InputError('stopped'))
  with work_folder.opened(out, 'one') as folder:
    assert folder == out.parent / '.out.partial'
    assert names(folder) == {'recipe', 'read.pairs.json'}
  with work_folder.opened(out, 'other') as folder:
    assert names(folder) == {'recipe'}
    assert sorted(path.name for path in folder.iterdir()) == [
      'evaluation', 'train', 'work'
    ]  # fmt: skip


def test_nothing_stays_if_no_part_is_finished(out):
  with pytest.raises(InputError, match='stopped'):
    interrupted(out, 'one', by=InputError('stopped'))
  assert not out.parent.exists()


def test_a_folder_that_was_renamed_is_left_alone(out):
  with work_folder.opened(out, 'one') as folder:
    (folder / '.hidden').write_text('kept')
    folder.rename(out)
  assert (out / '.hidden').read_text() == 'kept'
  assert [path.name for path in out.parent.iterdir()] == ['out']


def test_a_failing_disk_is_one_line_and_keeps_finished_parts(out):
  full = OSError(28, 'No space left on device')
  with pytest.raises(InputError, match='No space left.*finished parts are kept') as got:
    interrupted(out, 'one', 'read.pairs', by=full)
  assert '\n' not in str(got.value)
  assert names(out.parent) == {'recipe', 'read.pairs.json'}


def test_a_store_that_is_being_written_is_left_alone(out):
  partial = out.parent / '.out.partial'
  partial.mkdir(parents=True)
  (partial / 'half').write_text('another process writes this')
  with lock.held('store', out, beside=True):
    with pytest.raises(InputError, match=f'is in use by process {os.getpid()} of host'):
      work_folder.opened(out, 'one').__enter__()
    assert (partial / 'half').exists()
  with work_folder.opened(out, 'one') as folder:
    assert names(folder) == {'recipe'}
