"""docs/howto/configuration.md, from end to end: an own schedule, and optax's AdamW."""

import json
import os
import pathlib
import re
import sys

import pytest

import gin
from flan_jax.cli import dispatch

PAGE = (
  pathlib.Path(__file__).parents[1] / 'docs' / 'howto' / 'configuration.md'
).read_text()
SMALL = [
  '--gin_bindings', 'TRAIN_STEPS = 3', '--gin_bindings=Run.log_period=1',
  '--gin.BATCH_TOKENS=2048', '--gin.HELD_OUT=()', '--gin.MODEL_DIR="run"',
  '--gin.SEQUENCE_LENGTH=256', '--gin.INITIAL_CHECKPOINT_PATH=None',
  '--gin_file=gin/models/tiny.gin', '--gin.NUM_LAYERS=1', '--gin.VOCAB_SIZE=512',
  '--gin.TOKENIZER=bytes',
  "--gin.MIXTURE_OR_TASK_NAME='microworld_mini_arc'",
]  # fmt: skip


def block(language: str) -> str:
  (code,) = re.findall(rf'```{language}\n(.*?)```', PAGE, re.DOTALL)
  return code


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with the module and the gin file of the page; forgets the module after."""
  out = tmp_path_factory.mktemp('acme')
  (out / 'acme').mkdir()
  (out / 'acme' / 'schedules.py').write_text(block('python'))
  (out / 'ours').mkdir()
  (out / 'ours' / 'mine.gin').write_text(block('gin'))
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(out)
    patch.setattr(sys, 'path', [*sys.path])
    for variable in ('FLAN_JAX_MODULES', 'PYTHONPATH'):
      patch.setenv(variable, os.environ.get(variable, ''))
    yield out
  for name in ('acme.schedules', 'acme'):
    sys.modules.pop(name, None)
  gin.config._REGISTRY.pop('acme.schedules.half_cosine')


def test_the_page_s_run_trains_and_its_config_gin_is_the_same_run(folder):
  module = ['train', '--module', 'acme.schedules']
  search = ['--gin_search_paths', 'ours']
  assert dispatch.main([*module, '--gin_file=mine.gin', *search, *SMALL]) == 0
  entries = [json.loads(line) for line in (folder / 'run' / 'log.jsonl').open()]
  rates = [entry['learning_rate'] for entry in entries]
  assert rates == pytest.approx([3e-3, 2.25e-3, 7.5e-4])
  config = (folder / 'run' / 'config.gin').read_text()
  for line in (
    'Run.optimizer = @optax.adamw()  # mine.gin:3',
    'optax.adamw.learning_rate = @short/acme.schedules.half_cosine()  # mine.gin:5',
    'short/acme.schedules.half_cosine.peak = 0.003  # mine.gin:9',
    'short/acme.schedules.half_cosine.steps = 3  # --gin.TRAIN_STEPS',
  ):
    assert f'{line}\n' in config

  assert dispatch.main([*module, '--gin_file=run/config.gin']) == 0
  assert (folder / 'run' / 'log.jsonl').read_text().count('\n') == len(entries)
  again = (folder / 'run' / 'config.gin').read_text()
  assert [line.partition('  # ')[0] for line in again.splitlines()] == [
    line.partition('  # ')[0] for line in config.splitlines()
  ]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--gin_bindings', 'TRAIN_STEPS'], "--gin_bindings: got 'TRAIN_STEPS'; must be"),
    (['--gin_bindings'], "--gin_bindings: got ''; must be NAME=VALUE"),
    (['--gin_bindings', 'TRAIN_STEPS = '], "got 'TRAIN_STEPS = '; must be NAME=VALUE"),
    (['--gin_bindings=TRAIN_STPES = 1'], "unknown macro 'TRAIN_STPES'; did you mean"),
    (['--gin_bindings="half_cosine.peak"=1'], 'must be --gin.NAME=VALUE'),
    (['--gin.half_cosine.peek=1'], "has no parameter 'peek'.*did you mean 'peak'"),
    (['--gin.short/half_cosine.steps=1.5'], 'steps = 1.5; must be an integer'),
    (['--gin.Run.optimizer=@optax.adamww()'], "did you mean 'optax.adamw'"),
    (['--gin.Run.seed=@half_cosine()'], 'Run.seed = @.*half_cosine.*must be an int'),
    (['--gin_search_paths=our'], "paths: 'our': no such folder; did .*'ours"),
    (['--gin_file=mine.gim'], "'mine.gim': no such file; did you mean 'mine.gin'"),
  ],
)  # fmt: skip
def test_a_mistake_is_one_line(arguments, message, folder, capsys):
  start = ['train', '--module', 'acme.schedules', '--gin_search_paths=ours,acme',
           '--gin_file=mine.gin', '--gin.MODEL_DIR=bad']  # fmt: skip
  assert dispatch.main([*start, *arguments]) == 2
  (line,) = capsys.readouterr().err.splitlines()[-1:]
  assert re.search(message, line), line
  assert not (folder / 'bad').exists()
