"""Fetched: what `flan fetch` was given for a dataset, and what became of it."""

import pathlib
from typing import NamedTuple


class Fetched(NamedTuple):
  """Result for one TFDS dataset, or one dataset of another source.

  Attributes:
    datasets: names of the declared datasets that read it.
    tfds: TFDS name, config and version; '' for another source.
    standing: `ready`, `partial` (fewer examples than declared) or `missing`.
    state: `prepared`, `ready` (already prepared), `absent` or `failed`.
    examples: split -> number of examples.
    cause: one of `fetch.CAUSES` if it is missing; else ''.
    note: clamped splits, or the reason of a failure and its remedy.
  """

  datasets: tuple[str, ...]
  tfds: str
  standing: str
  state: str
  examples: dict[str, int]
  cause: str
  note: str


def place(tfds: str) -> pathlib.Path:
  """Folder of a TFDS dataset's files under --from: BUILDER/CONFIG, or BUILDER/default.

  >>> str(place('glue/rte:2.0.0')), str(place('piqa:1.0.0'))
  ('glue/rte', 'piqa/default')
  """
  builder, _, config = tfds.partition(':')[0].partition('/')
  return pathlib.Path(builder) / (config or 'default')
