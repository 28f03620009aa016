"""Dataset card: README.md of an export, as `datasets` and the hub read it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flan_jax.catalog import registry
from flan_jax.catalog.source import Generator
from flan_jax.data.export_files import HUB_SPLITS
from flan_jax.data.exported import COLUMNS, MESSAGES
from flan_jax.runtime import yaml_text

_SIZES = (
  (10**3, 'n<1K'),
  (10**4, '1K<n<10K'),
  (10**5, '10K<n<100K'),
  (10**6, '100K<n<1M'),
  (10**7, '1M<n<10M'),
)

_NAMED = 6
"""Maximum number of datasets named in a line."""

_MEANINGS = {
  'inputs': 'the prompt',
  'targets': 'the answer',
  'task_name': 'task, as `flan tasks` names it',
  'task_source': 'family of the task; `Flan2021` for the datasets of FLAN. The '
  'templates are those of flan_jax, not of the published collections',
  'template_type': '`zs` or `fs` (zero- or few-shot), `opt` or `noopt` (whether the '
  'prompt lists the options)',
  'example_id': 'split, file and position in the raw data; the same in every export',
  'template': 'index of the template in the catalog',
  'num_fewshot': 'exemplars before the prompt',
  'split': '`train`, `dev` or `test`, as FLAN divides the data',
  'cluster': 'task cluster',
  'rate': 'mixing rate of the dataset: its examples in this many draws of the sum of '
  'all rates; 0 if it does not train',
  'options': 'options of the answer; empty for free text',
  MESSAGES: 'the same as a chat: user, assistant',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
  """Facts of a card.

  Attributes:
    manifest: manifest of the store that the examples are of.
    format: format of the files.
    chat: whether there is the column of chats.
    examples: split -> dataset -> number of examples.
    order: one sentence on which training examples these are, and their order.
    texts: one sentence on how exact the texts are.
    notes: warnings that were printed; those on texts are in `texts`.
    leakage: lines of the leakage report; one at least.
    commands: commands that make the same export.
    version: version of flan_jax.
  """

  manifest: Mapping[str, Any]
  format: str
  chat: bool
  examples: Mapping[str, Mapping[str, int]]
  order: str
  texts: str
  notes: Sequence[str]
  leakage: Sequence[str]
  commands: Sequence[str]
  version: str

  @property
  def columns(self) -> list[str]:
    return [*COLUMNS, *([MESSAGES] if self.chat else [])]

  @property
  def num_examples(self) -> int:
    return sum(sum(found.values()) for found in self.examples.values())


def render(card: Card) -> str:
  """Returns the text of the card; the same facts give the same bytes."""
  parts = (
    _header(card),
    [f'# {card.manifest["mixture"]}, rendered by flan_jax'],
    _summary(card),
    ['## Held out', *_held_out(card)],
    ['## Datasets', *_table(card)],
    ['## Columns', *(f'- `{name}`: {_MEANINGS[name]}' for name in card.columns)],
    ['## Read it', *_reading(card)],
    ['## Make it again', *_again(card)],
  )
  return '\n\n'.join('\n'.join(lines) for lines in map(_spaced, parts)) + '\n'


def _spaced(lines: Sequence[str] | Iterator[str]) -> list[str]:
  """Puts an empty line after a heading."""
  lines = list(lines)
  return [lines[0], '', *lines[1:]] if lines[0].startswith('## ') else lines


def _header(card: Card) -> Iterator[str]:
  """Yields the YAML header."""
  size = next((name for most, name in _SIZES if card.num_examples < most), 'n>10M')
  fields: dict[str, Any] = {
    'pretty_name': card.manifest['mixture'],
    'license': 'other',
    'task_categories': ['text-generation'],
    'tags': ['instruction-tuning', 'flan'],
    'size_categories': [size],
  }
  if card.format != 'hf':
    files = [
      {'split': HUB_SPLITS[split], 'path': f'data/{HUB_SPLITS[split]}-*'}
      for split in card.examples
    ]
    fields['configs'] = [{'config_name': 'default', 'data_files': files}]
  fields['dataset_info'] = {'features': [_feature(name) for name in card.columns]}
  yield '---'
  yield yaml_text.dump(fields).rstrip('\n')
  yield '---'


def _feature(column: str) -> dict[str, Any]:
  """A column, as `datasets` describes it."""
  if column == MESSAGES:
    fields = [{'name': name, 'dtype': 'string'} for name in ('role', 'content')]
    return {'name': column, 'list': fields}
  if COLUMNS[column] == 'list':
    return {'name': column, 'list': 'string'}
  return {'name': column, 'dtype': COLUMNS[column]}


def _summary(card: Card) -> Iterator[str]:
  counts = ', '.join(
    f'{sum(found.values()):,} {split}' for split, found in card.examples.items()
  )
  manifest = card.manifest
  style = manifest['style']
  own = style.get('options_style')
  options = f', options style `{own}`' if own else ''
  yield (
    f'Instruction tuning data after FLAN (Wei et al. 2022, arXiv:2109.01652): '
    f'{counts} examples of mixture `{manifest["mixture"]}`, prompt style '
    f'`{style["prompt_style"]}`, {style["num_fewshot"] or "no"} few-shot exemplars'
    f'{options}{_own_styles(manifest)}, rendered by flan_jax {card.version}.'
  )
  yield ''
  yield f'- {card.order}'
  yield f'- {card.texts}'
  yield from (f'- {note}' for note in card.notes if note != card.texts)
  limits = manifest['limits']
  yield (
    f'- Limits: {limits["inputs"]:,} tokens of inputs and {limits["targets"]:,} of '
    f'targets, counted by tokenizer `{manifest["tokenizer"]["name"]}`, one of each for '
    f'the end mark; {_changed(manifest)}'
  )
  if 'dev' in card.examples or 'test' in card.examples:
    yield (
      '- `validation` and `test` are rendered once an example, by one of the templates '
      'that ask for the answer; their targets are not cut.'
    )


def _own_styles(manifest: Mapping[str, Any]) -> str:
  own = manifest.get('styles')
  return f' (another style for {", ".join(own)})' if own else ''


def _changed(manifest: Mapping[str, Any]) -> str:
  """Tells how many training examples were cut or left out."""
  entries = manifest['datasets'].values()
  cut = sum(sum(entry['truncated'].values()) for entry in entries)
  dropped = sum(sum(entry['filters'].values()) for entry in entries)
  return (
    f'of the training examples {cut:,} were cut or took another template to fit, and '
    f'{dropped:,} were left out (unlabeled, empty or too long).'
  )


def _held_out(card: Card) -> Iterator[str]:
  manifest = card.manifest
  held = ', '.join(f'`{name}`' for name in manifest['held_out'])
  excluded = ', '.join(f'`{name}`' for name in manifest['excluded'])
  if held:
    yield f'Held out of the training examples: {held}.'
    if excluded:
      yield f'Left out with it, as related: {excluded}.'
  else:
    yield (
      'Nothing is held out: no cluster is unseen by a model that trains on all of '
      'these examples.'
    )
  yield ''
  yield from (f'- {line}' for line in card.leakage)


def _table(card: Card) -> Iterator[str]:
  names = list(
    dict.fromkeys(name for found in card.examples.values() for name in found)
  )
  splits = list(card.examples)
  yield f'| dataset | cluster | {" | ".join(splits)} | rate | license | source |'
  yield f'|---|---|{"--:|" * (len(splits) + 1)}---|---|'
  for name in names:
    held = card.manifest['datasets'].get(name)
    cluster = (held or card.manifest['evaluation'][name])['cluster']
    counts = ' | '.join(f'{card.examples[split].get(name, 0):,}' for split in splits)
    rate = held['rate'] if held else 0
    license_, source = about(name)
    yield f'| {name} | {cluster} | {counts} | {rate:,} | {license_} | {source} |'
  yield ''
  yield 'Each dataset keeps the license of its source.'
  smaller = _smaller(card.manifest)
  if smaller:
    more = f', and {len(smaller) - _NAMED:,} more' if len(smaller) > _NAMED else ''
    yield (f'Smaller here than declared: {", ".join(smaller[:_NAMED])}{more}.')
  missing = card.manifest['missing']
  if missing:
    yield f'Not prepared, and so left out: {", ".join(missing)}.'


def _smaller(manifest: Mapping[str, Any]) -> list[str]:
  """Training datasets with fewer examples than declared, with both numbers."""
  found = (
    (name, entry['clamped'].get('train'))
    for name, entry in manifest['datasets'].items()
  )
  return [
    f'{name} ({size["real"]:,} of {size["declared"]:,} training examples)'
    for name, size in found
    if size
  ]


def about(name: str) -> tuple[str, str]:
  """(license, source) of a dataset, as far as it is registered."""
  dataset = registry.find(name)
  if dataset is None:
    return 'not known', 'not known'
  family = registry.families().get(dataset.family)
  generated = family is not None and family.generated
  license_ = dataset.license or ('generated' if generated else 'none stated')
  if isinstance(dataset.source, Generator):
    source = 'made by a program'
  else:
    source = dataset.tfds or str(dataset.source)
  return license_.replace('|', '/'), source.replace('|', '/')


def _reading(card: Card) -> Iterator[str]:
  yield '```python'
  yield 'import datasets'
  yield ''
  load = 'load_from_disk' if card.format == 'hf' else 'load_dataset'
  yield f"data = datasets.{load}('DIR')"
  if not card.chat:
    yield "pairs = data.rename_columns({'inputs': 'prompt', 'targets': 'completion'})"
  yield '```'


def _again(card: Card) -> Iterator[str]:
  yield '```'
  yield from card.commands
  yield '```'
  yield ''
  yield (
    f'flan_jax {card.version}; digest of the store `{card.manifest["digest"]}`, of its '
    f'templates `{card.manifest["digests"]["templates"]}`, of its tokenizer '
    f'`{card.manifest["digests"]["tokenizer"]}`. The same commands on the same raw '
    'data give the same bytes.'
  )
