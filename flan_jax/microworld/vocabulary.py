"""The words of the microworld: people, trades, towns, foods, animals, things.

No word is in two groups, and nouns begin with a consonant, so that `a` fits them.
"""

from typing import NamedTuple


def words_of(text: str) -> tuple[str, ...]:
  """Splits a list of words at blanks."""
  return tuple(text.split())


WOMEN = words_of(
  """Ada Anna Bella Clara Dora Emma Fay Greta Hana Ida Jill Kate Lena Mia Nora
  Olga Petra Rosa Sara Vera"""
)
MEN = words_of(
  """Adam Ben Carl David Emil Felix Georg Hugo Ivan Jonas Karl Leo Max Noah Otto
  Peter Rolf Sam Theo Walter"""
)
PEOPLE = WOMEN + MEN


class Trade(NamedTuple):
  """A trade with its verb (`do`, `does`), product and tool."""

  do: str
  does: str
  product: str
  tool: str


TRADES = {
  'baker': Trade('make', 'makes', 'bread', 'an oven'),
  'barber': Trade('cut', 'cuts', 'hair', 'a comb'),
  'butcher': Trade('sell', 'sells', 'meat', 'a hook'),
  'cobbler': Trade('mend', 'mends', 'shoes', 'leather'),
  'farmer': Trade('grow', 'grows', 'wheat', 'a plough'),
  'fisher': Trade('catch', 'catches', 'herrings', 'a net'),
  'gardener': Trade('grow', 'grows', 'roses', 'a spade'),
  'mason': Trade('build', 'builds', 'walls', 'stone'),
  'painter': Trade('paint', 'paints', 'pictures', 'a brush'),
  'potter': Trade('make', 'makes', 'bowls', 'clay'),
  'smith': Trade('make', 'makes', 'nails', 'a hammer'),
  'tailor': Trade('sew', 'sews', 'coats', 'a needle'),
  'teacher': Trade('teach', 'teaches', 'children', 'chalk'),
  'writer': Trade('write', 'writes', 'letters', 'a pen'),
}
TOWNS = words_of(
  """Arden Belmar Corvale Dunmere Elmford Galden Kelso Lorne Norby Wexley"""
)
FEATURES = ('the sea', 'the river', 'the lake', 'the hills', 'the forest')
REGIONS = ('north', 'south', 'east', 'west')
FOODS = {
  'fruit': ('plums', 'pears', 'cherries', 'grapes'),
  'vegetable': ('carrots', 'beans', 'peas', 'leeks'),
  'sweet': ('honey', 'cakes', 'tarts'),
  'drink': ('tea', 'milk', 'cider'),
}
ANIMALS = {
  'dog': ('terrier', 'hound', 'poodle'),
  'bird': ('hen', 'duck', 'parrot', 'robin'),
  'horse': ('pony', 'mare', 'foal'),
  'fish': ('carp', 'trout', 'goldfish'),
}
THINGS = words_of(
  """hat lamp boat cart bell drum ball basket kite mirror chair box cup jug"""
)
COLOURS = words_of('red blue green yellow black white brown grey')
PLACES = words_of('mill market church bridge school inn park castle')
DAYS = words_of('Monday Tuesday Wednesday Thursday Friday Saturday Sunday')
MOODS = (
  ('happy', 'glad', 'cheerful'),
  ('sad', 'unhappy', 'gloomy'),
  ('angry', 'cross', 'furious'),
  ('tired', 'weary', 'sleepy'),
  ('afraid', 'scared', 'frightened'),
  ('calm', 'quiet', 'peaceful'),
)
RANKS = {
  'taller': ('shorter', 'tall'),
  'older': ('younger', 'old'),
  'richer': ('poorer', 'rich'),
  'faster': ('slower', 'fast'),
  'stronger': ('weaker', 'strong'),
}
DEALS = {
  'gives': ('give', 'gets', 'get'),
  'sells': ('sell', 'buys', 'buy'),
  'lends': ('lend', 'borrows', 'borrow'),
}
KIN = (
  # (female, male) word for the subject, (female, male) word for the other person
  (('sister', 'brother'), ('sister', 'brother')),
  (('mother', 'father'), ('daughter', 'son')),
  (('daughter', 'son'), ('mother', 'father')),
  (('aunt', 'uncle'), ('niece', 'nephew')),
  (('niece', 'nephew'), ('aunt', 'uncle')),
)

FOOD_KIND = {food: kind for kind, foods in FOODS.items() for food in foods}
ANIMAL_KIND = {beast: kind for kind, beasts in ANIMALS.items() for beast in beasts}
MOOD_GROUP = {mood: group for group in MOODS for mood in group}


def is_woman(name: str) -> bool:
  return name in WOMEN
