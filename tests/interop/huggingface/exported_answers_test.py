"""An exported model answers in `transformers` as it does here."""

import json
import shutil

import jax
import numpy as np
import pytest
import small_tokenizers
from small_models import as_tuned, by_numpy_alone, tuned_model

from flan_jax.checkpoints import model_dir
from flan_jax.config.evaluation import EvalConfig
from flan_jax.data import tokenizers
from flan_jax.evaluate import load_model
from flan_jax.inference import generate
from flan_jax.inference.rank_options import Request
from flan_jax.inference.sampling import context
from flan_jax.interop.huggingface import (
  chat_template,
  convert,
  export_tokenizer,
  source_files,
)
from flan_jax.interop.huggingface import tokenizers as files_lib
from flan_jax.jobs import language_model
from flan_jax.model import params as params_lib
from flan_jax.runtime.progress import Progress

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.torch

PROMPTS = ('is the cat on the mat?', ' a  mark </s> <s> 中')
OPTIONS = ('yes', 'no it is not')
TOKENS = 16


def tokenizer(kind, folder):
  """A tokenizer of a kind; the byte-level one has no BOS."""
  if kind == 'demo':
    return tokenizers.load(model_dir.SHIPPED / 'tokenizer.model')
  if kind == 'dummy_prefix':
    path = folder / 'tokenizer.model'
    path.write_bytes(small_tokenizers.sentence_pieces(bos_id=3))
    return tokenizers.load(path)
  path = folder / 'tokenizer.json'
  path.write_text(small_tokenizers.byte_level().to_str())
  names = {'bos_token': '<s>', 'eos_token': '</s>', 'add_bos_token': False}
  (folder / 'tokenizer_config.json').write_text(json.dumps(names))
  return tokenizers.load(path)


@pytest.fixture(scope='module', params=['byte_level', 'dummy_prefix', 'demo'])
def exported(request, tmp_path_factory):
  """(model folder, exported folder) of a tuned model with random weights."""
  folder = tmp_path_factory.mktemp(request.param)
  own = tokenizer(request.param, folder)
  tuned_model(folder / 'flan', own, num_layers=1, vocab_size=2048)
  with by_numpy_alone():
    convert.export_model(folder / 'flan', folder / 'hf', progress=Progress(quiet=True))
  return folder / 'flan', folder / 'hf'


def load(folder):
  """The model on one device; all of the test's devices would be compiled for."""
  config, file = model_dir.config(folder), model_dir.tokenizer_file(folder)
  shapes, _ = params_lib.abstract_params(config)
  return load_model.scorer(
    jax.device_put(model_dir.load(folder, config=config, shapes=shapes)),
    config=config,
    tokenizer=tokenizers.load(file),
    evaluate=EvalConfig(batch_size=8),
    prompt_style='instructions',
  )


def chat(prompt, *answer):
  """Messages of a prompt, and of its answer if there is one."""
  roles = ('user', 'assistant')
  return [
    {'role': role, 'content': text}
    for role, text in zip(roles, (prompt, *answer), strict=False)
  ]


def test_scores_and_greedy_tokens_are_ours(exported):
  here = load(exported[0])
  there = transformers.pipeline('text-generation', model=str(exported[1]))
  prompts = [here.tokenizer.encode(prompt) for prompt in PROMPTS]
  options = tuple(here.tokenizer.encode_batch(OPTIONS))
  with jax.default_matmul_precision('highest'):
    requests = [Request(prompt, options) for prompt in prompts]
    scores = here.loglikelihood(requests).log_probabilities
    generated = generate.generate(
      here.params, prompts, config=here.config, tokenizer=here.tokenizer,
      max_tokens=TOKENS,
    )  # fmt: skip
  for prompt, expected in zip(PROMPTS, scores, strict=True):
    found = [_score(there, prompt, option) for option in OPTIONS]
    np.testing.assert_allclose(found, expected, atol=1e-4)
  for prompt, ids, expected in zip(PROMPTS, prompts, generated.tokens, strict=True):
    (found,) = there(chat(prompt), max_new_tokens=TOKENS, return_tensors=True)
    asked = context(ids, here.tokenizer).tolist()
    assert found['generated_token_ids'] == asked + expected


def _score(there, prompt, option) -> float:
  """Log-probability of an option after the prompt, by the chat template alone."""
  start = there.tokenizer.apply_chat_template(chat(prompt), add_generation_prompt=True)
  whole = there.tokenizer.apply_chat_template(chat(prompt, option))
  n, ids = len(start['input_ids']), torch.tensor([whole['input_ids']])
  with torch.inference_mode():
    logits = there.model(ids).logits[0, :-1].log_softmax(-1)
  return float(logits.gather(1, ids[0, 1:, None])[n - 1 :].sum())


def test_a_prompt_and_its_answer_are_the_tokens_of_training(exported):
  own = tokenizers.load(model_dir.tokenizer_file(str(exported[0])))
  there = transformers.AutoTokenizer.from_pretrained(exported[1])
  texts = ['', ' ', '</s>', 'a</s></s><pad>b', chat_template.JOINT, 'x\ue0fb', *PROMPTS]
  for text in texts:
    asked = context(own.encode(text), own).tolist()
    found = there.apply_chat_template(chat(text), add_generation_prompt=True)
    assert found['input_ids'] == asked
    both = there.apply_chat_template(
      chat(text, 'no </s>'), return_assistant_tokens_mask=True
    )
    answer = [*own.encode('no </s>').tolist(), own.eos_id]
    assert both['input_ids'] == asked + answer
    assert both['assistant_masks'] == [0] * len(asked) + [1] * len(answer)
    rendered = there.apply_chat_template(chat(text), tokenize=False)
    scored = there(f'{rendered}no{there.eos_token}', add_special_tokens=False)
    assert scored['input_ids'] == [*asked, *own.encode('no').tolist(), own.eos_id]
  parts = [{'type': 'text', 'text': text[:3]}, {'type': 'text', 'text': text[3:]}]
  assert there.apply_chat_template(chat(parts))['input_ids'] == asked
  plain = [*asked[: own.bos_id is not None], *own.encode('No.')]
  assert there('No.')['input_ids'] == plain
  ids = (there.bos_token_id, there.eos_token_id, there.pad_token_id)
  assert ids[1:] == (own.eos_id, own.pad_id)
  assert own.bos_id in (None, ids[0])


def test_what_the_model_never_saw_is_refused(exported):
  there = transformers.AutoTokenizer.from_pretrained(exported[1])
  for messages in (
    [*chat('a', 'b'), *chat('c')],
    [{'role': 'system', 'content': 'a'}, *chat('b')],
  ):
    with pytest.raises(Exception, match='tuned on one prompt and one answer'):
      there.apply_chat_template(messages)


NAMES = {'bos_token': '<s>', 'eos_token': '</s>'}
SOURCES = {
  'llama_json': {'tokenizer_class': 'LlamaTokenizer', 'bos_token': None},
  'llama_model': {'tokenizer_class': 'LlamaTokenizer', 'add_bos_token': False},
  'gpt2_json': {'tokenizer_class': 'GPT2Tokenizer', 'unk_token': '</s>'},
  'gpt2_merges': {
    'tokenizer_class': 'GPT2Tokenizer', 'unk_token': '</s>', 'add_bos_token': True,
  },
}  # fmt: skip


@pytest.mark.parametrize('kind', SOURCES)
def test_transformers_reads_a_model_not_tuned_here_as_its_source(kind, tmp_path):
  source, ours, out = (tmp_path / name for name in ('source', 'flan', 'hf'))
  for folder in (source, ours, out):
    folder.mkdir()
  if kind == 'llama_model':
    tokenizer('dummy_prefix', source)
  elif kind == 'gpt2_merges':
    small_tokenizers.byte_level().model.save(str(source))
  else:
    text = small_tokenizers.prepending()
    text = text if 'llama' in kind else small_tokenizers.byte_level().to_str()
    (source / 'tokenizer.json').write_text(text)
  config = {**NAMES, **SOURCES[kind], 'chat_template': '{{ messages[0].content }}</s>'}
  (source / 'tokenizer_config.json').write_text(json.dumps(config))
  own = files_lib.from_folder(source, {})
  files_lib.save(own, ours)
  source_files.keep(None, source, ours)
  source_files.give_back(ours, out)
  quiet = Progress(quiet=True)
  export_tokenizer.save(own, out, source=ours, tuned=False, progress=quiet)
  before, after = map(transformers.AutoTokenizer.from_pretrained, (source, out))
  for text in ('the cat on', 'a </s> b', ' x  y\nz'):
    assert after(text)['input_ids'] == before(text)['input_ids']
    chats = [x.apply_chat_template(chat('Hi'), tokenize=False) for x in (before, after)]
    assert chats == ['Hi</s>'] * 2


@pytest.mark.slow
def test_the_demo_model_writes_our_text_until_eos(tmp_path):
  """The shipped weights, whose texts end, with the plain pipeline and no settings."""
  shutil.copytree(model_dir.SHIPPED, tmp_path / 'flan')
  as_tuned(tmp_path / 'flan')
  convert.export_model(
    tmp_path / 'flan', tmp_path / 'hf', progress=Progress(quiet=True)
  )
  prompts = [f'{name} went to the river.' for name in ('Ada', 'Ben', 'Cora', 'Dan')]
  here = language_model.load_model(tmp_path / 'flan')
  with jax.default_matmul_precision('highest'):
    texts = here.generate(prompts, max_tokens=convert.MAX_NEW_TOKENS)
  there = transformers.pipeline('text-generation', model=str(tmp_path / 'hf'))
  found = [there(chat(prompt))[0]['generated_text'][-1] for prompt in prompts]
  assert found == [{'role': 'assistant', 'content': text} for text in texts]
  lengths = [len(here.tokenizer.encode(text)) for text in texts]
  assert min(lengths) < convert.MAX_NEW_TOKENS
