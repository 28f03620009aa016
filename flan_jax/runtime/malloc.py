"""The process's heap: what a step has freed, the next one gets without asking."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h of glibc
_LARGEST_INT = 2**31 - 1


def keep() -> bool:
  """Keeps freed memory in the process; returns whether the C library could be told.

  XLA on a CPU asks for the temporary arrays of a step anew at every step. From blocks
  this large glibc makes mappings of their own, which the kernel fills with zeros page
  by page at first touch: a tenth of a small decoder's step, and more where two threads
  wait for the same page table. Afterwards all blocks come from one heap that never
  shrinks. Call it before threads start; only glibc has the settings.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return False
  settings = {_M_ARENA_MAX: 1, _M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _LARGEST_INT}
  return all([mallopt(name, value) for name, value in settings.items()])
