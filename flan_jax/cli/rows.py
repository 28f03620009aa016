"""`flan rows`: prints packed sequences of a run."""

import argparse
import json

from flan_jax.errors import InputError


def run(options: argparse.Namespace) -> int:
  from flan_jax.config import checks
  from flan_jax.data import batch as batch_lib
  from flan_jax.data.store import store as store_lib

  batch = options.hosts if options.batch_size is None else options.batch_size
  for name, got, least in (
    ('--start', options.start, 0),
    ('--count', options.count, 1),
    ('--seed', options.seed, 0),
    ('--hosts', options.hosts, 1),
    ('--batch-size', batch, 1),
  ):
    checks.check(name, got, checks.at_least(least))
  checks.check('--host', options.host, checks.between(0, options.hosts - 1))
  store = store_lib.Store.open(options.store)
  plan = store.plan(
    seed=options.seed,
    sequences=options.start + options.count,
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
