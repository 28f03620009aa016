"""The git commit of the code that runs. Standard library only."""

import pathlib
import subprocess

PACKAGE = pathlib.Path(__file__).parents[2]
"""Folder that holds the package; in a clone, the clone."""


def commit() -> str:
  """The commit of the current folder, else of this package; '' if neither has one.

  '+changes' is added if tracked files differ from it.
  """
  for folder in (pathlib.Path.cwd(), PACKAGE):
    head = _git(folder, 'rev-parse', 'HEAD')
    if head:
      changed = _git(folder, 'status', '--porcelain', '--untracked-files=no')
      return head + ('+changes' if changed else '')
  return ''


def _git(folder: pathlib.Path, *arguments: str) -> str:
  """Output of a git command; '' if it fails, or git is missing or slow."""
  try:
    done = subprocess.run(
      ('git', '-C', str(folder), *arguments), capture_output=True, text=True, timeout=10
    )
  except (OSError, subprocess.TimeoutExpired):
    return ''
  return '' if done.returncode else done.stdout.strip()
