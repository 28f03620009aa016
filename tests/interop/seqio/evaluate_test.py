"""A seqio Task is measured by its own metrics: the figures of `seqio.Evaluator`."""

import dataclasses
import functools
import json
import re

import jax
import numpy as np
import pytest

from flan_jax.catalog import registry
from flan_jax.checkpoints import model_dir
from flan_jax.cli import dispatch
from flan_jax.config.evaluation import EvalConfig
from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.evaluate import load_model
from flan_jax.evaluate.evaluator import Protocol, sample
from flan_jax.evaluate.predict import Clock
from flan_jax.inference.rank_options import Scorer
from flan_jax.report import compare, schema, tables

seqio = pytest.importorskip('seqio', reason='needs seqio', exc_type=ImportError)

from flan_jax.interop.seqio import evaluate, own_metrics, task_data  # noqa: E402

import small_run  # noqa: E402  isort: skip
import small_tokenizers  # noqa: E402  isort: skip
import seqio_task  # noqa: E402  isort: skip

LENGTHS = {'inputs': 24, 'targets': 8}


@pytest.fixture(autouse=True)
def registries():
  seqio.TaskRegistry.reset()
  seqio_task.register()
  seqio_task.register_objects()
  yield
  seqio.TaskRegistry.reset()


@pytest.fixture(scope='module')
def model(tiny_model):
  made = tiny_model()
  return Scorer(
    params=made.params,
    config=made.config,
    tokenizer=tokenizers.load('bytes'),
    sequence_length=64,
  )


def dataset(name='their_task', lengths=()):
  found = registry.get(name)
  source = dataclasses.replace(found.source, lengths=lengths)
  return dataclasses.replace(found, source=source)


def ask(data, model):
  asked = evaluate.Asked(data, model, LENGTHS['targets'], Clock())
  asked.answer(own_metrics.outputs(data.task))
  return asked.answers


def of_seqio(name, answers):
  """Runs `seqio.Evaluator` on the same predictions and scores."""
  evaluator = seqio.Evaluator(
    name,
    seqio.EncDecFeatureConverter(pack=False),
    eval_split='test',
    sequence_length=LENGTHS,
    async_compute_metrics=False,
  )

  def padded(tokens):
    return tokens + [1] + [0] * (LENGTHS['targets'] - len(tokens))

  def predict(dataset, shapes=None):
    return [
      (i, padded(answers['predictions'][i])) for i, _ in dataset.as_numpy_iterator()
    ]

  def score(dataset, shapes=None):
    return [(i, answers['scores'][i]) for i, _ in dataset.as_numpy_iterator()]

  found, _ = evaluator.evaluate(
    compute_metrics=True, predict_fn=predict, score_fn=score
  )
  return found.result()[name]


@pytest.mark.parametrize('name', ['their_task', 'their_objects'])
def test_the_figures_are_those_of_seqio_evaluator(name, model):
  data = task_data.read(dataset(name, tuple(LENGTHS.items())), 'test')
  answers = ask(data, model)
  # An untrained model is never right: some answers are, in place of its own.
  for i in range(0, len(answers['predictions']), 3):
    answers['predictions'][i] = data.targets[i].tolist()
  figures, _ = own_metrics.figures(data, answers)
  expected = of_seqio(name, answers)
  assert {name: figure.value for name, figure in figures.items()} == pytest.approx(
    {name: getattr(value, 'value', value) for name, value in expected.items()}
  )


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, tiny_model):
  folder = tmp_path_factory.mktemp('checkpoint')
  made = tiny_model()
  tokenizer = tokenizers.load('bytes')
  model_dir.save(folder, made.params, config=made.config, tokenizer=tokenizer)
  return folder


@pytest.fixture
def flan_eval(checkpoint, tmp_path, monkeypatch):
  """`flan eval --module seqio_task` on one of the simulated devices."""
  monkeypatch.setattr(
    load_model.mesh_lib,
    'build',
    functools.partial(load_model.mesh_lib.build, devices=jax.devices()[:1]),
  )
  monkeypatch.setenv('FLAN_JAX_MODULES', '')  # and restored afterwards
  monkeypatch.setenv('PYTHONPATH', '')

  def run(folder='.', **settings):
    values = {
      'CHECKPOINT': checkpoint,
      'OUTPUT_DIR': tmp_path / folder,
      'Evaluate.sequence_length': 64,
      'Evaluate.max_decode': LENGTHS['targets'],
      'Mesh.data': 1,
      **settings,
    }
    flags = [f'--gin.{name}={value}' for name, value in values.items()]
    code = dispatch.main(['eval', '--module', 'seqio_task', *flags])
    return code, tmp_path

  return run


def test_flan_eval_reports_one_result_per_figure(flan_eval, checkpoint):
  code, out = flan_eval(
    DATASETS='their_task', MAX_EXAMPLES=12, BASE_CHECKPOINT=checkpoint, TEMPLATES=2
  )
  assert code == 0
  report = schema.load(out)
  results = {result['metric']: result for result in report['results']}
  assert list(results) == ['accuracy', 'count', 'f1', 'loss', 'weighted']
  loss = results['loss']
  assert (loss['kind'], loss['split'], loss['n'], loss['n_declared']) == (
    'value', 'test', 12, 15
  )  # fmt: skip
  lines = [
    json.loads(line) for line in (out / 'predictions.jsonl').read_text().splitlines()
  ]
  scores = [line['log_probability'] for line in lines]
  assert loss['mean'] == pytest.approx(-np.mean(scores))
  assert loss['ci95'][0] < loss['mean'] < loss['ci95'][1]
  assert loss['delta'] == 0
  assert [line['values']['loss'] for line in lines] == pytest.approx(
    [-s for s in scores]
  )
  assert results['accuracy']['ci95'][0] == 0
  assert results['accuracy']['delta_ci95'][0] < 0 < results['accuracy']['delta_ci95'][1]
  for name in ('count', 'f1', 'weighted'):
    assert results[name]['ci95'] is None
    assert results[name]['no_interval']
  assert report['provenance']['modules'][0]['module'] == 'seqio_task'
  assert report['data']['sources'] == {'their_task': 'the seqio task their_task'}
  assert any('TEMPLATES does not apply' in line for line in report['warnings'])
  page = (out / 'report.html').read_text()
  assert 'their_task, zero-shot' in page
  assert 'not a mean over' in page


def test_two_reports_are_compared_example_by_example(flan_eval):
  for folder in ('old', 'new'):
    code, out = flan_eval(DATASETS='their_task', MAX_EXAMPLES=12, folder=folder)
    assert code == 0
  found = compare.write(out / 'new', out / 'old')
  by_name = {result['metric']: result for result in found['values']}
  assert found['results'] == []
  assert (by_name['loss']['n'], by_name['loss']['p']) == (12, 1)
  assert by_name['f1']['delta_ci95'] is None
  assert tables.verdicts(found) == '5 results in both: 2 not significant, 3 not tested'
  assert 'their_task loss' in (out / 'new' / 'difference.html').read_text()


@pytest.mark.slow
def test_a_held_out_task_is_measured_before_during_and_after_a_run(
  tmp_path, monkeypatch
):
  monkeypatch.setenv('FLAN_JAX_MODULES', '')
  monkeypatch.setenv('PYTHONPATH', '')
  files = [f'--gin_file={name}' for name in small_run.FILES]
  values = {
    'MODEL_DIR': tmp_path,
    'MIXTURE_OR_TASK_NAME': 'microworld_mini_copa',
    'HELD_OUT': 'their_task',
    'TOKENIZER': 'bytes',
    'TRAIN_STEPS': 2,
    'EVAL_PERIOD': 1,
    'Evaluate.max_decode': LENGTHS['targets'],
  }
  flags = [f'--gin.{flag}' for flag in small_run.flags(values)]
  assert dispatch.main(['train', '--module', 'seqio_task', *files, *flags]) == 0
  report = schema.load(tmp_path / 'report')
  assert {result['dataset'] for result in report['results']} == {'their_task'}
  assert all('delta' in result for result in report['results'])
  assert report['data']['tasks'] == {'their_task': 'the seqio task their_task'}
  line, *_ = (tmp_path / 'evaluations.jsonl').read_text().splitlines()
  assert json.loads(line)['values']['their_task loss'] > 0


@pytest.mark.parametrize(
  ('changes', 'settings', 'message'),
  [
    ({'metric_fns': []}, {}, "seqio task 'bad_task': no metric_fns"),
    ({}, {'NUM_FEWSHOT': 2}, "NUM_FEWSHOT: got 2, with the seqio task 'bad_task'"),
    ({}, {'NORMALIZATION': 'byte'}, "NORMALIZATION: got 'byte'.*must be 'none'"),
    ({'metric_fns': [lambda targets, predictions, aux_values: {}]}, {}, 'aux_values'),
    ({'metric_fns': [lambda targets, answers: {}]}, {}, 'must have positional'),
  ],
)  # fmt: skip
def test_what_cannot_be_measured_is_one_line(
  changes, settings, message, flan_eval, capsys
):
  seqio_task.register('bad_task', **changes)
  code, _ = flan_eval(DATASETS='bad_task', **settings)
  assert code == 2
  assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_another_vocabulary_is_refused_with_both_digests():
  pieces = small_tokenizers.sentence_pieces()
  other = {'model': tokenizers.SentencePiece(pieces, name='other')}
  with pytest.raises(InputError, match='digest [0-9a-f]{12}.*one of [0-9a-f]{12}'):
    evaluate.check([dataset()], EvalConfig(), other)


def test_a_sample_is_that_of_our_own_datasets():
  whole = task_data.read(dataset(), 'test')
  drawn = task_data.read(dataset(), 'test', max_examples=5, seed=3)
  expected = sample(whole.rendered, max_examples=5, seed=3)
  assert drawn.rendered == expected
  assert (len(drawn.ids), drawn.total) == (5, 15)


def test_validation_is_measured_without_a_test_split(model):
  data = dataset()
  slices = dataclasses.replace(data, test='')
  found = evaluate.evaluate(
    [slices], Protocol(max_tokens=LENGTHS['targets']), models={'tuned': model}
  )
  (result,) = found.own
  assert result.split == 'dev'
  assert len(result.reported.examples) == 9


def test_two_values_of_one_name_are_refused():
  seqio_task.register('twice', metric_fns=[seqio_task.f1, seqio_task.f1])
  data = task_data.read(dataset('twice'), 'test', max_examples=2)
  with pytest.raises(InputError, match="'f1' is the name of two values"):
    own_metrics.figures(data, {'predictions': [[], []]})


def test_a_failing_metric_is_one_line():
  def broken(targets, predictions):
    raise KeyError('label')

  seqio_task.register('broken', metric_fns=[broken])
  data = task_data.read(dataset('broken'), 'test', max_examples=2)
  place = r'\(.*evaluate_test.py:\d+\)'
  with pytest.raises(InputError, match=f"metric 'broken': KeyError: 'label' {place}"):
    own_metrics.figures(data, {'predictions': [[], []]})


def test_a_metric_that_returns_no_dictionary_is_one_line():
  seqio_task.register('listed', metric_fns=[lambda targets, predictions: [0.5]])
  data = task_data.read(dataset('listed'), 'test', max_examples=2)
  with pytest.raises(InputError, match='must return a dictionary of numbers, got list'):
    own_metrics.figures(data, {'predictions': [[], []]})
