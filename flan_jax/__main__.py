"""`python -m flan_jax VERB` is `flan VERB`."""

from flan_jax.cli.dispatch import command

command()
