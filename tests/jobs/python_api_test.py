"""The public API: what `import flan_jax` gives to a notebook."""

import subprocess
import sys

import numpy as np
import pytest

import flan_jax as flan
from flan_jax.data import tokenizers
from flan_jax.errors import InputError
from flan_jax.inference.rank_options import Request, Scorer
from flan_jax.jobs.language_model import LanguageModel
from tests.tiny_model import TinyModel


@pytest.fixture(scope='module')
def model():
  """A model whose prompts and answers are one text."""
  tiny = TinyModel(num_layers=1)
  scorer = Scorer(
    params=tiny.params,
    config=tiny.config,
    tokenizer=tokenizers.load('bytes'),
    separator=False,
    eos=False,
  )
  return LanguageModel(scorer)


def test_the_import_is_empty_until_a_name_is_used():
  code = 'import sys, flan_jax; print({"jax", "numpy"} & set(sys.modules))'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert (done.stdout, done.stderr) == ('set()\n', '')


@pytest.mark.parametrize('name', flan._PUBLIC)
def test_every_public_name_is_there_and_described(name):
  assert getattr(flan, name).__doc__.strip()


def test_log_likelihoods_are_those_of_the_tokens(model):
  """Of the whole text where prompt and answer are one; else with EOS between them."""
  prompt, options = 'The cat', [' sleeps.', ' flies.']
  ids = model.tokenizer.encode
  whole = [ids(prompt + option) for option in options]
  n = len(ids(prompt))
  request = Request(
    np.asarray(whole[0][:n]), tuple(np.asarray(text[n:]) for text in whole)
  )
  expected = model._scorer.loglikelihood([request]).log_probabilities[0]
  (found,) = model.loglikelihood([(prompt, options)])
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_answer_ends_before_a_stop_string_and_follows_its_seed(model):
  (whole,) = model.generate(['The cat'], max_tokens=12)
  mark = whole[len(whole) // 2]
  (cut,) = model.generate(['The cat'], max_tokens=12, stop=[mark])
  assert cut == whole.partition(mark)[0]
  settings = {'max_tokens': 12, 'temperature': 1.0}
  one, same, other = (
    model.generate(['The cat'], seed=seed, **settings) for seed in (1, 1, 2)
  )
  assert one == same != other


def test_a_record_is_rendered_as_its_dataset_says():
  record = {'premise': 'It rains.', 'hypothesis': 'It is wet.', 'label': 1}
  prompt = flan.render('rte', record, template=0)
  assert prompt.inputs.startswith('It rains.')
  assert prompt.targets == 'no'
  with pytest.raises(InputError, match="'hypothesis'"):
    flan.render('rte', {'premise': 'It rains.', 'label': 1})


def test_settings_of_a_run_and_of_an_evaluation(tmp_path):
  run = flan.load_config('gin/runs/demo.gin', ['TRAIN_STEPS=7'])
  assert (type(run).__name__, run.train_steps) == ('TrainConfig', 7)
  bindings = ['CHECKPOINT=microworld', 'CLUSTERS=nli', f'OUTPUT_DIR={tmp_path}']
  evaluation = flan.load_config('gin/evaluate/zero_shot.gin', bindings)
  assert evaluation.checkpoint == 'microworld'
  with pytest.raises(InputError, match="did you mean 'TRAIN_STEPS'"):
    flan.load_config('gin/runs/demo.gin', ['TRAIN_STEP=7'])


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (
      lambda m: m.generate('Is it?'),
      r"got 'Is it\?'; must be a list of texts",
    ),
    (lambda m: m.generate(['a'], max_tokens=0), 'max_tokens: got 0; must be 1 or more'),
    (lambda m: m.loglikelihood([('q', 'yes')]), "options: got 'yes'; must be a list"),
    (
      lambda m: m.loglikelihood(('q', ['yes'])),
      'must be a prompt and its options',
    ),
    (
      lambda _: flan.render('rte', {}, template=99),
      'template: got 99; must be 0 to 10',
    ),
  ],
)
def test_a_mistake_in_python_is_one_line(model, call, message):
  with pytest.raises(InputError, match=message):
    call(model)
