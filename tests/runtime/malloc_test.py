"""Heap settings: freed memory is reused without page faults."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from flan_jax.runtime import malloc

if sys.argv[1] == 'keep':
  assert malloc.keep()

def touch():
  blocks = [np.ones(2**21) for _ in range(4)]  # 64 MiB, each block 16

touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
  """Page faults of touching 64 MiB that the process has freed before."""
  command = [sys.executable, '-c', PROGRAM, mode]
  return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='a setting of glibc')
def test_freed_memory_is_reused_without_page_faults():
  assert faults('keep') < 0.1 * faults('default')
