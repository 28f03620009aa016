"""Common sense of the microworld: causes, motives, good and bad.

Phrases follow a name: `{s}` falls into the river, so `{s}` is wet. No phrase occurs
twice, so that one cause has one effect.
"""

import random
from typing import NamedTuple

from flan_jax.microworld import language, vocabulary
from flan_jax.microworld.world import World

CAUSES = (
  ('falls into the river', 'is wet'),
  ('eats nothing all day', 'gets very hungry'),
  ('works all night', 'wants to sleep'),
  ('loses the key', 'cannot open the door'),
  ('drops the cup', 'sweeps the floor'),
  ('wins the race', 'gets a prize'),
  ('sees a wolf', 'runs away'),
  ('hears a joke', 'laughs'),
  ('cuts a finger', 'needs a bandage'),
  ('eats too many cakes', 'feels sick'),
  ('misses the train', 'comes late'),
  ('lights the fire', 'has a warm room'),
  ('waters the roses', 'has a fine garden'),
  ('breaks a leg', 'walks with a stick'),
  ('sits in the sun', 'has a red face'),
  ('goes out without a coat', 'catches a cold'),
  ('finds a purse', 'looks for the owner'),
  ('reads in the dark', 'has sore eyes'),
  ('leaves the gate open', 'loses the sheep'),
  ('plays in the mud', 'has dirty shoes'),
  ('runs too fast', 'falls down'),
  ('saves money', 'buys a house'),
  ('hears loud drums', 'covers both ears'),
  ('burns the soup', 'opens the window'),
  ('sees a sad play', 'weeps'),
  ('gets a letter', 'writes an answer'),
  ('has a birthday', 'gets presents'),
  ('learns every day', 'passes the test'),
  ('smells the pepper', 'sneezes'),
  ('steps on a nail', 'has a hole in the shoe'),
  ('loses the map', 'takes the wrong road'),
  ('spills the ink', 'has black hands'),
  ('works in the heat', 'drinks cold water'),
  ('hears the thunder', 'shuts the door'),
  ('does a good deed', 'gets much thanks'),
  ('tells a lie', 'is ashamed'),
)
"""(cause, effect), each a phrase that follows a person's name."""

TIES = (
  ('gives bread to', 'is generous', 'is hungry'),
  ('thanks', 'needed help', 'was helpful'),
  ('asks the way of', 'is lost', 'knows the road'),
  ('visits', 'is kind', 'is ill'),
  ('pays', 'has hired help', 'has done the work'),
  ('laughs at', 'is rude', 'is funny'),
  ('hides from', 'is timid', 'is fierce'),
  ('teaches', 'knows a lot', 'wants to learn'),
  ('forgives', 'is patient', 'is sorry'),
  ('borrows money from', 'is poor', 'is rich'),
  ('carries', 'is strong', 'is lame'),
  ('wakes', 'is up early', 'has slept too long'),
  ('beats', 'runs quickly', 'runs slowly'),
  ('scolds', 'is strict', 'has been naughty'),
  ('believes', 'is trusting', 'never lies'),
  ('saves', 'can swim', 'fell into the lake'),
)
"""(verb, reason of the first person, reason that concerns the second)."""

OPINION_NOUNS = tuple(
  [
    'soup',
    'play',
    'song',
    'room',
    'story',
    'show',
    'dance',
    'dinner',
    'journey',
    'tale',
    'garden',
    'party',
    'music',
    'wine',
    'view',
    'feast',
  ]
)
GOOD = tuple(
  [
    'lovely',
    'splendid',
    'charming',
    'wonderful',
    'excellent',
    'fine',
    'delightful',
    'pleasant',
  ]
)
BAD = tuple(
  ['awful', 'dreadful', 'horrid', 'dull', 'terrible', 'nasty', 'dreary', 'rotten']
)
PRAISE = (
  'everybody is pleased',
  'nobody wants to leave',
  'people come back for more',
  'it is worth the money',
)
BLAME = (
  'everybody is bored',
  'nobody wants to stay',
  'people ask for the money back',
  'it is a waste of time',
)


def adjective(world: World, rng: random.Random, noun: str, *, good: bool, side: str):
  """An adjective for `noun` that texts of `side` may use; None if not found."""
  legal = [
    word
    for word in (GOOD if good else BAD)
    if world.side('opinion', noun, word) == side
  ]
  return rng.choice(legal) if legal else None


def opinion(world: World, rng: random.Random, *, good: bool, side: str) -> str:
  """One sentence of praise or blame, without capital and full stop."""
  return opinion_of(world, rng, good=good, side=side)[0]


def opinion_of(
  world: World, rng: random.Random, *, good: bool, side: str
) -> tuple[str, str]:
  """One sentence of praise or blame, and the noun it is about."""
  while True:
    noun = rng.choice(OPINION_NOUNS)
    word = adjective(world, rng, noun, good=good, side=side)
    opposite = adjective(world, rng, noun, good=not good, side=side)
    if word and opposite:
      break
  patterns = (
    f'the {noun} is {word}',
    f'the {noun} is {word} and {rng.choice(PRAISE if good else BLAME)}',
    f'it is a {word} {noun}',
    f'the {noun} is not {opposite} but {word}',
    f'{rng.choice(PRAISE if good else BLAME)}, for the {noun} is {word}',
  )
  return rng.choice(patterns), noun


class Tale(NamedTuple):
  """A short story of one errand, and its summary."""

  subject: str
  other: str
  day: str
  place: str
  colour: str
  thing: str
  verb: str

  def title(self) -> str:
    return f'{self.subject} and the {self.thing}'

  def long(self, rng: random.Random) -> str:
    """Three or four sentences."""
    she, her = ('she', 'her') if vocabulary.is_woman(self.subject) else ('he', 'him')
    start = rng.choice(
      (
        f'On {self.day} {self.subject} goes to the {self.place}.',
        f'{self.subject} goes to the {self.place} on {self.day}.',
        f'It is {self.day}, and {self.subject} is at the {self.place}.',
      )
    )
    middle = rng.choice(
      (
        f'There {self.other} meets {her}.',
        f'{self.other} is there too.',
        f'There {she} meets {self.other}.',
      )
    )
    deed = f'{she.capitalize()} {self.verb} a {self.colour} {self.thing} {_WAY[self.verb]} {self.other}.'
    end = rng.choice(
      (
        f'Then {she} goes home.',
        'The day is warm and long.',
        f'Both are pleased with the {self.thing}.',
        'Then it begins to rain.',
      )
    )
    return ' '.join((start, middle, deed, end))

  def short(self) -> str:
    """Summarizes the story in one sentence."""
    return (
      f'{self.subject} {self.verb} a {self.thing} {_WAY[self.verb]} {self.other} '
      f'at the {self.place}.'
    )


_WAY = {
  'buys': 'from',
  'borrows': 'from',
  'gets': 'from',
  'sells': 'to',
  'shows': 'to',
  'lends': 'to',
}


def tale(world: World, rng: random.Random, *, side: str) -> Tale:
  """Draws a tale that texts of `side` may tell."""
  while True:
    subject, other = rng.sample(vocabulary.PEOPLE, 2)
    drawn = Tale(
      subject,
      other,
      rng.choice(vocabulary.DAYS),
      rng.choice(vocabulary.PLACES),
      rng.choice(vocabulary.COLOURS),
      rng.choice(vocabulary.THINGS),
      rng.choice(tuple(_WAY)),
    )
    if world.side('tale', subject, drawn.thing) == side:
      return drawn


def known(rng: random.Random, relation: str, subject: str, value: str) -> str:
  """A sentence that states a piece of common knowledge."""
  match relation:
    case 'makes':
      trade = vocabulary.TRADES[subject]
      patterns = (
        f'a {subject} {trade.does} {value}',
        f'it is the work of a {subject} to {trade.do} {value}',
        f'if you want someone to {trade.do} {value}, go to a {subject}',
      )
    case 'uses':
      patterns = (
        f'a {subject} works with {value}',
        f'a {subject} needs {value}',
        f'for the work of a {subject} you need {value}',
      )
    case 'by':
      patterns = (
        f'{subject} lies by {value}',
        f'the town of {subject} lies by {value}',
        f'in {subject} you are always near {value}',
      )
    case 'region':
      patterns = (
        f'{subject} is a town in the {value}',
        f'{subject} lies in the {value} of the land',
        f'to get to {subject}, go {value}',
      )
    case 'food':
      mass = subject in ('honey', 'tea', 'milk', 'cider', 'coffee')
      patterns = (
        f'{subject} {"is" if mass else "are"} a kind of {value}',
        f'who likes {subject} likes a kind of {value}',
      )
    case _:
      patterns = (
        f'a {subject} is a kind of {value}',
        f'who keeps a {subject} keeps a kind of {value}',
      )
  return language.sentence(rng.choice(patterns))


def asks(
  rng: random.Random, relation: str, subject: str, value: str, *, back: bool = False
) -> str:
  """A question of common knowledge, without capital; `back` asks for the subject."""
  match relation:
    case 'makes':
      trade = vocabulary.TRADES[subject]
      if back:
        return rng.choice((f'who {trade.does} {value}', f'whose work is {value}'))
      return rng.choice(
        (f'what does a {subject} {trade.do}', f'what is the work of a {subject}')
      )
    case 'uses':
      if back:
        return rng.choice((f'who works with {value}', f'who needs {value} for work'))
      return rng.choice(
        (f'what does a {subject} work with', f'what does a {subject} need for work')
      )
    case 'by':
      return rng.choice((f'what does {subject} lie by', f'what is {subject} near'))
    case 'region':
      return rng.choice(
        (f'in what part of the land is {subject}', f'where in the land is {subject}')
      )
    case 'food':
      return rng.choice((f'what kind of food is {subject}', f'{subject}: what kind'))
  return rng.choice((f'what kind of animal is a {subject}', f'a {subject}: what kind'))


def happening(world: World, rng: random.Random, *, side: str) -> tuple[str, int]:
  """Draws a person and the index of a cause, a combination of `side`."""
  while True:
    who, index = rng.choice(vocabulary.PEOPLE), rng.randrange(len(CAUSES))
    if world.side('cause', who, str(index)) == side:
      return who, index


def tied(world: World, rng: random.Random, *, side: str):
  """Draws two people and the index of a tie, a combination of `side`."""
  while True:
    first, second = rng.sample(vocabulary.PEOPLE, 2)
    index = rng.randrange(len(TIES))
    if world.side('tie', first, second, str(index)) == side:
      return (first, second), index


def errand(world: World, rng: random.Random, *, side: str):
  """Draws a person, a thing and a place, shuffled, and three sentences with them."""
  while True:
    who, thing = rng.choice(vocabulary.PEOPLE), rng.choice(vocabulary.THINGS)
    if world.side('errand', who, thing) == side:
      break
  place = rng.choice(vocabulary.PLACES)
  concepts = [who, thing, place]
  rng.shuffle(concepts)
  return concepts, (
    f'{who} takes the {thing} to the {place}.',
    f'{who} brings a {thing} to the {place}.',
    f'{who} goes to the {place} with a {thing}.',
  )
