"""Files of a packing plan: plan.json, one .npy for each array, and their checksums."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, checksums, input_file, renamed_keys
from flan_jax.runtime.renamed_keys import upgraded

ABOUT = 'plan.json'
"""File of what a plan is of, and of its sizes."""

Content = tuple[dict[str, Any], dict[str, np.ndarray], dict[str, checksums.Blocks]]
"""Content of plan.json, arrays by name, and what checks the blocks of each."""

_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, IndexError, SyntaxError)
"""Errors of reading damaged files without checksums: those of numpy have no class."""

_NAMES = ('datasets', 'seed', 'sequence_length', 'pack', 'digest', 'stream')
_CURE = 'delete it: the next run makes it again'


def write(
  folder: pathlib.Path, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
  """Writes a plan, whole or not at all; keeps one that is already there."""
  with atomic_file.Draft(folder, folder=True) as draft:
    for name, array in arrays.items():
      np.save(draft.path / f'{name}.npy', array)
    text = json.dumps(about, indent=2) + '\n'
    (draft.path / ABOUT).write_text(text, encoding='utf-8')
    checksums.record(draft.path)
    try:
      draft.keep()
    except OSError:
      # Another process was first: plans of one name have the same bytes.
      if not (folder / ABOUT).is_file():
        raise


def read(folder: pathlib.Path, names: Sequence[str]) -> Content:
  """Reads a plan; the arrays stay on disk, mapped into memory, and are not checked yet.

  Args:
    folder: folder of the plan.
    names: names of its arrays.

  Raises:
    InputError: if it is missing, truncated, or damaged.
  """
  blocks = {}
  try:
    known = checksums.of(folder)
    about = input_file.read_object(folder / ABOUT)
    about = upgraded(about, renamed_keys.PACKING_PLAN)
    if known is not None:
      blocks = {name: known.open(f'{name}.npy', cure=_CURE) for name in names}
      for each in blocks.values():
        each.check(0, 1)  # the header
    arrays = {name: np.load(folder / f'{name}.npy', mmap_mode='r') for name in names}
    whole = (
      len(arrays['starts']) == len(arrays['used']) + 1 == about['sequences'] + 1
      and len(arrays['entry']) == len(arrays['dataset']) == about['examples']
      and all(name in about for name in _NAMES)
    )
  except checksums.Damaged as error:
    raise InputError(
      f'plan {str(folder)!r}: {error.path.name} {error.why}; {_CURE}'
    ) from None
  except _DAMAGE:
    whole = False
  if not whole:
    raise InputError(f'plan {str(folder)!r}: missing or truncated; {_CURE}')
  return about, arrays, blocks


def is_checked(folder: pathlib.Path) -> bool:
  """Returns whether a plan has checksums; those of older versions have none."""
  return (folder / checksums.FILE).is_file()


def vouch_for(folder: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes the checksums of a plan without them, if it holds these arrays.

  Raises:
    InputError: if it is damaged.
  """
  _, found, _ = read(folder, list(arrays))
  for name, array in arrays.items():
    if not np.array_equal(found[name], array):
      raise InputError(f'plan {str(folder)!r}: {name}.npy is damaged; {_CURE}')
  checksums.record(folder)


def is_whole(folder: pathlib.Path) -> bool:
  """Returns whether a plan is as it was written; True if it has no checksums."""
  try:
    known = checksums.of(folder)
  except checksums.Damaged:
    return False
  return known is None or all(map(known.is_whole, known.files))
