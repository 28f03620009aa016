"""Start-up beside t5x: seconds from launch to the first step, and when resuming.

`python benchmarks/train.py --startup` runs it.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import figures
import numpy as np

VOCAB, LAYERS, D, F, HEADS, C = 384, 6, 384, 1024, 6, 64
"""Sizes of the decoder; see train.py."""

RUN = f"""
include 'gin/runs/base.gin'
Run.model = @DecoderConfig()
DecoderConfig.vocab_size = {VOCAB}
DecoderConfig.num_layers = {LAYERS}
DecoderConfig.d_model = {D}
DecoderConfig.d_ff = {F}
DecoderConfig.num_heads = {HEADS}
DecoderConfig.num_kv_heads = {HEADS}
DecoderConfig.head_dim = {C}
DecoderConfig.positions = 't5'
HELD_OUT = ()
TOKENIZER = 'bytes'
"""

T5X_MODEL = f"""
from __gin__ import dynamic_registration
from flan_jax.interop.t5x import mixtures
from t5x import adafactor
from t5x import models
from t5x.examples.decoder_only import network
TOKENIZER = 'bytes'
mixtures.vocabulary.tokenizer = %TOKENIZER
OPTIMIZER = @adafactor.Adafactor()
adafactor.Adafactor.decay_rate = 0.8
adafactor.Adafactor.step_offset = 0
adafactor.Adafactor.logical_factor_rules = @adafactor.standard_logical_factor_rules()
MODEL = @models.DecoderOnlyModel()
models.DecoderOnlyModel.module = @network.DecoderWrapper()
models.DecoderOnlyModel.vocabulary = @mixtures.vocabulary()
models.DecoderOnlyModel.optimizer_def = %OPTIMIZER
models.DecoderOnlyModel.loss_normalizing_factor = 'NUM_REAL_TARGET_TOKENS'
network.DecoderWrapper.config = @network.TransformerConfig()
network.TransformerConfig.vocab_size = {VOCAB}
network.TransformerConfig.emb_dim = {D}
network.TransformerConfig.num_heads = {HEADS}
network.TransformerConfig.num_layers = {LAYERS}
network.TransformerConfig.head_dim = {C}
network.TransformerConfig.mlp_dim = {F}
network.TransformerConfig.mlp_activations = ('gelu', 'linear')
network.TransformerConfig.dropout_rate = 0.0
network.TransformerConfig.logits_via_embedding = True
"""

STARTS = {
  'flan_jax, fresh': ('Training steps', 'train: '),
  'flan_jax, cached': ('Training steps', 'train: '),
  'flan_jax, resumed': ('Training steps', 'train: '),
  't5x, fresh': ('BEGIN Train loop', 'Saving checkpoint.'),
  't5x, resumed': ('BEGIN Train loop', 'Saving checkpoint.'),
}
"""Start -> words on standard error when training is ready, and after one step."""


def run(options: argparse.Namespace) -> None:
  """Times fresh starts, starts with cached programs, and resumed starts, in turn."""
  found = {name: [] for name in STARTS}
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    (folder / 'flan_jax.gin').write_text(RUN)
    (folder / 't5x.gin').write_text(T5X_MODEL)
    for turn in range(options.rounds):
      for name in STARTS:
        command = start_command(name, folder, turn, options)
        environment = {**os.environ, 'XDG_CACHE_HOME': str(folder / f'cache{turn}')}
        marks = watch(command, STARTS[name], environment)
        found[name].append(marks)
        times = ', '.join(f'{wall:.1f} s ({cpu:.1f} CPU s)' for wall, cpu in marks)
        print(f'{name:<18} ready, stepped: {times or "failed"}', flush=True)
  print(
    f'\n{"start":<18}{"ready CPU s":>12}{"wall s":>8}{"step CPU s":>12}{"wall s":>8}'
  )
  for name, rounds in found.items():
    whole = [marks for marks in rounds if len(marks) == 2]
    if whole:
      ready, stepped = np.median(np.array(whole), axis=0)
      print(
        f'{name:<18}{ready[1]:>12.1f}{ready[0]:>8.1f}'
        f'{stepped[1]:>12.1f}{stepped[0]:>8.1f}'
      )
      figures.add(f'start: {name}', stepped[1], 'CPU s', lower_is_better=True)


def start_command(
  name: str, folder: pathlib.Path, turn: int, options: argparse.Namespace
) -> list[str]:
  engine, kind = name.split(', ')
  model_dir = folder / (f'{engine}{turn}' + ('cached' if kind == 'cached' else ''))
  steps = 2 if kind == 'resumed' else 1
  task = 'microworld_mini_copa'
  if engine == 'flan_jax':
    flags = {
      'MODEL_DIR': model_dir, 'MIXTURE_OR_TASK_NAME': task, 'TRAIN_STEPS': steps,
      'SEQUENCE_LENGTH': options.length, 'BATCH_TOKENS': options.rows * options.length,
    }  # fmt: skip
    files = ['-m', 'flan_jax', 'train', f'--gin_file={folder / "flan_jax.gin"}']
  else:
    targets = options.length // 4
    lengths = {'inputs': options.length - targets, 'targets': targets}
    flags = {
      'MODEL_DIR': f"'{model_dir}'", 'MIXTURE_OR_TASK_NAME': f"'{task}'",
      'TRAIN_STEPS': steps, 'TASK_FEATURE_LENGTHS': lengths, 'TRAIN_EVAL': None,
      'BATCH_SIZE': options.rows, 'INITIAL_CHECKPOINT_PATH': None, 'STATS_PERIOD': 1,
    }  # fmt: skip
    files = ['-m', 't5x.train', f'--gin_file={folder / "t5x.gin"}']
    files += ['--gin_file=gin/t5x/train.gin', '--alsologtostderr']
  return [sys.executable, *files, *(f'--gin.{k}={v}' for k, v in flags.items())]


def watch(
  command: list[str], words: tuple[str, ...], environment: dict[str, str]
) -> list[tuple[float, float]]:
  """(wall, CPU) seconds from launch to each of `words` on standard error, in order."""
  start, marks, lines = time.perf_counter(), [], []
  process = subprocess.Popen(
    command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    env=environment,
  )  # fmt: skip
  for line in process.stderr:
    lines.append(line)
    if len(marks) < len(words) and words[len(marks)] in line:
      wall = time.perf_counter() - start
      fields = pathlib.Path(f'/proc/{process.pid}/stat').read_text().rpartition(')')[2]
      ticks = sum(map(int, fields.split()[11:13]))
      marks.append((wall, ticks / os.sysconf('SC_CLK_TCK')))
  if process.wait():
    print(''.join(lines[-3:]), file=sys.stderr)
  return marks
