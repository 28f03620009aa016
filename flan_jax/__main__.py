"""`python -m flan_jax VERB` is `flan VERB`."""

import sys

from flan_jax.cli.dispatch import main

sys.exit(main())
