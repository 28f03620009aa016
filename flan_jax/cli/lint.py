"""`flan lint`: checks templates."""

import argparse
import sys

from flan_jax.cli import console


def run(options: argparse.Namespace) -> int:
  from flan_jax.catalog import lint as lint_lib
  from flan_jax.catalog import names, registry
  from flan_jax.evaluate import metrics

  if options.datasets:
    datasets = [names.dataset(name) for name in options.datasets]
  else:
    datasets = list(registry.datasets().values())
  metrics.check_declared(datasets)
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
