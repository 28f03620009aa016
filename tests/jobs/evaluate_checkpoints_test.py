"""Several checkpoints in one start: shared parts, resumption, failures."""

import json
import re

import jax
import numpy as np
import pytest

from flan_jax.checkpoints import model_dir
from flan_jax.cli import dispatch
from flan_jax.config import gin
from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.evaluate import load_model
from flan_jax.evaluate.predict import Predictor
from flan_jax.inference.rank_options import Scorer
from flan_jax.jobs import evaluate_checkpoint, evaluate_checkpoints
from flan_jax.report import schema
from flan_jax.runtime.progress import Progress

QUIET = Progress(quiet=True)
SMALL = {
  'FAMILY': 'microworld',
  'DATASETS': "('mini_arc', 'mini_common_gen')",
  'MAX_EXAMPLES': 2,
  'TEMPLATES': '(1,)',
  'Evaluate.sequence_length': 512,
  'Evaluate.batch_size': 4,
  'Evaluate.max_decode': 4,
  'Mesh.data': 1,
}


@pytest.fixture(scope='module')
def models(tmp_path_factory, tiny_model):
  """Three models of one shape: a, b, c."""
  folder = tmp_path_factory.mktemp('models')
  model = tiny_model(activation='swiglu', scaled_head=False)
  for i, name in enumerate('abc', 1):
    params = jax.tree.map(lambda x, i=i: np.asarray(x) * np.float32(i), model.params)
    model_dir.save(
      folder / name, params, config=model.config, tokenizer=tokenizers.load('bytes')
    )
  return folder


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  build = load_model.mesh_lib.build
  monkeypatch.setattr(
    load_model.mesh_lib, 'build', lambda shape: build(shape, devices=jax.devices()[:1])
  )


def flags(out, **more):
  values = {**SMALL, 'OUTPUT_DIR': out, **more}
  return [f'{name}={value}' for name, value in values.items()]


def settings(out, **more):
  return gin.load(['gin/evaluate/zero_shot.gin'], flags(out, **more))


def evaluate(out, *paths, **more):
  parsed = settings(out, CHECKPOINTS=repr(tuple(map(str, paths))), **more)
  return evaluate_checkpoints.evaluate_checkpoints(
    parsed.build('Evaluation'), text=parsed.text, progress=QUIET
  )


def test_each_report_is_that_of_an_evaluation_alone(models, tmp_path, monkeypatch):
  """With the prompts made once, and the base asked once."""
  made, asked = [], []
  fit, score = Predictor.fit, Scorer.loglikelihood
  monkeypatch.setattr(
    Predictor, 'fit', lambda *args: made.append(args[1].dataset.name) or fit(*args)
  )
  monkeypatch.setattr(
    Scorer, 'loglikelihood', lambda self, some: asked.append(self) or score(self, some)
  )
  paths = [models / name for name in 'ab']
  found = evaluate(tmp_path, *paths, BASE_CHECKPOINT=models / 'c')
  assert found.finished == {str(path): tmp_path / path.name for path in paths}
  assert made == ['mini_arc', 'mini_common_gen']
  assert len(asked) == 3  # each model once
  parsed = settings(tmp_path / 'alone', CHECKPOINT=models / 'b',
                    BASE_CHECKPOINT=models / 'c')  # fmt: skip
  alone = evaluate_checkpoint.evaluate_checkpoint(
    parsed.build('Evaluation'), progress=QUIET
  )
  report = schema.load(tmp_path / 'b')
  assert [report[key] for key in ('results', 'model', 'lineage', 'leakage')] == [
    alone[key] for key in ('results', 'model', 'lineage', 'leakage')
  ]
  assert report['warnings'] == alone['warnings']
  assert [t['template'] for t in report['results'][0]['per_template']] == [1]
  lines = [
    (tmp_path / name / 'predictions.jsonl').read_text() for name in ('b', 'alone')
  ]
  assert lines[0] == lines[1]
  assert f"Evaluation.checkpoint = '{models / 'b'}'" in report['provenance']['config']
  assert not list(tmp_path.rglob('*.journal.jsonl'))


def test_a_failure_loses_no_finished_report_and_is_made_up_for(
  models, tmp_path, monkeypatch, capsys
):
  load = load_model.load

  def broken(path, **more):
    if path.endswith('b'):
      raise RuntimeError('out of\nmemory')
    return load(path, **more)

  monkeypatch.setattr(load_model, 'load', broken)
  names = [models / name for name in 'abc']
  small = {'DATASETS': 'mini_arc', 'MAX_EXAMPLES': 1}
  found = evaluate(tmp_path, *names, **small)
  assert found.failed == {str(models / 'b'): 'RuntimeError: out of memory'}
  assert [folder.name for folder in found.finished.values()] == ['a', 'c']
  before = (tmp_path / 'a' / 'report.json').stat().st_mtime_ns
  monkeypatch.setattr(load_model, 'load', load)
  found = evaluate(tmp_path, *reversed(names), **small)
  assert [folder.name for folder in found.finished.values()] == ['c', 'b', 'a']
  assert (tmp_path / 'a' / 'report.json').stat().st_mtime_ns == before
  given = flags(tmp_path, CHECKPOINTS=repr(tuple(map(str, names))), **small)
  files = [
    '--gin_file=gin/evaluate/zero_shot.gin',
    *(f'--gin.{each}' for each in given),
  ]
  assert dispatch.main(['eval', *files]) == 0
  table = capsys.readouterr().err
  assert re.search(r'dataset +a +b +c \n', table)
  assert 'mini_arc' in table
  assert (tmp_path / 'reports.html').exists()
  assert (tmp_path / 'a' / 'report.json').stat().st_mtime_ns == before
  evaluate(tmp_path, models / 'a', **{**small, 'MAX_EXAMPLES': 2})
  assert schema.load(tmp_path / 'a')['results'][0]['n'] == 2
  stamp = json.loads((tmp_path / 'a' / evaluate_checkpoints.STAMP).read_text())
  assert stamp['evaluate']['max_examples'] == 2


def test_a_bad_checkpoint_is_refused_before_the_first_is_evaluated(models, tmp_path):
  with pytest.raises(InputError, match="checkpoint '.*/none': no such folder"):
    evaluate(tmp_path / 'out', models / 'a', models / 'none')
  assert not (tmp_path / 'out').exists()


def test_a_checkpoint_without_a_chat_template_is_refused_first(models, tmp_path):
  (tmp_path / 'chats').mkdir()
  for file in (models / 'a').iterdir():
    (tmp_path / 'chats' / file.name).symlink_to(file)
  (tmp_path / 'chats' / 'chat_template.jinja').write_text('{{ messages[0].content }}')
  paths, out = [tmp_path / 'chats', models / 'b'], tmp_path / 'out'
  with pytest.raises(InputError, match="^PROMPT_STYLE 'chat': the checkpoint '.*b' "):
    evaluate(out, *paths, PROMPT_STYLE='chat')
  base = {'BASE_CHECKPOINT': models / 'b', 'BASE_PROMPT_STYLE': 'chat'}
  with pytest.raises(
    InputError, match="^BASE_PROMPT_STYLE 'chat': the base "
  ) as caught:
    evaluate(out, paths[0], **base)
  assert caught.value.field == 'Evaluate.base_prompt_style'
  other = model_dir.tokenizer_file('microworld')
  with pytest.raises(InputError, match='^TOKENIZER: got .*; the checkpoint .*b'):
    evaluate(out, models / 'b', TOKENIZER=other)
  assert not out.exists()


@pytest.mark.parametrize(
  ('given', 'wrong'),
  [({}, 'not set'), ({'CHECKPOINT': 'a', 'CHECKPOINTS': 'b'}, 'both set')],
)
def test_one_of_the_two_settings_is_given(given, wrong, tmp_path):
  with pytest.raises(InputError, match=f'CHECKPOINT, CHECKPOINTS: {wrong}; set one'):
    settings(tmp_path, **given).build('Evaluation')


def test_names_are_those_of_the_models():
  named = evaluate_checkpoints.named
  paths = ['runs/x@100', 'runs/x', 'gs://b/x', 'away/m.gguf', 'c/d/model', 'e/d/model']
  assert list(named(paths).values()) == ['x@100', 'runs-x', 'b-x', 'm', 'c-d', 'e-d']
  assert named(['runs/x', './runs/x', 'runs/x/model']) == {'runs/x': 'x'}
