"""Writes a report: report.json and all that is made from it."""

import os
import pathlib
from typing import TYPE_CHECKING, Any

from flan_jax.runtime import atomic_file

if TYPE_CHECKING:
  from flan_jax.evaluate.evaluator import Results
from flan_jax.report.build import build


def write(out: str | os.PathLike, results: 'Results', **about: Any) -> dict[str, Any]:
  """Writes OUT/report.json and all that is made from it; returns the report.

  Those are report.html, report.csv, templates.csv, report.tex and plots/*.svg.

  `about` are the keyword arguments of `build`. The predictions were written by
  `Predictions` while they were made; the page takes its examples from them.
  """
  out = pathlib.Path(out)
  report = build(results, **about)
  atomic_file.write_json(out / 'report.json', report, ensure_ascii=False)
  render(out)
  return report


def render(out: str | os.PathLike) -> None:
  """Writes what is made from OUT/report.json: page, plots, CSV and LaTeX tables."""
  from flan_jax.report import html, tables

  tables.write(out)
  html.write(out)
