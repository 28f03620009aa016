"""Writes a report: report.json and the files made from it.

Each file is written under a temporary name and renamed when complete, so a reader never
sees half a file, and a full disk loses no earlier file.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flan_jax.report.build import Metadata, build
from flan_jax.runtime import atomic_file

if TYPE_CHECKING:
  from flan_jax.evaluate.contamination import Found
  from flan_jax.evaluate.evaluator import Results


def write(
  out: str | os.PathLike,
  results: 'Results',
  *,
  contamination: 'Found | None' = None,
  answers: Mapping[str, Any] | None = None,
  **metadata: Any,
) -> dict[str, Any]:
  """Writes OUT/report.json and the files made from it; returns the report.

  Those are report.html, report.csv, templates.csv, report.tex and plots/*.svg. The page
  takes its examples from OUT/predictions.jsonl, which `Predictions` wrote during the
  evaluation.

  Args:
    out: folder of the report.
    results: results of `evaluator.evaluate`.
    contamination: as in `build`.
    answers: as in `build`.
    **metadata: attributes of `Metadata`.
  """
  out = pathlib.Path(out)
  report = build(
    results, Metadata(**metadata), contamination=contamination, answers=answers
  )
  atomic_file.write_json(out / 'report.json', report, ensure_ascii=False)
  render(out)
  return report


def render(out: str | os.PathLike) -> None:
  """Writes the page, the plots, and the CSV and LaTeX tables from OUT/report.json."""
  from flan_jax.report import html, tables

  tables.write(out)
  html.write(out)
