"""Flags of `flan launch`. Standard library only."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
  """run the same command on every host of a TPU slice"""
  parser.usage = 'flan launch --tpu NAME --zone ZONE [options] -- flan train ...'
  parser.add_argument('--tpu', required=True, metavar='NAME', help='name of the slice')
  parser.add_argument(
    '--zone', required=True, metavar='ZONE', help='zone, as us-central1-a'
  )
  parser.add_argument('--project', metavar='ID', help="project (default: gcloud's own)")
  parser.add_argument(
    '--type', metavar='TYPE', help='accelerator type, as v3-128, or topology, as v3:8x8'
  )
  parser.add_argument(
    '--engine',
    default='tpu-vm',
    choices=('tpu-vm', 'xpk', 'skypilot'),
    help='tpu-vm runs the command with gcloud; the others print a script or a task',
  )
  parser.add_argument(
    '--spot', action='store_true', help='use spot capacity: cheaper, may be preempted'
  )
  parser.add_argument(
    '--queued',
    action='store_true',
    help='queue the request until capacity is available',
  )
  parser.add_argument('--runtime', metavar='IMAGE', help='software version of the VMs')
  parser.add_argument(
    '--create-arg',
    action='append',
    default=[],
    metavar='ARG',
    help='further argument for gcloud ... create, as --create-arg=--network=tpu',
  )
  parser.add_argument(
    '--extra',
    action='append',
    default=[],
    metavar='NAME',
    help='extra of flan_jax to install beside `tpu`, as data or parquet; repeatable',
  )
  parser.add_argument('--max-restarts', type=int, default=20, metavar='N')
  parser.add_argument(
    '--grace',
    type=int,
    default=120,
    metavar='S',
    help='seconds that a run gets to save and exit',
  )
  parser.add_argument('--cluster', metavar='NAME', help='GKE cluster (--engine xpk)')
  parser.add_argument('--image', metavar='PATH', help='image to push (--engine xpk)')
  parser.add_argument(
    '--bundle',
    metavar='DIR',
    help='new folder for wheels and files that xpk or skypilot install in place of the '
    'commit',
  )
  parser.add_argument(
    '--stop', action='store_true', help='stop the run with SIGTERM; it saves first'
  )
  parser.add_argument(
    '--delete',
    action='store_true',
    help='delete the slice after the run, or now without a command',
  )
  parser.add_argument(
    '--dry-run', action='store_true', help='print every command and run none'
  )
