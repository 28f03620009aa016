"""Two starts at once: the second ends in one line, and writes nothing."""

import os
import pathlib

import pytest
import small_run

from flan_jax.cli import dispatch
from flan_jax.runtime import lock

TASK = 'microworld_mini_arc'


@pytest.fixture(scope='module')
def model(tmp_path_factory, tiny_model) -> pathlib.Path:
  folder = tmp_path_factory.mktemp('model')
  tiny = tiny_model(activation='swiglu', scaled_head=False)
  tiny.save(folder)
  return folder


VERBS = {
  'train': ('MODEL_DIR', False, lambda out, model: [
    *(f'--gin_file={file}' for file in small_run.FILES),
    *(f'--gin.{flag}' for flag in small_run.flags(
      {'MODEL_DIR': f"'{out}'", 'MIXTURE_OR_TASK_NAME': TASK, 'TRAIN_STEPS': 2}
    )),
  ]),
  'eval': ('OUTPUT_DIR', False, lambda out, model: [
    "--gin.FAMILY='microworld'", "--gin.DATASETS='mini_arc'",
    f"--gin.CHECKPOINT='{model}'", f"--gin.OUTPUT_DIR='{out}'",
  ]),
  'infer': ('OUTPUT_DIR', False, lambda out, model: [
    f"--gin.MIXTURE_OR_TASK_NAME='{TASK}'",
    f"--gin.CHECKPOINT='{model}'", f"--gin.OUTPUT_DIR='{out}'",
  ]),
  'materialize': ('store', True, lambda out, model: [
    f'--mixture={TASK}', '--tokenizer=bytes', f'--out={out}'
  ]),
  'export': ('--out', True, lambda out, model: [
    f'--mixture={TASK}', '--tokenizer=bytes', f'--out={out}'
  ]),
  'convert': ('DST', True, lambda out, model: [str(model), str(out), '--to=hf']),
}  # fmt: skip
"""Verb -> (setting of its output, whether the lock stands beside, arguments)."""


@pytest.mark.parametrize('verb', VERBS)
def test_the_second_start_ends_in_one_line_and_writes_nothing(
  verb, model, tmp_path, capsys
):
  setting, beside, arguments = VERBS[verb]
  out = tmp_path / 'out'
  with lock.held(setting, out, beside=beside):
    before = sorted(tmp_path.rglob('*'))
    assert dispatch.main([verb, *arguments(out, model)]) == 2
    assert sorted(tmp_path.rglob('*')) == before
  lines = capsys.readouterr().err.splitlines()
  (line,) = (line for line in lines if line.startswith('flan: error: '))
  assert f"{setting} '{out}': is in use by process {os.getpid()} of host" in line
