"""The guard: nothing of a held-out cluster, or too near to it, may train."""

from flan_jax import mixtures
from flan_jax.catalogue import CLUSTERS, Mixture
from flan_jax.errors import InputError, did_you_mean


def clusters(names: str | tuple[str, ...]) -> tuple[str, ...]:
  """Cluster names, checked.

  Raises:
    InputError: at a name that is no cluster; names the nearest.
  """
  names = (names,) if isinstance(names, str) else tuple(names)
  for name in names:
    if name not in CLUSTERS:
      raise InputError(
        f'HELD_OUT {name!r}: no such cluster; clusters are {", ".join(CLUSTERS)}'
        + did_you_mean(name, CLUSTERS)
      )
  return names


def held_out(mixture: Mixture, asked: str | tuple[str, ...] | None) -> tuple[str, ...]:
  """The clusters that a run of `mixture` may evaluate as never seen.

  Args:
    mixture: what trains.
    asked: HELD_OUT; None for the clusters that the mixture holds out.

  Raises:
    InputError: if the mixture trains on a held-out cluster, or on one that the paper
      excludes with it (FLAN footnote 1).
  """
  if asked is None:
    return mixture.held_out
  names = clusters(asked)
  for name in names:
    for near in (name, *mixtures.EXCLUDED_WITH.get(name, ())):
      if near in mixture.trained_on:
        what = 'that very cluster' if near == name else f'{near}, too near to it'
        raise InputError(
          f'HELD_OUT {name!r}: mixture {mixture.name!r} trains on {what}; '
          f"use '{mixture.family}_held_out_{name}'"
        )
  return names
