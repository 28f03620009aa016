"""`make bench`: every benchmark in turn, into benchmarks/results/DATE.json.

  python benchmarks/bench.py                       # at most 30 minutes
  python benchmarks/bench.py --only data train
  python benchmarks/bench.py --small --out /tmp    # does each of them work?
  python benchmarks/bench.py --module my_bench     # with those that it registers
  python benchmarks/bench.py --report              # the last file beside the one before

A file has the figures and their ratios to the peers, versions, the machine, and its
load before and after each benchmark. One that cannot run here, fails, or no longer fits
into the time is left out by name.
"""

import argparse
import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import bench_entries  # noqa: F401  registers the benchmarks of this folder
import bench_report
from bench_registry import ENTRIES, Entry, Job, LeftOut

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = pathlib.Path(__file__).parent / 'results'
MINUTES = 30.0
PACKAGES = (
  'jax', 'jaxlib', 'numpy', 'flax', 'optax', 'grain', 'torch', 'transformers',
  'lm_eval', 'accelerate', 'seqio', 'tensorflow', 't5x', 'tokenizers',
)  # fmt: skip
ENVIRONMENT = {
  'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': '', 'TF_CPP_MIN_LOG_LEVEL': '3',
}  # fmt: skip


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that are installed."""
  found = {'python': platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def commit() -> str:
  """Commit of the checkout, with `+` if files differ; '' without one."""
  git = ('git', '-C', str(ROOT))
  name = _output(*git, 'rev-parse', '--short=12', 'HEAD')
  changed = _output(*git, 'status', '--porcelain', '--untracked-files=no')
  return f'{name}{"+" if changed else ""}'


def _output(*command: str) -> str:
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
  except OSError:
    return ''
  return done.stdout.strip()


def machine() -> dict[str, Any]:
  """Processor, cores and memory; nothing that names the machine."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  models = [line.partition(':')[2].strip() for line in lines if 'model name' in line]
  memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  return {
    'processor': models[0] if models else platform.machine(),
    'cores': len(os.sched_getaffinity(0)),
    'memory_gib': round(memory / 2**30, 1),
  }


def load() -> float:
  return round(os.getloadavg()[0], 2)


def run_command(command: Sequence[str], *, limit_s: float) -> None:
  """Runs a command to its end in the repository; its output is shown.

  Raises:
    LeftOut: if it fails, or takes longer.
  """
  process = subprocess.Popen(
    command, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, start_new_session=True
  )
  try:
    code = process.wait(timeout=limit_s)
  except subprocess.TimeoutExpired:
    raise LeftOut(f'not done after {limit_s:.0f} s') from None
  finally:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
      process.wait()
  if code:
    name = next(
      (pathlib.Path(w).name for w in command if w.endswith('.py')), command[0]
    )
    raise LeftOut(f'{name} ended with exit code {code}')


def measure(entry: Entry, *, small: bool, limit_s: float) -> dict[str, Any]:
  """Runs one benchmark; returns its part of the file."""
  missing = [name for name in entry.needs if importlib.util.find_spec(name) is None]
  part: dict[str, Any] = {'title': entry.title, 'load': [load()]}
  start, cpu = time.perf_counter(), os.times()
  with tempfile.TemporaryDirectory(prefix='flan-bench-') as scratch:
    folder = pathlib.Path(scratch)
    try:
      if missing:
        raise LeftOut(f'needs {", ".join(missing)}: pip install -e ".[bench]"')
      if limit_s < 1:
        raise LeftOut('no time left')
      job = Job(small, folder, lambda command: run_command(command, limit_s=limit_s))
      command = [*entry.command(job), '--json', str(folder / 'figures.json')]
      left_s = limit_s - (time.perf_counter() - start)
      run_command(command, limit_s=max(left_s, 1))
      part |= json.loads((folder / 'figures.json').read_text(encoding='utf-8'))
    except LeftOut as error:
      part['left_out'] = str(error)
    except (OSError, ValueError) as error:
      part['left_out'] = f'{type(error).__name__}: {error}'
  after = os.times()
  used = after.children_user + after.children_system
  part['wall_s'] = round(time.perf_counter() - start, 1)
  part['cpu_s'] = round(used - cpu.children_user - cpu.children_system, 1)
  part['load'].append(load())
  return part


def measure_all(
  chosen: Sequence[Entry], *, small: bool, minutes: float
) -> dict[str, Any]:
  """Runs the benchmarks in turn; returns the content of the file."""
  end = time.perf_counter() + 60 * minutes
  content: dict[str, Any] = {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'commit': commit(),
    'small': small,
    'machine': machine(),
    'versions': versions(),
    'benchmarks': {},
  }
  for entry in chosen:
    print(f'\n== {entry.name}: {entry.title}', flush=True)
    limit_s = min(entry.limit_s, end - time.perf_counter())
    part = measure(entry, small=small, limit_s=limit_s)
    content['benchmarks'][entry.name] = part
    if 'left_out' in part:
      print(f'left out: {part["left_out"]}', flush=True)
  return content


def free_path(folder: pathlib.Path, day: str) -> pathlib.Path:
  """DATE.json, or DATE_2.json if that is there."""
  path, number = folder / f'{day}.json', 2
  while path.exists():
    path, number = folder / f'{day}_{number}.json', number + 1
  return path


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--only', nargs='+', metavar='NAME', help='benchmarks to run')
  parser.add_argument('--small', action='store_true', help='the smallest settings')
  parser.add_argument('--minutes', type=float, default=MINUTES)
  parser.add_argument('--out', type=pathlib.Path, default=RESULTS, metavar='DIR')
  parser.add_argument('--module', action='append', default=[], metavar='NAME')
  parser.add_argument('--list', action='store_true', help='list the benchmarks')
  parser.add_argument('--report', action='store_true', help='print the last results')
  options = parser.parse_args()
  sys.path.insert(0, os.getcwd())
  for name in options.module:
    importlib.import_module(name)
  if options.report:
    return bench_report.show(options.out)
  unknown = [name for name in options.only or () if name not in ENTRIES]
  if unknown:
    parser.error(f'--only: got {unknown[0]!r}; must be of {", ".join(ENTRIES)}')
  if options.list:
    for entry in ENTRIES.values():
      print(f'{entry.name:<18}{entry.title}')
    return 0
  chosen = [ENTRIES[name] for name in options.only or ENTRIES]
  content = measure_all(chosen, small=options.small, minutes=options.minutes)
  options.out.mkdir(parents=True, exist_ok=True)
  path = free_path(options.out, content['date'][:10])
  path.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
  print(f'\n{path}')
  return bench_report.show(options.out)


if __name__ == '__main__':
  sys.exit(main())
