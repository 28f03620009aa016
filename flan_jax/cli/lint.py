"""`flan lint`: checks templates."""

import argparse
import sys

from flan_jax.cli import console


def run(options: argparse.Namespace) -> int:
  from flan_jax.catalog import dataset as dataset_lib
  from flan_jax.catalog import lint as lint_lib

  if options.datasets:
    datasets = [dataset_lib.get(name) for name in options.datasets]
  else:
    datasets = [
      d for world in dataset_lib.WORLDS for d in dataset_lib.family(world).values()
    ]
  findings = lint_lib.lint(datasets)
  if options.json:
    console.print_json([finding._asdict() for finding in findings])
  else:
    for finding in findings:
      print(finding)
    templates = sum(len(dataset.templates) for dataset in datasets)
    print(
      f'{len(datasets)} datasets, {templates} templates: {len(findings)} findings',
      file=sys.stderr,
    )
  return 1 if findings else 0
