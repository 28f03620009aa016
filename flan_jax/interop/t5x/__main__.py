"""`python -m flan_jax.interop.t5x`: exports and imports t5x checkpoints."""

import argparse
import os
import sys
from collections.abc import Sequence

from flan_jax.errors import InputError
from flan_jax.runtime import platform


def main(arguments: Sequence[str] | None = None) -> int:
  """Returns the exit code: 0 done, 2 bad input."""
  parser = argparse.ArgumentParser(
    prog='python -m flan_jax.interop.t5x',
    description=(__doc__ or '').partition('\n')[0],
  )
  verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
  exporter = verbs.add_parser('export', help='flan_jax model or run -> t5x checkpoint')
  exporter.add_argument(
    'source', metavar='SRC', help='model folder, MODEL_DIR, microworld'
  )
  exporter.add_argument(
    'destination', metavar='DST', help='folder of checkpoint_<step>'
  )
  importer = verbs.add_parser('import', help='t5x checkpoint -> flan_jax model folder')
  importer.add_argument(
    'source', metavar='SRC', help="checkpoint_<step>, or t5x's MODEL_DIR"
  )
  importer.add_argument(
    'destination', metavar='DST', help='folder that does not exist yet'
  )
  importer.add_argument(
    '--model', help="model with its shape and tokenizer (default: t5x's DECODER)"
  )
  importer.add_argument('--mixture', help="mixture that trained it (default: t5x's)")
  options = parser.parse_args(arguments)
  for name, value in platform.accelerator_environment().items():
    os.environ.setdefault(name, value)
  from flan_jax.interop.t5x import checkpoints

  try:
    if options.verb == 'export':
      done = checkpoints.export_checkpoint(options.source, options.destination)
    else:
      done = checkpoints.import_checkpoint(
        options.source,
        options.destination,
        model=options.model,
        mixture=options.mixture,
      )
  except InputError as error:
    print(f't5x: error: {" ".join(str(error).split())}', file=sys.stderr)
    return 2
  print(done)
  return 0


if __name__ == '__main__':
  sys.exit(main())
