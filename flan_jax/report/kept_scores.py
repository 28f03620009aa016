"""Scores of a report's answers, kept without the answers: small enough to commit.

A report alone has its figures; to resample the examples of several reports together
takes the score of each example. SCORES.npz beside a report.json has them for every
result, in the form of `compare.Predictions`, so that a page of many reports is the same
from a folder of both files as from the folders of the evaluations.
"""

import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from flan_jax.errors import InputError
from flan_jax.report import compare, schema
from flan_jax.runtime import atomic_file

FILE = 'scores.npz'

_MODELS = ('tuned', 'base')


def write(folder: pathlib.Path, out: pathlib.Path) -> None:
  """Writes OUT/scores.npz from the predictions beside a report; none without any."""
  in_percent, _ = schema.divided(schema.load(folder))
  results = {schema.label(result): result for result in in_percent['results']}
  arrays: dict[str, np.ndarray] = {}
  for model in _MODELS:
    found = compare.read_predictions(folder, results, model)
    for label, each in found.items():
      ids = each.example_ids
      parts = {
        'scores': each.scores,
        'templates': np.array(each.templates),
        'ids': np.array(ids),
        'gold': np.array([each.gold[example_id] for example_id in ids]),
      }
      arrays |= {f'{model}|{label}|{name}': part for name, part in parts.items()}
  if arrays:
    with atomic_file.replacing(out / FILE) as draft, draft.open('wb') as file:
      np.savez_compressed(file, allow_pickle=False, **arrays)


def read(folder: pathlib.Path, model: str) -> dict[str, compare.Predictions]:
  """Reads the scores beside a report: label -> predictions; {} without the file.

  Raises:
    InputError: if the file is damaged.
  """
  path = folder / FILE
  if not path.is_file():
    return {}
  try:
    with np.load(path, allow_pickle=False) as file:
      found = _found(file, path, model)
  except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
    raise InputError(
      f'{str(path)!r}: not the scores of a report ({error}); delete it, and intervals '
      'are made without it'
    ) from None
  return found


def _found(
  file: Mapping[str, np.ndarray], path: pathlib.Path, model: str
) -> dict[str, compare.Predictions]:
  labels = [
    name.split('|')[1]
    for name in file
    if name.startswith(f'{model}|') and name.endswith('|scores')
  ]
  out = {}
  for label in labels:
    scores, templates, ids, gold = (
      file[f'{model}|{label}|{name}'] for name in ('scores', 'templates', 'ids', 'gold')
    )
    known = tuple(map(str, ids))
    right = dict(zip(known, map(str, gold), strict=True))
    out[label] = compare.Predictions(
      scores, tuple(map(int, templates)), known, right, {}, path
    )
  return out
