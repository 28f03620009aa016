"""Flags of `flan rows`. Standard library only."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
  """print any packed sequence of a run"""
  parser.add_argument(
    'store',
    metavar='STORE',
    help='a store; or the MODEL_DIR of a run, which has its own store and settings',
  )
  parser.add_argument('--seed', type=int, help="SEED (default: the run's, or 0)")
  parser.add_argument(
    '--step', type=int, metavar='N', help='all sequences of step N, from 1'
  )
  parser.add_argument(
    '--start', type=int, metavar='K', help='first sequence, from 0 (default 0)'
  )
  parser.add_argument('--count', type=int, metavar='N', help='sequences (default 1)')
  parser.add_argument(
    '--sequence-length',
    type=int,
    metavar='N',
    help="SEQUENCE_LENGTH (default: the run's, or 2048)",
  )
  parser.add_argument(
    '--unpacked', action='store_true', help='one example per sequence'
  )
  parser.add_argument('--hosts', type=int, default=1, metavar='H')
  parser.add_argument('--host', type=int, default=0, metavar='I')
  parser.add_argument(
    '--batch-size',
    type=int,
    metavar='N',
    help="sequences per step (default: the run's, or hosts)",
  )
  how = parser.add_mutually_exclusive_group()
  how.add_argument(
    '--digest', action='store_true', help='print the sha256 of each sequence'
  )
  how.add_argument(
    '--json', action='store_true', help='print one JSON object per sequence'
  )
  how.add_argument('--text', action='store_true', help='print text (default)')
