"""Flags of `flan ask`. Standard library only."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
  """ask a model, once or in a dialogue"""
  parser.add_argument(
    'model',
    metavar='MODEL',
    help='any checkpoint, as in `flan eval` (`runs/x`, its step `runs/x@200`), or '
    '`microworld`',
  )
  parser.add_argument(
    'prompt', metavar='PROMPT', nargs='?',
    help='prompt; - reads it from standard input; none: a dialogue',
  )  # fmt: skip
  parser.add_argument('--max-tokens', type=int, default=256, metavar='N')
  parser.add_argument(
    '--temperature', type=float, default=0.0, metavar='T',
    help='0 (default) takes the most probable token; above it, sample',
  )  # fmt: skip
  parser.add_argument(
    '--seed', type=int, default=0, metavar='N', help='seed for sampling (default 0)'
  )
  parser.add_argument(
    '--weight-dtype', choices=('bfloat16', 'int8'),
    help='store the matrices in fewer bytes, at some cost in accuracy',
  )  # fmt: skip
  parser.add_argument(
    '--options', metavar='A|B', help='rank these options instead of generating'
  )
  parser.add_argument(
    '--continues',
    action='store_true',
    help='plain text that the answer continues: no EOS after the prompt',
  )
  parser.add_argument(
    '--chat',
    action='store_true',
    help="ask through the model's own chat template",
  )
  parser.add_argument(
    '--json', action='store_true', help='print JSON on standard output'
  )
