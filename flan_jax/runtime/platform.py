"""Platform: the accelerator that is here, or none."""

import glob
import os


def accelerator_environment() -> dict[str, str]:
  """Variables that keep jax off hardware that is not there.

  libtpu may be installed for ahead-of-time compilation; a machine without TPU or GPU
  devices must not go looking for them.
  """
  if glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*'):
    return {}
  if os.path.exists('/dev/nvidiactl') or os.path.exists('/dev/nvidia0'):
    return {}
  return {'JAX_PLATFORMS': 'cpu', 'TPU_SKIP_MDS_QUERY': '1'}
