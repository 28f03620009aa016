"""A trace holds the steps that were asked for, and no more."""

import jax
import jax.numpy as jnp
import pytest

from flan_jax.train.profile import Profile


def traced(folder) -> list[int]:
  """The numbers of the steps in the newest trace."""
  (path,) = folder.glob('plugins/profile/*/*.xplane.pb')
  data = jax.profiler.ProfileData.from_file(str(path))
  events = (e for plane in data.planes for line in plane.lines for e in line.events)
  stats = [dict(event.stats) for event in events if event.name == 'train']
  return sorted(int(each['step_num']) for each in stats if 'step_num' in each)


def test_a_run_of_ten_steps_is_traced_for_two_once_it_is_warm(tmp_path):
  step = jax.jit(lambda x: x @ x / 100)
  x = jnp.ones((64, 64))
  profile = Profile(tmp_path, steps=2, end=10)
  for number in range(1, 11):
    with profile.step(number):
      x = step(x)
    profile.after(number, x)
  profile.close()
  assert traced(tmp_path) == [3, 4]


def test_a_run_that_is_stopped_keeps_what_was_traced(tmp_path):
  profile = Profile(tmp_path, steps=5, end=10)
  for number in range(1, 5):
    with profile.step(number):
      x = jnp.ones(()) + number
    profile.after(number, x)
  profile.close()
  assert traced(tmp_path) == [3, 4]


@pytest.mark.parametrize(
  ('steps', 'start', 'end', 'span'),
  [
    (0, 0, 10, (3, 2)),  # none
    (3, 100, 200, (103, 105)),  # resumed at step 100
    (3, 0, 4, (2, 4)),  # too short to be warm: the last ones
    (9, 0, 4, (1, 4)),  # fewer than asked for
  ],
)
def test_which_steps(tmp_path, steps, start, end, span):
  profile = Profile(tmp_path, steps=steps, start=start, end=end)
  assert (profile.first, profile.last) == span
