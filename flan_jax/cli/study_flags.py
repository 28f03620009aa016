"""Flags of `flan study`. Standard library only."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
  """run a grid of trainings and evaluations; one page with figure, table and costs"""
  parser.add_argument(
    'gin_file',
    metavar='FILE',
    nargs=1,
    help='gin file of a study, as gin/studies/microworld_small.gin',
  )
  parser.set_defaults(gin_search_paths=[])
  parser.add_argument(
    '--gin_search_paths',
    action='append',
    metavar='DIR[,DIR]',
    help='folders to look for gin files in; repeatable',
  )
  parser.add_argument(
    '--dry-run', action='store_true', help='print the command of each cell left to run'
  )
  parser.add_argument(
    '--only', metavar='PATTERN', help="run these cells alone, as 'tuned/nli-*'"
  )
  parser.add_argument(
    '--render-only',
    action='store_true',
    help='run nothing; write the page from the reports there are',
  )
  parser.epilog = (
    '--gin.NAME=VALUE overrides a macro of the study file, as '
    '--gin.STUDY_DIR=studies/x or --gin.PROCESSES=2. Exit code: 0 if every cell is '
    'finished; 1 if one failed; 143 after SIGTERM: rerun the same command to go on'
  )
