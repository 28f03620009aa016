"""Real examples of FLAN's datasets, if a copy lies beside the checkout; else tests skip."""

import pathlib

_BESIDE = [
  folder / 'shared' / 'data' for folder in pathlib.Path(__file__).resolve().parents[2:]
]
FOLDER = next(filter(pathlib.Path.is_dir, _BESIDE), _BESIDE[0])
"""`<builder>/<config>/<split>.jsonl`, and `vocabs/`; a folder that need not exist."""
