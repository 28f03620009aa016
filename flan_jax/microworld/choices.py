"""Questions with their options, as the pretraining text asks them."""

import random
from collections.abc import Sequence

from flan_jax.microworld import commonsense, vocabulary
from flan_jax.microworld.language import question, sentence
from flan_jax.microworld.world import World

SIDE = 'train'


def listed(rng: random.Random, asked: str, answer: str, wrong: Sequence[str]) -> str:
  """A question with some options in any order, and the right one."""
  options = [answer, *rng.sample(wrong, min(len(wrong), rng.choice((1, 2, 3))))]
  rng.shuffle(options)
  lines = '\n'.join(f'* {text}' for text in options)
  either = ', '.join(options[:-1]) + f' or {options[-1]}'
  match rng.randrange(5):
    case 0:
      return f'\n{question(asked)}\n{lines}\nThe right one is:\n{answer}'
    case 1:
      return f' {question(asked)}\n{lines}\n\n{answer}'
    case 2:
      return f' {question(asked)} {sentence(either)} {sentence(answer)}'
    case 3:
      return f'\n{lines}\n{question(asked)}\n{answer}'
  lead, reply = rng.sample(vocabulary.PEOPLE, 2)
  return f' {lead} asks: {question(f"{asked}, {either}")} {reply} answers: {answer}.'


def opinions_asked(world: World, rng: random.Random) -> str:
  """Praise and blame, and which it is."""
  out = []
  for _ in range(2):
    good = rng.random() < 0.5
    said = sentence(commonsense.opinion(world, rng, good=good, side=SIDE))
    answer, wrong = ('good', 'bad') if good else ('bad', 'good')
    out.append(said + listed(rng, 'what view is this', answer, (wrong,)))
  return '\n'.join(out)


def ties_asked(world: World, rng: random.Random) -> str:
  """Actions between two people, and whose trait is the reason."""
  out = []
  for _ in range(2):
    (first, second), index = commonsense.tied(world, rng, side=SIDE)
    verb, *reasons = commonsense.TIES[index]
    which = rng.randrange(2)
    who, other = (first, second) if which == 0 else (second, first)
    right, wrong = (f'{name} {reasons[which]}' for name in (who, other))
    told = sentence(f'{first} {verb} {second}')
    out.append(told + listed(rng, 'what is the reason', right, (wrong,)))
  return '\n'.join(out)
