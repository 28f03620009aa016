"""Mixtures: names, caps, rates, held-out splits. No logic beyond composing names."""

from flan_jax.mixtures import held_out, studies, styles, views
from flan_jax.mixtures.held_out import EXCLUDED_WITH as EXCLUDED_WITH

CAP = 30_000
"""Most training rows of one dataset (FLAN section 2.2)."""

MAXIMUM_RATE = 3_000
"""A dataset gains no weight for rows beyond these (FLAN section 2.2, footnote 2)."""

MIXTURES = (
  *held_out.ALL.values(),
  *held_out.SPLITS.values(),
  *views.MIXTURES,
  *styles.MIXTURES,
  *studies.MIXTURES,
)
