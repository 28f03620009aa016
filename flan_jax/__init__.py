"""FLAN instruction tuning in JAX: templates, mixtures, trainer, held-out evaluation."""

import pathlib

__version__ = '0.1.0'

_BESIDE = pathlib.Path(__file__).parents[1]
if (_BESIDE / 'setup.py').is_file() and (_BESIDE / 'tasks').is_dir():
  # In a clone on the path, `tasks` and `mixtures` lie beside this folder.
  __path__.append(str(_BESIDE))
