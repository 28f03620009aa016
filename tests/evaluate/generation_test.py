"""Greedy generation is the argmax of full forward passes, prompt by prompt."""

import numpy as np
import pytest

from flan_jax.data import tokenizer
from flan_jax.evaluate import generation

BYTES = tokenizer.load('bytes')
EOS = BYTES.eos_id
STEPS = 12


def prompts(lengths, seed=0):
  generator = np.random.default_rng(seed)
  return [generator.integers(3, 259, n, dtype=np.int32) for n in lengths]


def generate(model, given, **changes):
  settings = {'tokenizer': BYTES, 'max_new_tokens': STEPS, 'rows': 2} | changes
  return generation.generate(model.params, given, config=model.config, **settings)


def fond_of_eos(model):
  """A random model hardly ever writes EOS by itself: its embedding is made longer."""
  model.params = {
    **model.params, 'embedding': model.params['embedding'].at[EOS].multiply(1.5)
  }  # fmt: skip
  return model


def by_full_forward(model, prompt):
  """The same answer without a cache: the whole sequence again for every token."""
  start = [*prompt, EOS]
  answer = []
  while len(answer) < STEPS:
    logits = model.logits([*start, *answer], prefix=len(start), width=64)
    answer.append(int(logits[-1].argmax()))
    if answer[-1] == EOS:
      return answer[:-1]
  return answer


@pytest.mark.parametrize('attention', ['causal', 'prefix'])
@pytest.mark.parametrize('positions', ['rotary', 't5'])
def test_equals_the_argmax_of_full_forward_passes(tiny_model, attention, positions):
  model = fond_of_eos(tiny_model(attention=attention, positions=positions))
  given = prompts([7, 28, 3, 18, 25])
  found = generate(model, given)
  assert found.tokens == [by_full_forward(model, prompt) for prompt in given]
  assert found.nan == [False] * 5


def test_stops_once_every_row_has_written_eos(tiny_model):
  """Where EOS is what a model always writes, one step ends the batch."""
  model = tiny_model(tied_embedding=False)
  head = np.zeros(model.params['head'].shape, np.float32)
  model.params = {**model.params, 'head': head}
  # All logits are 0 and the first of equals is chosen: token 0, for ever.
  assert generate(model, prompts([5])).tokens == [[0] * STEPS]
  found = generate(
    model, prompts([5, 9, 4]), tokenizer=type('T', (tokenizer.Bytes,), {'eos_id': 0})()
  )
  assert found.tokens == [[], [], []]
  assert found.tokens_written == 2 * 2 * 1


def test_neighbours_and_order_do_not_matter(tiny_model):
  model = fond_of_eos(tiny_model())
  given = prompts([30, 4, 11, 20, 8, 29, 5])
  straight = generate(model, given).tokens
  assert generate(model, given[::-1], rows=3).tokens == straight[::-1]


def test_nan_is_told_by_prompt(tiny_model):
  model = tiny_model(tied_embedding=False)
  poison = model.params['embedding'].at[200].set(np.nan)
  model.params = {**model.params, 'embedding': poison}
  given = [np.array(ids, np.int32) for ids in ([5, 6], [5, 200], [7])]
  assert generate(model, given, max_new_tokens=1).nan == [False, True, False]


def test_counts_what_was_computed(tiny_model):
  model = fond_of_eos(tiny_model())
  found = generate(model, prompts([40, 2, 2]), max_new_tokens=3)
  assert found.tokens_read == 2 * 48 + 2 * 32
  assert found.tokens_written <= 2 * 2 * 3


def test_nothing_to_write(tiny_model):
  assert generate(tiny_model(), [])[:-1] == ([], [], 0, 0)


@pytest.mark.parametrize(
  ('length', 'padded'), [(1, 32), (32, 32), (33, 48), (49, 64), (65, 96), (1025, 1536)]
)
def test_few_shapes_are_compiled(length, padded):
  assert generation.padded_length(length) == padded
