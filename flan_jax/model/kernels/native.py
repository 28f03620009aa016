"""Kernels in C for decoding on a CPU.

XLA's products of 2 to 32 rows pack the matrix, or read it in leaps; the kernel in
native.c reads it once, from end to end. Attention of one token reads only the slots in
use. The machine's C compiler builds the kernels at the first use and the cache keeps
them; without a compiler, or with FLAN_JAX_C_KERNELS=0, XLA computes.
"""

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess

import jax
import jax.numpy as jnp

from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, compilation_cache

WIDTH = 24
"""Outputs of a panel, as in native.c."""

DTYPES = (jnp.float32, jnp.bfloat16, jnp.int8)
"""Dtypes of panels."""

LANES = 8
"""Divides the channels of a head."""

_SOURCE = pathlib.Path(__file__).with_name('native.c')
_OFF = 'FLAN_JAX_C_KERNELS'


@functools.cache
def available() -> bool:
  """Builds and registers the kernels, if need be; False if this machine cannot."""
  if os.environ.get(_OFF, '1') == '0' or jax.default_backend() != 'cpu':
    return False
  try:
    library = ctypes.CDLL(str(_built()))
  except (InputError, OSError, subprocess.SubprocessError):
    return False
  for kernel in ('product', 'attend'):
    target = jax.ffi.pycapsule(getattr(library, f'flan_{kernel}'))
    jax.ffi.register_ffi_target(_name(kernel), target, platform='cpu')
  return True


def pack(matrix_IxO: jax.Array) -> jax.Array:
  """Panels [P, I, WIDTH] of a matrix; the last is padded with zeros."""
  I, O = matrix_IxO.shape  # noqa: E741
  padded = jnp.pad(matrix_IxO, ((0, 0), (0, -O % WIDTH)))
  return padded.reshape(I, -1, WIDTH).swapaxes(0, 1)


def product(
  x_NxI: jax.Array,
  panels_PxIxW: jax.Array,
  *,
  outputs: int,
  scale_O: jax.Array | None = None,
) -> jax.Array:
  """x @ matrix, float32 [N, O], for the panels of a matrix.

  Args:
    x_NxI: float32.
    panels_PxIxW: panels in float32, bfloat16 or int8.
    outputs: O, the outputs of the matrix.
    scale_O: float32, a factor on each output, or None.
  """
  out = jax.ShapeDtypeStruct((len(x_NxI), outputs), jnp.float32)
  arguments = (x_NxI, panels_PxIxW) + (() if scale_O is None else (scale_O,))
  return jax.ffi.ffi_call(_name('product'), out)(*arguments)


def attend(
  query_BxKxGxC: jax.Array,
  key_BxKxSxC: jax.Array,
  value_BxKxSxC: jax.Array,
  mask_BxS: jax.Array,
) -> jax.Array:
  """Attention of one token of each sequence to its cache, float32 [B, K, G, C].

  A query without a visible key gets zeros.

  Args:
    query_BxKxGxC: float32, scaled, G queries of each head of keys; LANES divides C.
    key_BxKxSxC: float32.
    value_BxKxSxC: float32.
    mask_BxS: bool, True on slots to attend to.
  """
  out = jax.ShapeDtypeStruct(query_BxKxGxC.shape, jnp.float32)
  return jax.ffi.ffi_call(_name('attend'), out)(
    query_BxKxGxC, key_BxKxSxC, value_BxKxSxC, mask_BxS
  )


@functools.cache
def _name(kernel: str) -> str:
  """Name of a kernel to XLA, which keeps compiled programs by it."""
  return f'flan_jax_{kernel}_{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]}'


def _processor() -> str:
  """Digest of what this processor can do: machines may share a cache."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    lines = []
  able = [
    line for line in lines if line.startswith(('flags', 'Features', 'model name'))
  ]
  text = '\n'.join([platform.machine(), platform.processor(), *sorted(set(able))])
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def _built() -> pathlib.Path:
  """The library in the cache, compiled now if it is not there.

  Raises:
    OSError: if there is no compiler, or no folder.
    subprocess.SubprocessError: if the compiler fails.
  """
  folder = compilation_cache.own_folder(os.environ, 'kernels')
  compiler = shutil.which(os.environ.get('CC') or 'cc')
  if folder is None:
    raise OSError('no folder')
  path = folder / f'{_name("native")}-{_processor()}.so'
  if path.is_file():
    return path
  if compiler is None:
    raise OSError('no C compiler')
  native = (
    '-mcpu=native' if platform.machine() in ('arm64', 'aarch64') else '-march=native'
  )
  with atomic_file.Draft(path) as made:
    flags = ['-std=gnu11', '-O3', native, '-shared', '-fPIC']
    headers = f'-I{jax.ffi.include_dir()}'
    command = [compiler, *flags, headers, str(_SOURCE), '-o', str(made.path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    made.keep()
  return path
