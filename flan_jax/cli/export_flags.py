"""Flags of `flan export`. Standard library only."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
  """take the rendered examples of a mixture out: JSON Lines, Parquet, Hugging Face"""
  parser.add_argument(
    '--mixture', metavar='NAME', help='mixture, task or file (default: of --store)'
  )
  parser.add_argument('--out', metavar='DIR', help='new folder')
  parser.add_argument(
    '--format', default='jsonl', metavar='F',
    help='jsonl (default), parquet, or hf: saved by `datasets`',
  )  # fmt: skip
  parser.add_argument(
    '--store',
    metavar='DIR',
    help='store, or MODEL_DIR of a run (default: render afresh)',
  )
  parser.add_argument(
    '--splits', default='train', metavar='S,S',
    help='train (default), and dev and test of the evaluated datasets',
  )  # fmt: skip
  parser.add_argument(
    '--sampled', type=int, metavar='N',
    help='the first N examples that a run draws, by the rates (default: all examples)',
  )  # fmt: skip
  parser.add_argument('--seed', type=int, metavar='N', help='SEED of that run')
  parser.add_argument(
    '--sequence-length', type=int, metavar='N', help='SEQUENCE_LENGTH of that run'
  )
  parser.add_argument(
    '--unpacked', action='store_true', help='that run has one example per sequence'
  )
  parser.add_argument(
    '--epochs', type=int, metavar='E', help='epochs, each in other templates'
  )
  parser.add_argument(
    '--chat', action='store_true', help='add `messages`: user and assistant'
  )
  parser.add_argument(
    '--shard-size', type=int, default=100_000, metavar='N', help='examples of a file'
  )
  parser.add_argument(
    '--workers', type=int, metavar='N', help='processes (default: one per core)'
  )
  parser.add_argument(
    '--data-dir', metavar='DIR', help='TFDS data directory (default: $TFDS_DATA_DIR)'
  )
  _add_fresh(parser)
  _add_lm_eval(parser)
  parser.add_argument(
    '--json', action='store_true', help='print JSON on standard output'
  )


def _add_fresh(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of rendering afresh."""
  fresh = parser.add_argument_group('without --store, as for `flan materialize`')
  fresh.add_argument(
    '--inputs', default='inputs', metavar='COLUMN', help='prompts of a file'
  )
  fresh.add_argument(
    '--targets', default='targets', metavar='COLUMN', help='answers of a file'
  )
  fresh.add_argument(
    '--tokenizer',
    metavar='FILE',
    help='SentencePiece .model, tokenizer.json, `bytes`, or `train`, in whose tokens '
    'limits are counted (default: train)',
  )
  fresh.add_argument('--vocab-size', type=int, metavar='N')
  fresh.add_argument('--template-seed', type=int, metavar='N')
  fresh.add_argument(
    '--task-feature-lengths', metavar='NAME=N,...',
    help='maximum tokens of a feature (default inputs=1024,targets=256)',
  )  # fmt: skip
  fresh.add_argument('--missing', choices=('refuse', 'skip'))


LM_EVAL = (
  'datasets', 'clusters', 'family', 'max_examples', 'templates', 'num_fewshot',
  'prompt_style',
  'options_style',
)  # fmt: skip
"""Options that only --lm-eval has."""


def _add_lm_eval(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of an export to lm-eval."""
  tasks = parser.add_argument_group(
    'instead of --out, evaluation data as tasks of lm-eval, with the settings of '
    '`flan eval`'
  )
  tasks.add_argument(
    '--lm-eval',
    metavar='DIR',
    help='new folder; --mixture: the clusters that it holds out; --tokenizer: the '
    'model that lm-eval will ask, ours or exported; --splits: dev or test; --seed',
  )
  for name, kind in (('datasets', 'dataset'), ('clusters', 'cluster')):
    tasks.add_argument(f'--{name}', metavar='NAME,...', help=f'{kind}s')
  tasks.add_argument('--family', metavar='NAME', help='of --clusters (default flan)')
  tasks.add_argument(
    '--max-examples', type=int, metavar='N', help='examples of a dataset (default: all)'
  )
  tasks.add_argument('--templates', type=int, metavar='N', help='the first N templates')
  tasks.add_argument(
    '--num-fewshot', type=int, metavar='N', help='exemplars before each prompt'
  )
  for name, default in (('prompt', 'instructions'), ('options', 'bullets')):
    tasks.add_argument(
      f'--{name}-style',
      metavar='STYLE',
      help=f'as {name.upper()}_STYLE (default: {default})',
    )
