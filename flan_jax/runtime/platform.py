"""Detection of the accelerator of this machine."""

import glob
import os


def accelerator_environment() -> dict[str, str]:
  """Returns the variables that keep jax on the CPU of a machine without accelerator.

  libtpu may be installed for ahead-of-time compilation; without TPU or GPU devices JAX
  must not search for them.
  """
  if glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*'):
    return {}
  if os.path.exists('/dev/nvidiactl') or os.path.exists('/dev/nvidia0'):
    return {}
  return {'JAX_PLATFORMS': 'cpu', 'TPU_SKIP_MDS_QUERY': '1'}


def prepare() -> None:
  """Sets the environment of jax and TensorFlow, where nothing has set it before.

  Call it before jax is imported.
  """
  for name, value in {
    **accelerator_environment(),
    'TF_CPP_MIN_LOG_LEVEL': '3',
    'EPATH_USE_TF': 'false',  # gs:// through gcsfs, TensorFlow or none
  }.items():
    os.environ.setdefault(name, value)
