"""The same weights in `transformers` give the same scores and the same text."""

import dataclasses

import jax
import numpy as np
import pytest
import small_tokenizers
from oracle import RANKED, examples

from flan_jax.catalog import continuation_prompts
from flan_jax.catalog.template import Template
from flan_jax.checkpoints import weights
from flan_jax.data.preprocess import Limits
from flan_jax.data.tokenizers import Bytes, SentencePiece
from flan_jax.evaluate.predict import Clock, Predictor, PromptSpec, Warnings
from flan_jax.inference.rank_options import Request, Scorer
from flan_jax.interop.huggingface import convert, sentencepiece_json
from flan_jax.runtime.progress import Progress

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.torch

VOCAB, EOS, STEPS = 512, 1, 24
TIE = 1e-4
"""Logits closer than this are a tie: rounding may decide it."""


@pytest.fixture(scope='module')
def hf_model():
  """A random Llama that is fond of EOS, so that answers differ in length."""
  config = transformers.LlamaConfig(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, eos_token_id=EOS, bos_token_id=None,
    pad_token_id=0,
  )  # fmt: skip
  torch.manual_seed(0)
  model = transformers.LlamaForCausalLM(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      if parameter.ndim > 1:
        parameter.normal_(0, 0.3)
    model.lm_head.weight[EOS] *= 1.8
  return model


@pytest.fixture(scope='module')
def scorer(hf_model, tmp_path_factory):
  folder = tmp_path_factory.mktemp('model')
  hf_model.save_pretrained(folder / 'hf')
  came = convert.import_model(
    folder / 'hf', folder / 'model', progress=Progress(quiet=True)
  )
  return Scorer(
    params=jax.tree.map(jax.numpy.asarray, weights.load(folder / 'model', came.config)),
    config=came.config,
    tokenizer=Bytes(),
    batch_size=4,
    sequence_length=64,
    eos=False,
    separator=False,
  )


def draw(seed, lengths):
  generator = np.random.default_rng(seed)
  return [generator.integers(3, VOCAB, n, dtype=np.int32) for n in lengths]


def logits(model, ids):
  with torch.inference_mode():
    found = model(torch.tensor([[int(i) for i in ids]])).logits[0]
  return found.double().numpy()


def test_sums_of_log_probabilities(hf_model, scorer):
  prompts, options = draw(0, range(5, 45, 8)), draw(1, (1, 2, 6, 15))
  found = [Request(prompt, tuple(options)) for prompt in prompts]
  scored = scorer.loglikelihood(found).log_probabilities
  with_eos = (
    dataclasses.replace(scorer, eos=True).loglikelihood(found).log_probabilities
  )
  for prompt, got, got_eos in zip(prompts, scored, with_eos, strict=True):
    for k, option in enumerate(options):
      found = logits(hf_model, [*prompt, *option])[len(prompt) - 1 :]
      logp = found - np.log(np.exp(found).sum(-1, keepdims=True))
      total = logp[np.arange(len(option)), option].sum()
      assert got[k] == pytest.approx(total, abs=1e-4)
      assert got_eos[k] == pytest.approx(total + logp[-1, EOS], abs=1e-4)


@pytest.mark.parametrize('kind', small_tokenizers.KINDS[1:])
def test_options_that_continue_a_prompt_score_as_in_the_joined_text(
  kind, hf_model, scorer, tmp_path
):
  """The predictor in plain prose, against `transformers` on the whole text."""
  found = small_tokenizers.of(kind, tmp_path)
  file = tmp_path / 'tokenizer.json'
  if isinstance(found, SentencePiece):
    file.write_bytes(sentencepiece_json.translate(found)[0])
  hf_tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file))
  dataset = dataclasses.replace(
    RANKED, templates=(Template('{premise}\nSo {hypothesis}:'),)
  )
  kept = []
  predictor = Predictor(
    models={'tuned': dataclasses.replace(scorer, tokenizer=found)},
    limits=Limits(),
    max_tokens=4,
    emit=lambda record, **_: kept.append(record),
    clocks={'tuned': Clock()},
    warnings=Warnings(),
  )
  spec = PromptSpec(
    dataset=dataset, templates=(0,), **continuation_prompts.delimiters(dataset)
  )
  read = examples(dataset, 3)
  batch = [('test', example) for example in read(dataset.name, 'test')]
  predictor.predict({'tuned': spec}, batch)
  assert len(kept) == 3
  for record in kept:
    prompt = hf_tokenizer(record['prompt'], add_special_tokens=False)['input_ids']
    for option, got in zip((' yes', ' no'), record['log_probabilities'], strict=True):
      ids = hf_tokenizer(record['prompt'] + option, add_special_tokens=False)[
        'input_ids'
      ]
      assert ids[: len(prompt)] == prompt
      logp = logits(hf_model, ids)
      logp -= np.log(np.exp(logp).sum(-1, keepdims=True))
      total = sum(logp[i - 1, ids[i]] for i in range(len(prompt), len(ids)))
      assert got == pytest.approx(total, abs=1e-4)


@pytest.mark.slow  # the sums above are of the same logits
def test_greedy_texts_differ_only_at_a_tie(hf_model, scorer):
  """Eleven prompts in four slots, each against `transformers` on its own."""
  prompts = draw(2, range(2, 33, 3))
  generated = scorer.generate(prompts, max_tokens=STEPS).tokens
  assert len({len(answer) for answer in generated}) > 3
  for prompt, answer in zip(prompts, generated, strict=True):
    with torch.inference_mode():
      expected = hf_model.generate(
        torch.tensor([prompt.tolist()]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=STEPS,
        do_sample=False,
      )[0, len(prompt) :].tolist()
    got = answer + [EOS] * (len(answer) < STEPS)
    if got != expected:
      part = next(i for i in range(STEPS) if got[: i + 1] != expected[: i + 1])
      last = logits(hf_model, [*prompt, *expected[:part]])[-1]
      assert last.max() - last[got[part]] <= TIE
