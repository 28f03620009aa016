"""Evaluation of a checkpoint: the report, interruption, several processes."""

import dataclasses
import json
import pathlib
import shutil
import signal

import jax
import pytest

from flan_jax.catalog import registry
from flan_jax.config import evaluation as evaluation_config
from flan_jax.config import gin
from flan_jax.data import bpe
from flan_jax.data.store import materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.evaluate import load_model
from flan_jax.inference.rank_options import Scorer
from flan_jax.interop.huggingface import convert, logit_check
from flan_jax.jobs import evaluate_checkpoint, held_out, model_source
from flan_jax.report import schema, tables
from flan_jax.runtime import checksums
from flan_jax.runtime.preemption import INTERRUPTED
from flan_jax.runtime.progress import Progress
from flan_jax.train.eval_log import EvalLog

SMALL = {
  'FAMILY': 'microworld',
  'DATASETS': 'mini_arc',
  'MAX_EXAMPLES': 3,
  'TEMPLATES': 2,
  'Evaluate.sequence_length': 512,
  'Evaluate.batch_size': 4,
  'Evaluate.max_decode': 4,
  'Mesh.data': 1,
}
BOTH = "('mini_arc', 'mini_common_gen')"
"""Datasets that are ranked and generated; their prompts are short, of few lengths."""


@pytest.fixture(scope='module', autouse=True)
def checkpoint(tmp_path_factory, tiny_model):
  """A small untrained model folder, of an architecture that Hugging Face has."""
  folder = tmp_path_factory.mktemp('checkpoint')
  model = tiny_model(activation='swiglu', scaled_head=False)
  model.save(folder)
  SMALL['CHECKPOINT'] = str(folder)
  return folder


@pytest.fixture(scope='module')
def hf_folder(tmp_path_factory, checkpoint):
  """The same model as a Hugging Face folder of the same name."""
  folder = tmp_path_factory.mktemp('elsewhere') / checkpoint.name
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(logit_check, '_installed', lambda name: False)  # torch takes long
    convert.export_model(checkpoint, folder, progress=Progress(quiet=True))
  return folder


def flags(out, **more):
  values = {**SMALL, 'OUTPUT_DIR': str(out), **more}
  return [f'{name}={value}' for name, value in values.items()]


def evaluate(out, **more):
  parsed = gin.load(['gin/evaluate/zero_shot.gin'], flags(out, **more))
  evaluation = parsed.build('Evaluation')
  return evaluate_checkpoint.evaluate_checkpoint(
    evaluation, text=parsed.text(evaluation), progress=Progress(quiet=True)
  )


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  """Evaluations in this process use one of the simulated devices."""
  build = load_model.mesh_lib.build
  monkeypatch.setattr(
    load_model.mesh_lib, 'build', lambda shape: build(shape, devices=jax.devices()[:1])
  )


def files(out: pathlib.Path) -> dict[str, bytes]:
  """Files of an evaluation, without times and paths."""
  found = {
    path.relative_to(out).as_posix(): path.read_bytes()
    for path in out.rglob('*')
    if path.is_file() and path.name != 'report.html'  # it shows the timing too
  }
  whole = json.loads(found['report.json'])
  del whole['timing'], whole['provenance']['config']
  found['report.json'] = json.dumps(whole).encode()
  return found


@pytest.fixture(scope='module')
def whole(tmp_path_factory, checkpoint):
  """An uninterrupted evaluation."""
  out = tmp_path_factory.mktemp('whole')
  with pytest.MonkeyPatch.context() as patch:
    build = load_model.mesh_lib.build
    patch.setattr(
      load_model.mesh_lib,
      'build',
      lambda shape: build(shape, devices=jax.devices()[:1]),
    )
    evaluate(out, DATASETS=BOTH)
  return out


def test_an_evaluation_leaves_a_report_and_no_response_cache(whole):
  made = schema.load(whole)
  assert [result['dataset'] for result in made['results']] == [
    'mini_arc',
    'mini_common_gen',
  ]
  assert not list(whole.glob('*.journal.jsonl'))
  names = {path.name for path in whole.iterdir()}
  assert {'report.html', 'report.csv', 'report.tex', 'predictions.jsonl'} <= names


def test_the_report_has_the_provenance_of_its_figures(whole):
  found = schema.load(whole)['provenance']
  (line,) = [x for x in found['config'].splitlines() if 'max_examples' in x]
  assert line == 'Evaluate.max_examples = 3  # --gin.MAX_EXAMPLES'
  assert found['models']['tuned']['parameters'] > 1e4
  assert len(found['models']['tuned']['fingerprint']) == 16
  assert found['versions']['jax'] == jax.__version__


def predictions(out: pathlib.Path) -> list[dict]:
  lines = (out / 'predictions.jsonl').read_text(encoding='utf-8').splitlines()
  return [json.loads(line) for line in lines]


def test_ranking_and_generation_follow_the_gin_file(whole, tmp_path):
  written = [p['predicted'] for p in predictions(whole) if not p['options']]
  stop = next(letter for text in written for letter in text if letter.isalnum())
  evaluate(
    tmp_path,
    DATASETS=BOTH,
    NORMALIZATION='byte',
    **{'Decoding.stop': repr((stop,))},
  )
  for new, old in zip(predictions(tmp_path), predictions(whole), strict=True):
    if old['options']:
      sizes = [len(option.encode()) for option in old['options']]
      sums = zip(old['log_probabilities'], sizes, strict=True)
      expected = [score / size for score, size in sums]
      assert new['log_probabilities'] == pytest.approx(expected, abs=1e-5)
    else:
      assert new['predicted'] == old['predicted'].split(stop)[0].strip()
  assert (
    tables.method(schema.load(tmp_path))
    == f"zero-shot; scores by byte; stop ['{stop}']"
  )
  assert tables.method(schema.load(whole)) == 'zero-shot'


@pytest.mark.parametrize('calls', [0, 1])
def test_a_killed_evaluation_resumes_and_ends_with_the_same_bytes(
  calls, whole, tmp_path, monkeypatch
):
  """Killed at its first model call, and at its second and last."""
  done = 0

  def dying(method):
    def call(self, *arguments, **more):
      nonlocal done
      done += 1
      if done > calls:
        raise KeyboardInterrupt
      return method(self, *arguments, **more)

    return call

  with monkeypatch.context() as patch:
    patch.setattr(Scorer, 'loglikelihood', dying(Scorer.loglikelihood))
    patch.setattr(Scorer, 'generate', dying(Scorer.generate))
    with pytest.raises(KeyboardInterrupt):
      evaluate(tmp_path, DATASETS=BOTH)
    assert not (tmp_path / 'report.json').exists()
    assert (tmp_path / 'tuned.journal.jsonl').read_bytes().count(b'\n') == 1 + calls
    done, calls = 0, 2 - calls  # the other calls are replayed
    evaluate(tmp_path, DATASETS=BOTH)
  assert files(tmp_path) == files(whole)


@pytest.mark.parametrize(
  ('flag', 'value', 'message'),
  [
    ('NUM_FEWSHOT', 17, 'NUM_FEWSHOT: got 17; must be 0 to 16; the nearest is 16'),
    ('PROMPT_STYLE', 'no_option', "did you mean 'no_options'"),
    ('NORMALIZATION', 'bytes', "did you mean 'byte'"),
    ('Decoding.top_k', 4, 'top_k: got 4 with temperature 0, which samples nothing'),
    ('MAX_EXAMPLES', 0, 'MAX_EXAMPLES: got 0; must be 1 or more'),
    ('Evaluation.ngram', 1, 'got 1; must be 2 to 64; the nearest is 2'),
    ('CONTAMINATION', '/nowhere', 'no such folder'),
    ('EVAL_SEED', -1, 'EVAL_SEED: got -1; must be 0 to'),
    ('SEED', 1, "SEED: unknown macro 'SEED'; did you mean 'EVAL_SEED'"),
    (
      'OUTPUT_DIR',
      __file__,
      "OUTPUT_DIR '.*evaluate_checkpoint_test.py': cannot be written to",
    ),
    (
      'OUTPUT_DIR',
      f'{__file__}/x',
      "evaluate_checkpoint_test.py/x': cannot be written to",
    ),
  ],
)
def test_bad_settings_are_refused_before_anything_is_computed(
  flag, value, message, tmp_path
):
  with pytest.raises(InputError, match=message):
    evaluate(tmp_path, **{flag: value})


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('config.json', '{', 'config.json: not readable as JSON'),
    ('config.json', '[]', r'config.json: got \[\]; must be a JSON object'),
    ('config.json', '{"vocab_size": 9}', 'config.json: lacks num_layers, d_model'),
    ('training.json', '{"mixture": ', 'training.json: not readable as JSON'),
    ('training.json', '[5]', r'training.json: got \[5\]; must be a JSON object'),
    ('training.json', '{"guard": {"mixture": "x"}}', 'leakage lacks datasets, family'),
  ],
)
def test_a_damaged_checkpoint_is_named(name, text, message, checkpoint, tmp_path):
  """Without its checksums, which would see any change."""
  unchecked = shutil.ignore_patterns(checksums.FILE)
  shutil.copytree(checkpoint, tmp_path / 'model', ignore=unchecked)
  (tmp_path / 'model' / name).write_text(text)
  with pytest.raises(InputError, match=message):
    evaluate(tmp_path / 'out', CHECKPOINT=tmp_path / 'model')
  assert not (tmp_path / 'out').exists()


def test_only_the_tokenizer_of_the_checkpoint_is_accepted(checkpoint, tmp_path):
  other = bpe.train(['some words of a text'] * 9, vocab_size=300)
  other.save(tmp_path / 'other.model')
  with pytest.raises(InputError, match=r"TOKENIZER: got '.*other.model' of digest"):
    evaluate(tmp_path / 'out', TOKENIZER=str(tmp_path / 'other.model'))

  config = json.loads((checkpoint / 'config.json').read_text())
  shutil.copytree(checkpoint, tmp_path / 'model')
  config['vocab_size'] = 100
  (tmp_path / 'model' / 'config.json').write_text(json.dumps(config))
  checksums.remove(tmp_path / 'model')
  with pytest.raises(InputError, match='tokenizer has 259 tokens, its embedding 100'):
    evaluate(tmp_path / 'out', CHECKPOINT=tmp_path / 'model')


@pytest.mark.slow  # it looks for the dataset with TensorFlow Datasets
def test_no_prepared_dataset_is_refused(tmp_path):
  settings = {'FAMILY': 'flan', 'DATASETS': 'rte', 'MISSING': 'skip'}
  with pytest.raises(InputError, match='none of the named datasets can be evaluated'):
    evaluate(tmp_path / 'out', TFDS_DATA_DIR=str(tmp_path), **settings)
  assert not (tmp_path / 'out').exists()


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture('microworld_mini_cola'),
    materialize.StoreConfig(
      tokenizer='bytes', epochs=1, evaluate=('closed_book_qa',), sequence_length=256
    ),
    out=out,
  )
  return out


def test_a_hugging_face_folder_has_the_figures_of_its_source(
  hf_folder, whole, tmp_path, monkeypatch
):
  """Converted once, beside the report; nothing is known of its training."""
  monkeypatch.setattr(logit_check, '_installed', lambda name: False)  # torch takes long
  evaluate(tmp_path / 'b', CHECKPOINT=hf_folder, DATASETS=BOTH)
  expected, found = schema.load(whole), schema.load(tmp_path / 'b')
  assert found['results'] == expected['results']
  assert found['model'] == hf_folder.name
  model, source = (made['provenance']['models']['tuned'] for made in (found, expected))
  assert model['fingerprint'] == source['fingerprint']
  assert model['converted']['family'] == 'llama'
  assert found['leakage']['datasets'] is None
  assert len(list((tmp_path / model_source.CONVERTED).iterdir())) == 1


def test_a_dataset_that_the_store_lacks_is_refused_or_skipped(store, tmp_path):
  ask = {'STORE': str(store), 'DATASETS': "('mini_arc', 'mini_squad')"}
  with pytest.raises(
    InputError, match='has no evaluation examples of mini_squad; give another'
  ):
    evaluate(tmp_path, **ask)
  made = evaluate(tmp_path, MISSING='skip', **ask)
  assert [result['dataset'] for result in made['results']] == ['mini_arc']
  opened = Store.open(store)
  assert made['data_digest'] == made['data']['store_digest'] == opened.digest
  assert made['data']['template_seed'] == opened.manifest['seed']
  raw = evaluate(tmp_path / 'raw')
  assert raw['data']['digest'] == raw['data_digest'] == made['data']['digest']


def test_an_evaluation_step_uses_dev_only_and_replaces_repeated_steps(
  store, tmp_path, tiny_model
):
  model = tiny_model(activation='swiglu', scaled_head=False)
  splits = []
  run = held_out.HeldOutEvaluation(
    held_out.HeldOut(
      clusters=('closed_book_qa',),
      evaluate=evaluation_config.EvalConfig(
        eval_period=10, eval_examples=5, sequence_length=512, batch_size=4, base=False
      ),
      seed=0,
    ),
    store=Store.open(store),
    config=model.config,
    out=tmp_path / 'report',
    progress=Progress(quiet=True),
    log=EvalLog(tmp_path / 'evaluations.jsonl'),
  )
  read = run._shared['examples']
  run._shared['examples'] = lambda name, split: (
    splits.append(split) or read(name, split)
  )
  for step in (10, 20, 30, 20):
    eval_step = run.during(model.params, step=step)
  assert set(splits) == {'dev'}
  assert set(eval_step['datasets']) == {'mini_arc'}
  assert eval_step['clusters']['closed_book_qa'] == pytest.approx(
    eval_step['datasets']['mini_arc']
  )
  lines = (tmp_path / 'evaluations.jsonl').read_text(encoding='utf-8').splitlines()
  assert [json.loads(line)['step'] for line in lines] == [10, 20]


SLOWLY = """
import time
from flan_jax.runtime import preemption
from flan_jax.interop.huggingface import logit_check
on_batch = preemption.Stop.on_batch
preemption.Stop.on_batch = lambda self: (time.sleep(0.3), on_batch(self))
logit_check._installed = lambda name: False  # torch takes long
"""


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 4])
def test_several_processes_write_the_report_of_one(
  count, whole, hf_folder, runs, tmp_path
):
  """A foreign model, converted once; SIGTERM to one process ends them all."""
  out = tmp_path / 'out'
  settings = {
    **SMALL, 'CHECKPOINT': hf_folder, 'DATASETS': BOTH,
    'Mesh.data': -1, 'Mesh.fsdp': 2,
  }  # fmt: skip
  apart = {i: {'before': SLOWLY, 'devices': 8 // count} for i in range(count)}
  responses = out / load_model.RESPONSES.format('tuned')
  for stopped in (True, False):
    hosts = runs.start(out, verb='eval', count=count, apart=apart, **settings)
    if stopped:
      assert runs.wait(hosts, responses.is_file), hosts[0].stderr
      hosts[-1].process.send_signal(signal.SIGTERM)
    codes = [host.end() for host in hosts]
    assert codes == [INTERRUPTED if stopped else 0] * count, hosts[0].stderr
    assert responses.is_file() == stopped
  assert len(list((tmp_path / model_source.CONVERTED).iterdir())) == 1
  assert 'Converting' not in hosts[0].stderr
  assert not hosts[1].stderr
  expected, found = files(whole), files(out)
  assert set(expected) == set(found)
  for name in ('templates.csv', 'plots/averages.svg'):
    assert expected[name] == found[name], name
  tables = [some['report.tex'].partition(b'\n')[2] for some in (expected, found)]
  assert tables[0] == tables[1]
  made = [schema.load(place)['results'] for place in (whole, out)]
  for result, same in zip(*made, strict=True):
    calibrations = result.pop('calibration', {}), same.pop('calibration', {})
    assert result == same
    errors = [each.get('ece', 0) for each in calibrations]
    assert errors[0] == pytest.approx(errors[1], abs=0.02)
  lines = [
    [json.loads(line) for line in some['predictions.jsonl'].splitlines()]
    for some in (expected, found)
  ]
  for one, other in zip(*lines, strict=True):
    scores = one.pop('log_probabilities', []), other.pop('log_probabilities', [])
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert one == other
  models = [
    schema.load(place)['provenance']['models']['tuned'] for place in (whole, out)
  ]
  assert models[1].pop('converted')['family'] == 'llama'
  assert models[0] == models[1]


@pytest.mark.slow
def test_processes_with_other_settings_are_named_before_anything_is_computed(
  runs, checkpoint, tmp_path
):
  other = {1: {'settings': {'EVAL_SEED': 7, 'TEMPLATES': 1}}}
  both = runs.start(tmp_path / 'out', verb='eval', count=2, apart=other, **SMALL)
  assert [host.end() for host in both] == [2, 2], both[0].stderr
  for host in both:
    last = host.stderr.strip().splitlines()[-1]
    assert (
      'processes disagree: Evaluation.seed of process 1 is not that of process 0'
      in last
    )
    assert '(7, not 0)' in last
    assert 'templates=1, not templates=2' in last
    assert 'Evaluation.checkpoint' not in last
  assert not (tmp_path / 'out').exists()


REFUSES = """
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import conversion_cache
def refuse(*_, **__):
  raise InputError('CHECKPOINT: cannot be converted here')
conversion_cache.import_cached = refuse
"""


def test_bad_input_on_the_main_process_ends_them_all(runs, checkpoint, tmp_path):
  """Each with the error line; none waits for a process that has ended."""
  apart = {0: {'before': REFUSES}}
  both = runs.start(tmp_path / 'out', verb='eval', count=2, apart=apart, **SMALL)
  assert [host.end(60) for host in both] == [2, 2], both[0].stderr
  for host in both:
    line = 'flan: error: CHECKPOINT: cannot be converted here'
    assert host.stderr.strip().splitlines()[-1] == line


def test_an_evaluation_that_measures_nothing_is_refused(tmp_path):
  settings = {'DATASETS': 'mini_common_gen', 'TASK_FEATURE_LENGTHS': "{'inputs': 2}"}
  with pytest.raises(InputError, match='nothing was measured: .*left out: blank, or'):
    evaluate(tmp_path / 'out', **settings)
  assert not (tmp_path / 'out' / 'report.json').exists()


def test_the_metric_of_a_dataset_that_is_not_evaluated_stops_nothing(tmp_path):
  wrong = dataclasses.replace(registry.get('mini_cb'), name='wrong', metric='acuracy')
  with registry.restored():
    registry.register(wrong)
    flags = {'CHECKPOINT': 'nowhere', 'FAMILY': 'flan'}
    with pytest.raises(InputError, match="checkpoint 'nowhere'"):
      evaluate(tmp_path, **flags, DATASETS='mini_arc')
    with pytest.raises(InputError, match="'wrong': metric 'acuracy': must be one of"):
      evaluate(tmp_path, **flags, DATASETS='wrong')
