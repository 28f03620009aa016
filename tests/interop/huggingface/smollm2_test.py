"""A real language model, from the package that ships it."""

import json

import jax
import numpy as np
import pytest

from flan_jax.checkpoints import model_dir, weights
from flan_jax.config import gin
from flan_jax.data.tokenizers import Bytes
from flan_jax.errors import InputError
from flan_jax.inference import generate
from flan_jax.interop.huggingface import convert, logit_check, packages

pytest.importorskip('gguf')
pytest.importorskip('tokenizers')
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def imported(tmp_path_factory):
  from flan_jax.runtime.progress import Progress

  try:
    source = packages.find('smollm2')
  except InputError as error:
    pytest.skip(str(error))
  folder = tmp_path_factory.mktemp('models') / 'smollm2'
  return convert.import_model(source, folder, progress=Progress(quiet=True))


def test_its_perplexity_is_that_of_an_independent_run(imported):
  assert imported.agreement.perplexity == pytest.approx(28.7, abs=0.05)
  assert imported.agreement.perplexity_shuffled == pytest.approx(2059, abs=1)
  assert imported.agreement.kl < 1e-9


def test_its_gin_file_has_its_config(imported):
  text = ['gin/runs/base.gin', 'gin/models/smollm2_135m.gin']
  flags = ['MODEL_DIR=x', 'MIXTURE_OR_TASK_NAME=flan_rte', 'TRAIN_STEPS=1']
  run = gin.load(text, flags).build('Run')
  assert run.model == imported.config
  assert run.initial_checkpoint == 'models/smollm2'


def test_decoding_inverts_encoding(imported):
  from flan_jax.data import tokenizers

  tokenizer = tokenizers.load(model_dir.tokenizer_file(str(imported.folder)))
  for text in (logit_check.PARAGRAPH, 'a  b\n\n\tc 1987', 'naïve 中文 🙂'):
    assert tokenizer.decode(tokenizer.encode(text)) == text
  assert (tokenizer.eos_id, tokenizer.bos_id) == (2, None)
  assert len(tokenizer.encode('1987')) == 4


@pytest.mark.torch
def test_transformers_has_the_same_logits_and_greedy_tokens(imported, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  from flan_jax.runtime.progress import Progress

  exported = convert.export_model(
    imported.folder, tmp_path / 'hf', progress=Progress(quiet=True)
  )
  assert exported.agreement.method.startswith('transformers')
  assert exported.agreement.max_difference < 1e-4 * exported.agreement.largest

  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / 'hf')
  prompt = tokenizer(logit_check.PARAGRAPH, add_special_tokens=False)['input_ids']
  model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'hf')
  with torch.inference_mode():
    expected = model.generate(
      torch.tensor([prompt]),
      attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
      max_new_tokens=64,
      min_new_tokens=64,
      do_sample=False,
      eos_token_id=None,
    )[0, len(prompt) :].numpy()
  params = weights.load(imported.folder, imported.config)
  endless = type('Endless', (Bytes,), {'eos_id': imported.config.vocab_size})()
  with jax.default_matmul_precision('highest'):
    got = generate.generate(
      params, [np.array(prompt, np.int32)], config=imported.config, tokenizer=endless,
      max_tokens=64, separator=False,
    )  # fmt: skip
  np.testing.assert_array_equal(got.tokens[0], expected)
  assert json.loads((tmp_path / 'hf' / 'config.json').read_text())['model_type'] == (
    'llama'
  )
