"""Packages for the hosts: flan_jax, and beside it those of the user.

flan_jax is the wheel of the current commit, or that of its installed files where it is
no checkout. Standard library only.
"""

import hashlib
import importlib.metadata
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Protocol

from flan_jax.errors import InputError
from flan_jax.tpu.launch import own_code, wheels
from flan_jax.tpu.launch.gcloud import Failed, Gcloud

ROOT = pathlib.Path(__file__).parents[3]
CONSTRAINTS = 'flan_jax/constraints.txt'
"""The pins in a wheel of flan_jax, and in its installation."""

EXTRAS = ('tpu',)
"""Extras of flan_jax that hosts always install."""


class Source(Protocol):
  """flan_jax as it is here.

  Attributes:
    name: identity of its files; a name of a folder.
    describe: the version or commit, for messages.
  """

  name: str
  describe: str

  def has(self, path: str) -> bool:
    """Returns True if a gin file, as `gin/runs/demo.gin`, is in it."""
    ...

  def wheel(self, folder: pathlib.Path) -> tuple[str, str]:
    """Writes the wheel and its constraints to a folder; returns their paths."""
    ...


class Commit:
  """HEAD of the checkout that this package is imported from.

  Attributes:
    root: root of the checkout.
    name: first 12 hex digits of the commit.
    describe: the version or commit, for messages.
  """

  def __init__(self, gcloud: Gcloud, root: pathlib.Path = ROOT):
    """Reads HEAD and refuses uncommitted changes.

    Raises:
      InputError: if `root` is not a checkout, or tracked files differ from HEAD.
    """
    self._run = Gcloud().local  # read-only, so it runs in a dry run too
    self._gcloud = gcloud
    self.root = root
    found = self._git('rev-parse', '--short=12', 'HEAD')
    if found.code or not (root / 'setup.py').is_file():
      raise InputError(
        f'launch: {str(root)!r} is not a git checkout of flan_jax, whose commit the '
        'hosts install; clone the repository, or install a wheel of it'
      )
    self.name = found.out.strip()
    self.describe = f'commit {self.name}'
    changed = self._git('status', '--porcelain', '--untracked-files=no').out
    if changed.strip():
      files = [line[3:] for line in changed.splitlines()]
      more = f' and {len(files) - 3} more' if len(files) > 3 else ''
      raise InputError(
        f'launch: {", ".join(files[:3])}{more} differ from commit {self.name}, which '
        'the hosts install; commit first'
      )

  def has(self, path: str) -> bool:
    """Returns True if the file is in the commit."""
    return bool(self._git('ls-files', '--', path).out.strip())

  def wheel(self, folder: pathlib.Path) -> tuple[str, str]:
    """Builds the wheel and writes the constraints of the commit.

    Args:
      folder: folder to write to.

    Returns:
      Paths of the wheel and the constraints.

    Raises:
      Failed: if the build fails.
    """
    archive = folder / 'source.tar'
    source = folder / 'source'
    steps = (
      ('git', '-C', str(self.root), 'archive', f'--output={archive}', self.name),
      ('mkdir', '-p', str(source)),
      ('tar', '-x', '-f', str(archive), '-C', str(source)),
      (sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
       '--timeout=20', '--retries=2', f'--wheel-dir={folder}', str(source)),
    )  # fmt: skip
    for step in steps:
      result = self._gcloud.local(*step)
      if result.code:
        last = (result.err.strip().splitlines() or ['no message'])[-1]
        raise Failed(f'wheel of commit {self.name}: {" ".join(step[:2])}: {last}')
    wheels = sorted(map(str, folder.glob('*.whl')))
    built = wheels[0] if wheels else str(folder / 'flan_jax-0.2.0-py3-none-any.whl')
    return built, str(source / 'constraints.txt')

  def _git(self, *arguments: str):
    return self._run('git', '-C', str(self.root), *arguments)


class Installed:
  """flan_jax as it is installed, without a checkout.

  Attributes:
    name: its version and the first 12 hex digits of the digest of its files.
    describe: the version or commit, for messages.
  """

  def __init__(self, gcloud: Gcloud):
    """Reads the installed files and refuses changed ones.

    Raises:
      InputError: if a file is missing or changed, or there is no such installation.
    """
    self._gcloud = gcloud
    try:
      found = importlib.metadata.distribution('flan_jax')
      owned = own_code.owns(found, pathlib.Path(__file__))
    except importlib.metadata.PackageNotFoundError:
      owned = False
    if not owned:
      raise InputError(
        f'launch: flan_jax in {str(ROOT)!r} is neither a checkout nor installed by '
        'pip, and the hosts cannot install it; install a wheel of it'
      )
    self._wheel = wheels.repack(found)
    if CONSTRAINTS not in self._wheel.files:
      raise InputError(
        f'launch: {CONSTRAINTS!r} is not in this installation, and the hosts install '
        'by it; install flan_jax again'
      )
    self.name = f'{found.version}-{self._wheel.digest[:12]}'
    self.describe = f'version {found.version} (digest {self._wheel.digest[:12]})'

  def has(self, path: str) -> bool:
    """Returns True if a gin file, as `gin/runs/demo.gin`, is in it."""
    return f'flan_jax/configs/{path.removeprefix("gin/")}' in self._wheel.files

  def wheel(self, folder: pathlib.Path) -> tuple[str, str]:
    """Writes the wheel and its constraints to a folder; returns their paths."""
    constraints = folder / 'constraints.txt'
    if self._gcloud.dry_run:
      print(f'# {self._wheel.file_name}: of the installed files')
      return str(folder / self._wheel.file_name), str(constraints)
    pins = self._wheel.files[CONSTRAINTS]
    assert isinstance(pins, pathlib.Path)  # an installed file
    constraints.write_bytes(pins.read_bytes())
    return self._wheel.write(folder), str(constraints)


def source(gcloud: Gcloud) -> Source:
  """flan_jax as it is here: the commit of a checkout, or else the installation."""
  checkout = (ROOT / 'setup.py').is_file() and (ROOT / 'tasks').is_dir()
  return Commit(gcloud) if checkout else Installed(gcloud)


class Bundle:
  """flan_jax and the user's packages.

  Attributes:
    source: flan_jax.
    packages: the user's packages.
    extras: extras of flan_jax.
    name: identity of all of it; a name of a folder.
  """

  def __init__(
    self,
    gcloud: Gcloud,
    source: Source,
    packages: Sequence[own_code.Package] = (),
    extras: Sequence[str] = EXTRAS,
  ):
    self._gcloud = gcloud
    self.source, self.packages, self.extras = source, tuple(packages), tuple(extras)
    self.name = source.name
    if packages or self.extras != EXTRAS:
      every = ' '.join([*self.extras, *(p.wheel.digest for p in packages)])
      self.name += f'-{hashlib.sha256(every.encode()).hexdigest()[:12]}'

  def describe(self) -> list[str]:
    """Lines that say what is shipped, with versions and digests."""
    lines = [line for package in self.packages for line in package.describe()]
    return [f'Ships flan_jax: {self.source.describe}', *lines]

  def write(self, folder: pathlib.Path) -> tuple[str, ...]:
    """Writes our wheel, its constraints and the other wheels; returns their paths."""
    ours, constraints = self.source.wheel(folder)
    theirs = []
    for package in self.packages:
      theirs.append(str(folder / package.wheel.file_name))
      if self._gcloud.dry_run:
        print(f'# {package.wheel.file_name}: of {package.origin or "installed files"}')
      else:
        package.wheel.write(folder)
    return (ours, constraints, *theirs)

  def requirements(self, files: Sequence[str]) -> dict[str, str]:
    """Wheel -> its requirement, as `flan_jax[tpu]`; of the paths that `write` gave."""
    names = [
      f'flan_jax[{",".join(self.extras)}]',
      *(p.wheel.name for p in self.packages),
    ]
    wheels = [pathlib.Path(path).name for path in files if path.endswith('.whl')]
    return dict(zip(wheels, names, strict=True))


def scratch(gcloud: Gcloud) -> tempfile.TemporaryDirectory | None:
  """A temporary folder to build in; None in a dry run."""
  return None if gcloud.dry_run else tempfile.TemporaryDirectory(prefix='flan-launch-')
