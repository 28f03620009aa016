"""A run, stopped at any moment, ends as if never stopped; and bad input is refused."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
import small_run
from safetensors.numpy import load_file

from flan_jax.catalog import registry
from flan_jax.checkpoints import model_dir as model_dir_lib
from flan_jax.cli import dispatch
from flan_jax.config import evaluation as evaluation_config
from flan_jax.config import gin
from flan_jax.data import bpe, tokenizers
from flan_jax.data.store import materialize
from flan_jax.data.store import store as store_lib
from flan_jax.errors import InputError
from flan_jax.evaluate import response_cache
from flan_jax.jobs import decoder_fields, evaluate_checkpoint, train_and_evaluate
from flan_jax.runtime import preemption
from flan_jax.runtime.progress import Progress
from flan_jax.train import metric_writer
from tests.run_log import read_lines

TASK = 'microworld_mini_arc'
STEPS = 50


@pytest.fixture(scope='module')
def store(tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(tokenizer='bytes', epochs=1, sequence_length=256),
    out=out,
  )
  return out


@pytest.fixture(scope='module')
def first(store, tmp_path_factory) -> pathlib.Path:
  """A run of one step."""
  out = tmp_path_factory.mktemp('first') / 'run'
  run = build(out, store, TRAIN_STEPS=1)
  train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
  return out


def flags(model_dir: pathlib.Path, store: pathlib.Path, **more) -> list[str]:
  values = {
    'MODEL_DIR': str(model_dir),
    'MIXTURE_OR_TASK_NAME': TASK,
    'STORE': str(store),
    'TRAIN_STEPS': STEPS,
    'Run.checkpoint_period': 10,
    'Run.log_period': 1,
    **more,
  }
  return small_run.flags(values)


def build(*arguments, **more):
  return gin.load(small_run.FILES, flags(*arguments, **more)).build('Run')


def start(
  model_dir: pathlib.Path, store: pathlib.Path, *, devices: int
) -> subprocess.Popen:
  command = [sys.executable, '-m', 'flan_jax', 'train']
  command += [f'--gin_file={file}' for file in small_run.FILES]
  command += [f'--gin.{flag}' for flag in flags(model_dir, store)]
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
  }
  return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def steps_done(model_dir: pathlib.Path) -> int:
  log = model_dir / 'log.jsonl'
  lines = log.read_text().splitlines() if log.is_file() else []
  return len(lines)


def interrupt(process: subprocess.Popen, model_dir, *, after: int, by: int) -> int:
  """Sends the signal `by` once `after` steps are logged; returns the exit code."""
  deadline = time.monotonic() + 240
  while steps_done(model_dir) < after and process.poll() is None:
    assert time.monotonic() < deadline, 'the run does not move'
    time.sleep(0.005)
  assert process.poll() is None, process.communicate()[1]
  process.send_signal(by)
  process.communicate()
  return process.returncode


@pytest.mark.slow  # interruption_test.py and lora_test.py have shorter ones
@pytest.mark.parametrize('devices', [1, 8])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
  devices, store, tmp_path
):
  """SIGTERM, then kill -9, then to the end: the parameters are the same bits."""
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  process = start(whole, store, devices=devices)
  _, errors = process.communicate()
  assert process.returncode == 0, errors

  process = start(broken, store, devices=devices)
  code = interrupt(process, broken, after=13, by=signal.SIGTERM)
  assert code == preemption.INTERRUPTED
  saved = steps_done(broken)
  assert 13 <= saved < STEPS

  process = start(broken, store, devices=devices)
  code = interrupt(process, broken, after=max(saved + 3, 35), by=signal.SIGKILL)
  assert code == -signal.SIGKILL
  assert not (broken / 'model').exists()

  process = start(broken, store, devices=devices)
  _, errors = process.communicate()
  assert process.returncode == 0, errors
  assert 'Resuming at step' in errors

  one, other = (load_file(d / 'model' / 'model.safetensors') for d in (whole, broken))
  assert one.keys() == other.keys()
  for name, value in one.items():
    assert value.tobytes() == other[name].tobytes(), name
  for file, name in (('log', 'loss'), ('sequences', 'sequences')):
    logged = [
      [entry[name] for entry in read_lines(d / f'{file}.jsonl')]
      for d in (whole, broken)
    ]
    assert logged[0] == logged[1]


def test_the_sequences_that_a_run_logs_are_those_of_flan_rows(
  store, tmp_path, monkeypatch, capsys
):
  """Every step is logged once, also if the run broke off between two checkpoints."""
  run = build(
    tmp_path,
    store,
    TRAIN_STEPS=7,
    **{'Run.log_period': 2, 'Run.checkpoint_period': 3},
  )
  add, steps = metric_writer.MetricWriter.add, []

  def break_in_step_six(self, *metrics, **more):
    steps.append(metrics)
    if len(steps) == 6:
      raise KeyboardInterrupt
    add(self, *metrics, **more)

  with monkeypatch.context() as patch:
    patch.setattr(metric_writer.MetricWriter, 'add', break_in_step_six)
    with pytest.raises(KeyboardInterrupt):
      train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
  train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))

  entries = read_lines(tmp_path / 'sequences.jsonl')
  for lines in (entries, read_lines(tmp_path / 'log.jsonl')):
    assert [entry['step'] for entry in lines] == [2, 3, 4, 6, 7]
  logged = [f'{k} {hex}' for entry in entries for k, hex in entry['sequences'].items()]
  capsys.readouterr()
  options = ['--digest', '--sequence-length=256', f'--count={7 * run.batch_size}']
  assert dispatch.main(['rows', str(store), *options]) == 0
  assert capsys.readouterr().out.splitlines() == logged
  assert dispatch.main(['rows', str(tmp_path), '--digest', '--step=2']) == 0
  printed = capsys.readouterr().out.splitlines()
  assert printed == logged[run.batch_size : 2 * run.batch_size]


def test_a_store_of_another_tokenizer_than_the_checkpoint_is_refused(
  first, store, tmp_path
):
  shutil.copytree(first, tmp_path / 'first')
  more = {'TRAIN_STEPS': 1, 'INITIAL_CHECKPOINT_PATH': str(tmp_path / 'first')}
  train_and_evaluate.train_and_evaluate(
    build(tmp_path / 'same', store, **more), progress=Progress(quiet=True)
  )

  other = tmp_path / 'other'
  mixture = registry.mixture(TASK)
  manifest = materialize.materialize(
    mixture, materialize.StoreConfig(vocab_size=500, sequence_length=256), out=other
  )
  of_checkpoint, of_store = (
    tokenizers.Bytes.digest[:12],
    manifest['tokenizer']['digest'][:12],
  )
  run = build(tmp_path / 'run', other, **more)
  with pytest.raises(
    InputError, match=f'digest {of_store}, the checkpoint has {of_checkpoint}'
  ):
    train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
  assert not (tmp_path / 'run' / 'log.jsonl').exists()

  (tmp_path / 'first' / 'model' / 'tokenizer.bytes').unlink()
  train_and_evaluate.train_and_evaluate(
    run, progress=Progress(quiet=True)
  )  # no known difference


@pytest.fixture
def held_out_nli():
  """The mixture, with three of its datasets."""
  whole = registry.mixture('microworld_held_out_nli')
  found = dataclasses.replace(whole, datasets=('mini_arc', 'mini_copa', 'mini_trec'))
  assert {*found.datasets} < {*whole.datasets}
  with registry.restored():
    registry.register(found, replace=True)
    yield found


@pytest.mark.slow  # the runs of README and of the tutorials end in one
def test_a_run_ends_in_the_held_out_report(held_out_nli, tmp_path, monkeypatch):
  """`train_examples` is recounted from the sequences; no held-out example is in them.

  The first attempt is stopped during its evaluation and resumes there; `flan eval` of
  the run's model gives the figures of the run.
  """
  run = build(
    tmp_path / 'run',
    'None',
    MIXTURE_OR_TASK_NAME=held_out_nli.name,
    TOKENIZER='bytes',
    TRAIN_STEPS=2,
    **{
      'Evaluate.max_examples': 3,
      'Evaluate.templates': 2,
      'Run.pack': True,
    },
  )
  report = tmp_path / 'run' / 'report'
  keep, answers = response_cache.ResponseCache._keep, []

  def stop_after_the_third(self, *answer):
    keep(self, *answer)
    answers.append(answer)
    if len(answers) == 3:  # two of the base before training, one of the tuned model
      signal.raise_signal(signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(response_cache.ResponseCache, '_keep', stop_after_the_third)
    assert train_and_evaluate.train_and_evaluate(
      run, progress=Progress(quiet=True)
    ).interrupted
  assert {path.name for path in report.iterdir()} == {
    'base.journal.jsonl',
    'tuned.journal.jsonl',
  }

  outcome = train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
  assert not outcome.interrupted
  assert not list(report.glob('*.journal.jsonl'))
  found = json.loads((report / 'report.json').read_text())
  assert outcome.report == found
  assert found['held_out'] == ['nli']
  assert found['leakage']['datasets'] == [*held_out_nli.datasets]
  assert found['leakage']['excluded'] == ['paraphrase']
  saved = json.loads((tmp_path / 'run' / 'model' / 'training.json').read_text())
  assert saved['leakage'] == found['leakage']
  assert {x['dataset'] for x in found['results']} == {'mini_rte', 'mini_cb'}
  assert all(x['n'] == 3 and 'base' in x for x in found['results'])

  opened = store_lib.Store.open(tmp_path / 'run' / 'store')
  plan = opened.plan(seed=0, sequences=2 * run.batch_size, sequence_length=256)
  counted: dict[str, int] = {}
  for k in range(2 * run.batch_size):
    for segment in store_lib.describe(opened, plan, k)['segments']:
      counted[segment['cluster']] = counted.get(segment['cluster'], 0) + 1
  assert found['train_examples'] == counted
  assert not {'nli', 'paraphrase'} & counted.keys()

  evaluation = evaluation_config.EvalJobConfig(
    checkpoint=str(tmp_path / 'run'),
    output_dir=str(tmp_path / 'again'),
    clusters='nli',
    family='microworld',
    evaluate=run.evaluate,
  )
  again = evaluate_checkpoint.evaluate_checkpoint(
    evaluation, progress=Progress(quiet=True)
  )
  assert again['train_examples'] == counted
  assert again['leakage'] == found['leakage']
  for result, same in zip(found['results'], again['results'], strict=True):
    for key in ('mean', 'ci95', 'per_template', 'best_dev_template', 'chance'):
      assert result[key] == same[key]


def test_a_model_is_not_evaluated_as_unseen_on_its_training_cluster(tmp_path):
  provenance = {'mixture': 'microworld_held_out_nli'}
  (tmp_path / 'training.json').write_text(json.dumps(provenance))
  shutil.copy(model_dir_lib.SHIPPED / 'config.json', tmp_path)
  evaluation = evaluation_config.EvalJobConfig(
    checkpoint=str(tmp_path),
    output_dir=str(tmp_path / 'out'),
    clusters='sentiment',
    family='microworld',
  )
  with pytest.raises(InputError, match="CLUSTERS 'sentiment'.*that very cluster"):
    evaluate_checkpoint.evaluate_checkpoint(evaluation, progress=Progress(quiet=True))
  assert not (tmp_path / 'out').exists()


def test_another_config_is_refused_and_nothing_is_lost(first, store):
  before = (first / 'run.json').read_text()
  other = build(first, store, TRAIN_STEPS=1, **{'Optimizer.learning_rate': 0.5})
  with pytest.raises(InputError, match=r'another config: optimizer was .*0\.01'):
    train_and_evaluate.train_and_evaluate(other, progress=Progress(quiet=True))
  assert (first / 'run.json').read_text() == before


def test_another_tokenizer_than_the_store_s_is_refused(store, tmp_path):
  bpe.train(['some words'] * 9, vocab_size=300).save(tmp_path / 'other.model')
  run = build(tmp_path / 'run', store, TOKENIZER=str(tmp_path / 'other.model'))
  with pytest.raises(InputError, match='tokenizer of digest .*, TOKENIZER has'):
    train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))


def test_compute_settings_do_not_need_the_model_s_shape(tmp_path):
  """REMAT and dtype apply to the checkpoint's shape, and typos are found."""
  base = [
    'MODEL_DIR=x', 'MIXTURE_OR_TASK_NAME=flan_rte', 'TRAIN_STEPS=1',
    'INITIAL_CHECKPOINT_PATH=microworld',
  ]  # fmt: skip

  def with_fields(*more):
    parsed = gin.load(['gin/runs/base.gin'], [*base, *more])
    return decoder_fields.with_decoder_fields(
      parsed.build('Run'), parsed.bound('DecoderConfig')
    ).model

  assert with_fields() is None
  found = with_fields('REMAT=dots', 'DecoderConfig.dtype=bfloat16')
  assert (found.remat, found.dtype) == ('dots', 'bfloat16')
  assert found.d_model == 128
  with pytest.raises(InputError, match="REMAT: got 'dot'.*did you mean 'dots'"):
    with_fields('REMAT=dot')
  with pytest.raises(InputError, match=r'num_layers: got 5; the checkpoint .* has'):
    with_fields('DecoderConfig.num_layers=5')


def test_a_held_out_cluster_may_not_train(store, tmp_path):
  run = build(tmp_path, store, HELD_OUT='closed_book_qa')
  with pytest.raises(InputError, match='trains on that very cluster'):
    train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
  assert not (tmp_path / 'run.json').exists()


def test_unknown_names_are_refused_with_the_nearest(store, tmp_path):
  for more, message in (
    ({'MIXTURE_OR_TASK_NAME': 'microworld_held_out_nil'}, 'microworld_held_out_nli'),
    ({'HELD_OUT': 'sentimnt'}, "did you mean 'sentiment'"),
    ({'INITIAL_CHECKPOINT_PATH': 'nowhere'}, 'no such folder'),
    ({'VOCAB_SIZE': 100}, r'tokenizer has 259 tokens; must be 259 or more'),
    ({'TOKENIZER': 'nowhere.model'}, "tokenizer 'nowhere.model': no such file"),
    ({'TRAIN_STEPS': 10**9}, 'TRAIN_STEPS: got .* must be 16,777,216 or fewer'),
  ):
    run = build(tmp_path / 'x', store, **more)
    with pytest.raises(InputError, match=message):
      train_and_evaluate.train_and_evaluate(run, progress=Progress(quiet=True))
