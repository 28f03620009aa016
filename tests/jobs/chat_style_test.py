"""A model with a chat template is asked through it, in evaluation and in inference."""

import json
import pathlib

import jax
import numpy as np
import pytest
import small_tokenizers
from chat_templates import MARKS, PLAIN

from flan_jax.checkpoints import model_dir
from flan_jax.config import gin
from flan_jax.data import chat_template, tokenizers
from flan_jax.data.chat import ChatTemplate
from flan_jax.errors import InputError
from flan_jax.evaluate import load_model
from flan_jax.inference.chat_prompts import ChatPrompts
from flan_jax.inference.rank_options import Scorer
from flan_jax.jobs import (
  evaluate_checkpoint,
  infer,
  run_evaluations,
  train_and_evaluate,
)
from flan_jax.runtime.progress import Progress

DATASETS = ('mini_arc', 'mini_squad')
"""Datasets that are ranked and generated."""

LENGTH = 96
SETTINGS = {
  'PROMPT_STYLE': 'chat', 'MAX_EXAMPLES': 2, 'TEMPLATES': 1, 'Mesh.data': 1,
  'Evaluate.sequence_length': LENGTH, 'Evaluate.batch_size': 4,
}  # fmt: skip


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


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, tiny_model) -> pathlib.Path:
  folder = tmp_path_factory.mktemp('checkpoint')
  path = folder / 'made.json'
  path.write_text(small_tokenizers.byte_level(special=MARKS).to_str())
  names = {'eos_token': '<|pad|>', 'pad_token': '<|pad|>', 'add_bos_token': False}
  path.with_name('tokenizer_config.json').write_text(json.dumps(names))
  tokenizer = tokenizers.load(path)
  model = tiny_model(vocab_size=tokenizer.vocab_size, num_layers=1)
  model_dir.save(folder, model.params, config=model.config, tokenizer=tokenizer)
  (folder / chat_template.FILE).write_text(PLAIN)
  return folder


def settings(file: str, checkpoint, out, **more):
  values = {**SETTINGS, 'CHECKPOINT': checkpoint, 'OUTPUT_DIR': out, **more}
  return gin.load([file], [f'{name}={value}' for name, value in values.items()])


def lines(out: pathlib.Path) -> list[dict]:
  """Predictions in a folder."""
  text = (out / 'predictions.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope='module')
def asked(checkpoint) -> list[np.ndarray]:
  """Contexts that the model is asked, in the order of the calls."""
  return []


@pytest.fixture(scope='module')
def evaluated(checkpoint, asked, tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('evaluated')
  parsed = settings(
    'gin/evaluate/zero_shot.gin', checkpoint, out, DATASETS=DATASETS,
    FAMILY='microworld', **{'Evaluate.max_decode': 4},
  )  # fmt: skip
  context = Scorer._context
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      Scorer, '_context', lambda self, ids: asked.append(ids) or context(self, ids)
    )
    evaluate_checkpoint.evaluate_checkpoint(
      parsed.build('Evaluation'), progress=Progress(quiet=True)
    )
  return out


def test_options_are_scored_as_the_turn_of_the_assistant(
  checkpoint, evaluated, tiny_model
):
  tokenizer = tokenizers.load(checkpoint / 'tokenizer.json')
  chat = ChatTemplate(PLAIN, tokenizer)
  model = tiny_model(vocab_size=tokenizer.vocab_size, num_layers=1)
  record = next(line for line in lines(evaluated) if line['options'])
  for option, score in zip(record['options'], record['log_probabilities'], strict=True):
    asked = f'<|im_start|>user\n{record["prompt"]}<|im_end|>\n<|im_start|>assistant\n'
    start = len(chat.encode_rendered(asked))
    whole = chat.encode_rendered(f'{asked}{option}<|im_end|>')
    logits = model.logits(whole, prefix=0, width=LENGTH)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    at = np.arange(start, len(whole))
    assert score == pytest.approx(logp[at - 1, whole[at]].sum(), abs=1e-4)


def test_a_long_prompt_loses_text_of_its_own_and_none_of_the_template(
  checkpoint, evaluated, asked
):
  tokenizer = tokenizers.load(checkpoint / 'tokenizer.json')
  chat = ChatPrompts(ChatTemplate(PLAIN, tokenizer))
  empty, said = chat.prompt(''), chat.prompt('x').tolist()
  at = next(i for i, id in enumerate(said) if id != empty[i])
  before, after = np.split(empty, [at])
  lengths = sorted(map(len, asked))
  assert LENGTH - 16 < lengths[-1] <= LENGTH + chat.num_added  # some are cut
  for context in asked:
    assert context.tolist()[: len(before)] == before.tolist()
    assert context.tolist()[-len(after) :] == after.tolist()


def test_inference_gives_the_answers_of_an_evaluation(checkpoint, evaluated, tmp_path):
  parsed = settings(
    'gin/infer.gin', checkpoint, tmp_path, MAX_TOKENS=4,
    PROMPTS=evaluated / 'predictions.jsonl',
  )  # fmt: skip
  infer.infer(parsed.build('Infer'), progress=Progress(quiet=True))
  for ours, theirs in zip(lines(tmp_path), lines(evaluated), strict=True):
    scores = (each.pop('log_probabilities', []) for each in (ours, theirs))
    assert next(scores) == pytest.approx(next(scores), abs=1e-4)
    assert ours == theirs


def test_report_and_predictions_state_the_form(evaluated):
  report = json.loads((evaluated / 'report.json').read_text())
  assert {result['prompt_style'] for result in report['results']} == {'chat'}
  assert report['answers']['separator'] == 'none'
  assert report['answers']['end'] == '<|im_end|>'
  assert {line['prompt_style'] for line in lines(evaluated)} == {'chat'}


def test_a_model_without_a_chat_template_is_refused(tmp_path):
  parsed = settings('gin/infer.gin', 'microworld', tmp_path, PROMPTS='-')
  with pytest.raises(InputError, match="'chat': the checkpoint keeps no chat template"):
    infer._model(
      parsed.build('Infer'), out=tmp_path, progress=Progress(quiet=True),
      on_batch=lambda: None,
    )  # fmt: skip
  out = tmp_path / 'out'
  parsed = settings('gin/infer.gin', 'microworld', out, PROMPTS='-')
  with pytest.raises(InputError, match='keeps no chat template'):
    infer.infer(parsed.build('Infer'), progress=Progress(quiet=True))
  assert not out.exists()


def test_a_run_asks_by_the_template_of_the_model_that_it_starts_from(checkpoint):
  given = {'BASE_PROMPT_STYLE': 'chat', 'MODEL_DIR': 'runs/x'}
  for initial, refused in ((None, True), (checkpoint, False)):
    flags = [f'{name}={value}' for name, value in given.items()]
    flags.append(f'INITIAL_CHECKPOINT_PATH={initial}')
    config = gin.load(['gin/runs/demo.gin'], flags).build('Run')
    if refused:
      with pytest.raises(InputError, match='must be another: the model at INITIAL'):
        run_evaluations.check_chat(config)
    else:
      run_evaluations.check_chat(config)
      assert run_evaluations.chat_template(config) == PLAIN


@pytest.mark.slow
def test_a_run_is_evaluated_in_the_chat_of_its_base(checkpoint, tmp_path):
  values = {
    'INITIAL_CHECKPOINT_PATH': checkpoint, 'MODEL_DIR': tmp_path, 'HELD_OUT': 'nli',
    'MIXTURE_OR_TASK_NAME': 'microworld_mini_arc', 'TRAIN_STEPS': 1, 'EVAL_PERIOD': 1,
    'SEQUENCE_LENGTH': 256, 'BATCH_TOKENS': 2048, 'Evaluate.prompt_style': 'chat',
    'Evaluate.max_examples': 2, 'Evaluate.templates': 1, 'Mesh.data': 1,
  }  # fmt: skip
  flags = [f'{name}={value}' for name, value in values.items()]
  config = gin.load(['gin/runs/base.gin'], flags).build('Run')
  train_and_evaluate.train_and_evaluate(config, progress=Progress(quiet=True))
  report = json.loads((tmp_path / 'report' / 'report.json').read_text())
  styles = {
    (result['prompt_style'], result['base']['prompt_style'])
    for result in report['results']
  }
  assert styles == {('chat', 'chat')}
  assert report['answers']['base_end'] == report['answers']['end'] == '<|im_end|>'
