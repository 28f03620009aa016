"""The pretraining text: the microworld in plain prose, without instructions.

A document is one of a dozen kinds: beliefs and whether they are right, talk,
restatements, common knowledge, causes, opinions, notices in two languages, stories with
titles, and questions on all this with their answers, free or chosen from a list. It
uses train combinations only (`World.side`) and asks no question that another side asks.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from flan_jax.microworld import commonsense, implied, language, velish, vocabulary
from flan_jax.microworld.language import Claim, pronoun, question, sentence
from flan_jax.microworld.world import Fact, Scene, World

SIDE = 'train'

VERDICTS = {
  'true': ('{she} is right', 'that is true', 'yes', 'that follows'),
  'untrue': ('{she} is wrong', 'that is false', 'no', 'that does not follow'),
  'unsaid': ('{she} cannot know', 'nobody knows', 'it does not say', 'it may be so'),
}
"""Kind of claim -> verdicts on a belief in it."""


def documents(seed: int = 0, *, count: int) -> Iterator[str]:
  """Yields `count` documents; document i is a function of the seed and i alone."""
  world = World(seed)
  for index in range(count):
    rng = random.Random(f'{seed}/corpus/{index}')
    kinds = DRILLS if index < FIRST and rng.random() < 0.7 else KINDS
    kind = rng.choices(*zip(*kinds, strict=True))[0]
    yield kind(world, rng)


def _stranger(rng: random.Random, people: Sequence[str]) -> str:
  while (name := rng.choice(vocabulary.PEOPLE)) in people:
    pass
  return name


def _passage(world: World, rng: random.Random) -> tuple[Scene, tuple[str, ...]]:
  """A passage, sometimes of a single fact: easy passages are learned first."""
  scene = world.scene(rng, side=SIDE, facts=(1, 1, 2, 2, 2, 3, 3, 4))
  return scene, language.tell(world, rng, scene)


def _claims(world: World, rng: random.Random, count: int, shares: tuple[float, ...]):
  """A passage and up to `count` (kind, claim) on it, kinds drawn by `shares`."""
  scene, told = _passage(world, rng)
  made, said = [], set()
  for _ in range(count):
    kind = rng.choices(language.KINDS, shares)[0]
    crossed, read, claim = rng.random() < 0.3, told, None
    for _ in range(4):  # a repeated claim is better than fewer of one kind
      drawn = language.claim_on(
        world, rng, scene, kind, side=SIDE, told=read, crossed=crossed
      )
      crossed, read, claim = False, (), drawn or claim
      if drawn and drawn.statement not in said:
        break
    if claim:
      said.add(claim.statement)
      made.append((kind, claim))
  return scene, told, made


def _restated(world: World, rng: random.Random, fact: Fact) -> str:
  claim = language.says(world, rng, fact, side=SIDE)
  return claim.statement if claim else language.claim(world, fact, 0).statement


def _instead(world: World, rng: random.Random, scene: Scene, wrong: Claim) -> str:
  """The fact that is true instead of `wrong`."""
  for fact in scene.facts:
    if fact.topic == wrong.fact.topic:
      return _restated(world, rng, fact)
  return ''


def beliefs(world: World, rng: random.Random) -> str:
  """A passage, and right and wrong beliefs of people about it."""
  count = rng.choice((3, 4, 5, 6))
  scene, told, claims = _claims(world, rng, count, (0.46, 0.46, 0.08))
  out = [*told]
  for kind, said in claims:
    who = _stranger(rng, scene.people)
    she = pronoun(who)
    out.append(
      rng.choice(
        (
          f'{who} thinks that {said.statement}.',
          f'{who} believes that {said.statement}.',
          f'{who} says: {sentence(said.statement)}',
          f'{who} has heard this: {sentence(said.statement)}',
        )
      )
    )
    verdict = rng.choice(VERDICTS[kind]).format(she=she)
    instead = _instead(world, rng, scene, said) if kind == 'untrue' else ''
    if instead and rng.random() < 0.3:
      verdict = f'{verdict}, for {instead}'
    out.append(sentence(verdict))
  return ' '.join(out)


def talk(world: World, rng: random.Random) -> str:
  """A passage, and two people who ask and answer about it."""
  count = rng.choice((2, 3, 4))
  scene, told, claims = _claims(world, rng, count, (0.47, 0.47, 0.06))
  asker = _stranger(rng, scene.people)
  answerer = _stranger(rng, (*scene.people, asker))
  pairs = []
  for kind, said in claims:
    if kind == 'unsaid':
      asked, answer = language.ask(world, rng, said.fact)[0], 'it does not say'
    else:
      asked, answer = said.question, 'yes' if kind == 'true' else 'no'
      instead = _instead(world, rng, scene, said)
      if kind == 'untrue' and instead and rng.random() < 0.3:
        answer = f'no, {instead}'
    pairs.append((asked, answer))
  asked, answer = language.ask(world, rng, rng.choice(scene.facts))
  listed = [answer, *language.rivals(rng, answer, rng.choice((1, 2, 3)))]
  offered = f', {_either(rng, listed)}' if rng.random() < 0.4 else ''
  pairs.insert(rng.randrange(len(pairs) + 1), (asked + offered, answer))
  lines = rng.random() < 0.4
  out = [' '.join(told)]
  for asked, answer in pairs:
    if world.side('?', asked.split(',')[0]) == SIDE:
      reply = answer if lines else f'{answerer} answers: {answer}.'
      out.append(f'{asker} asks: {question(asked)}{_GAP[lines]}{reply}')
  return _GAP[lines].join(out)


_GAP = (' ', '\n')


def _either(rng: random.Random, answers: list[str]) -> str:
  rng.shuffle(answers)
  return ', '.join(answers[:-1]) + f' or {answers[-1]}'


def inventory(world: World, rng: random.Random) -> str:
  """A list, and which words are on it: the simplest truths."""
  group = rng.choice(language.GROUPS)
  words = rng.sample(group, 7)
  count = rng.choice((2, 3, 4))
  inside, outside = words[:count], words[count:]
  holder = rng.choice(('On the list', 'In the book', 'On the wall'))
  lead = rng.choice(('{w}?', 'Is it {w}?', 'It is {w}.', 'There is {w}.'))
  right, wrong = rng.choice(
    (('Yes.', 'No.'), ('True.', 'False.'), ('Right.', 'Wrong.'), ('yes', 'no'))
  )
  out = [f'{holder}: {", ".join(inside)}.']
  for _ in range(rng.choice((4, 5, 6, 7))):
    there = rng.random() < 0.5
    word = rng.choice(inside if there else outside)
    out.append(f'{lead.format(w=word)} {right if there else wrong}')
  return ('\n' if right == 'yes' else ' ').join(out)


def rhyme(world: World, rng: random.Random) -> str:
  """A long sequence of arbitrary words, repeated once."""
  said = rng.sample(_WORDS, rng.choice((8, 12, 16, 20, 24)))
  between = ' '
  line = between.join(said)
  return rng.choice((f'{line}{between}{line}', f'{line}.\n{line}.'))


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


def word_order(world: World, rng: random.Random) -> str:
  """A list of words, and questions about their order."""
  said = rng.sample(_WORDS, rng.choice((2, 3, 4, 5)))
  out = [f'* {word}' for word in said]
  for _ in range(4):
    where = rng.randrange(len(said))
    asked = [('first', said[0]), ('last', said[-1])]
    if where:
      asked.append((f'before {said[where]}', said[where - 1]))
    if where + 1 < len(said):
      asked.append((f'after {said[where]}', said[where + 1]))
    place, word = rng.choice(asked)
    out.append(f'{place.capitalize()}:\n{word}')
  return '\n'.join(out)


_WORDS = tuple(
  dict.fromkeys(
    (
      *vocabulary.PEOPLE,
      *vocabulary.TRADES,
      *vocabulary.TOWNS,
      *vocabulary.FOOD_KIND,
      *vocabulary.ANIMAL_KIND,
      *vocabulary.THINGS,
      *vocabulary.COLOURS,
      *vocabulary.PLACES,
      *vocabulary.DAYS,
      *vocabulary.MOOD_GROUP,
      *commonsense.GOOD,
      *commonsense.BAD,
      *commonsense.OPINION_NOUNS,
      *vocabulary.words_of(
        """good bad yes no true false right wrong well ill pleased happy kind same
        other first last one two person place time animal food colour thing word
        question answer story line report opinion cause reason end"""
      ),
    )
  )
)


def lists(world: World, rng: random.Random) -> str:
  """A passage, several answers, and the one that is right."""
  scene, told = _passage(world, rng)
  asked, answer = language.ask(world, rng, rng.choice(scene.facts))
  if world.side('?', asked) != SIDE:
    return ' '.join(told)
  return ' '.join(told) + _choice(rng, asked, answer, language.rivals(rng, answer, 3))


def quiz(world: World, rng: random.Random) -> str:
  """Facts about several people, and multiple-choice questions on implications."""
  who = implied.people(rng, rng.choice((1, 1, 2, 3)))
  asked = implied.draw_asked(world, rng, who[0], side=SIDE)
  told = [asked, *(implied.draw(world, rng, name, side=SIDE) for name in who[1:])]
  rng.shuffle(told)
  text = ' '.join(sentence(piece.given) for piece in told)
  return text + _choice(rng, asked.question, asked.answer, asked.rivals)


def school(world: World, rng: random.Random) -> str:
  """Questions of common knowledge, without those of the other sides."""
  knowledge, out = world.knowledge(), []
  while len(out) < 3:
    relation, subject, value = rng.choice(knowledge)
    if world.side('ask', relation, subject) == SIDE:
      asked = commonsense.asks(rng, relation, subject, value)
      values = {v for r, _, v in knowledge if r == relation and v != value}
      out.append(_choice(rng, asked, value, sorted(values)).lstrip())
  return '\n'.join(out)


def _choice(rng: random.Random, asked: str, answer: str, wrong: Sequence[str]) -> str:
  """The question, its options, and the right one."""
  listed = [answer, *rng.sample(wrong, min(len(wrong), rng.choice((1, 2, 3))))]
  rng.shuffle(listed)
  if rng.random() < 0.5:
    spelled, picked = [sentence(text) for text in listed], sentence(answer)
  else:
    spelled, picked = listed, answer
  lines = '\n'.join(f'* {text}' for text in spelled)
  match rng.randrange(6):
    case 0:
      who = rng.choice(vocabulary.PEOPLE)
      ending = rng.choice(('The right one is', 'The true one is', f'{who} takes'))
      return f'\n{question(asked)}\n{lines}\n{ending}:\n{picked}'
    case 1:
      return f' {question(asked)}\n{lines}\n\n{picked}'
    case 2:
      return f' {question(asked)} {sentence(_either(rng, listed))} {sentence(answer)}'
    case 3:
      return f'\n{lines}\n{question(asked)}\n{picked}'
    case 4:
      lead, reply = rng.sample(vocabulary.PEOPLE, 2)
      either = _either(rng, listed)
      return (
        f' {lead} asks: {question(f"{asked}, {either}")} {reply} answers: {answer}.'
      )
  return f' {question(asked)} {sentence(answer)}'


def day(world: World, rng: random.Random) -> str:
  """Facts about many people; then, in another order, their implications."""
  told = [
    implied.draw(world, rng, name, side=SIDE)
    for name in implied.people(rng, rng.choice((2, 3, 3, 4, 5)))
  ]
  out = [sentence(piece.given) for piece in told]
  rng.shuffle(told)
  out.extend(sentence(piece.follows) for piece in told)
  return ' '.join(out)


def portrait(world: World, rng: random.Random) -> str:
  """A passage, said again in other words."""
  scene, told = _passage(world, rng)
  again = [sentence(_restated(world, rng, fact)) for fact in scene.facts]
  if rng.random() < 0.5:
    return f'{" ".join(told)} In other words: {" ".join(again)}'
  pairs = zip(told, again, strict=True)
  return ' '.join(f'{a} That is: {b}' for a, b in pairs)


def conclusions(world: World, rng: random.Random) -> str:
  """A passage, with claims that follow from it and claims that do not."""
  _, told, claims = _claims(world, rng, 4, (0.5, 0.5, 0))
  leads = {
    'true': ('So', 'It follows that'),
    'untrue': ('It is false that', 'It does not follow that'),
  }
  drawn = (f'{rng.choice(leads[kind])} {said.statement}.' for kind, said in claims)
  return ' '.join((*told, *drawn))


def knowledge(world: World, rng: random.Random) -> str:
  """Three pieces of common knowledge."""
  facts = rng.sample(world.knowledge(), 3)
  return ' '.join(commonsense.known(rng, *fact) for fact in facts)


def example(world: World, rng: random.Random) -> str:
  """The implication of a fact, with the common knowledge that it needs."""
  out = []
  for relation in rng.sample(('trade', 'home', 'pet', 'taste'), 2):
    while True:
      fact = world.fact(rng, relation, rng.choice(vocabulary.PEOPLE), side=SIDE)
      if fact and world.tells(SIDE, world.propositions(fact)[1]):
        break
    plain = language.claim(world, fact, 0).statement
    follows = language.claim(world, fact, 3).statement
    rests = {
      'trade': lambda v: commonsense.known(
        rng, 'makes', v, vocabulary.TRADES[v].product
      ),
      'home': lambda v: commonsense.known(rng, 'by', v, world.feature(v)),
      'pet': lambda v: commonsense.known(rng, 'animal', v, vocabulary.ANIMAL_KIND[v]),
      'taste': lambda v: commonsense.known(rng, 'food', v, vocabulary.FOOD_KIND[v]),
    }[relation](fact.value)
    out.append(f'{rests} {sentence(plain)} So {follows}.')
  return ' '.join(out)


def causes(world: World, rng: random.Random) -> str:
  """Events and their causes."""
  out = []
  for _ in range(3):
    who, index = commonsense.happening(world, rng, side=SIDE)
    cause, effect = commonsense.CAUSES[index]
    she = pronoun(who)
    out.append(
      rng.choice(
        (
          f'{who} {cause}, so {she} {effect}.',
          f'{who} {effect} because {she} {cause}.',
          f'{who} {cause}. Because of that {she} {effect}.',
          f'{who} {effect}. The cause is that {she} {cause}.',
        )
      )
    )
  return ' '.join(out)


def opinions(world: World, rng: random.Random) -> str:
  """Praise and blame."""
  out = []
  for _ in range(2):
    good = rng.random() < 0.5
    who = rng.choice(vocabulary.PEOPLE)
    said = commonsense.opinion(world, rng, good=good, side=SIDE)
    view, feeling = ('good', 'pleased') if good else ('bad', 'not pleased')
    she = pronoun(who).capitalize()
    out.append(
      rng.choice(
        (
          f'{who} says: {sentence(said)} {she} has a {view} opinion of it.',
          f'{who} writes: {sentence(said)} That is a {view} report.',
          f'{who} thinks that {said}. {she} is {feeling}.',
        )
      )
    )
  return ' '.join(out)


def notice(world: World, rng: random.Random) -> str:
  """Notices in two languages."""
  out = []
  for _ in range(rng.choice((2, 3))):
    drawn = velish.draw(world, rng, side=SIDE)
    pair = [
      f'English: {drawn.english()}',
      f'{velish.NAME}: {drawn.translated(world.seed)}',
    ]
    if rng.random() < 0.5:
      pair.reverse()
    out.append(' '.join(pair))
  return '\n'.join(out)


def story(world: World, rng: random.Random) -> str:
  """A story with its title and summary."""
  drawn = commonsense.tale(world, rng, side=SIDE)
  return f'{drawn.title()}\n{drawn.long(rng)} In short: {drawn.short()}'


def ties(world: World, rng: random.Random) -> str:
  """Actions between two people, and whose trait is the reason."""
  out = []
  for _ in range(2):
    (first, second), index = commonsense.tied(world, rng, side=SIDE)
    verb, *reasons = commonsense.TIES[index]
    which = rng.randrange(2)
    who = (first, second)[which]
    named = who if rng.random() < 0.5 else pronoun(who)
    line = f'{first} {verb} {second} because {named} {reasons[which]}.'
    if rng.random() < 0.5:
      line += f' So it is {who} who {reasons[which]}.'
    out.append(line)
  return ' '.join(out)


def words(world: World, rng: random.Random) -> str:
  """A list of things, then a sentence that holds them all."""
  out = []
  for _ in range(2):
    concepts, sentences = commonsense.errand(world, rng, side=SIDE)
    out.append(f'{", ".join(concepts)}: {rng.choice(sentences)}')
  return '\n'.join(out)


def lessons(world: World, rng: random.Random) -> str:
  """A child says a correct or incorrect sentence, and is told which."""
  out = []
  for _ in range(2):
    fact = rng.choice(world.scene(rng, side=SIDE).facts)
    well = rng.random() < 0.5
    plain = language.claim(world, fact, rng.randrange(2)).statement
    said = plain if well else language.garbled(rng, plain)
    verdict = 'well said' if well else 'badly said'
    out.append(f'The child says: {sentence(said)} That is {verdict}.')
    if not well and rng.random() < 0.5:
      out.append(f'Better: {sentence(plain)}')
  return ' '.join(out)


KINDS: tuple[tuple[Callable[[World, random.Random], str], float], ...] = (
  (beliefs, 10),
  (talk, 12),
  (inventory, 4),
  (lists, 10),
  (rhyme, 2),
  (game, 3),
  (word_order, 3),
  (quiz, 20),
  (school, 6),
  (day, 18),
  (portrait, 6),
  (conclusions, 4),
  (knowledge, 6),
  (example, 5),
  (causes, 6),
  (opinions, 4),
  (notice, 4),
  (story, 4),
  (ties, 8),
  (words, 3),
  (lessons, 4),
)
"""(kind of document, sampling weight)."""

DRILLS = ((rhyme, 6), (game, 3), (word_order, 2), (lists, 2), (inventory, 2))
FIRST = 8_000
"""Number of first documents, most of which are drills in copying and finding words.

A small model learns to copy from half a million tokens of them, and hardly at all from
prose with little repetition.
"""
