"""`flan convert`: imports and exports models."""

import argparse
import sys

from flan_jax.cli import console
from flan_jax.errors import InputError
from flan_jax.runtime.progress import Progress


def run(options: argparse.Namespace) -> int:
  progress = Progress()
  console.quiet_absl()
  from flan_jax.interop.huggingface import convert as convert_lib
  from flan_jax.interop.huggingface import packages
  from flan_jax.runtime import lock

  progress.stage(f'Converting {options.source}')
  source = packages.find(options.source)
  if options.to == 'ours' and options.family is not None:
    raise InputError(
      f'--family {options.family!r}: has no effect on an import, whose config.json '
      'says the family; must come with --to hf'
    )
  with lock.held('DST', options.destination, beside=True):
    if options.to == 'ours':
      done = convert_lib.import_model(source, options.destination, progress=progress)
    else:
      done = convert_lib.export_model(
        source, options.destination, progress=progress, model_type=options.family
      )
  found = done.agreement
  if options.json:
    console.print_json({
      'destination': str(done.folder) if found.passed else None,
      'family': done.family,
      'check': found.as_json(),
    })  # fmt: skip
  else:
    print(
      f'logits against {found.method}: max difference {found.max_difference:.2g} of '
      f'{found.largest:.3g} (allowed {found.allowed:.2g}), KL {found.kl:.2g}, same '
      f'choice at {found.same_choice:.1%} of {found.positions} positions'
    )
    if found.perplexity is not None:
      print(
        f'perplexity of a paragraph {found.perplexity:.1f}, of its words shuffled '
        f'{found.perplexity_shuffled:.0f}'
      )
  if not found.passed:
    print(
      f'flan: error: {options.source}: the logits of the two sides differ by '
      f'{found.max_difference:.2g} (allowed {found.allowed:.2g}; KL {found.kl:.2g}): '
      'nothing is written',
      file=sys.stderr,
    )
    return 1
  progress.stage(f'Done: {done.folder}')
  return 0
