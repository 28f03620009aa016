"""The world: fixed by its seed, with every passage on one side."""

import collections
import random

import pytest

from flan_jax.microworld import language, velish, vocabulary
from flan_jax.microworld import world as world_lib
from flan_jax.microworld.world import SIDES, World


def test_a_world_is_a_function_of_its_seed():
  assert World(0).knowledge() == World(0).knowledge()
  assert World(0).knowledge() != World(1).knowledge()
  assert velish.lexicon(0) != velish.lexicon(1)


def test_no_word_is_in_two_groups():
  groups = (
    vocabulary.PEOPLE,
    vocabulary.TOWNS,
    tuple(vocabulary.TRADES),
    tuple(vocabulary.FOOD_KIND),
    tuple(vocabulary.ANIMAL_KIND),
    vocabulary.THINGS,
    vocabulary.COLOURS,
    vocabulary.PLACES,
    vocabulary.DAYS,
    tuple(vocabulary.MOOD_GROUP),
  )
  words = [word.lower() for group in groups for word in group]
  assert [word for word, n in collections.Counter(words).items() if n > 1] == []
  products = [trade.product for trade in vocabulary.TRADES.values()]
  tools = [trade.tool for trade in vocabulary.TRADES.values()]
  assert len(set(products)) == len(set(tools)) == len(vocabulary.TRADES)


def test_eight_of_ten_passages_are_for_training():
  world, rng = World(0), random.Random(3)
  sides = collections.Counter()
  for _ in range(2000):
    who = rng.choice(vocabulary.PEOPLE)
    facts = [world.fact(rng, relation, who) for relation in ('trade', 'home')]
    (side,) = (side for side in SIDES if world.tells(side, facts))
    assert world.tells(side, facts[::-1])  # the order of the facts is of no matter
    sides[side] += 1
  assert abs(sides['train'] / 2000 - 0.8) < 0.04
  assert abs(sides['test'] / 2000 - 0.1) < 0.03


def test_every_value_of_a_person_is_told_on_every_side():
  """Or a model would learn which ones are never told, and answer with those."""
  world, rng = World(0), random.Random(4)
  for side in SIDES:
    told = {
      fact.value
      for _ in range(8000)
      for fact in world.scene(rng, side=side, facts=(2,)).facts
      if (fact.relation, fact.subject) == ('home', 'Ada')
    }
    assert told == set(vocabulary.TOWNS)


@pytest.mark.parametrize('side', SIDES)
def test_a_scene_is_of_its_side(side):
  world, rng = World(0), random.Random(1)
  for _ in range(100):
    scene = world.scene(rng, side=side)
    assert 2 <= len(scene.facts) <= 4
    assert 1 <= len(scene.people) <= 2
    topics = [fact.topic for fact in scene.facts]
    assert len(set(topics)) == len(topics)
    assert world.tells(side, scene.facts)


@pytest.mark.parametrize('kind', language.KINDS)
def test_claims_are_of_their_kind(kind):
  world, rng = World(0), random.Random(2)
  for _ in range(60):
    scene, _, claim = language.draw_claim(world, rng, kind, side='test')
    topics = {fact.topic for fact in scene.facts}
    assert (claim.proposition in world.truths(scene)) == (kind == 'true')
    assert (claim.fact.topic in topics) == (kind != 'unsaid')
    assert world.tells('test', scene.facts)


def test_kinship_has_an_inverse():
  aunt = world_lib.Fact('kin', 'Ida', 'aunt', other='Rolf')
  nephew = world_lib.Fact('kin', 'Rolf', 'nephew', other='Ida')
  assert world_lib.inverse_kin(aunt) == 'nephew'
  assert World(0).propositions(aunt) == World(0).propositions(nephew)
