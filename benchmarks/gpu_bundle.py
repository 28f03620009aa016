"""Packs what a bare CUDA machine lacks, for benchmarks/gpu.sh; under 60 MiB.

  python benchmarks/gpu_bundle.py build/gpu

Wheels for CPython 3.12 on Linux (x86-64) of what flan_jax needs there and a machine
with JAX does not have, at the pins of constraints.txt; flan_jax itself; its tests, and
the benchmarks; and a store of the microworld. Needs the package index.
"""

import argparse
import importlib.metadata
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
MIB = 2**20
MAX_MIB = 60
PYTHON = '3.12'
THERE = {
  'jax', 'jaxlib', 'ml-dtypes', 'numpy', 'opt-einsum', 'scipy', 'setuptools',
}  # fmt: skip
"""Distributions that come with JAX, on the machine."""

UNUSED = {
  'gcsfs', 'matplotlib', 'nltk', 'pillow', 'rouge-score', 'sacrebleu', 'tensorboardx',
  'uvloop',
}  # fmt: skip
"""Distributions that reports, metrics of text and gs:// need: not these benchmarks."""

TESTS = ('hypothesis', 'pytest', 'pytest-timeout')
PLATFORMS = (
  'manylinux_2_28_x86_64', 'manylinux_2_27_x86_64', 'manylinux_2_24_x86_64',
  'manylinux_2_17_x86_64', 'manylinux2014_x86_64', 'manylinux1_x86_64',
)  # fmt: skip


def closure(python: str) -> list[str]:
  """Pins (`name==version`) of all that is needed there, by the installed metadata."""
  from packaging.requirements import Requirement
  from packaging.utils import canonicalize_name

  here = {'python_version': python, 'python_full_version': f'{python}.0'}

  def needed(name: str, extra: str):
    for line in importlib.metadata.requires(name) or ():
      found = Requirement(line)
      if found.marker and not found.marker.evaluate({**here, 'extra': extra}):
        continue
      plain = canonicalize_name(found.name)
      yield from [(plain, ''), *((plain, more) for more in found.extras)]

  pins: dict[str, str] = {}
  done: set[tuple[str, str]] = set()
  todo = [('flan-jax', ''), *((name, '') for name in TESTS)]
  while todo:
    name, extra = todo.pop()
    if (name, extra) in done or name in THERE | UNUSED:
      continue
    done.add((name, extra))
    pins[name] = importlib.metadata.version(name)
    todo += needed(name, extra)
  pins.pop('flan-jax')
  return [f'{name}=={version}' for name, version in sorted(pins.items())]


def run(*command: str, cwd: pathlib.Path = ROOT) -> None:
  subprocess.run(command, check=True, cwd=cwd)


def pack(folder: pathlib.Path, python: str) -> None:
  """Writes wheels/, code/ and store/ into a folder, which is emptied first."""
  shutil.rmtree(folder, ignore_errors=True)
  wheels, code = folder / 'wheels', folder / 'code'
  code.mkdir(parents=True)
  platforms = [f'--platform={platform}' for platform in PLATFORMS]
  pip = (sys.executable, '-m', 'pip')
  run(
    *pip, 'download', '--quiet', '--no-deps', '--only-binary=:all:', *platforms,
    f'--python-version={python}', '--implementation=cp', '--dest', str(wheels),
    *closure(python),
  )  # fmt: skip
  run(
    *pip, 'wheel', '--quiet', '--no-deps', '--wheel-dir', str(wheels), str(ROOT),
  )  # fmt: skip
  listed = subprocess.run(
    ('git', 'ls-files', '--cached', '--others', '--exclude-standard', 'benchmarks',
     'tests', 'pyproject.toml'),
    check=True, cwd=ROOT, capture_output=True, text=True,
  ).stdout.splitlines()  # fmt: skip
  for name in listed:
    (code / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, code / name)
  flan = (sys.executable, '-m', 'flan_jax', 'materialize')
  mixture = ('--mixture', 'microworld_mini_copa', '--vocab-size', '2000')
  run(*flan, *mixture, '--out', str(folder / 'store'))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--python', default=PYTHON, help='version there')
  options = parser.parse_args()
  folder = options.folder.absolute()
  pack(folder, options.python)
  size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
  print(f'{folder}: {size / MIB:.1f} MiB, at most {MAX_MIB}')
  return 0 if size <= MAX_MIB * MIB else 1


if __name__ == '__main__':
  sys.exit(main())
