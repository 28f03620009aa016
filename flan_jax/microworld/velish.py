"""Velish, the second language: a lexicon and a word order."""

import functools
import random
from typing import NamedTuple

from flan_jax.microworld import vocabulary
from flan_jax.microworld.language import sentence
from flan_jax.microworld.world import World

NAME = 'Velish'
_ONSETS, _VOWELS = 'bdfgklmnprstvz', 'aeiou'

VERBS = ('buys', 'sells', 'sees', 'wants', 'finds', 'carries', 'paints', 'brings')
"""Verbs of the sentences that have a translation."""


@functools.cache
def lexicon(seed: int) -> dict[str, str]:
  """English word -> Velish word."""
  rng = random.Random(f'{seed}/lexicon')
  english = (
    *VERBS,
    *vocabulary.COLOURS,
    *vocabulary.THINGS,
    *vocabulary.FOOD_KIND,
    *vocabulary.DAYS,
  )
  syllables = [onset + vowel for onset in _ONSETS for vowel in _VOWELS]
  made: dict[str, str] = {}
  for word in english:
    while (new := ''.join(rng.sample(syllables, 2))) in made.values():
      pass
    made[word] = new
  return made


class Sentence(NamedTuple):
  """A sentence with a translation: subject, verb, object and day."""

  subject: str
  verb: str
  noun: str
  colour: str = ''
  day: str = ''

  def english(self) -> str:
    thing = f'a {self.colour} {self.noun}' if self.colour else self.noun
    when = f'on {self.day} ' if self.day else ''
    return sentence(f'{when}{self.subject} {self.verb} {thing}')

  def translated(self, seed: int) -> str:
    """Translates: the verb is last and the color follows the noun."""
    say = lexicon(seed)
    parts = (self.day, self.subject, self.noun, self.colour, self.verb)
    return sentence(' '.join(say.get(part, part) for part in parts if part))


def draw(world: World, rng: random.Random, *, side: str) -> Sentence:
  """Draws a sentence that texts of `side` may tell."""
  while True:
    subject = rng.choice(vocabulary.PEOPLE)
    verb = rng.choice(VERBS)
    day = rng.choice(vocabulary.DAYS) if rng.random() < 0.4 else ''
    if rng.random() < 0.6:
      noun, colour = rng.choice(vocabulary.THINGS), rng.choice(vocabulary.COLOURS)
    else:
      noun, colour = rng.choice(tuple(vocabulary.FOOD_KIND)), ''
    if world.side('does', subject, noun) == side:
      return Sentence(subject, verb, noun, colour, day)
