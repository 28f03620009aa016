"""`flan ask`: answers, ranked options, and the commands of the dialogue."""

import argparse
import io
import json

import numpy as np
import pytest

from flan_jax.cli import ask, dispatch
from flan_jax.errors import InputError
from flan_jax.jobs import language_model


class Echo:
  """A model that answers with its prompt, and prefers the longest option."""

  chats = False

  def __init__(self):
    self.stopped_at = None
    self.asked = []

  def stream(self, prompt, *, max_tokens, temperature, seed, weight_dtype):
    self.asked.append(prompt)
    if not isinstance(prompt, str):
      prompt = prompt[-1]['content']
    for place, piece in enumerate(prompt.split(' ')[:max_tokens]):
      if place == self.stopped_at:
        raise KeyboardInterrupt
      yield f'{piece} '

  def loglikelihood(self, requests):
    return [np.array([float(len(o)) for o in options]) for _, options in requests]


@pytest.fixture
def model(monkeypatch):
  model = Echo()
  monkeypatch.setattr(language_model, 'load_model', lambda *_, **__: model)
  return model


def talk(monkeypatch, *lines: str, flags=()) -> int:
  text = ''.join(f'{line}\n' for line in lines)
  monkeypatch.setattr('sys.stdin', io.StringIO(text))
  return dispatch.main(['ask', 'x', *flags])


def test_a_prompt_is_answered_once(model, monkeypatch, capsys):
  assert dispatch.main(['ask', 'x', 'a b c', '--max-tokens', '2']) == 0
  assert capsys.readouterr().out == 'a b \n'
  assert talk(monkeypatch, 'from standard input', flags=['-', '--json']) == 0
  found = json.loads(capsys.readouterr().out)
  assert found == {'prompt': 'from standard input', 'answer': 'from standard input '}


def test_a_prompt_may_stand_behind_the_flags(model, capsys):
  assert dispatch.main(['ask', 'x', '--max-tokens', '2', 'a b c']) == 0
  assert capsys.readouterr().out == 'a b \n'
  assert dispatch.main(['ask', 'x', '--max-tokens', '2', 'a b c', 'd']) == 2
  assert 'unrecognized arguments' in capsys.readouterr().err


def test_options_have_the_softmax_of_their_log_likelihoods(model, capsys):
  assert dispatch.main(['ask', 'x', 'p', '--options', 'a| abc |ab', '--json']) == 0
  found = json.loads(capsys.readouterr().out)
  assert found['answer'] == 'abc'
  assert [each['option'] for each in found['options']] == ['abc', 'ab', 'a']
  odds = np.exp([3.0, 2.0, 1.0])
  chances = [each['probability'] for each in found['options']]
  np.testing.assert_allclose(chances, odds / odds.sum())


def test_a_dialogue_ranks_options_for_the_last_prompt_or_the_next(
  model, monkeypatch, capsys
):
  lines = ['one two', '/options a | ab', '/reset', '/options c | d', 'three', 'four']
  assert talk(monkeypatch, *lines, '/quit', 'never') == 0
  shown = [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()]
  assert shown == ['one two', '73.11% ab', '26.89% a', '50.00% c', '50.00% d', 'four']


def test_a_mistake_or_an_interruption_does_not_end_the_dialogue(
  model, monkeypatch, capsys
):
  model.stopped_at = 2
  assert talk(monkeypatch, '/choices a|b', '/options a', 'x y z', 'last') == 0
  captured = capsys.readouterr()
  assert captured.out == 'x y \nlast \n'
  first, second = [x for x in captured.err.splitlines() if x.startswith('flan: error')]
  assert '/choices: must be /options, /reset, /help or /quit' in first
  assert "/options: got 'a'; must be two or more different texts" in second


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--json'], '--json: got no PROMPT'),
    (['p', '--max-tokens', '0'], '--max-tokens: got 0; must be 1 or more'),
    (['p', '--temperature', '-1'], '--temperature: got -1.0; must be 0 or more'),
    (['p', '--options', 'a|a'], "--options: got 'a.a'; must be two or more different"),
    (['p', '--chat', '--options', 'a|b'], '--chat: --options is given, too'),
    (['p'], "checkpoint 'x': no such folder"),
  ],
)
def test_a_bad_setting_is_one_line(flags, message, capsys):
  import re

  assert dispatch.main(['ask', 'x', *flags]) == 2
  errors = [x for x in capsys.readouterr().err.splitlines() if 'flan: error' in x]
  assert len(errors) == 1
  assert re.search(message, errors[0])


def test_a_chat_shows_the_turns_before_until_a_reset(model, monkeypatch, capsys):
  assert talk(monkeypatch, 'a', flags=['--chat']) == 2
  assert "--chat: 'x' keeps no chat template" in capsys.readouterr().err
  model.chats = True
  assert (
    talk(monkeypatch, 'a', 'b', '/options a | b', '/reset', 'c', flags=['--chat']) == 0
  )
  user = [{'role': 'user', 'content': text} for text in 'abc']
  answer = {'role': 'assistant', 'content': 'a '}
  assert model.asked == [[user[0]], [user[0], answer, user[1]], [user[2]]]
  assert '/options: not with --chat' in capsys.readouterr().err


def test_options_of_plain_text_are_words_of_their_own():
  found = ask.Dialogue(Echo(), argparse.Namespace(continues=True, chat=False))
  ranked = found._ranked('The sky is', ['blue', ', of course'])
  assert [each['log_probability'] for each in ranked] == [11, 5]
  with pytest.raises(InputError, match='/options'):
    found.take('/options')
