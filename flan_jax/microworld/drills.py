"""Drills: documents in which words are compared, looked up, and copied.

A small model has to master them before it can tell whether a claim agrees with a passage;
`corpus.FIRST` says which it sees when.
"""

import random

from flan_jax.microworld import language, vocabulary
from flan_jax.microworld.world import World

_WORDS = tuple(word for group in language.GROUPS for word in group) + tuple(
  vocabulary.MOOD_GROUP
)


def same(world: World, rng: random.Random) -> str:
  """Pairs of words, and whether they are one word."""
  out = []
  for _ in range(rng.choice((6, 8, 10))):
    a, b = rng.sample(_WORDS, 2)
    alike = rng.random() < 0.5
    out.append(f'{a} {a if alike else b} {"yes" if alike else "no"}')
  return '\n'.join(out)


def roll(world: World, rng: random.Random) -> str:
  """A list of words; then words, and whether each is on the list."""
  return _roll(rng, '{w} {v}')


def roll_asked(world: World, rng: random.Random) -> str:
  """The same, with a mark between the word and the verdict."""
  form = rng.choice(('{w}? {v}', 'Question: {w}?\nAnswer: {v}', '{w}. {v}'))
  return _roll(rng, form)


def _roll(rng: random.Random, form: str) -> str:
  said = rng.sample(_WORDS, 10)
  count = rng.choice((1, 1, 2, 2, 3, 4, 5))
  inside, outside = said[:count], said[count : 2 * count + 1]
  asked = [*((word, 'yes') for word in inside), *((word, 'no') for word in outside)]
  rng.shuffle(asked)
  lines = [form.format(w=w, v=v) for w, v in asked[: rng.choice((4, 6, 8))]]
  return '\n'.join((', '.join(inside) + '.', *lines))


def rhyme(world: World, rng: random.Random) -> str:
  """A long sequence of arbitrary words, repeated once."""
  said = rng.sample(_WORDS, rng.choice((8, 12, 16, 20, 24)))
  line = ' '.join(said)
  return rng.choice((f'{line} {line}', f'{line}.\n{line}.'))


def game(world: World, rng: random.Random) -> str:
  """Words that stand for others in a game, told once and asked for later."""
  said = rng.sample(_WORDS, rng.choice((6, 8, 10, 12, 16)))
  pairs = list(zip(said[::2], said[1::2], strict=True))
  keep = ' '.join(f'{a} means {b}.' for a, b in pairs)
  again = []
  for _ in range(2):
    rng.shuffle(pairs)
    again.extend(pairs)
  form = rng.choice(('{a} means {b}.', '{a}? {b}.', '{a}: {b}'))
  return keep + '\n' + '\n'.join(form.format(a=a, b=b) for a, b in again)
