"""XLA flags of the tests, whose small programs take longer to compile than to run.

Set before jax is imported.
"""

import importlib.metadata

QUICK = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'

if importlib.metadata.version('jaxlib').startswith('0.10.'):
  # XLA's older code for CPUs compiles in half the time, and a program that is not split
  # for threads in less again. Another jaxlib may lack the flags, and would end the
  # process.
  QUICK += ' --xla_cpu_use_fusion_emitters=false'
  QUICK += ' --xla_cpu_parallel_codegen_split_count=1'


def without_those_of_cpus(flags: str) -> str:
  """The flags that libtpu takes too; it ends the process at others."""
  return ' '.join(flag for flag in flags.split() if 'xla_cpu' not in flag)
