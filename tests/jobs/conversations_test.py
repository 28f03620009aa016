"""A run on conversations: resumed, validated by its loss, exported as it was asked."""

import json

import pytest
import small_run
import small_tokenizers
from safetensors.numpy import load_file

from flan_jax.catalog import registry
from flan_jax.cli.dispatch import main
from flan_jax.config import gin
from flan_jax.data import chat_template, tokenizers
from flan_jax.data.chat import ChatTemplate
from flan_jax.data.sources import file_task
from flan_jax.interop.huggingface import convert
from flan_jax.jobs import train_and_evaluate, training_data
from flan_jax.runtime.progress import Progress
from flan_jax.train import metric_writer

QUIET = Progress(quiet=True)
MARKS = ('<|im_start|>', '<|im_end|>', '<|pad|>')
GENERATION = '{"eos_token_id": [1, 2]}\n'


class Killed(Exception):
  pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """Has tokenizer.json with a chat template, and chats.jsonl, which was exported."""
  monkeypatch.setattr(file_task, '_declared', {})
  small_tokenizers.byte_level(special=MARKS).save(str(tmp_path / 'tokenizer.json'))
  names = {'eos_token': '<|im_end|>', 'pad_token': '<|pad|>', 'add_bos_token': False}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(names))
  (tmp_path / chat_template.FILE).write_text(chat_template.load('chatml'))
  (tmp_path / 'generation_config.json').write_text(GENERATION)
  with registry.restored():
    yield tmp_path


def build(folder, name):
  return gin.load(
    small_run.FILES,
    small_run.flags(
      {
        'MODEL_DIR': folder / name,
        'MIXTURE_OR_TASK_NAME': folder / 'chats.jsonl',
        'MESSAGES': 'messages',
        'TOKENIZER': folder / 'tokenizer.json',
        'VALIDATION': 5,
        'TRAIN_STEPS': 4,
        'Run.checkpoint_period': 2,
        'Run.log_period': 1,
      }
    ),
  ).build('Run')


@pytest.mark.slow
def test_a_run_on_exported_chats_resumes_bit_for_bit_and_is_exported(
  folder, monkeypatch
):
  library = pytest.importorskip('transformers')
  out = folder / 'export'
  flags = ['--format', 'jsonl', '--chat', '--sampled', '60', '--out', str(out)]
  assert main(['export', '--mixture', 'microworld_mini_cola', *flags]) == 0
  (made,) = out.glob('data/*.jsonl')
  made.rename(folder / 'chats.jsonl')

  whole = train_and_evaluate.train_and_evaluate(build(folder, 'whole'), progress=QUIET)
  figures = whole.report['validation']['datasets']['chats']
  assert figures['examples'] == 5
  assert figures['loss'] > 0
  assert figures['metrics'] == {}
  flush = metric_writer.MetricWriter.flush

  def dies(self, step, **more):
    if step == 3:
      raise Killed
    return flush(self, step, **more)

  with monkeypatch.context() as patch:
    patch.setattr(metric_writer.MetricWriter, 'flush', dies)
    with pytest.raises(Killed):
      train_and_evaluate.train_and_evaluate(build(folder, 'broken'), progress=QUIET)
  train_and_evaluate.train_and_evaluate(build(folder, 'broken'), progress=QUIET)
  one, other = (
    load_file(folder / name / 'model' / 'model.safetensors')
    for name in ('whole', 'broken')
  )
  assert all(value.tobytes() == other[name].tobytes() for name, value in one.items())

  convert.export_model(folder / 'whole', folder / 'hf', progress=QUIET)
  theirs = library.AutoTokenizer.from_pretrained(folder / 'hf')
  ours = ChatTemplate(
    chat_template.load('chatml'), tokenizers.load(folder / 'tokenizer.json')
  )
  turns = [
    {'role': 'user', 'content': '  is the cat\n on?'},
    {'role': 'assistant', 'content': 'yes it is'},
  ]
  found = theirs.apply_chat_template(
    turns, return_assistant_tokens_mask=True, return_dict=True
  )
  wanted = ours.conversation(turns)
  assert found['input_ids'] == wanted.tokens.tolist()
  assert found['assistant_masks'] == wanted.loss.astype(int).tolist()
  card = (folder / 'hf' / 'README.md').read_text()
  assert 'tuned on conversations in its chat template' in card


def test_what_stops_the_model_that_a_run_starts_from_stays_beside_its_template(folder):
  class Store:
    chat_template = 'a template'

  config = build(folder, 'run')
  assert training_data.chat_files(config, Store) == {chat_template.FILE: 'a template'}
  config = type(config)(
    **{**vars(config), 'initial_checkpoint': str(folder), 'model': None}
  )
  kept = training_data.chat_files(config, Store)
  assert kept['generation_config.json'] == GENERATION
  Store.chat_template = None
  assert training_data.chat_files(config, Store) == {}
