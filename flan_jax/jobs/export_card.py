"""The card of an export: what its examples are, and the commands that make them."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from flan_jax import __version__
from flan_jax.catalog import leakage, names
from flan_jax.data import tokenizer_coverage
from flan_jax.data.preprocess import Limits
from flan_jax.data.sources import file_task
from flan_jax.data.store import materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.jobs.export_settings import Draw, ExportConfig
from flan_jax.report.dataset_card import Card
from flan_jax.runtime import modules


def make(
  config: ExportConfig,
  store: Store,
  run: Mapping[str, Any],
  draw: Draw | None,
  examples: Mapping[str, Mapping[str, int]],
  *,
  repeated: int,
) -> Card:
  """Collects the facts of a card.

  Args:
    config: settings of the export.
    store: store that the examples are of.
    run: settings of a run, as in run.json; empty for a store alone.
    draw: draw of a run; None for all examples.
    examples: split -> dataset -> number of examples.
    repeated: number of training examples that are there before, in the same words.
  """
  texts, exact = _texts(store)
  notes = [] if exact else [texts]
  absent = [split for split in config.splits if split not in examples]
  if absent:
    notes.append(
      f'No example of {", ".join(absent)}: none of the datasets has one here.'
    )
  if repeated:
    notes.append(
      f'{repeated:,} of the drawn examples repeat an earlier prompt: the draw takes '
      'more epochs than the store has.'
    )
  return Card(
    manifest=store.manifest,
    format=config.format,
    chat=config.chat,
    examples=examples,
    order=_which(config, draw),
    texts=texts,
    notes=notes,
    leakage=_leakage(store, run),
    commands=_commands(config, store, draw),
    version=__version__,
  )


def _which(config: ExportConfig, draw: Draw | None) -> str:
  """One sentence on which training examples an export has, and their order."""
  if 'train' not in config.splits:
    return 'No training examples.'
  if draw is None:
    epochs = config.epochs or 1
    more = f', in {epochs} epochs with other templates' if epochs > 1 else ''
    return (
      f'Training examples: all of them up to the cap of each dataset{more}, dataset by '
      'dataset: shuffle them, and draw by `rate`.'
    )
  kind = 'one example' if draw.unpacked else 'packed examples'
  return (
    f'Training examples: the first {draw.sampled:,} that a run draws by the rates, '
    f'in its order: seed {draw.seed}, sequences of {draw.sequence_length:,} '
    f'tokens with {kind}.'
  )


def _texts(store: Store) -> tuple[str, bool]:
  """One sentence on how exact the texts of the training examples are; if they are."""
  name = store.manifest['tokenizer']['name']
  losses = tokenizer_coverage.total(
    entry['losses'] for entry in store.manifest['datasets'].values()
  )
  unknown, changed = sum(losses['unknown'].values()), losses['changed']
  lossless = tokenizer_coverage.is_lossless(store.tokenizer())
  if lossless and not unknown and not changed:
    return f'Texts: as rendered; tokenizer `{name}` gives every text back.', True
  lost = (
    f'Texts: decoded from tokens of `{name}`, which does not give every text back: '
    f'{unknown:,} tokens are unknown, and {changed:,} of {losses["checked"]:,} checked '
    'examples changed; blanks and compatibility forms of letters may differ in all.'
  )
  return lost, False


def _leakage(store: Store, run: Mapping[str, Any]) -> list[str]:
  """Lines of the leakage report of the training examples."""
  manifest = store.manifest
  held_out = run.get('held_out') or tuple(manifest['held_out'])
  if not held_out:
    return ['Leakage: not checked, since no cluster is held out.']
  try:
    mixture = names.mixture(manifest['mixture'])
    report = leakage.check(
      mixture,
      held_out,
      allow_overlap=run.get('allow_overlap'),
      datasets=[name for name in mixture.datasets if name in store.datasets],
    )
  except InputError as error:
    return [f'Leakage: not checked ({error}).']
  claims = [f'Leakage: `{name}`: {claim}.' for name, claim in report.seen.items()]
  warnings = (warning.removeprefix('leakage: ') for warning in report.warnings)
  return [*claims, *(f'Leakage: {warning}.' for warning in warnings)]


def _commands(config: ExportConfig, store: Store, draw: Draw | None) -> list[str]:
  """Commands that make the same export: of the store, if one is kept, and of this."""
  manifest = store.manifest
  request = manifest['request']
  drawn = {} if draw is None else draw._asdict()
  own = [f'--module {name}' for name in modules.named()]
  size = str(request['tokenizer']).removeprefix(f'{materialize.TRAIN}:')
  trained = size != request['tokenizer']
  tokenizer = materialize.TRAIN if trained else manifest['tokenizer']['name']
  made = {
    '--mixture': config.mixture or manifest['mixture'],
    '--tokenizer': tokenizer,
    '--vocab-size': size if trained else None,
    '--template-seed': manifest['seed'],
    '--task-feature-lengths': _lengths(manifest['limits']),
    '--missing': 'skip' if manifest['missing'] else None,
  }
  flags = {
    '--format': config.format,
    '--splits': ','.join(config.splits),
    '--epochs': request['epochs'] if config.store is None else config.epochs,
    **{f'--{name.replace("_", "-")}': value for name, value in drawn.items()},
    '--chat': config.chat,
    '--shard-size': config.shard_size,
  }
  if config.store is None:
    columns = {}
    if file_task.is_file(str(config.mixture)):
      columns = {'--inputs': config.inputs, '--targets': config.targets}
    return [_command('flan export', {**made, **columns, **flags}, own)]
  export = _command('flan export', {'--store': 'STORE', **flags}, own)
  if 'file_tasks' in manifest:
    return ['# STORE: that of the run on these files', export]
  asked = {
    '--epochs': request['epochs'],
    '--steps': request['steps'],
    '--batch-tokens': request['batch_tokens'],
    '--sequence-length': request['sequence_length'],
    '--out': 'STORE',
  }
  return [_command('flan materialize', {**made, **asked}, own), export]


def _lengths(limits: Mapping[str, Any]) -> str | None:
  """Value of --task-feature-lengths; None for the default."""
  found = {name: limits[name] for name in ('inputs', 'targets')}
  if Limits(**found) == Limits():
    return None
  return ','.join(f'{name}={n}' for name, n in found.items())


def _command(verb: str, flags: Mapping[str, Any], own: Sequence[str]) -> str:
  """Formats a command; flags without a value are True, those left out None or False."""
  parts = [verb]
  for name, value in flags.items():
    if value is True:
      parts.append(name)
    elif value is not None and value is not False:
      parts.append(f'{name} {shlex.quote(str(value))}')
  if verb == 'flan export':
    parts.append('--out DIR')
  return ' '.join([*parts, *own])
