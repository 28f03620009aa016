"""Mixtures: names, caps, rates, held-out splits. No logic beyond composing names."""

from flan_jax.mixtures import held_out, studies, styles, views
from flan_jax.mixtures.held_out import EXCLUDED_WITH as EXCLUDED_WITH

from flan_jax.catalog.mixing_rates import CAP as CAP
from flan_jax.catalog.mixing_rates import MAXIMUM_RATE as MAXIMUM_RATE

MIXTURES = (
  *held_out.ALL.values(),
  *held_out.SPLITS.values(),
  *views.MIXTURES,
  *styles.MIXTURES,
  *studies.MIXTURES,
)
