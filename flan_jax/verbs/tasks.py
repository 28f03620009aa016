"""`flan tasks`: lists the catalogue."""

import argparse

from flan_jax.verbs import output


def run(options: argparse.Namespace) -> int:
  from flan_jax import catalogue, listing

  if options.mixture is None:
    found = listing.datasets()
  elif options.mixture:
    found = listing.mixture(catalogue.mixture(options.mixture))
  else:
    found = listing.all_mixtures()
  if options.json:
    output.print_json(found.data)
    return 0
  output.table(found.title, found.columns, found.rows)
  for line in found.lines:
    print(line)
  return 0
