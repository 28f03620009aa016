"""Text with control tokens: a prompt is asked as in training, whatever it spells."""

import numpy as np
import pytest
import small_tokenizers

from flan_jax.inference.sampling import context
from flan_jax.interop.huggingface import chat_template
from flan_jax.interop.lm_eval.control_text import ControlText

PROMPTS = (
  'Is the cat on the mat?',
  ' two  blanks </s> then <s>, <pad>\nand a line ',
  f'the joint {chat_template.JOINT} itself, <{chat_template.JOINT}/s>',
  '',
)


@pytest.fixture(params=small_tokenizers.KINDS)
def text(request, kinds):
  return ControlText(kinds[request.param])


def test_a_prompt_is_asked_as_in_training(text):
  for prompt in PROMPTS:
    expected = context(text.tokenizer.encode(prompt), text.tokenizer)
    np.testing.assert_array_equal(text.encode(text.asked(prompt)), expected)


def test_an_answer_after_it_is_a_text_of_its_own_that_ends_with_eos(text):
  for answer in ('yes', 'it is not so', 'a < b'):
    asked = text.encode(text.asked('Is it?'))
    whole = text.encode(f'{text.asked("Is it?")}{answer}{text.eos}')
    end = [*text.tokenizer.encode(answer), text.tokenizer.eos_id]
    np.testing.assert_array_equal(whole, [*asked, *end])
