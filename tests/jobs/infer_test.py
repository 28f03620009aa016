"""Inference over tasks and files: the answers of an evaluation, however it ends."""

import io
import json
import pathlib

import jax
import pytest

from flan_jax.catalog import registry
from flan_jax.catalog.registry import Mixture
from flan_jax.config import gin
from flan_jax.errors import InputError
from flan_jax.evaluate import load_model
from flan_jax.inference.rank_options import Scorer
from flan_jax.jobs import evaluate_checkpoint, infer
from flan_jax.runtime.progress import Progress

DATASETS = ('mini_arc', 'mini_common_gen')
"""Datasets that are ranked and generated."""

SETTINGS = {
  'MAX_EXAMPLES': 3,
  'TEMPLATES': 2,
  'Evaluate.sequence_length': 512,
  'Evaluate.batch_size': 4,
  'Mesh.data': 1,
}
"""Those of evaluate_checkpoint_test: the two share compiled programs."""


@pytest.fixture(scope='module', autouse=True)
def one_device():
  """Models in this process use one of the simulated devices."""
  build = load_model.mesh_lib.build
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      load_model.mesh_lib,
      'build',
      lambda shape: build(shape, devices=jax.devices()[:1]),
    )
    yield


@pytest.fixture(scope='module', autouse=True)
def checkpoint(tmp_path_factory, tiny_model):
  folder = tmp_path_factory.mktemp('checkpoint')
  model = tiny_model(activation='swiglu', scaled_head=False)
  model.save(folder)
  SETTINGS['CHECKPOINT'] = str(folder)


def flags(out, **more) -> list[str]:
  values = {**SETTINGS, 'OUTPUT_DIR': str(out), **more}
  return [f'{name}={value}' for name, value in values.items()]


def answer(out, **more) -> bytes:
  settings = flags(out, MAX_TOKENS=4, **more)
  config = gin.load(['gin/infer.gin'], settings).build('Infer')
  return infer.infer(config, progress=Progress(quiet=True)).read_bytes()


@pytest.fixture(scope='module')
def evaluated(tmp_path_factory, one_device, checkpoint) -> pathlib.Path:
  """Predictions of an evaluation."""
  out = tmp_path_factory.mktemp('evaluated')
  more = {'DATASETS': DATASETS, 'FAMILY': 'microworld', 'Evaluate.max_decode': 4}
  evaluation = gin.load(['gin/evaluate/zero_shot.gin'], flags(out, **more))
  evaluate_checkpoint.evaluate_checkpoint(
    evaluation.build('Evaluation'), progress=Progress(quiet=True)
  )
  return out / 'predictions.jsonl'


def plain(path: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def records(text: str) -> list[dict]:
  """Predictions, their scores without the last bits, which depend on the batch."""
  found = [json.loads(line) for line in text.splitlines()]
  for record in found:
    if 'log_probabilities' in record:
      record['log_probabilities'] = pytest.approx(record['log_probabilities'], abs=1e-4)
  return found


def test_a_mixture_gets_the_answers_of_an_evaluation(evaluated, tmp_path):
  with registry.restored():
    registry.register(Mixture(name='own_pair', datasets=DATASETS))
    found = answer(tmp_path, MIXTURE_OR_TASK_NAME='own_pair')
  assert records(found.decode()) == plain(evaluated)


def test_without_a_separator_a_file_and_a_mixture_have_the_same_answers(tmp_path):
  """As one text, with EOS scored after the answer; the predictions say so."""
  form = {'SEPARATOR': 'none', 'EOS': True}
  with registry.restored():
    registry.register(Mixture(name='own_pair', datasets=DATASETS))
    answer(tmp_path / 'task', MIXTURE_OR_TASK_NAME='own_pair', **form)
  first = plain(tmp_path / 'task' / 'predictions.jsonl')
  assert {line['separator'] for line in first} == {'none'}
  again = answer(
    tmp_path / 'file', PROMPTS=tmp_path / 'task' / 'predictions.jsonl', **form
  )
  assert records(again.decode()) == first


@pytest.fixture(scope='module')
def whole(evaluated, tmp_path_factory) -> bytes:
  """Answers to the evaluated prompts as a file."""
  return answer(tmp_path_factory.mktemp('whole'), PROMPTS=evaluated)


def test_a_file_of_its_prompts_gets_them_too(evaluated, whole):
  """Other columns, here dataset, template and gold, are kept in their order."""
  assert records(whole.decode()) == plain(evaluated)
  assert [list(line) for line in plain(evaluated)] == [
    list(json.loads(line)) for line in whole.splitlines()
  ]


@pytest.mark.parametrize('calls', [0, 1])
def test_a_killed_job_resumes_and_ends_with_the_same_bytes(
  calls, evaluated, whole, tmp_path, monkeypatch
):
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
      answer(tmp_path, PROMPTS=evaluated)
    assert not (tmp_path / 'predictions.jsonl').exists()
    done, calls = 0, 2 - calls  # the other calls are replayed
    assert answer(tmp_path, PROMPTS=evaluated) == whole
  assert [path.name for path in tmp_path.iterdir()] == ['predictions.jsonl']


def test_parquet_has_the_texts_of_the_options(whole, evaluated, tmp_path):
  parquet = pytest.importorskip('pyarrow.parquet')
  answer(tmp_path, PROMPTS=evaluated, FORMAT='parquet')
  rows = parquet.read_table(tmp_path / 'predictions.parquet').to_pylist()
  for row, line in zip(rows, whole.splitlines(), strict=True):
    expected = json.loads(line)
    if expected['options']:
      expected['predicted'] = expected['options'][expected['predicted']]
      expected['gold'] = [expected['options'][i] for i in expected['gold']]
    assert {name: row[name] for name in expected} == expected


def test_standard_input_and_prompts_that_do_not_fit(
  evaluated, tmp_path, monkeypatch, capsys
):
  """A prompt that is too long is named and has no answer; the others have theirs."""
  short = [line for line in plain(evaluated) if not line['options']][:1]
  rows = [{'inputs': short[0]['prompt']}, {'inputs': 'x' * 5000, 'id': 7}]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  monkeypatch.setattr('sys.stdin', io.StringIO(text))
  config = gin.load(
    ['gin/infer.gin'], flags(tmp_path, MAX_TOKENS=4, PROMPTS='-')
  ).build('Infer')
  out = infer.infer(config, progress=Progress())
  first, second = (json.loads(line) for line in out.read_text().splitlines())
  assert first['predicted'] == short[0]['predicted']
  assert second == {
    'example_id': '1', 'id': 7, 'prompt': 'x' * 5000, 'options': [], 'text': '',
    'predicted': None,
  }  # fmt: skip
  assert 'not answered: over 2048 tokens' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({}, 'PROMPTS: not set, nor MIXTURE_OR_TASK_NAME; set one'),
    (
      {'PROMPTS': 'x.txt', 'MIXTURE_OR_TASK_NAME': 'flan_rte'},
      "PROMPTS: got 'x.txt'; must be None beside MIXTURE_OR_TASK_NAME",
    ),
    (
      {'PROMPTS': 'x.txt', 'PROMPT_STYLE': 'continuation', 'SEPARATOR': 'eos'},
      "SEPARATOR: got 'eos'; has no effect on prompts of style continuation",
    ),
    (
      {'PROMPTS': 'x.txt', 'EOS': 'yes'},
      "Evaluate.eos = 'yes'; must be True or False or None",
    ),
    ({'PROMPTS': 'x.txt', 'PROMPT_STYLE': 'chats'}, "'chats'; .*; did you mean 'chat'"),
    ({'MIXTURE_OR_TASK_NAME': 'data/x.jsonl'}, 'a file; give it as PROMPTS'),
    ({'PROMPTS': 'x.docx'}, "PROMPTS 'x.docx': must end in .jsonl, .*, .txt, or be -"),
    ({'PROMPTS': 'nowhere.txt'}, "no file 'nowhere.txt'"),
  ],
)
def test_bad_settings_are_refused(settings, message, tmp_path):
  with pytest.raises(InputError, match=message):
    answer(tmp_path / 'out', **settings)
  assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_two_processes_write_the_answers_of_one(evaluated, whole, runs, tmp_path):
  settings = {**SETTINGS, 'PROMPTS': evaluated, 'MAX_TOKENS': 4, 'Mesh.data': -1}
  hosts = runs.start(tmp_path / 'out', verb='infer', count=2, **settings)
  assert [host.end() for host in hosts] == [0, 0], hosts[0].stderr
  found = (tmp_path / 'out' / 'predictions.jsonl').read_text()
  assert records(found) == [json.loads(line) for line in whole.splitlines()]


def test_an_inference_that_answers_nothing_is_refused(tmp_path):
  path = tmp_path / 'long.jsonl'
  path.write_text(json.dumps({'inputs': 'x' * 5000}))
  config = gin.load(['gin/infer.gin'], flags(tmp_path, PROMPTS=path)).build('Infer')
  message = 'no answer to any of 1: .*not answered: over 2048 tokens'
  with pytest.raises(InputError, match=message):
    infer.infer(config, progress=Progress(quiet=True))
