"""Implications of a sentence: a consequence, a cause, a category, a mood.

Both parts name the person, so they may stand apart: a reader has to match them by
person, not by position.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from flan_jax.microworld import commonsense, language, vocabulary
from flan_jax.microworld.language import pronoun
from flan_jax.microworld.world import World


class Implied(NamedTuple):
  """A statement and its implication, without capitals and full stops.

  Attributes:
    who: the person.
    given: the statement.
    follows: the implication; names the person.
    question: asks for the implication; '' if it is never asked.
    answer: the right answer.
    rivals: wrong answers.
  """

  who: str
  given: str
  follows: str
  question: str = ''
  answer: str = ''
  rivals: tuple[str, ...] = ()


ASKED = {
  'trade': 'what is {s} busy with',
  'home': 'what is near the house of {s}',
  'pet': 'what kind of animal has {s} got',
  'likes': 'what kind of food does {s} like',
  'hates': 'what kind of food does {s} hate',
}

VERDICTS = (
  ('{s} is pleased', '{s} is not pleased'),
  ('{s} has a good opinion of the {n}', '{s} has a bad opinion of the {n}'),
  ('{s} speaks well of the {n}', '{s} speaks ill of the {n}'),
  ('it is a good thing that {s} says', 'it is a bad thing that {s} says'),
  ('the report of {s} is good', 'the report of {s} is bad'),
  ('for {s} it is a good {n}', 'for {s} it is a bad {n}'),
)
"""(statement after praise, statement after blame)."""


def draw(world: World, rng: random.Random, who: str, *, side: str) -> Implied:
  """Draws an implication about `who` that texts of `side` may tell."""
  while True:
    kind = rng.choices((_happening, _conclusion, _mood, _opinion), (4, 6, 3, 2))[0]
    if made := kind(world, rng, who, side):
      return made


def conclusion_or_mood(
  world: World, rng: random.Random, who: str, *, side: str
) -> Implied | None:
  """Draws a conclusion or a restated mood of `who`; None if `side` has none."""
  return rng.choice((_conclusion, _mood))(world, rng, who, side)


def draw_asked(world: World, rng: random.Random, who: str, *, side: str) -> Implied:
  """Draws an implication with a question that `side` may ask."""
  while True:
    made = draw(world, rng, who, side=side)
    if made.question and world.side('?', made.question) == side:
      return made


def _happening(world: World, rng: random.Random, who: str, side: str):
  told = [
    index
    for index in range(len(commonsense.CAUSES))
    if world.side('cause', who, str(index)) == side
  ]
  if len(told) < 5:
    return None
  right, *wrong = rng.sample(told, 5)
  cause, effect = commonsense.CAUSES[right]
  she = pronoun(who)
  if rng.random() < 0.5:
    asked = rng.choice((f'what becomes of {who}', f'what happens to {who}'))
    return Implied(
      who,
      f'{who} {cause}',
      rng.choice((f'{who} {effect}', f'{who} {effect}', f'so {who} {effect}')),
      asked,
      f'{she} {effect}',
      tuple(f'{she} {commonsense.CAUSES[index][1]}' for index in wrong),
    )
  asked = rng.choice((f'why is it that {who} {effect}', f'why is that so with {who}'))
  return Implied(
    who,
    f'{who} {effect}',
    rng.choice((f'this is because {who} {cause}', f'the cause is that {who} {cause}')),
    asked,
    f'{she} {cause}',
    tuple(f'{she} {commonsense.CAUSES[index][0]}' for index in wrong),
  )


def _conclusion(world: World, rng: random.Random, who: str, side: str):
  relation = rng.choice(('trade', 'home', 'pet', 'taste'))
  fact = world.fact(rng, relation, who)
  words = language.words(world, fact)
  answer, values = {
    'trade': lambda: (
      words['product'],
      [trade.product for trade in vocabulary.TRADES.values()],
    ),
    'home': lambda: (words['feature'], vocabulary.FEATURES),
    'pet': lambda: (words['kind'], tuple(vocabulary.ANIMALS)),
    'taste': lambda: (words['kind'], tuple(vocabulary.FOODS)),
  }[relation]()
  rivals = [value for value in values if value != answer]
  return Implied(
    who,
    language.claim(world, fact, rng.randrange(3)).statement,
    language.claim(world, fact, 3).statement,
    ASKED[language.manner(fact)].format(s=who),
    answer,
    tuple(rng.sample(rivals, min(4, len(rivals)))),
  )


def _mood(world: World, rng: random.Random, who: str, side: str):
  fact = world.fact(rng, 'mood', who)
  group = vocabulary.MOOD_GROUP[fact.value]
  answer = rng.choice([mood for mood in group if mood != fact.value])
  others = [mood for mood in vocabulary.MOOD_GROUP if mood not in group]
  return Implied(
    who,
    f'{who} {rng.choice(("is", "feels"))} {fact.value}',
    f'{who} {rng.choice(("is", "feels"))} {answer}',
    f'how is {who} today',
    answer,
    tuple(rng.sample(others, 4)),
  )


def _opinion(world: World, rng: random.Random, who: str, side: str):
  good = rng.random() < 0.5
  said, noun = commonsense.opinion_of(world, rng, good=good, side=side)
  lead = rng.choice((f'{who} says that', f'{who} thinks that', f'{who} finds that'))
  verdict = rng.choice(VERDICTS)[not good]
  return Implied(who, f'{lead} {said}', verdict.format(s=who, n=noun))


def people(rng: random.Random, count: int) -> Sequence[str]:
  """`count` different people."""
  return rng.sample(vocabulary.PEOPLE, count)
