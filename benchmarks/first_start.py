"""First starts: CPU and wall seconds to the first finished step, and to an answer.

  python benchmarks/first_start.py
  python benchmarks/first_start.py --rounds 1 --no-answers

`flan train` and, where it is installed, `t5x.train` start in turn on the decoder of
train.py (10.8M parameters, drawn at random), with an empty cache of compiled programs,
then with the programs found. `flan ask` and `flan eval` answer from the demo's base
model, as whole commands. CPU seconds are those of all threads of the process: on a
shared machine read them before wall seconds.
"""

import argparse
import importlib.util
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import figures
import startup

TRAIN = {
  'flan train, nothing compiled': 'flan_jax, fresh',
  'flan train, programs found': 'flan_jax, cached',
  't5x.train': 't5x, fresh',
}
"""Row -> start of startup.py, in the order of their turns."""

ASK = ('ask', 'microworld', 'Who is hungry?', '--max-tokens', '8')
EVAL = (
  'eval', '--gin_file=gin/evaluate/zero_shot.gin', '--gin.CHECKPOINT=microworld',
  "--gin.DATASETS=('microworld_mini_copa',)", '--gin.MAX_EXAMPLES=4',
)  # fmt: skip


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--rows', type=int, default=8)
  parser.add_argument('--length', type=int, default=512)
  parser.add_argument('--no-answers', action='store_true')
  figures.add_flag(parser)
  options = parser.parse_args()
  found: dict[str, list[tuple[float, float]]] = {}
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    (folder / 'flan_jax.gin').write_text(startup.RUN)
    (folder / 't5x.gin').write_text(startup.T5X_MODEL)
    for turn in range(options.rounds):
      cache = {**os.environ, 'XDG_CACHE_HOME': str(folder / f'cache{turn}')}
      for row, start in TRAIN.items():
        if 't5x' in start and importlib.util.find_spec('t5x') is None:
          continue
        marks = startup.watch(
          startup.start_command(start, folder, turn, options),
          startup.STARTS[start], cache,
        )  # fmt: skip
        _note(found, row, marks[1] if len(marks) == 2 else None)
      for verb, arguments in (('ask', ASK), ('eval', EVAL)):
        for state in () if options.no_answers else ('nothing compiled', 'found'):
          out = f'--gin.OUTPUT_DIR={folder / f"{turn}{state}"}'
          command = [sys.executable, '-m', 'flan_jax', *arguments]
          command += [out] if verb == 'eval' else []
          _note(found, f'flan {verb}, {state}', _whole(command, cache))
  peer = [cpu for _, cpu in found.get('t5x.train', [])]
  print(f'\n{"":<32}{"CPU s":>8}{"wall s":>8}{"of t5x":>8}')
  for row, times in found.items():
    wall, cpu = (statistics.median(part) for part in zip(*times, strict=True))
    ratio = f'{cpu / statistics.median(peer):.2f}' if peer and 'train' in row else ''
    print(f'{row:<32}{cpu:>8.1f}{wall:>8.1f}{ratio:>8}')
    if row != 't5x.train':
      beside = {'peer': 't5x', 'peer_value': statistics.median(peer)} if ratio else {}
      figures.add(row, cpu, 'CPU s', lower_is_better=True, **beside)
  figures.write(options.json)


def _note(found: dict, row: str, times: tuple[float, float] | None) -> None:
  """Keeps (wall, CPU) seconds of a row, and prints them; None is a failure."""
  text = 'failed' if times is None else f'{times[1]:.1f} CPU s, {times[0]:.1f} s'
  print(f'{row:<32}{text}', flush=True)
  if times is not None:
    found.setdefault(row, []).append(times)


def _whole(command: list[str], environment: dict[str, str]):
  """(wall, CPU) seconds of a whole command."""
  before, start = os.times(), time.perf_counter()
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  wall, after = time.perf_counter() - start, os.times()
  if done.returncode:
    print(done.stderr[-300:], file=sys.stderr)
    return None
  cpu = after.children_user + after.children_system
  return wall, cpu - before.children_user - before.children_system


if __name__ == '__main__':
  main()
