"""`make bench`: entries run in turn, what cannot run is named, results are compared."""

import importlib
import json
import pathlib
import re
import subprocess
import sys
import types

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / 'benchmarks'
PROGRAM = """\
import argparse, sys, time
sys.path.insert(0, {folder!r})
import figures
parser = argparse.ArgumentParser()
parser.add_argument('--fail', action='store_true')
parser.add_argument('--wait', type=float, default=0)
figures.add_flag(parser)
options = parser.parse_args()
time.sleep(options.wait)
figures.add('speed', 30, 'rows/s', peer='other', peer_value=10)
figures.add('start', 2, 's', peer='other', peer_value=3, lower_is_better=True)
figures.add('alone', float('nan'), 's')
figures.write(options.json)
sys.exit(options.fail)
"""


def program(name: str) -> types.ModuleType:
  """A module of benchmarks/, which is no package."""
  return importlib.import_module(name)


@pytest.fixture
def bench(monkeypatch, tmp_path):
  """The program, with entries of the test alone."""
  monkeypatch.syspath_prepend(str(FOLDER))
  bench, bench_registry = program('bench'), program('bench_registry')
  script = tmp_path / 'mine.py'
  script.write_text(PROGRAM.format(folder=str(FOLDER)))
  own = dict(bench_registry.ENTRIES)
  bench_registry.ENTRIES.clear()
  for name, more, settings in (
    ('good', (), {}),
    ('failing', ('--fail',), {}),
    ('slow', ('--wait', '60'), {'limit_s': 1.0}),
    ('missing', (), {'needs': ('no_such_package',)}),
  ):
    bench_registry.register(
      name, name, lambda job, more=more: job.program(str(script), *more), **settings
    )
  yield bench
  bench_registry.ENTRIES.clear()
  bench_registry.ENTRIES.update(own)


def measured(bench, *names: str, minutes: float = 5.0) -> dict:
  chosen = [bench.ENTRIES[name] for name in names or bench.ENTRIES]
  return bench.measure_all(chosen, small=True, minutes=minutes)


def test_every_benchmark_is_in_the_file_with_its_figures_or_its_reason(bench):
  content = json.loads(json.dumps(measured(bench)))
  parts = content['benchmarks']
  assert list(parts) == ['good', 'failing', 'slow', 'missing']
  speed, start, alone = parts['good']['figures']
  assert (speed['value'], speed['ratio']) == (30, 3.0)
  assert start['ratio'] == 1.5, 'less is better'
  assert alone['value'] is None
  assert alone['ratio'] is None
  assert parts['failing']['left_out'] == 'mine.py ended with exit code 1'
  assert parts['slow']['left_out'] == 'not done after 1 s'
  assert parts['missing']['left_out'].startswith('needs no_such_package: pip install')
  assert all(len(part['load']) == 2 for part in parts.values())
  assert {'python', 'jax', 'numpy'} <= content['versions'].keys()
  assert content['machine']['cores'] > 0


def test_what_no_longer_fits_into_the_time_is_left_out(bench):
  parts = measured(bench, 'good', minutes=0.0)['benchmarks']
  assert parts['good']['left_out'] == 'no time left'


def content(**ratios: float) -> dict:
  """Results of a benchmark with these figures, each with its ratio."""
  figures = [
    {'name': name, 'value': 2 * ratio, 'unit': 's', 'peer': 'x', 'peer_value': 2,
     'lower_is_better': True, 'ratio': ratio}
    for name, ratio in ratios.items()
  ]  # fmt: skip
  return {
    'date': '2026-01-02T03:04:05+00:00', 'commit': 'abc', 'small': False,
    'machine': {'cores': 2, 'processor': 'P'},
    'benchmarks': {'b': {'title': '', 'load': [0.1, 3.0], 'figures': figures}},
  }  # fmt: skip


def test_today_stands_beside_the_last(bench):
  """A figure is compared with the last results that have it; a fall is marked."""
  oldest, before = content(a=2.0, c=1.0), content(a=4.0)
  lines = bench.bench_report.lines(content(a=3.0, b=5.0, c=1.0), [oldest, before])
  assert lines[0].endswith('2 cores of P, load 0.1 to 3.0')
  assert [line for line in lines if line.startswith('| b |')] == [
    '| b | a | 6 | s | x | 3.00 x | 4.00 x | -25% worse |',
    '| b | b | 10 | s | x | 5.00 x |  |  |',
    '| b | c | 2 | s | x | 1.00 x | 1.00 x | +0% |',
  ]


def test_the_command_writes_a_file_for_each_run_and_prints_the_report(
  bench, tmp_path, monkeypatch, capsys
):
  out = tmp_path / 'results'
  command = ['bench.py', '--only', 'good', '--small', '--out', str(out)]
  monkeypatch.setattr(sys, 'argv', command)
  assert bench.main() == 0
  assert bench.main() == 0
  names = sorted(path.name for path in out.iterdir())
  assert len(names) == 2
  assert re.fullmatch(r'\d{4}-\d\d-\d\d\.json', names[0])
  assert '| good | speed | 30 | rows/s | other | 3.00 x | 3.00 x | +0% |' in (
    capsys.readouterr().out
  )


def test_every_program_of_the_benchmarks_writes_its_figures():
  """Each that is no module of others takes --json."""
  programs = [
    path
    for path in FOLDER.glob('*.py')
    if '__main__' in path.read_text() and path.stem not in ('bench', 'gpu_bundle')
  ]
  assert len(programs) > 8
  lacking = [p.name for p in programs if 'figures.add_flag(' not in p.read_text()]
  assert lacking == []


def test_the_programs_that_are_registered_are_there(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(FOLDER))
  monkeypatch.setenv('FLAN_BENCH_MODEL', str(tmp_path))
  monkeypatch.setenv('FLAN_BENCH_DATA', str(tmp_path))
  program('bench_entries')
  bench_registry = program('bench_registry')
  for entry in bench_registry.ENTRIES.values():
    for small in (True, False):
      job = bench_registry.Job(small, tmp_path, lambda command: None)
      words = entry.command(job)
      (script,) = [word for word in words if word.endswith('.py')]
      assert pathlib.Path(script).is_file(), entry.name


def test_the_bundle_for_a_gpu_has_what_jax_does_not_bring(monkeypatch):
  """At the pins, without TensorFlow; and the script that runs it is well formed."""
  monkeypatch.syspath_prepend(str(FOLDER))
  found = program('gpu_bundle').closure('3.12')
  names = {line.partition('==')[0] for line in found}
  assert {'flax', 'optax', 'orbax-checkpoint', 'pytest', 'sentencepiece'} <= names
  assert not {'jax', 'jaxlib', 'numpy', 'tensorflow', 'matplotlib', 'flan-jax'} & names
  pins = (FOLDER.parent / 'constraints.txt').read_text().lower().replace('_', '-')
  assert [line for line in found if f'{line}\n'.lower() not in pins] == []
  script = FOLDER / 'gpu.sh'
  assert subprocess.run(['bash', '-n', script]).returncode == 0
  usage = subprocess.run(['bash', script], capture_output=True, text=True)
  assert usage.returncode == 2
  assert 'at most 8 minutes' in usage.stdout
