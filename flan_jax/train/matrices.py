"""Weight matrices of a model, for optimizers that treat them as matrices."""

from collections.abc import Callable
from typing import Any

from flax import traverse_util
from optax import contrib

from flan_jax.config import functions

_BATCH = ('layers', 'stack')
"""Logical axes with one matrix per index."""

_EMBED = 'embed'


def dimension_numbers(logical_axes: Any) -> Callable[[Any], Any]:
  """Tells the input axes of each matrix from its output axes, as Muon asks.

  The matrices of layers have them: each takes `embed` to its other axes, or these back
  to `embed`. Embedding, head, norms and biases have none, and are left to Adam (Jordan
  et al. 2024, "Muon").

  Args:
    logical_axes: tree of the logical axes of the parameters.

  Returns:
    A function of a tree of parameters, or of a part of them; returns the same tree of
    `optax.contrib.MuonDimensionNumbers` or None.
  """
  axes: dict[str, Any] = traverse_util.flatten_dict(logical_axes, sep='/')

  def of(params: Any) -> Any:
    flat = traverse_util.flatten_dict(params, sep='/')
    found = {name: _numbers(name, tuple(axes[name])) for name in flat}
    return traverse_util.unflatten_dict(found, sep='/')

  return of


def _numbers(
  name: str, axes: tuple[str | None, ...]
) -> contrib.MuonDimensionNumbers | None:
  own = [i for i, axis in enumerate(axes) if axis not in _BATCH]
  if not name.startswith('layers') or len(own) < 2 or _EMBED not in axes:
    return None
  embed = axes.index(_EMBED)
  if own[0] == embed:
    return contrib.MuonDimensionNumbers((embed,), tuple(own[1:]))
  return contrib.MuonDimensionNumbers(tuple(own[:-1]), (own[-1],))


@functions.configurable
def without_norms(params: Any) -> Any:
  """Selects the parameters that weight decay is meant for: no norm and no bias.

  It is a `mask` of optax, as `optax.adamw.mask = @without_norms`.

  Args:
    params: tree of parameters.

  Returns:
    The same tree of booleans.
  """
  flat = traverse_util.flatten_dict(params, sep='/')
  found = {name: not name.endswith(('norm', '_bias')) for name in flat}
  return traverse_util.unflatten_dict(found, sep='/')
