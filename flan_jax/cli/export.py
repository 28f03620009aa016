"""`flan export`: takes the rendered data of a mixture out."""

import argparse

from flan_jax.cli import console, export_flags, export_lm_eval, materialize
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress

_FRESH = (
  'tokenizer', 'vocab_size', 'template_seed', 'task_feature_lengths', 'missing'
)  # fmt: skip
"""Options of rendering afresh: a store has been made with its own."""


def run(options: argparse.Namespace) -> int:
  if options.lm_eval is not None:
    return export_lm_eval.run(options)
  from flan_jax.config import checks
  from flan_jax.runtime import worker_pool

  if options.out is None:
    raise InputError('--out: not given, nor --lm-eval; must be a new folder')
  for name in export_flags.LM_EVAL:
    if getattr(options, name) is not None:
      raise InputError(f'--{name.replace("_", "-")}: only with --lm-eval')
  for name, got, rule in (
    ('--sampled', options.sampled, checks.count(1)),
    ('--epochs', options.epochs, checks.count(1, materialize.MAX_EPOCHS)),
    ('--seed', options.seed, checks.uint32),
    ('--sequence-length', options.sequence_length, checks.count(8, checks.MAX_LENGTH)),
    ('--shard-size', options.shard_size, checks.count(1)),
    ('--vocab-size', options.vocab_size, checks.count(1)),
    ('--template-seed', options.template_seed, checks.uint32),
    ('--workers', options.workers, checks.count(1, worker_pool.MAX_WORKERS)),
  ):
    checks.check(name, got, checks.or_none(rule))
  given = {name: getattr(options, name) for name in _FRESH}
  given = {name: value for name, value in given.items() if value is not None}
  if options.store is not None and given:
    flag = next(iter(given)).replace('_', '-')
    raise InputError(f'--{flag}: the store of --store has its own; leave it out')
  lengths = materialize.feature_lengths(options.task_feature_lengths)
  checks.check('--task-feature-lengths', lengths, checks.feature_lengths)
  progress = Progress()
  console.quiet_absl()
  progress.stage(f'Exporting {options.mixture or options.store} to {options.out}')
  from flan_jax.data.preprocess import Limits
  from flan_jax.data.store.materialize import StoreConfig
  from flan_jax.jobs import export, export_settings

  fresh = StoreConfig(
    tokenizer=given.get('tokenizer', 'train'),
    vocab_size=given.get('vocab_size', 32_000),
    seed=given.get('template_seed', 0),
    limits=Limits.of(lengths),
    missing=given.get('missing', 'refuse'),
  )
  summary = export.export(
    export_settings.ExportConfig(
      out=options.out,
      mixture=options.mixture,
      store=options.store,
      format=options.format,
      splits=tuple(name.strip() for name in options.splits.split(',')),
      sampled=options.sampled,
      epochs=options.epochs,
      seed=options.seed,
      sequence_length=options.sequence_length,
      unpacked=options.unpacked,
      chat=options.chat,
      shard_size=options.shard_size,
      inputs=options.inputs,
      targets=options.targets,
      fresh=fresh,
      data_dir=options.data_dir,
      workers=worker_pool.cores() if options.workers is None else options.workers,
    ),
    progress=progress,
  )
  if options.json:
    console.print_json(summary)
  else:
    _print_table(options.out, summary['examples'])
  progress.stage(f'Done: {options.out}')
  return 0


def _print_table(out: str, examples: dict[str, dict[str, int]]) -> None:
  names = dict.fromkeys(name for found in examples.values() for name in found)
  sides = {'dataset': 'left', **dict.fromkeys(examples, 'right')}
  rows = [
    (name, *(found.get(name, 0) for found in examples.values())) for name in names
  ]
  rows.append(('all', *(sum(found.values()) for found in examples.values())))
  console.table(out, sides, rows)
