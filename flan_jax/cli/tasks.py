"""`flan tasks`: lists the catalog."""

import argparse

from flan_jax.cli import console


def run(options: argparse.Namespace) -> int:
  from flan_jax.catalog import names
  from flan_jax.cli import task_table
  from flan_jax.evaluate import metrics

  console.quiet_absl()
  metrics.check_declared()
  if options.mixture is None:
    found = task_table.datasets()
  elif options.mixture:
    found = task_table.mixture(names.mixture(options.mixture))
  else:
    found = task_table.all_mixtures()
  if options.json:
    console.print_json(found.data)
    return 0
  console.table(found.title, found.columns, found.rows)
  for line in found.lines:
    print(line)
  return 0
