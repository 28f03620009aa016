"""`flan plan`: the real step, compiled by the real TPU compiler, without a TPU.

The text of a plan is golden, so that a change in memory or transfers shows in review.
`pytest tests/tpu/plan/plan_test.py --update-golden` rewrites it.
"""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys

import pytest

from flan_jax.cli import dispatch

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'plans'
LIBTPU = '0.0.52'
"""The compiler of the golden texts; another one may schedule differently."""

SMALL = (
  '--gin_file=gin/runs/base.gin',
  '--gin_file=gin/models/tiny.gin',
  '--gin.DecoderConfig.dtype=bfloat16',
  '--gin.REMAT=dots',
  '--gin.BATCH_TOKENS=2048',
  '--gin.SEQUENCE_LENGTH=512',
  '--gin.TRAIN_STEPS=1000',
)
SPLASH = (
  '--gin.DecoderConfig.head_dim=128',
  '--gin.SEQUENCE_LENGTH=1024',
  '--gin.Run.attention_kernel=splash',
)
SEQUENCE = ('--gin_file=gin/mesh/sequence.gin', '--gin.MODEL=2')


def libtpu() -> str | None:
  try:
    return importlib.metadata.version('libtpu')
  except importlib.metadata.PackageNotFoundError:
    return None


needs_libtpu = pytest.mark.skipif(libtpu() is None, reason='libtpu is not installed')


def plan(*arguments: str) -> subprocess.CompletedProcess:
  """Runs `flan plan` in a subprocess, without the XLA_FLAGS of the tests."""
  clean = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}
  return subprocess.run(
    [sys.executable, '-m', 'flan_jax', 'plan', *arguments],
    env=clean,
    capture_output=True,
    text=True,
    check=False,
  )


def same_as_golden(done: subprocess.CompletedProcess, name: str, update: bool) -> None:
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines(keepends=True)
  text = ''.join(line for line in lines if not line.startswith('compiled in'))
  text = text.rstrip() + '\n'
  assert 'fits' in text
  assert 'modeled, not measured' in text
  path = GOLDEN / f'{name}.txt'
  if update:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding='utf-8')
  if libtpu() != LIBTPU:
    pytest.skip(f'compiled; the golden text is of libtpu {LIBTPU}')
  assert text == path.read_text(encoding='utf-8')


@needs_libtpu
@pytest.mark.parametrize(
  ('name', 'topology', 'layout'),
  [
    ('tiny_decode', 'v5e:2x2', (*SEQUENCE, '--gin.FSDP=2', '--step=decode')),
    pytest.param(
      'tiny', 'v5e:2x2', (*SEQUENCE, '--gin.FSDP=2'), marks=pytest.mark.slow
    ),
    pytest.param(
      'tiny',
      'v3:2x2',
      (*SEQUENCE, '--gin.FSDP=4', '--gin.ALONG=fsdp=x.c model=y'),
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'splash',
      'v5e:2x2',
      (*SEQUENCE, '--gin.FSDP=2', *SPLASH),
      marks=pytest.mark.slow,
    ),
  ],
)
def test_a_small_step_on_a_small_slice(name, topology, layout, update_golden):
  """By default the one that compiles fastest: a train step takes five times as long."""
  done = plan('--topology', topology, *SMALL, *layout)
  same_as_golden(done, f'{name}.{topology.replace(":", "_")}', update_golden)


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'changes'), [('flan_137b', ()), ('flan_137b_half', ('--gin.NUM_LAYERS=32',))]
)
def test_the_papers_run_on_its_slice(name, changes, update_golden):
  """137B parameters on 128 cores of v3, and a model with half the layers."""
  run = ('--topology', 'v3:8x8', '--gin_file=gin/runs/flan_137b.gin', *changes)
  same_as_golden(plan(*run), f'{name}.v3_8x8', update_golden)


@needs_libtpu
@pytest.mark.slow
def test_a_step_that_does_not_fit_reports_its_memory_and_changes_to_try():
  done = plan(
    '--topology', 'v3:1x1', '--json', '--gin_file=gin/runs/base.gin',
    '--gin_file=gin/models/8b.gin', '--gin_file=gin/mesh/tensor.gin', '--gin.MODEL=2',
  )  # fmt: skip
  assert done.returncode == 1
  found = json.loads(done.stdout)
  assert not found['fits']
  assert found['bytes_wanted'] > found['hbm_per_core']
  assert found['advice'][0].startswith("--gin.REMAT='dots'")
  assert found['step_s'] is None


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('--topology', 'v3:9x9'), 'nearest are v3:8x8'),
    ((), '--topology: not given'),
  ],
)
def test_bad_topologies_are_refused_at_once(arguments, message, capsys):
  assert dispatch.main(['plan', *arguments, *SMALL]) == 2
  assert message in capsys.readouterr().err


@needs_libtpu
@pytest.mark.parametrize(
  ('layout', 'message'),
  [
    (('--gin.FSDP=2', '--gin.MODEL=3'), 'fsdp=2 x model=3 does not make 4 devices'),
    (('--gin.FSDP=1', '--gin.MODEL=4'), "'kv_heads' has size 2, which mesh model=4"),
    (
      ('--gin.FSDP=2', '--gin.ALONG=fsdp=x model=z'),
      'y, which has size 2; one must, as AXIS=y',
    ),
  ],
)
def test_axes_that_do_not_divide_are_named(layout, message, capsys):
  arguments = ('--topology', 'v5e:2x2', '--print-sharding', *SMALL, *SEQUENCE)
  assert dispatch.main(['plan', *arguments, *layout]) == 2
  assert message in capsys.readouterr().err


@needs_libtpu
def test_the_sharding_of_every_parameter(capsys):
  arguments = ('--topology', 'v5e:2x2', '--print-sharding', '--json', *SMALL)
  assert dispatch.main(['plan', *arguments, *SEQUENCE, '--gin.FSDP=2']) == 0
  rows = {row['name']: row for row in json.loads(capsys.readouterr().out)}
  query = rows['layers/query']
  assert query['axes'] == ['layers', 'embed', 'heads', 'kv']
  assert query['over'] == ['-', 'fsdp', 'model', '-']
  assert query['shape'] == [4, 128, 4, 32]
  assert query['on_device'] == [4, 64, 2, 32]
  assert query['bytes'] == 4 * 64 * 2 * 32 * 4
