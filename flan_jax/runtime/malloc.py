"""Heap settings: memory that a step frees stays in the process for the next one."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc
_LARGEST_INT = 2**31 - 1


def keep() -> bool:
  """Keeps freed memory in the process; returns False if the C library cannot.

  XLA on a CPU allocates the temporary arrays of a step again at every step. glibc maps
  blocks this large one by one, and the kernel zeroes each page at first touch: a tenth
  of a small decoder's step, and more if two threads wait for the same page table. With
  these settings all blocks come from one heap that never shrinks. Call it before
  threads start; only glibc has the settings.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return False
  settings = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _LARGEST_INT}
  return all([mallopt(name, value) for name, value in settings.items()])
