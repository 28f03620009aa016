"""Event files are what TensorFlow reads, checksums and all."""

import pytest

from flan_jax.train import tensorboard


def test_scalars_are_read_back(tmp_path):
  tf = pytest.importorskip('tensorflow')
  writer = tensorboard.Writer(tmp_path / 'a' / 'b', purge_step=41)
  writer.scalars({'train/loss': 5.25, 'train/step_s': 1e-3}, step=50)
  writer.scalars({'train/loss': float('inf')}, step=2**40)
  (path,) = (tmp_path / 'a' / 'b').iterdir()
  first, start, *events = tf.compat.v1.train.summary_iterator(str(path))
  writer.close()
  assert first.file_version == 'brain.Event:2'
  assert start.step == 41
  assert start.session_log.status == start.session_log.START
  assert [event.step for event in events] == [50, 2**40]
  values = [{v.tag: v.simple_value for v in e.summary.value} for e in events]
  assert values[0] == pytest.approx({'train/loss': 5.25, 'train/step_s': 1e-3})
  assert values[1] == {'train/loss': float('inf')}
