"""`flan lm-eval`: lm-eval's own command line, with our models in it."""

import argparse


def run(options: argparse.Namespace) -> int:
  from flan_jax.interop.lm_eval import command

  command.run(options.passed)
  return 0
