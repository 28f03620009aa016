"""The words of the world: people, trades, towns, foods, animals, things.

No word stands in two groups, and nouns begin with a consonant, so that `a` fits them.
"""

from typing import NamedTuple


def words_of(text: str) -> tuple[str, ...]:
  """The words of a blank-separated list."""
  return tuple(text.split())


WOMEN = words_of(
  """Ada Anna Bella Berta Cara Clara Dina Dora Edda Ella Elsa Emma Fay Flora Gina
  Greta Hana Hilda Ida Ines Jana Jill Julia Karin Kate Lena Lina Lotte Mara Maud Mia
  Mina Nell Nina Nora Olga Paula Petra Rita Rosa Ruth Sara Selma Tessa Tilda Una Vera
  Wanda"""
)
MEN = words_of(
  """Adam Alan Axel Ben Bruno Carl Conrad David Denis Edgar Emil Erik Felix Fred
  Georg Gus Hans Harald Henry Hugo Igor Ivan Jakob Jonas Karl Kurt Lars Leo Luis
  Magnus Marco Max Nils Noah Olaf Oscar Otto Peter Ralf Rolf Sam Sven Theo Tim Tobias
  Tomas Victor Walter"""
)
PEOPLE = WOMEN + MEN


class Trade(NamedTuple):
  """A trade: `do`/`does` is its verb, `product` what it works at, `tool` its tool."""

  do: str
  does: str
  product: str
  tool: str


TRADES = {
  'baker': Trade('make', 'makes', 'bread', 'an oven'),
  'barber': Trade('cut', 'cuts', 'hair', 'a comb'),
  'brewer': Trade('make', 'makes', 'beer', 'a kettle'),
  'butcher': Trade('sell', 'sells', 'meat', 'a hook'),
  'carpenter': Trade('make', 'makes', 'doors', 'a saw'),
  'chandler': Trade('make', 'makes', 'candles', 'wax'),
  'cobbler': Trade('mend', 'mends', 'shoes', 'leather'),
  'cooper': Trade('make', 'makes', 'barrels', 'a hoop'),
  'doctor': Trade('heal', 'heals', 'sick people', 'medicine'),
  'farmer': Trade('grow', 'grows', 'wheat', 'a plough'),
  'fisher': Trade('catch', 'catches', 'herrings', 'a net'),
  'gardener': Trade('grow', 'grows', 'roses', 'a spade'),
  'hunter': Trade('hunt', 'hunts', 'deer', 'a bow'),
  'jeweller': Trade('make', 'makes', 'rings', 'gold'),
  'mason': Trade('build', 'builds', 'walls', 'stone'),
  'miller': Trade('grind', 'grinds', 'flour', 'a sack'),
  'painter': Trade('paint', 'paints', 'pictures', 'a brush'),
  'potter': Trade('make', 'makes', 'bowls', 'clay'),
  'printer': Trade('print', 'prints', 'books', 'a press'),
  'saddler': Trade('make', 'makes', 'saddles', 'a strap'),
  'sailor': Trade('sail', 'sails', 'ships', 'a compass'),
  'shepherd': Trade('tend', 'tends', 'sheep', 'a crook'),
  'singer': Trade('sing', 'sings', 'songs', 'a good voice'),
  'smith': Trade('make', 'makes', 'nails', 'a hammer'),
  'tailor': Trade('sew', 'sews', 'coats', 'a needle'),
  'teacher': Trade('teach', 'teaches', 'children', 'chalk'),
  'weaver': Trade('weave', 'weaves', 'cloth', 'a loom'),
  'writer': Trade('write', 'writes', 'letters', 'a pen'),
}
TOWNS = words_of(
  """Arden Belmar Corvale Dunmere Elmford Farrow Galden Hartwick Ivydale Kelso Lorne
  Marden Norby Oakham Penrith Quarn Redcliff Sandwell Thorne Wexley"""
)
FEATURES = ('the sea', 'the river', 'the lake', 'the hills', 'the forest')
REGIONS = ('north', 'south', 'east', 'west')
FOODS = {
  'fruit': ('plums', 'pears', 'apples', 'cherries', 'figs', 'grapes'),
  'vegetable': ('carrots', 'beans', 'peas', 'leeks', 'onions', 'turnips'),
  'sweet': ('honey', 'cakes', 'buns', 'tarts'),
  'nut': ('walnuts', 'almonds', 'chestnuts', 'hazelnuts'),
  'drink': ('tea', 'milk', 'cider', 'coffee'),
}
ANIMALS = {
  'dog': ('terrier', 'hound', 'poodle', 'spaniel'),
  'bird': ('hen', 'duck', 'goose', 'parrot', 'robin'),
  'horse': ('pony', 'mare', 'foal', 'stallion'),
  'fish': ('carp', 'trout', 'goldfish'),
  'cat': ('kitten', 'tabby'),
  'snake': ('viper', 'python'),
}
THINGS = words_of(
  """hat lamp boat cart bell drum ball bag basket scarf kite mirror ladder blanket
  chair box cup jug key flute belt cap sled tent"""
)
COLOURS = words_of('red blue green yellow black white brown grey pink purple')
PLACES = words_of(
  'mill market church bridge harbour school inn library park well castle station'
)
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
  # (woman, man) who is it, (woman, man) to whom
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
