"""Goodput adds up, whatever the clock does."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_jax.train import goodput
from flan_jax.train.goodput import GoodputLog, read

SECONDS = st.floats(0.0, 1e4)


@given(
  st.lists(
    st.tuples(
      st.floats(-1e6, 1e6),  # by how much the clock was set before this start
      SECONDS,  # seconds since the start before it
      st.lists(st.tuples(st.sampled_from(goodput.KINDS), SECONDS), max_size=4),
    ),
    min_size=1,
    max_size=4,
  )
)
def test_parts_sum_to_the_wall_clock_and_goodput_is_a_share(starts):
  records, clock, done = [], 1e9, 0
  for jump, idle, spent in starts:
    clock += jump + idle
    records.append({'kind': 'start', 'at': clock, 'step': done})
    for kind, seconds in spent:
      clock += seconds
      record = {'kind': kind, 'at': clock, 'seconds': seconds}
      if kind == 'step':
        record |= {'from': done, 'to': done + 1}
        done += 1
      records.append(record)
  found = goodput.summarize(records)
  assert found is not None
  assert 0 <= found.goodput <= 1
  assert min(found.seconds.values()) >= 0
  assert sum(found.seconds.values()) == pytest.approx(found.wall)


def test_a_clock_that_is_set_back_during_a_run_changes_no_record(tmp_path, monkeypatch):
  path = tmp_path / goodput.FILE
  log = GoodputLog(path, began=time.time())
  log.start(0)
  monkeypatch.setattr(time, 'time', lambda: 0.0)
  log.add('step', 0.5, **{'from': 0, 'to': 1})
  first, last = (record['at'] for record in read(path))
  assert first <= last
