"""`flan rows`: prints packed sequences of a run."""

import argparse
import json
import pathlib
from typing import Any

from flan_jax.errors import InputError


def run(options: argparse.Namespace) -> int:
  from flan_jax.config import checks
  from flan_jax.data import batch as batch_lib
  from flan_jax.data import packing
  from flan_jax.data.store import store as store_lib
  from flan_jax.runtime import network

  path = _fill(options)
  batch = options.batch_size
  for name, got, rule in (
    ('--start', options.start, checks.count(0, packing.MAX_SEQUENCES - 1)),
    (
      '--count',
      options.count,
      checks.count(1, max(1, packing.MAX_SEQUENCES - options.start)),
    ),
    ('--seed', options.seed, checks.uint32),
    ('--hosts', options.hosts, checks.count(1)),
    ('--batch-size', batch, checks.count(1)),
    ('--sequence-length', options.sequence_length, checks.count(8, checks.MAX_LENGTH)),
  ):
    checks.check(name, got, rule)
  checks.check('--host', options.host, checks.between(0, options.hosts - 1))
  store = store_lib.Store.open(path)
  sequences = options.start + options.count
  with network.waiting(lambda: f'the plan of {sequences:,} sequences'):
    plan = store.plan(
      seed=options.seed,
      sequences=sequences,
      sequence_length=options.sequence_length,
      pack=not options.unpacked,
    )
  if batch % options.hosts:
    raise InputError(
      f'--batch-size: got {batch}; must be a multiple of the {options.hosts} hosts'
    )
  share = batch // options.hosts
  tokenizer = None
  for k in range(options.start, options.start + options.count):
    if k % batch // share != options.host:
      continue
    if options.digest:
      print(k, batch_lib.sequence_digest(store.sequence(plan, k)))
      continue
    described = store_lib.describe(store, plan, k)
    if options.json:
      print(json.dumps(described, ensure_ascii=False))
      continue
    tokenizer = tokenizer or store.tokenizer()
    print(f'sequence {k}: {described["length"]} of {options.sequence_length} tokens')
    for (name, entry), part in zip(
      plan.sequence(k), described['segments'], strict=True
    ):
      example = store.example(name, entry).tokens
      print(
        f'  {name} [{part["cluster"]}] template {part["template"]} {part["example_id"]}'
      )
      for learnt, ids in example.runs():
        text = tokenizer.decode(ids).replace('\n', '\n           ')
        print(f'  {"targets" if learnt else "inputs":>7}: {text}')
  return 0


def _fill(options: argparse.Namespace) -> str:
  """Sets the options that were not given; returns the path of the store.

  Those of a MODEL_DIR are its run's.
  """
  run, path = _find(options.store)
  length = run.get('sequence_length', 2048)
  defaults = {
    'seed': run.get('seed', 0),
    'sequence_length': length,
    'batch_size': run['batch_tokens'] // length if run else options.hosts,
  }
  for name, value in defaults.items():
    if getattr(options, name) is None:
      setattr(options, name, value)
  options.unpacked = options.unpacked or not run.get('pack', True)
  if options.step is not None:
    _fill_step(options, known=bool(run))
  options.start = options.start or 0
  options.count = 1 if options.count is None else options.count
  return path


def _fill_step(options: argparse.Namespace, *, known: bool) -> None:
  """Sets the sequences of a step.

  Args:
    options: the command's.
    known: whether the run is known, so that `batch_size` is its own.
  """
  from flan_jax.config import checks

  checks.check('--step', options.step, checks.count(1))
  for flag, value in (('--start', options.start), ('--count', options.count)):
    if value is not None:
      raise InputError(f'--step: got {flag} too; give one of them')
  if not known:
    raise InputError(
      f'--step: {options.store!r} is a store; a step needs the MODEL_DIR of a run'
    )
  options.start = (options.step - 1) * options.batch_size
  options.count = options.batch_size


def _find(given: str) -> tuple[dict[str, Any], str]:
  """(settings of a run, path of its store); ({}, `given`) if it is no MODEL_DIR."""
  from flan_jax.checkpoints import weights
  from flan_jax.runtime import object_store, renamed_keys
  from flan_jax.train.run_dir import RunDir

  if '://' in given or not (pathlib.Path(given) / 'run.json').is_file():
    return {}, given
  folder = RunDir(given)
  run = renamed_keys.upgraded(weights.read_object(folder.settings), renamed_keys.RUN)
  if run.get('store') is None:
    return run, str(folder.store)
  return run, str(object_store.here('STORE', run['store']))
