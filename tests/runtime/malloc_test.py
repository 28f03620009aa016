"""The heap: memory that was freed is there again without a page fault."""

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
  """Page faults of touching 64 MiB that the process has had before."""
  command = [sys.executable, '-c', PROGRAM, mode]
  return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='a setting of glibc')
def test_memory_once_freed_is_taken_again_without_page_faults():
  assert faults('keep') < 0.1 * faults('default')
