"""The world: common knowledge, and scenes with facts of their own.

Common knowledge (a baker makes bread, Norby lies by the sea) is fixed; closed-book
questions ask for it. Facts about people hold within a scene only, so that a reader has
to read the passage: another scene may give the same person another trade.

Every passage of two or more facts, and every question of common knowledge, belongs to one
side (train, dev or test), by a seeded hash. The pretraining text and the training examples
use those of train only. A single fact may occur on every side: were (person, value) pairs held out, a model
would learn by heart which values a person never has, and those would be the right ones.
"""

import dataclasses
import functools
import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from flan_jax.microworld import vocabulary

SIDES = ('train', 'dev', 'test')

ALONE = ('trade', 'home', 'pet', 'taste', 'belonging', 'mood', 'outing')
"""Relations of one person; a scene has at most one value of each for a person."""

PAIRED = ('kin', 'deal', 'rank')
"""Relations of two people; a scene has at most one."""


class Fact(NamedTuple):
  """A fact of a scene.

  Attributes:
    relation: one of ALONE or PAIRED.
    subject: a person.
    value: a trade, town, animal, food, colour, mood, place, kinship word, deal verb
      or comparative, by relation.
    detail: the thing that has the colour or changes hands; the day of an outing;
      `likes` or `hates` for a taste.
    other: the second person of a PAIRED relation.
  """

  relation: str
  subject: str
  value: str
  detail: str = ''
  other: str = ''

  @property
  def topic(self) -> tuple[str, ...]:
    """Relation and people; any other fact on a topic of the scene is untrue."""
    return (self.relation, *sorted(filter(None, (self.subject, self.other))))


Proposition = tuple[str, ...]
"""The meaning of a statement: equal for all its wordings."""


TIED = 0.2
"""Share of passages of two people and three facts or more that tell of both together."""

_Drawn = tuple[tuple[str, ...], tuple[Fact, ...]]
"""People, and facts of them."""


class Scene(NamedTuple):
  """The content of a short passage.

  Attributes:
    people: the people, in order.
    facts: the facts, in order: those of the first person first.
  """

  people: tuple[str, ...]
  facts: tuple[Fact, ...]

  def find(self, relation: str, subject: str) -> Fact | None:
    """The fact with that relation and person; None if not found."""
    for fact in self.facts:
      if fact.relation == relation and fact.subject == subject:
        return fact
    return None


@dataclasses.dataclass(frozen=True)
class World:
  """A seeded world: common knowledge, and the side of every combination.

  >>> World(0) == World(0), World(0).feature('Norby') in vocabulary.FEATURES
  (True, True)
  """

  seed: int = 0

  def feature(self, town: str) -> str:
    """The landscape feature that the town lies by."""
    return _lots(self.seed, 'feature', vocabulary.TOWNS, vocabulary.FEATURES)[town]

  def region(self, town: str) -> str:
    """The region that the town lies in."""
    return _lots(self.seed, 'region', vocabulary.TOWNS, vocabulary.REGIONS)[town]

  def side(self, *combination: str) -> str:
    """`train` (8 of 10 combinations), `dev` or `test` (1 of 10 each)."""
    return _side(self.seed, combination)

  def tells(self, side: str, facts: Iterable[Fact]) -> bool:
    """True if texts of that side may state these facts together."""
    told = sorted('/'.join(self.propositions(fact)[0]) for fact in facts)
    if len(told) < 2:
      return side == SIDES[0]
    return _side(self.seed, ('scene', *told)) == side

  def knowledge(self) -> tuple[tuple[str, str, str], ...]:
    """All common knowledge: (relation, subject, value)."""
    return (
      *(('makes', name, trade.product) for name, trade in vocabulary.TRADES.items()),
      *(('uses', name, trade.tool) for name, trade in vocabulary.TRADES.items()),
      *(('by', town, self.feature(town)) for town in vocabulary.TOWNS),
      *(('region', town, self.region(town)) for town in vocabulary.TOWNS),
      *(('food', food, kind) for food, kind in vocabulary.FOOD_KIND.items()),
      *(('animal', beast, kind) for beast, kind in vocabulary.ANIMAL_KIND.items()),
    )

  def propositions(self, fact: Fact) -> tuple[Proposition, ...]:
    """The fact as a proposition, followed by its conclusion if any."""
    relation, subject, value, detail, other = fact
    match relation:
      case 'trade':
        return (relation, subject, value), (
          'works at',
          subject,
          vocabulary.TRADES[value].product,
        )
      case 'home':
        return (relation, subject, value), ('lives by', subject, self.feature(value))
      case 'pet':
        return (relation, subject, value), (
          'keeps kind',
          subject,
          vocabulary.ANIMAL_KIND[value],
        )
      case 'taste':
        kind = vocabulary.FOOD_KIND[value]
        return (relation, subject, value, detail), (f'{detail} kind', subject, kind)
      case 'belonging':
        return (relation, subject, value, detail), ('owns', subject, detail)
      case 'mood':
        return ((relation, subject, vocabulary.MOOD_GROUP[value][0]),)
      case 'outing':
        return (relation, subject, value, detail), ('visits', subject, value)
      case 'kin':
        if subject > other:
          return ((relation, other, inverse_kin(fact), subject),)
        return ((relation, subject, value, other),)
    return ((relation, subject, value, other, detail),)

  def truths(self, scene: Scene) -> frozenset[Proposition]:
    """All true propositions of the scene."""
    return frozenset(p for fact in scene.facts for p in self.propositions(fact))

  def fact(
    self, rng: random.Random, relation: str, subject: str, *, other: str = ''
  ) -> Fact:
    """Draws a fact of that relation."""
    return rng.choice(_all(relation, subject, other))

  def scene(
    self, rng: random.Random, *, side: str, facts: Sequence[int] = (2, 3, 3, 4)
  ) -> Scene:
    """Draws a scene of one or two people and (by default) two to four facts.

    Two people mostly share a relation, so that a reader has to tell them apart.

    Args:
      rng: draws the scene.
      side: the side that may tell it.
      facts: the number of facts is drawn from these.
    """
    while True:
      total = rng.choice(facts)
      if total == 1 or rng.random() < 0.33:
        people, told = self._alone(rng, total)
      else:
        people, told = self._two(rng, total)
      if self.tells(side, told):
        return Scene(people, told)

  def _alone(self, rng: random.Random, total: int) -> _Drawn:
    name = rng.choice(vocabulary.PEOPLE)
    relations = rng.sample(ALONE, total)
    return (name,), tuple(self.fact(rng, relation, name) for relation in relations)

  def _two(self, rng: random.Random, total: int) -> _Drawn:
    tie = rng.choice(PAIRED) if total > 2 and rng.random() < TIED else None
    names = tuple(rng.sample(vocabulary.PEOPLE, 2))
    told = []
    if tie:
      told.append(self.fact(rng, tie, names[0], other=names[1]))
      total -= 1
    shared = rng.choice(ALONE)
    mine, yours = [shared], [shared if rng.random() < 0.7 else rng.choice(ALONE)]
    while len(mine) + len(yours) < total:
      more = rng.choice((mine, yours))
      more.append(rng.choice([r for r in ALONE if r not in more]))
    for name, relations in zip(names, (mine, yours), strict=True):
      told.extend(self.fact(rng, relation, name) for relation in relations)
    return names, tuple(told)

  def untrue(
    self, rng: random.Random, fact: Fact, scene: Scene, *, crossed: bool
  ) -> Fact | None:
    """Draws another fact on the same topic: a candidate for an untrue claim.

    `crossed` takes it from the scene: a fact about the other person, or the two people
    swapped; None if the scene has neither. The caller checks the candidate against
    `truths`.
    """
    if crossed or fact.relation == 'rank':
      if fact.other:
        turned = fact._replace(subject=fact.other, other=fact.subject)
        if fact.relation == 'kin':
          words = next(whose for whose, _ in vocabulary.KIN if fact.value in whose)
          turned = turned._replace(value=words[not vocabulary.is_woman(fact.other)])
        return turned
      for told in scene.facts:
        if told.relation == fact.relation and told.subject != fact.subject:
          return told._replace(subject=fact.subject)
      return None
    drawn = self.fact(rng, fact.relation, fact.subject, other=fact.other)
    match fact.relation:
      case 'taste' if rng.random() < 0.4:
        return fact._replace(detail='hates' if fact.detail == 'likes' else 'likes')
      case 'taste':
        return fact._replace(value=drawn.value)
      case 'belonging' if rng.random() < 0.6:
        return fact._replace(value=drawn.value)
      case 'outing' if rng.random() < 0.3:
        return fact._replace(detail=drawn.detail)
      case 'deal':
        return fact._replace(detail=drawn.detail)
    return drawn


def _all_facts(relation: str, subject: str, other: str) -> Iterator[Fact]:
  values, details = {
    'trade': (vocabulary.TRADES, ('',)),
    'home': (vocabulary.TOWNS, ('',)),
    'pet': (vocabulary.ANIMAL_KIND, ('',)),
    'taste': (vocabulary.FOOD_KIND, ('likes', 'hates')),
    'belonging': (vocabulary.COLOURS, vocabulary.THINGS),
    'mood': (vocabulary.MOOD_GROUP, ('',)),
    'outing': (vocabulary.PLACES, vocabulary.DAYS),
    'kin': (
      [words[0][not vocabulary.is_woman(subject)] for words in vocabulary.KIN],
      ('',),
    ),
    'deal': (vocabulary.DEALS, vocabulary.THINGS),
    'rank': (vocabulary.RANKS, ('',)),
  }[relation]
  for value in values:
    for detail in details:
      yield Fact(relation, subject, value, detail, other)


@functools.lru_cache(maxsize=1 << 12)
def _all(relation: str, subject: str, other: str) -> tuple[Fact, ...]:
  return tuple(_all_facts(relation, subject, other))


@functools.lru_cache(maxsize=64)
def _lots(seed: int, what: str, keys: Sequence[str], values: Sequence[str]):
  drawn = [values[i % len(values)] for i in range(len(keys))]
  random.Random(f'{seed}/{what}').shuffle(drawn)
  return dict(zip(keys, drawn, strict=True))


@functools.lru_cache(maxsize=1 << 18)
def _side(seed: int, combination: tuple[str, ...]) -> str:
  text = '/'.join((str(seed), *combination))
  tenth = hashlib.blake2b(text.encode(), digest_size=4).digest()
  number = int.from_bytes(tenth, 'little') % 10
  return SIDES[number + 1] if number < 2 else SIDES[0]


def inverse_kin(fact: Fact) -> str:
  """The kinship of `other` to `subject`: `niece` if the subject is an aunt."""
  for whose, to_whom in vocabulary.KIN:
    if fact.value in whose:
      return to_whom[not vocabulary.is_woman(fact.other)]
  raise ValueError(f'kinship {fact.value!r}: unknown')
