"""Materialization by several processes, killed and restarted: the same bytes."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from flan_jax.catalog import registry
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data import few_shot
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError

MIXTURE = dataclasses.replace(
  registry.mixture('microworld_mini_trec'),
  name='three',
  datasets=('mini_trec', 'mini_cola', 'mini_copa'),
  held_out=('sentiment',),  # its examples are made fastest
)
CONFIG = StoreConfig(vocab_size=700, epochs=2)


def digests(folder):
  return {
    path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


@pytest.fixture(scope='module')
def by_one(tmp_path_factory):
  out = tmp_path_factory.mktemp('one') / 'out'
  materialize(MIXTURE, CONFIG, out=out)
  return digests(out)


def test_two_workers_give_the_bytes_of_one(by_one, tmp_path):
  calls = []
  materialize(
    MIXTURE,
    CONFIG,
    out=tmp_path / 'out',
    workers=2,
    progress=lambda *what: calls.append(what),
  )
  assert digests(tmp_path / 'out') == by_one
  for name in MIXTURE.datasets:
    seen = [done for stage, n, done, _ in calls if (stage, n) == ('render', name)]
    assert seen == sorted(seen)
    examples = Store.open(tmp_path / 'out').num_examples(name)
    assert ('render', name, 2 * examples, 2 * examples) in calls


@pytest.mark.slow  # the test above has no exemplars
def test_two_workers_show_the_exemplars_of_one(tmp_path):
  """Every epoch of a dataset draws from one pool, whichever process renders it."""
  few = dataclasses.replace(
    MIXTURE, datasets=('mini_copa',), style=PromptStyle(num_fewshot=3)
  )
  for workers in (1, 2):
    out = tmp_path / str(workers)
    config = StoreConfig(tokenizer='bytes', epochs=2)
    materialize(few, config, out=out, workers=workers)
  assert digests(tmp_path / '1') == digests(tmp_path / '2')
  store = Store.open(tmp_path / '2')
  count = store.num_examples('mini_copa')
  examples = store.examples('mini_copa', range(2 * count))
  ids = [stored.example_id for stored in examples[:count]]
  for stored in examples:
    assert len(stored.exemplars) == 3
    assert set(stored.exemplars) <= set(ids[: few_shot.POOL_SIZE]) - {stored.example_id}
  assert store.manifest['datasets']['mini_copa']['num_fewshot'] == {'3': 2 * count}


KILLED = """
import sys
from flan_jax.data.store.materialize import materialize
sys.path.insert(0, {tests!r})
from workers_test import CONFIG, MIXTURE
if __name__ == '__main__':
  materialize(MIXTURE, CONFIG, out=sys.argv[1], workers=2)
"""


def test_kill_9_loses_only_half_written_files(by_one, tmp_path):
  script = tmp_path / 'killed.py'
  script.write_text(KILLED.format(tests=os.path.dirname(__file__)))
  out = tmp_path / 'out'
  running = subprocess.Popen([sys.executable, str(script), str(out)])
  work = tmp_path / '.out.partial' / 'work'
  end = time.monotonic() + 90
  while not list(work.glob('render.*.json')) and time.monotonic() < end:
    time.sleep(0.02)
  running.send_signal(signal.SIGKILL)
  running.wait()
  finished = sorted(path.name for path in work.glob('*.json'))
  assert any(name.startswith('render') for name in finished)
  assert not out.exists()
  made = {name: (work / name).stat().st_mtime_ns for name in finished}

  kept = {}

  def look(*_):
    for name in made:
      if (work / name).is_file():
        kept[name] = (work / name).stat().st_mtime_ns

  materialize(MIXTURE, CONFIG, out=out, progress=look)
  assert kept == made  # reused, not rebuilt
  assert digests(out) == by_one


def test_an_unknown_runner_is_named(tmp_path):
  with pytest.raises(InputError, match="did you mean 'DirectRunner'"):
    materialize(
      MIXTURE,
      StoreConfig(tokenizer='bytes'),
      out=tmp_path / 'out',
      runner='DirctRunner',
    )


def test_beam_gives_the_same_bytes(by_one, tmp_path):
  pytest.importorskip('apache_beam', reason="needs the extra 'beam'")
  materialize(MIXTURE, CONFIG, out=tmp_path / 'out', runner='DirectRunner')
  assert digests(tmp_path / 'out') == by_one


def fails(report):
  raise InputError("dataset 'x', example 'train.0.7': label got 3; must be 0 or 1")


def test_a_failure_on_beam_is_one_line():
  pytest.importorskip('apache_beam', reason="needs the extra 'beam'")
  from flan_jax.data.store import beam_runner

  with pytest.raises(InputError) as raised:
    beam_runner.run([fails], runner='DirectRunner', report=lambda *_: None)
  assert "example 'train.0.7': label got 3; must be 0 or 1" in str(raised.value)
  assert '\n' not in str(raised.value)
