"""Weights laid out for decoding: no scan, each matrix in the order a product reads it.

A scan copies a layer's matrices before it multiplies by them, and a product of few
tokens with a matrix [in, out] packs the matrix, either in each step.
"""

import dataclasses
import math
import weakref
from typing import Any

import jax
import jax.numpy as jnp

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.model import parameters
from flan_jax.model.kernels import native

_MATRICES = {
  'query': 1,
  'key': 1,
  'value': 1,
  'output': 2,
  'gate': 1,
  'up': 1,
  'down': 1,
}
"""Axes of a layer's matrices that its input has."""


_kept: list[tuple[list[weakref.ref], Any, Any]] = []
"""The last result: references to its parameters, settings, layout."""


def prepared(
  params: Any, config: DecoderConfig, *, dtype: str | None, sharded: bool
) -> tuple[Any, DecoderConfig]:
  """The model as this machine decodes it fastest; kept while `params` are.

  Args:
    params: parameters of `Decoder(config)`.
    config: decoder config.
    dtype: stored dtype of the matrices, 'bfloat16' or 'int8'; None for the model's own.
    sharded: whether `params` lie on a mesh; then they keep their layout.

  Raises:
    InputError: if the matrices are to be int8 on a mesh.
  """
  if sharded and dtype == 'int8':
    raise InputError(
      "Decoding.weight_dtype: got 'int8' with a mesh; must be None or 'bfloat16' on "
      "several devices; the nearest is 'bfloat16'",
      field='Decoding.weight_dtype',
    )
  if dtype is None and (sharded or jax.default_backend() != 'cpu'):
    return params, config
  leaves = jax.tree.leaves(params)
  for references, settings, found in _kept:
    same = len(references) == len(leaves) and settings == (config, dtype, sharded)
    if same and all(r() is x for r, x in zip(references, leaves, strict=True)):
      return found
  if sharded:
    found = _cast(params, jnp.dtype(dtype)), config
  else:
    found = for_decoding(params, config, dtype=dtype)
  if all(isinstance(leaf, jax.Array) for leaf in leaves):  # others may change in place
    references: list[weakref.ref] = []

    def forget(_):
      if _kept and _kept[0][0] is references:
        _kept.clear()

    references += [weakref.ref(leaf, forget) for leaf in leaves]
    _kept[:] = [(references, (config, dtype, sharded), found)]
  return found


def _cast(params: Any, dtype: jnp.dtype) -> Any:
  """Parameters whose matrices are stored in `dtype`."""

  def cast(path, value):
    return value.astype(dtype) if path[-1].key in {*_MATRICES, 'head'} else value

  return jax.tree_util.tree_map_with_path(cast, params)


def for_decoding(
  params: Any, config: DecoderConfig, *, dtype: str | None = None
) -> tuple[Any, DecoderConfig]:
  """The same model laid out for a CPU to decode; this copies the matrices once.

  Each layer gets arrays of its own. Instead of a matrix `query` it has `query_panels`
  (model.kernels.native) or, where that kernel cannot be built, the transpose
  `query_rows`, [out, in]. Matrices in int8 have a `query_scale` [out] beside them.

  Args:
    params: parameters of `Decoder(config)`; those of an earlier call come back as is.
    config: decoder config.
    dtype: stored dtype of the matrices, 'bfloat16' or 'int8'; None for config.dtype.
  """
  if parameters.laid_out(params, 'head'):
    return params, config
  layers = {name: value for name, value in params.items() if name.startswith('layers')}
  out = {name: params[name] for name in params if name not in layers}
  if config.scan_layers:
    for i in range(config.num_layers):
      layers[f'layers_{i}'] = jax.tree.map(lambda x, i=i: x[i], params['layers'])
    del layers['layers']
  stored = jnp.dtype(dtype or config.dtype)
  for name, layer in layers.items():
    out[name] = {}
    for title, value in layer.items():
      if title not in _MATRICES:
        out[name][title] = value
        continue
      inputs = math.prod(value.shape[: _MATRICES[title]])
      out[name] |= _laid_out(title, jnp.reshape(value, (inputs, -1)), stored)
  head = out['embedding'].T if config.tied_embedding else out.pop('head')
  out |= _laid_out('head', head, stored)
  return out, dataclasses.replace(config, scan_layers=False, remat='none')


def _laid_out(name: str, matrix_IxO: jax.Array, dtype: jnp.dtype) -> dict[str, Any]:
  """The arrays that stand for a matrix, by their names."""
  out = {}
  if dtype == jnp.int8:
    matrix_IxO = matrix_IxO.astype(jnp.float32)
    scale_O = jnp.max(jnp.abs(matrix_IxO), axis=0) / 127
    out[f'{name}_scale'] = scale_O
    matrix_IxO = jnp.round(matrix_IxO / jnp.where(scale_O > 0, scale_O, 1))
  matrix_IxO = matrix_IxO.astype(dtype)
  if dtype in native.DTYPES and native.available():
    out[f'{name}_panels'] = native.pack(matrix_IxO)
  else:
    out[f'{name}_rows'] = matrix_IxO.T
  return out
