"""Real examples of FLAN's datasets, if they are in a folder beside the checkout."""

import pathlib

_BESIDE = [
  folder / 'shared' / 'data' for folder in pathlib.Path(__file__).resolve().parents[2:]
]
FOLDER = next(filter(pathlib.Path.is_dir, _BESIDE), _BESIDE[0])
"""Folder of `<builder>/<config>/<split>.jsonl` and `vocabs/`; it need not exist."""
