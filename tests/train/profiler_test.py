"""A trace holds the requested steps, and no more."""

import json
import os
import subprocess
import sys

import pytest

from flan_jax.train.profiler import Profile

RUN = """
import json
import pathlib
import sys

import jax
import jax.numpy as jnp

from flan_jax.train.profiler import Profile

folder, steps, stop = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
step = jax.jit(lambda x: x @ x / 100)
x = jnp.ones((64, 64))
profile = Profile(folder, steps=steps, end=10)
for number in range(1, stop + 1):
  with profile.step(number):
    x = step(x)
  profile.after(number, x)
profile.close()

(path,) = folder.glob('plugins/profile/*/*.xplane.pb')
data = jax.profiler.ProfileData.from_file(str(path))
events = (e for plane in data.planes for line in plane.lines for e in line.events)
stats = [dict(event.stats) for event in events if event.name == 'train']
print(json.dumps(sorted(int(s['step_num']) for s in stats if 'step_num' in s)))
"""


def traced(folder, *, steps: int, stop: int) -> list[int]:
  """Steps in the trace of a run of ten steps that ends after `stop`.

  It runs in a process of its own, since other tests load libtpu (see below).
  """
  done = subprocess.run(
    [sys.executable, '-c', RUN, str(folder), str(steps), str(stop)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def test_a_run_of_ten_steps_is_traced_for_two_once_it_is_warm(tmp_path):
  assert traced(tmp_path, steps=2, stop=10) == [3, 4]


def test_a_run_that_is_stopped_keeps_what_was_traced(tmp_path):
  assert traced(tmp_path, steps=5, stop=4) == [3, 4]


def test_a_trace_that_libtpu_would_crash_at_is_refused():
  """Without JAX_PLATFORMS, JAX loads an installed libtpu even without a TPU."""
  pytest.importorskip('libtpu')
  code = (
    'import jax; print(jax.default_backend()); '
    'from flan_jax.train import profiler; profiler.check()'
  )
  unset = ('JAX_PLATFORMS', 'XLA_FLAGS')  # libtpu refuses flags of CPUs
  anything = {name: x for name, x in os.environ.items() if name not in unset}
  cpu = anything | {'JAX_PLATFORMS': 'cpu'}
  refused, passed = (
    subprocess.run(
      [sys.executable, '-c', code], env=env, capture_output=True, text=True
    )
    for env in (anything, cpu)
  )
  if 'tpu' in refused.stdout:
    pytest.skip('there is a TPU')
  assert 'set JAX_PLATFORMS=cpu' in refused.stderr.splitlines()[-1]
  assert passed.returncode == 0, passed.stderr


@pytest.mark.parametrize(
  ('steps', 'start', 'end', 'span'),
  [
    (0, 0, 10, (3, 2)),  # none
    (3, 100, 200, (103, 105)),  # resumed at step 100
    (3, 0, 4, (2, 4)),  # too short to be warm: the last ones
    (9, 0, 4, (1, 4)),  # fewer than requested
  ],
)
def test_which_steps(tmp_path, steps, start, end, span):
  profile = Profile(tmp_path, steps=steps, start=start, end=end)
  assert (profile.first, profile.last) == span
