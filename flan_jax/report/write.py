"""Writes a report: report.json and all that is made from it."""

import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

from flan_jax.evaluate.predictions import replacing

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
  with replacing(out / 'report.json') as file:
    json.dump(report, file, indent=2, ensure_ascii=False)
    file.write('\n')
  render(out)
  return report


def render(out: str | os.PathLike) -> None:
  """Writes what is made from OUT/report.json: page, plots, CSV and LaTeX tables."""
  from flan_jax.report import html, tables

  tables.write(out)
  html.write(out)
