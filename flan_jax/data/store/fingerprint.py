"""Fingerprint: digests of a store's recipe, the same in every process."""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from flan_jax.catalog import options_style
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.source import Source, Tfds
from flan_jax.errors import InputError

_HASHED = {'capitalized': 'capitalised', 'spelled': 'spelt'}
"""Function of a declaration -> the name that is hashed for it.

Names are part of a recipe, so a function that is renamed keeps its first name here:
otherwise every store that was made before would be one of another recipe.
"""


def digest(value: Any) -> str:
  """sha256 (hex) of a JSON value, independent of the order of its keys."""
  text = json.dumps(value, sort_keys=True, ensure_ascii=False)
  return hashlib.sha256(text.encode('utf-8')).hexdigest()


def templates(dataset: Dataset) -> list[list[Any]]:
  """Templates of a dataset, as data."""
  return [[t.inputs, t.targets, t.inverted] for t in dataset.templates]


def prompts(dataset: Dataset) -> list[Any]:
  """Templates and options block of a dataset in a style of the user's own, as data."""
  shown = []
  for count in range(2, 6):
    with contextlib.suppress(InputError):  # of a style for a certain number
      shown.append(options_style.show(dataset.options_style, 'abcde'[:count]))
  return [templates(dataset), data(shown)]


def data(value: Any) -> Any:
  """Converts a declaration to data that is the same in every process.

  A function becomes its name and the values it closes over: `drop(r'<.*>')` and
  `drop(r'#')` differ.
  """
  if isinstance(value, (str, int, float, type(None))):
    return value
  if isinstance(value, re.Pattern):
    return value.pattern
  if isinstance(value, Mapping):
    return [[data(key), data(item)] for key, item in value.items()]
  if isinstance(value, (list, tuple)):
    return [data(item) for item in value]
  if dataclasses.is_dataclass(value):
    return [type(value).__name__, data(vars(value))]
  if callable(value):
    cells = getattr(value, '__closure__', None) or ()
    name = getattr(value, '__qualname__', type(value).__qualname__)
    outer, *inner = name.split('.')
    name = '.'.join((_HASHED.get(outer, outer), *inner))
    return [name, [data(cell.cell_contents) for cell in cells]]
  return type(value).__qualname__


def declaration(dataset: Dataset, sizes: Mapping[str, int]) -> dict[str, Any]:
  """Everything that the examples of a dataset depend on, as data."""
  return {
    'tfds': dataset.tfds,
    **source(dataset),
    'sizes': dict(sizes),
    'slices': {name: str(part) for name, part in dataset.resolve_splits(sizes).items()},
    'fields': data(dataset.fields),
    'cleaning': data(dataset.cleaning),
    'answer': data(dataset.answer),
    'evidence': data(dataset.evidence),
    'templates': templates(dataset),
  }


def declared(dataset: Dataset) -> str:
  """Digest (hex) of a declaration, and of its data if that is in files.

  Neither TensorFlow nor the network is asked, so a store can be compared with it at
  every start of a run.

  Raises:
    InputError: if the files are not there.
  """
  found = {
    'fields': data(dataset.fields),
    'cleaning': data(dataset.cleaning),
    'answer': data(dataset.answer),
    'evidence': data(dataset.evidence),
    'templates': templates(dataset),
    'version': getattr(dataset.source, 'version', ''),
  }
  if hasattr(dataset.source, 'files'):
    sizes = cast(Source, dataset.source).sizes()
    splits = dataset.resolve_splits(sizes)
    found['slices'] = {name: str(part) for name, part in splits.items()}
    found |= source(dataset)
  return digest(found)


def source(dataset: Dataset) -> dict[str, str]:
  """The digest of a source whose data its declaration does not tell."""
  if dataset.source is None or isinstance(dataset.source, Tfds):
    return {}
  digest = dataset.source.digest()
  return {'source': digest} if digest else {}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Everything that a store is made from.

  Attributes:
    head: the manifest's request, limits and style, and what else was asked for.
    declared: dataset -> its `declaration`.
    trains: names of the datasets that train.
  """

  head: Mapping[str, Any]
  declared: Mapping[str, Any]
  trains: Sequence[str]

  @property
  def digest(self) -> str:
    """Digest (hex) of the recipe.

    The keys that are hashed are spelled out here and never change, whatever the
    manifest and the fields of a style are called.
    """
    request, style = dict(self.head['request']), self.head['style']
    request['row_length'] = request.pop('sequence_length')
    hashed = {
      'request': request,
      'style': {
        'form': style['prompt_style'],
        'templates': style['templates'],
        'shots': style['num_fewshot'],
        **({'options': style['options_style']} if 'options_style' in style else {}),
      },
      'declared': dict(self.declared),
      'trains': list(self.trains),
    }
    return digest({**self.head, **hashed})
