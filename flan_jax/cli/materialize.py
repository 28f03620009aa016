"""`flan materialize`: renders and tokenizes a mixture, or the data of a run."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flan_jax.cli import console
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress

if TYPE_CHECKING:
  from flan_jax.catalog.registry import Mixture

MAX_EPOCHS = 10_000
"""Maximum number of epochs to render: after the last template, they repeat."""


def run(options: argparse.Namespace) -> int:
  if options.repair:
    return _repair(options)
  if options.gin_file:
    return _of_run(options)
  if options.mixture is None:
    raise InputError('--mixture: not given; `flan tasks --mixture NAME` shows one')
  from flan_jax.config import checks
  from flan_jax.runtime import worker_pool

  for name, got, rule in (
    ('--vocab-size', options.vocab_size, checks.count(1)),
    ('--template-seed', options.template_seed, checks.uint32),
    ('--batch-tokens', options.batch_tokens, checks.count(1)),
    ('--sequence-length', options.sequence_length, checks.count(8, checks.MAX_LENGTH)),
    ('--epochs', options.epochs, checks.count(1, MAX_EPOCHS)),
    ('--steps', options.steps, checks.count(1)),
    ('--workers', options.workers, checks.count(1, worker_pool.MAX_WORKERS)),
  ):
    checks.check(name, got, checks.or_none(rule))
  batch, length = options.batch_tokens, options.sequence_length
  if options.steps and length and batch % length:
    nearest = max(round(batch / length), 1) * length
    raise InputError(
      f'--batch-tokens: got {batch:,}; must be sequences x --sequence-length '
      f'({length:,}); the nearest is {nearest:,}'
    )
  lengths = feature_lengths(options.task_feature_lengths)
  checks.check('--task-feature-lengths', lengths, checks.feature_lengths)
  progress = Progress()
  console.quiet_absl()
  progress.stage(f'Materializing {options.mixture}')
  if line := checks.lengths_above(lengths, length):
    progress.line(f'warning: --task-feature-lengths: {line}')
  from flan_jax.catalog import names
  from flan_jax.data import chat_template
  from flan_jax.data.preprocess import Limits
  from flan_jax.data.sources import file_task
  from flan_jax.data.store import materialize as materialize_lib
  from flan_jax.evaluate import metrics

  mixture = names.mixture(
    file_task.resolve(
      options.mixture,
      setting='--mixture',
      inputs=options.inputs,
      targets=options.targets,
      messages=options.messages,
      columns=('--inputs', '--targets', '--messages'),
    )
  )
  metrics.check_declared(mixture.members)
  with progress.counter() as count:
    manifest = materialize_lib.materialize(
      mixture,
      materialize_lib.StoreConfig(
        tokenizer=options.tokenizer,
        vocab_size=options.vocab_size,
        seed=options.template_seed,
        epochs=options.epochs,
        steps=options.steps,
        batch_tokens=options.batch_tokens if options.steps else None,
        sequence_length=options.sequence_length,
        limits=Limits.of(lengths),
        missing=options.missing,
        chat_template=chat_template.load(options.chat_template),
      ),
      out=options.out,
      data_dir=options.data_dir,
      workers=worker_pool.cores() if options.workers is None else options.workers,
      runner=options.runner,
      progress=count,
    )
  _print(manifest, mixture, options.out, progress)
  return 0


def _of_run(options: argparse.Namespace) -> int:
  """Makes the store of a training run: the settings are those of `flan train`."""
  from flan_jax.config import gin
  from flan_jax.jobs import decoder_fields, run_store, training_data

  if options.mixture is not None:
    raise InputError(
      '--mixture: is MIXTURE_OR_TASK_NAME of --gin_file; give one of the two'
    )
  progress = Progress()
  console.quiet_absl()
  parsed = gin.load(
    options.gin_file, options.gin, search_paths=options.gin_search_paths
  )
  parsed.give({'MODEL_DIR': options.out}, origin='--out')
  config = parsed.build('Run')
  fields = parsed.bound('DecoderConfig')
  for warning in parsed.refuse_unused('train'):
    progress.line(f'warning: {warning}')
  with parsed.located():
    config = decoder_fields.with_decoder_fields(config, fields)
    progress.stage(f'Materializing {config.mixture}')
    manifest = run_store.materialize(config, out=options.out, progress=progress)
    _print(manifest, training_data.mixture(config), options.out, progress)
  return 0


def _print(
  manifest: Mapping[str, Any], mixture: 'Mixture', out: str, progress: Progress
) -> None:
  """Prints what a store holds."""
  from flan_jax.catalog import seqio_names
  from flan_jax.data import tokenizer_coverage

  examples = [
    (name, entry['cluster'], entry['examples'], entry['epochs'], entry['rate'],
     ', '.join(f'{why} {n:,}' for why, n in entry['filters'].items() if n))
    for name, entry in manifest['datasets'].items()
  ]  # fmt: skip
  sides = {'dataset': 'left', 'cluster': 'left', 'examples': 'right', 'epochs': 'right',
           'rate': 'right', 'dropped': 'left'}  # fmt: skip
  console.table(out, sides, examples)
  for line in seqio_names.hidden(mixture):
    print(line)
  for name, why in manifest['missing'].items():
    print(f'missing: {name} ({why})')
  if line := tokenizer_coverage.warning(manifest):
    print(line)
  planned = manifest['plan']
  print(
    f'{planned["examples"]:,} examples in {planned["sequences"]:,} sequences of '
    f'{planned["sequence_length"]:,} tokens, {planned["fill"]:.2%} full'
  )
  progress.stage(f'Done: {out}, digest {manifest["digest"]}')


def feature_lengths(text: str | None) -> dict[str, Any] | None:
  """Feature -> its length of `inputs=512,targets=64`."""
  if text is None:
    return None
  pairs = [part.partition('=') for part in text.split(',')]
  return {
    name.strip(): int(n) if n.strip().isdecimal() else n.strip() for name, _, n in pairs
  }


def _repair(options: argparse.Namespace) -> int:
  progress = Progress()
  progress.stage(f'Checking {options.out}')
  from flan_jax.data.store import repair

  with progress.counter() as count:
    repaired = repair.repair(options.out, data_dir=options.data_dir, progress=count)
  for damage in repaired:
    if not damage.dataset:
      print(f'{", ".join(damage.files)}: removed; the next run makes it again')
      continue
    print(
      f'{damage.dataset} {damage.part}: {damage.lost:,} of {damage.examples:,} '
      f'examples were lost; rebuilt: {", ".join(damage.files)}'
    )
  progress.stage(f'Done: {len(repaired)} damaged parts')
  return 0
