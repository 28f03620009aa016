"""Safetensors in a stream are the bytes that the package writes at once."""

import numpy as np
from safetensors.numpy import save_file

from flan_jax.checkpoints import safetensors_writer
from flan_jax.checkpoints.weights import DTYPES, TensorInfo


def test_the_file_is_that_of_the_safetensors_package(tmp_path):
  draw = np.random.default_rng(0)
  tensors = {
    name: draw.normal(size=shape).astype(DTYPES[dtype])
    for name, shape, dtype in [
      ('b/second', (3, 4), 'F32'), ('a', (5,), 'BF16'), ('z', (2, 3, 2), 'F16'),
      ('b/first', (3, 4), 'F32'), ('c', (1,), 'BF16'),
    ]
  }  # fmt: skip
  save_file(tensors, tmp_path / 'at_once')
  tensors_info = {
    name: TensorInfo(array.shape, array.dtype) for name, array in tensors.items()
  }
  parts = (
    (name, iter(tensors[name])) for name in safetensors_writer.order(tensors_info)
  )
  safetensors_writer.write(tmp_path / 'streamed', tensors_info, parts)
  assert (tmp_path / 'streamed').read_bytes() == (tmp_path / 'at_once').read_bytes()
