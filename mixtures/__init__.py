"""Mixtures: names, caps, rates, held-out splits. No logic beyond composing names."""

from flan_jax.mixtures import held_out, studies, styles, views
from flan_jax.mixtures.held_out import EXCLUDED_WITH

from flan_jax.catalog.mixing_rates import CAP as CAP
from flan_jax.catalog.mixing_rates import MAXIMUM_RATE as MAXIMUM_RATE
from flan_jax.catalog.registry import Cluster, register

MIXTURES = (
  *held_out.ALL.values(),
  *held_out.SPLITS.values(),
  *views.MIXTURES,
  *styles.MIXTURES,
  *studies.MIXTURES,
)

register(
  *(Cluster(name, too_near) for name, too_near in EXCLUDED_WITH.items()), *MIXTURES
)
