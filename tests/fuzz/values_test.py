"""Values of anybody, at every verb: refused in one line before anything is written.

A case is a command with a few settings and arguments drawn from a grammar of values
that hurt (evil_values). It runs in this process, and stops at a hook where the work
begins. It must be refused (exit code 2, one line, no file written), or get that far. A
traceback, a hang, a file that a refused command has left, and a setting that is taken
although no run can have it are faults. The figures are printed.
"""

import collections
import contextlib
import dataclasses
import functools
import io
import math
import os
import pathlib
import random
import shutil
import sys
import time
import traceback

import fuzzing
import pytest

from flan_jax.cli import dispatch
from flan_jax.config import gin, parsing
from flan_jax.config.recipe import Recipe
from flan_jax.runtime import modules, network

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))  # a module beside this one

import evil_values  # noqa: E402

SECONDS = 60
"""A case that takes longer hangs."""

LINE = 2_000
"""Characters of a refusal at most."""

HOOKS = (
  *(
    'flan_jax.jobs.train_and_evaluate.Checkpoints',
    'flan_jax.jobs.evaluate_checkpoint._models',
  ),
  *('flan_jax.jobs.infer._model', 'flan_jax.jobs.language_model.load_model'),
  *('flan_jax.data.store.work_folder.opened', 'flan_jax.runtime.atomic_file.Draft'),
  *('flan_jax.tpu.plan.topology.devices', 'flan_jax.data.store.store.Store.plan'),
  *('flan_jax.cli.fetch._prepare', 'flan_jax.catalog.lint.lint'),
  *('jax.distributed.initialize', 'flan_jax.evaluate.load_model.load'),
  *('flan_jax.jobs.study.Study.run', 'flan_jax.interop.lm_eval.command.run'),
)
"""Functions with which the work of a verb begins: all settings are checked before."""

SHALLOW = ('flan_jax.jobs.train_and_evaluate.Trainer',)
"""The same of runs that lay out no model and build no store, which takes a second."""


class Begins(BaseException):
  """Raised where the work begins."""


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A folder with a store, a report and files of examples, to be in."""
  from flan_jax.catalog import names
  from flan_jax.checkpoints import model_dir
  from flan_jax.data.store.materialize import StoreConfig, materialize

  mixture = names.mixture('microworld_mini_cb')
  materialize(mixture, StoreConfig(tokenizer='bytes', epochs=1), out=tmp_path / 'store')
  (tmp_path / 'x.jsonl').write_text('{"inputs": "Is it?", "targets": "yes"}\n' * 9)
  (tmp_path / 'file.txt').write_text('Is it?\n')
  (tmp_path / 'report').mkdir()
  report = HERE.parents[1] / 'docs' / 'results' / 'first_real_run' / 'report.json'
  shutil.copy(report, tmp_path / 'report')
  for name in ('fifo', 'fifo.jsonl', 'fifo.model'):
    os.mkfifo(tmp_path / name)
  (tmp_path / 'loop').symlink_to('loop')
  shutil.copytree(model_dir.SHIPPED, tmp_path / 'model')
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv(network.SETTING, '2')
  # Read once, of a process that would read them at every command.
  monkeypatch.setattr(modules, 'installed', functools.cache(modules.installed))
  monkeypatch.setattr(dispatch, 'parser', functools.cache(dispatch.parser))
  monkeypatch.setattr(parsing, 'statements', remembered(parsing.statements))
  return tmp_path


def remembered(statements):
  """Parsing that remembers the shipped files, which most commands read."""
  found = {}

  def parse(text, source, *, named):
    if 'evil' in source or source.startswith('--'):
      return statements(text, source, named=named)
    if source not in found:
      names = {}
      found[source] = statements(text, source, named=names), names
    parsed, names = found[source]
    for name in names:
      named.setdefault(name, source)
    return parsed

  return parse


@pytest.fixture
def stops(monkeypatch):
  """Stops every verb where its work begins."""

  def begin(*_, **__):
    raise Begins

  def hook(names):
    for name in names:
      with contextlib.suppress(ImportError, AttributeError):
        monkeypatch.setattr(name, begin)

  return hook


def command(rng: random.Random, known, verbs) -> list[str]:
  """A command of one of the verbs, and its evil."""
  verb = rng.choice(verbs)
  words = [*verb.split()]
  if rng.random() < 0.8:
    known = evil_values.names(verb)
  small = '--gin_file=gin/models/tiny.gin'
  if verb == 'train':
    words += ['--gin_file=gin/runs/base.gin', small, '--gin.MODEL_DIR=out',
              '--gin.MIXTURE_OR_TASK_NAME=microworld_mini_cb', '--gin.HELD_OUT=()',
              '--gin.TRAIN_STEPS=2', '--gin.SEQUENCE_LENGTH=256',
              '--gin.BATCH_TOKENS=2048', '--gin.Evaluate.sequence_length=256',
              '--gin.Run.tokenizer=bytes']  # fmt: skip
  elif verb == 'eval':
    words += ['--gin.CHECKPOINT=microworld', '--gin.OUTPUT_DIR=out',
              '--gin.DATASETS=microworld_mini_cb']  # fmt: skip
  elif verb == 'infer':
    words += ['--gin.CHECKPOINT=microworld', '--gin.OUTPUT_DIR=out',
              '--gin.PROMPTS=x.jsonl']  # fmt: skip
  elif verb == 'plan':
    words += ['--gin_file=gin/runs/base.gin', small, '--topology=v3:2x2']
  elif verb == 'study':
    words += ['gin/studies/microworld_small.gin', '--gin.STUDY_DIR=out']
  elif verb == 'lm-eval':
    words.append('--tasks=arc_easy')
  elif verb == 'ask':
    words += [rng.choice(('microworld', 'nowhere', evil_values.value(rng))), 'Is it?']
  elif verb == 'export':
    words += ['--out=out', '--mixture=microworld_mini_cb', '--tokenizer=bytes']
  elif verb == 'export --lm-eval':
    words[1:] = ['--lm-eval=out', '--mixture=microworld_mini_cb', '--tokenizer=bytes']
  elif verb == 'materialize':
    words += ['--out=out', '--mixture=microworld_mini_cb', '--tokenizer=bytes']
    words += rng.choice(([], [], ['--repair']))
  elif verb == 'rows':
    words.append(rng.choice(('store', 'store', 'store', evil_values.value(rng))))
  elif verb == 'report':
    words.append(rng.choice(('report', 'report', 'nowhere', evil_values.value(rng))))
  elif verb == 'convert':
    words += [rng.choice(('model', 'model', evil_values.value(rng))), 'out']
    words += rng.choice((['--to=hf'], []))
  elif verb == 'launch':
    words += ['--dry-run', '--tpu=n', '--zone=z-a', '--type=v4-8']
  elif verb == 'fetch':
    words.append(rng.choice(('rte', 'microworld_mini_cb', evil_values.value(rng))))
  elif verb in ('show', 'lint'):
    own = 'microworld_mini_cb' if verb == 'show' else 'mini_cb'
    words.append(rng.choice((own, own, evil_values.value(rng))))
  if verb in ('train', 'eval', 'infer', 'plan', 'study'):
    if verb != 'study' and rng.random() < 0.25:
      path = pathlib.Path('evil.gin')
      path.write_bytes(evil_values.file(rng, str(path), known))
      words.append(f'--gin_file={path}')
      if verb in ('eval', 'infer'):
        own = {'eval': 'gin/evaluate/zero_shot.gin', 'infer': 'gin/infer.gin'}[verb]
        words.insert(1, f'--gin_file={own}')
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
      words.append('--gin.{}={}'.format(*evil_values.binding(rng, known)))
    if rng.random() < 0.15:
      words += evil_values.flag(rng, verb)
  else:
    for _ in range(rng.choice((1, 1, 2))):
      words += evil_values.flag(rng, verb)
  words += evil_values.module(rng)
  if verb == 'launch':
    more = [f'--gin.{n}={v}' for n, v in [evil_values.binding(rng, known)]]
    words += [
      '--',
      *rng.choice(
        (
          ['flan', 'train', '--gin_file=gin/runs/demo.gin', *more],
          ['flan', 'tasks'],
          ['true', *more],
          [],
          ['flan'],
        )
      ),
    ]
  return words


GIN = ('train', 'train', 'train', 'eval', 'eval', 'infer', 'plan')
OTHERS = ('ask', 'export', 'export --lm-eval', 'materialize', 'rows', 'report', 'show',
          'convert', 'launch', 'fetch', 'lint', 'tasks', 'study',
          'lm-eval')  # fmt: skip


def outcome(words: list[str], settings: list) -> str:
  """Outcome of a case: 'refused', 'taken', or a fault and its place."""
  out, err = io.StringIO(), io.StringIO()
  try:
    with (
      fuzzing.limited(SECONDS),
      contextlib.redirect_stdout(out),
      contextlib.redirect_stderr(err),
    ):
      code = dispatch.main(words)
  except Begins:
    return silent(settings) or 'taken'
  except fuzzing.Hang:
    return f'hang: {traceback.format_exc().splitlines()[-6:-1]}'
  except BaseException as error:
    return fuzzing.fault(error)
  lines = [line for line in err.getvalue().splitlines() if 'flan: error:' in line]
  if code != 2:
    return silent(settings) or 'taken'
  last = err.getvalue().rstrip('\n').rpartition('\n')[2]
  if len(lines) != 1 or not last.startswith('flan: error: ') or len(last) > LINE:
    return f'fault: not one line: {err.getvalue()[-300:]!r}'
  return 'refused'


def silent(settings: list) -> str:
  """The setting that is taken although no run can have it; '' for none."""
  for each in settings:
    for name, value in leaves(type(each).__name__, each):
      if isinstance(value, float) and not math.isfinite(value):
        return f'silent: {name} = {value}'
      if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return f'silent: {name} has {len(str(value))} digits'
      if isinstance(value, str) and ('\0' in value or not value.isprintable()):
        with contextlib.suppress(UnicodeEncodeError):
          value.encode()
          if '\0' not in value:
            continue
        return f'silent: {name} = {value!r:.80}'
  return ''


def leaves(name: str, value):
  """(name, value) of every plain value in settings."""
  if isinstance(value, Recipe):
    pairs = value.arguments
  elif dataclasses.is_dataclass(value):
    pairs = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
  elif isinstance(value, dict):
    pairs = [(str(key)[:20], item) for key, item in value.items()]
  elif isinstance(value, (tuple, list)):
    pairs = [(str(i), item) for i, item in enumerate(value)]
  else:
    yield name, value
    return
  for key, item in pairs:
    yield from leaves(f'{name}.{key}', item)


def run(place: pathlib.Path, verbs, *, cases: int, seed: int, monkeypatch):
  """Runs cases; returns verb -> outcome -> count, and the faults."""
  known = evil_values.names()
  built: list = []
  build = gin.Config.build

  def watched(self, name):
    built.append(build(self, name))
    return built[-1]

  monkeypatch.setattr(gin.Config, 'build', watched)
  counts, faults = collections.defaultdict(collections.Counter), []
  environment = dict(os.environ)
  for case in range(cases):
    rng = random.Random(f'{seed} {case}')
    words = command(rng, known, verbs)
    before = files(place)
    built.clear()
    start = time.monotonic()
    found = outcome(words, built)
    took = time.monotonic() - start
    left = files(place) - before
    if found == 'refused' and left:
      found = f'written: {sorted(left)[:3]}'
    clean(place, left)
    os.environ.clear()
    os.environ.update(environment)
    counts[words[0]][found.partition(':')[0]] += 1
    if found not in ('refused', 'taken'):
      shown = ' '.join(repr(word[:150]) for word in words)
      faults.append(f'seed {seed}, case {case} ({took:.1f} s): {found}\n    {shown}')
  return counts, faults


def files(place: pathlib.Path) -> set[str]:
  """Every file and folder in the place."""
  return {
    os.path.relpath(os.path.join(folder, name), place)
    for folder, folders, names in os.walk(place)
    for name in (*folders, *names)
  }


def clean(place: pathlib.Path, left: set[str]) -> None:
  for name in sorted(left):
    path = place / name
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path, ignore_errors=True)
    else:
      path.unlink(missing_ok=True)


def show(counts) -> None:
  total = sum(counts.values(), collections.Counter())
  for verb, found in {**counts, 'all': total}.items():
    shown = ', '.join(f'{count:,} {name}' for name, count in sorted(found.items()))
    print(f'{verb}: {sum(found.values()):,} cases: {shown}')


def test_an_evil_value_is_refused_in_one_line(place, stops, monkeypatch):
  stops((*HOOKS, *SHALLOW))
  counts, faults = run(place, GIN + OTHERS, cases=150, seed=0, monkeypatch=monkeypatch)
  show(counts)
  assert not faults, '\n'.join(faults)
  assert sum(found['refused'] for found in counts.values()) > 75


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize('seed', range(1, 11))
def test_thousands_of_evil_values_are_refused(place, stops, monkeypatch, seed):
  stops(HOOKS if seed == 1 else (*HOOKS, *SHALLOW))
  verbs = GIN * 4 + OTHERS
  counts, faults = run(place, verbs, cases=2_000, seed=seed, monkeypatch=monkeypatch)
  show(counts)
  assert not faults, '\n'.join(faults)
