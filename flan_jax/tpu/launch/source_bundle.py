"""Builds a wheel of the current commit for the hosts. Standard library only."""

import pathlib
import sys
import tempfile

from flan_jax.errors import InputError
from flan_jax.tpu.launch.gcloud import Failed, Gcloud

ROOT = pathlib.Path(__file__).parents[3]


class Commit:
  """HEAD of the checkout that this package is imported from.

  Attributes:
    root: root of the checkout.
    name: first 12 hex digits of the commit.
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
        'hosts install; clone the repository and run `pip install -e .`'
      )
    self.name = found.out.strip()
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
       f'--wheel-dir={folder}', str(source)),
    )  # fmt: skip
    for step in steps:
      result = self._gcloud.local(*step)
      if result.code:
        last = (result.err.strip().splitlines() or ['no message'])[-1]
        raise Failed(f'wheel of commit {self.name}: {" ".join(step[:2])}: {last}')
    wheels = sorted(map(str, folder.glob('*.whl')))
    built = wheels[0] if wheels else str(folder / 'flan_jax-0.1.0-py3-none-any.whl')
    return built, str(source / 'constraints.txt')

  def _git(self, *arguments: str):
    return self._run('git', '-C', str(self.root), *arguments)


def scratch(gcloud: Gcloud) -> tempfile.TemporaryDirectory | None:
  """A temporary folder to build in; None in a dry run."""
  return None if gcloud.dry_run else tempfile.TemporaryDirectory(prefix='flan-launch-')
