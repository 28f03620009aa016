"""A model of ours in lm-eval answers as lm-eval's `hf` model does on its export."""

import json
import math
import pathlib
import sys

import jax
import pytest
import yaml
from chat_templates import PLAIN

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'huggingface'))

import small_tokenizers
from small_models import by_numpy_alone, random_model, tuned_model

from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import convert
from flan_jax.runtime.progress import Progress

lm_eval = pytest.importorskip('lm_eval', reason="needs 'flan_jax[lm-eval]'")
pytest.importorskip('torch', reason='the hf model is what is compared with')
pytestmark = pytest.mark.torch

from lm_eval.tasks import TaskManager  # noqa: E402

from flan_jax.interop.lm_eval import model  # noqa: E402

WORDS = [
  'the',
  'cat',
  'sat',
  'on',
  'the',
  'mat',
  'and',
  'is',
  'it',
  'so',
  'that',
  'he',
  'saw',
  'two',
  'dogs',
  'or',
  'not',
]


def words(count, start=0):
  return ' '.join(WORDS[(start + 5 * i) % len(WORDS)] for i in range(count))


TASKS = {
  'continued': {
    'output_type': 'multiple_choice', 'doc_to_text': 'text', 'doc_to_choice': 'options',
    'doc_to_target': 'right', 'metric_list': ['acc', 'acc_norm'],
  },
  'asked': {
    'output_type': 'multiple_choice', 'doc_to_text': 'text', 'doc_to_choice': 'ended',
    'doc_to_target': 'right', 'target_delimiter': '', 'metric_list': ['acc'],
  },
  'last_word': {
    'output_type': 'loglikelihood', 'doc_to_text': 'text', 'doc_to_target': 'next',
    'metric_list': ['perplexity', 'acc'],
  },
  'text': {
    'output_type': 'loglikelihood_rolling', 'doc_to_text': '', 'doc_to_target': 'text',
    'metric_list': ['word_perplexity', 'bits_per_byte'],
  },
  'written': {
    'output_type': 'generate_until', 'doc_to_text': 'text', 'doc_to_target': 'next',
    'metric_list': ['exact_match'],
    'generation_kwargs': {'until': ['\n'], 'do_sample': False, 'max_gen_toks': 128},
  },
}  # fmt: skip
"""Tasks of the shapes of public ones: PIQA, FLAN's, LAMBADA, WikiText, free text.

128 tokens are what the exported generation_config.json says, which `hf` puts above the
task's own number.
"""


def write_tasks(folder: pathlib.Path) -> None:
  folder.mkdir()
  rows = [
    {
      'text': words(3 + 9 * (i % 4), i) + (' </s> <s>' if i == 2 else ''),
      'options': [words(1 + k % 3, i + k) for k in range(4)],
      'ended': [words(1 + k % 3, i + k) + '</s>' for k in range(4)],
      'right': i % 4,
      'next': WORDS[i],
    }
    for i in range(6)
  ]
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'rows.jsonl').write_text(lines)
  for name, task in TASKS.items():
    aggregated = {'perplexity', 'word_perplexity', 'bits_per_byte'}
    metrics = [
      {
        'metric': metric,
        'aggregation': 'mean' if metric not in aggregated else
        metric.replace('word_perplexity', 'weighted_perplexity'),
        'higher_is_better': metric not in aggregated,
      }
      for metric in task['metric_list']
    ]  # fmt: skip
    content = {
      'task': f'tiny_{name}',
      'dataset_path': 'json',
      'dataset_kwargs': {'data_files': {'test': str(folder / 'rows.jsonl')}},
      'test_split': 'test',
      **task,
      'metric_list': metrics,
    }
    (folder / f'{name}.yaml').write_text(yaml.safe_dump(content))


@pytest.fixture(scope='module', params=['bytes', 'dummy_prefix'])
def both(request, tmp_path_factory):
  """A model folder, its export, and a folder of tasks."""
  folder = tmp_path_factory.mktemp(request.param)
  own = tokenizers.load('bytes')
  if request.param == 'dummy_prefix':
    (folder / 'tokenizer.model').write_bytes(small_tokenizers.sentence_pieces(bos_id=3))
    own = tokenizers.load(folder / 'tokenizer.model')
  tuned_model(folder / 'flan', own, num_layers=1, vocab_size=2048)
  with by_numpy_alone():
    convert.export_model(folder / 'flan', folder / 'hf', progress=Progress(quiet=True))
  write_tasks(folder / 'tasks')
  return folder / 'flan', folder / 'hf', folder / 'tasks'


def evaluate(name, path, tasks, *, chat, names, **settings):
  """(task, example) -> the answers of a model; and the figures."""
  arguments = {'pretrained': str(path), **settings}
  with jax.default_matmul_precision('highest'):
    found = lm_eval.simple_evaluate(
      model=name, model_args=arguments, tasks=[f'tiny_{name}' for name in names],
      task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
      apply_chat_template=chat, batch_size=4, device='cpu', bootstrap_iters=0,
    )  # fmt: skip
  answers = {
    (task, sample['doc_id']): sample['resps']
    for task, samples in found['samples'].items()
    for sample in samples
  }
  figures = {
    (task, metric): value
    for task, metrics in found['results'].items()
    for metric, value in metrics.items()
    if isinstance(value, float)
  }
  return answers, figures


def compare(here, there):
  """Texts are the same, log-probabilities within 1e-4."""
  if isinstance(there, list | tuple):
    assert len(here) == len(there)
    for one, other in zip(here, there, strict=True):
      compare(one, other)
  elif isinstance(there, float) and not isinstance(there, bool):
    assert math.isclose(here, there, rel_tol=1e-6, abs_tol=1e-4)
  else:
    assert here == there


@pytest.mark.parametrize('chat', [False, True])
def test_answers_are_those_of_hf_on_the_export(both, chat):
  ours, exported, tasks = both
  left_out = {'text'} if chat else set()
  if (ours / 'tokenizer.model').exists():
    left_out.add('written')  # random bytes, which the libraries show in different ways
  names = [name for name in TASKS if name not in left_out]
  here, own = evaluate(model.NAME, ours, tasks, chat=chat, names=names)
  there, theirs = evaluate(
    'hf', exported, tasks, chat=chat, names=names, dtype='float32'
  )
  assert here.keys() == there.keys()
  for key, answers in there.items():
    compare(here[key], answers)
  assert own.keys() == theirs.keys()
  for key, value in theirs.items():
    assert math.isclose(own[key], value, rel_tol=1e-4), key


@pytest.fixture(scope='module')
def chat_model(tmp_path_factory):
  """A Hugging Face folder with a chat template of its own, and a folder of tasks."""
  folder = tmp_path_factory.mktemp('chat')
  names = {'eos_token': '<|im_end|>', 'pad_token': '<|pad|>', 'add_bos_token': False}
  text = small_tokenizers.byte_level(special=('<|im_start|>', '<|im_end|>', '<|pad|>'))
  own = tokenizers.HuggingFace(text.to_str().encode(), names, name='own')
  random_model(
    folder / 'flan', tokenizer=False, vocab_size=own.vocab_size, num_layers=1
  )
  own.save(folder / 'flan' / 'tokenizer.json')
  with by_numpy_alone():
    convert.export_model(folder / 'flan', folder / 'hf', progress=Progress(quiet=True))
  settings = names | {'tokenizer_class': 'PreTrainedTokenizerFast'}
  (folder / 'hf' / 'tokenizer.json').write_text(text.to_str())
  (folder / 'hf' / 'tokenizer_config.json').write_text(json.dumps(settings))
  (folder / 'hf' / 'chat_template.jinja').write_text(PLAIN)
  write_tasks(folder / 'tasks')
  return folder / 'hf', folder / 'tasks'


def test_a_model_uses_the_chat_template_it_came_with(chat_model, tmp_path, monkeypatch):
  """Also with a system message, which the template takes."""
  hf, tasks = chat_model
  monkeypatch.setattr(model.conversion_cache, 'FOLDER', tmp_path)
  names = ['continued', 'last_word', 'written']
  here, own = evaluate(model.NAME, hf, tasks, chat=True, names=names)
  there, theirs = evaluate('hf', hf, tasks, chat=True, names=names, dtype='float32')
  assert here.keys() == there.keys()
  for key, answers in there.items():
    compare(here[key], answers)
  assert own == pytest.approx(theirs, rel=1e-4)
  made = model.FlanJax(str(hf), batch_size=4)
  turns = [
    {'role': 'system', 'content': 'Be short.'},
    {'role': 'user', 'content': 'Hi'},
  ]
  assert '<|im_start|>system\nBe short.<|im_end|>' in made.apply_chat_template(turns)


def test_a_system_message_and_unknown_settings_are_refused(both):
  made = model.FlanJax(str(both[0]), batch_size=4)
  with pytest.raises(InputError, match='messages of system, user; must be one of'):
    made.apply_chat_template(
      [{'role': 'system', 'content': 'Be short.'}, {'role': 'user', 'content': 'Hi'}]
    )
  with pytest.raises(InputError, match="--model_args 'peft': must be one of"):
    model.FlanJax(str(both[0]), peft='x')
  with pytest.raises(InputError, match="'num_beams': must be one of until"):
    model.generation({'num_beams': 4})
