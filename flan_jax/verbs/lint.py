"""`flan lint`: checks templates."""

import argparse
import sys

from flan_jax.verbs import output


def run(options: argparse.Namespace) -> int:
  from flan_jax import catalogue
  from flan_jax import lint as lint_lib

  if options.datasets:
    datasets = [catalogue.get(name) for name in options.datasets]
  else:
    datasets = [
      d for world in catalogue.WORLDS for d in catalogue.family(world).values()
    ]
  findings = lint_lib.lint(datasets)
  if options.json:
    output.print_json([finding._asdict() for finding in findings])
  else:
    for finding in findings:
      print(finding)
    templates = sum(len(dataset.templates) for dataset in datasets)
    print(
      f'{len(datasets)} datasets, {templates} templates: {len(findings)} findings',
      file=sys.stderr,
    )
  return 1 if findings else 0
