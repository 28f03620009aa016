"""`flan tasks`: lists the catalog."""

import argparse

from flan_jax.cli import console


def run(options: argparse.Namespace) -> int:
  from flan_jax.catalog import names, registry
  from flan_jax.cli import task_table
  from flan_jax.evaluate import metrics

  console.quiet_absl()
  if options.mixture is None:
    found = task_table.datasets()
  elif options.mixture:
    mixture = names.mixture(options.mixture)
    metrics.check_declared(mixture.members)
    found = task_table.mixture(mixture)
  else:
    found = task_table.all_mixtures()
  if options.json:
    console.print_json(found.data)
    return 0
  console.table(found.title, found.columns, found.rows)
  wrong = metrics.undeclared(registry.datasets().values())
  for line in (*found.lines, *(wrong if options.mixture is None else ())):
    print(line)
  return 0
