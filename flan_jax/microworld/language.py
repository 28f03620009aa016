"""The language of the microworld: several ways to state and to ask each fact.

A Form words a proposition (flan_jax.microworld.world) as a statement and as a question.
Forms of one proposition are restatements of each other; some forms word a conclusion
from the fact instead.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from flan_jax.microworld import vocabulary
from flan_jax.microworld import world as world_lib
from flan_jax.microworld.world import SIDES, Fact, Proposition, Scene, World


class Form(NamedTuple):
  """One way to word a fact.

  Attributes:
    statement: the statement, without capital and full stop.
    question: the same as a question.
    conclusion: index into `World.propositions`: 0 for the fact, 1 for its conclusion.
  """

  statement: str
  question: str
  conclusion: int = 0


FORMS: dict[str, tuple[Form, ...]] = {
  'trade': (
    Form('{s} is a {v}', 'is {s} a {v}'),
    Form('{s} works as a {v}', 'does {s} work as a {v}'),
    Form('{s} has the trade of a {v}', 'does {s} have the trade of a {v}'),
    Form('{s} {does} {product}', 'does {s} {do} {product}', 1),
  ),
  'home': (
    Form('{s} lives in {v}', 'does {s} live in {v}'),
    Form('{s} has a house in {v}', 'does {s} have a house in {v}'),
    Form('the home of {s} is in {v}', 'is the home of {s} in {v}'),
    Form('{s} lives by {feature}', 'does {s} live by {feature}', 1),
  ),
  'pet': (
    Form('{s} keeps a {v}', 'does {s} keep a {v}'),
    Form('{s} has a {v} at home', 'does {s} have a {v} at home'),
    Form('{s} looks after a {v}', 'does {s} look after a {v}'),
    Form('{s} keeps a kind of {kind}', 'does {s} keep a kind of {kind}', 1),
  ),
  'likes': (
    Form('{s} likes {v}', 'does {s} like {v}'),
    Form('{s} is fond of {v}', 'is {s} fond of {v}'),
    Form('{s} enjoys {v}', 'does {s} enjoy {v}'),
    Form('{s} likes a kind of {kind}', 'does {s} like a kind of {kind}', 1),
  ),
  'hates': (
    Form('{s} hates {v}', 'does {s} hate {v}'),
    Form('{s} cannot stand {v}', 'does {s} find {v} hard to stand'),
    Form('{s} dislikes {v}', 'does {s} dislike {v}'),
    Form('{s} hates a kind of {kind}', 'does {s} hate a kind of {kind}', 1),
  ),
  'belonging': (
    Form('{s} has a {v} {d}', 'does {s} have a {v} {d}'),
    Form('{s} owns a {v} {d}', 'does {s} own a {v} {d}'),
    Form('the {d} of {s} is {v}', 'is the {d} of {s} {v}'),
    Form('{s} owns a {d}', 'does {s} own a {d}', 1),
  ),
  'mood': (
    Form('{s} is {v}', 'is {s} {v}'),
    Form('{s} feels {v}', 'does {s} feel {v}'),
    Form('{s} is {synonym}', 'is {s} {synonym}'),
    Form('{s} feels {synonym}', 'does {s} feel {synonym}'),
  ),
  'outing': (
    Form('{s} goes to the {v} on {d}', 'does {s} go to the {v} on {d}'),
    Form('on {d} {s} goes to the {v}', 'does {s} go to the {v} on {d}'),
    Form('{s} visits the {v} on {d}', 'does {s} visit the {v} on {d}'),
    Form('{s} visits the {v}', 'does {s} visit the {v}', 1),
  ),
  'kin': (
    Form('{s} is the {v} of {o}', 'is {s} the {v} of {o}'),
    Form('the {v} of {o} is {s}', 'is {s} the {v} of {o}'),
    Form('{o} is the {inverse} of {s}', 'is {o} the {inverse} of {s}'),
  ),
  'deal': (
    Form('{s} {v} {o} a {d}', 'does {s} {do} {o} a {d}'),
    Form('{s} {v} a {d} to {o}', 'does {s} {do} a {d} to {o}'),
    Form('{o} {gets} a {d} from {s}', 'does {o} {get} a {d} from {s}'),
  ),
  'rank': (
    Form('{s} is {v} than {o}', 'is {s} {v} than {o}'),
    Form('{o} is {inverse} than {s}', 'is {o} {inverse} than {s}'),
    Form('{o} is not as {plain} as {s}', 'is {o} not as {plain} as {s}'),
  ),
}

ASKING: dict[str, tuple[tuple[str, str], ...]] = {
  'trade': (('what is the trade of {s}', '{v}'), ('what does {s} work as', '{v}')),
  'home': (('where does {s} live', '{v}'), ('in what town is {s} at home', '{v}')),
  'pet': (
    ('what animal does {s} keep', '{v}'),
    ('what pet has {s} got', '{v}'),
    ('what does {s} look after', '{v}'),
  ),
  'likes': (
    ('what does {s} like', '{v}'),
    ('what is {s} fond of', '{v}'),
    ('what food is dear to {s}', '{v}'),
  ),
  'hates': (
    ('what does {s} hate', '{v}'),
    ('what does {s} dislike', '{v}'),
    ('what food does {s} hate', '{v}'),
  ),
  'belonging': (
    ('what colour is the {d} of {s}', '{v}'),
    ('what {v} thing has {s} got', '{d}'),
  ),
  'mood': (('how does {s} feel', '{v}'), ('in what mood is {s}', '{v}')),
  'outing': (
    ('where does {s} go on {d}', '{v}'),
    ('when does {s} go to the {v}', '{d}'),
  ),
  'kin': (('who is the {v} of {o}', '{s}'),),
  'deal': (
    ('who {v} {o} a {d}', '{s}'),
    ('what does {o} {get} from {s}', '{d}'),
  ),
  'rank': (('who is {v} than {o}', '{s}'), ('who is {inverse} than {s}', '{o}')),
}
"""Key of FORMS -> (question, answer) pairs; the answer is in the passage."""


def manner(fact: Fact) -> str:
  """Key of the fact in FORMS: its relation, or `likes` or `hates` for a taste."""
  return fact.detail if fact.relation == 'taste' else fact.relation


def words(world: World, fact: Fact, *, synonym: int = 0) -> dict[str, str]:
  """Values of the fields in the fact's forms."""
  relation, subject, value, detail, other = fact
  out = {'s': subject, 'v': value, 'd': detail, 'o': other}
  match relation:
    case 'trade':
      trade = vocabulary.TRADES[value]
      out |= {'do': trade.do, 'does': trade.does, 'product': trade.product}
    case 'home':
      out['feature'] = world.feature(value)
    case 'pet':
      out['kind'] = vocabulary.ANIMAL_KIND[value]
    case 'taste':
      out['kind'] = vocabulary.FOOD_KIND[value]
    case 'mood':
      group = [mood for mood in vocabulary.MOOD_GROUP[value] if mood != value]
      out['synonym'] = group[synonym % len(group)]
    case 'kin':
      out['inverse'] = world_lib.inverse_kin(fact)
    case 'deal':
      do, gets, get = vocabulary.DEALS[value]
      out |= {'do': do, 'gets': gets, 'get': get}
    case 'rank':
      out['inverse'], out['plain'] = vocabulary.RANKS[value]
  return out


class Claim(NamedTuple):
  """A fact put into words.

  Attributes:
    statement: the statement, without capital and full stop.
    question: the same as a question, without capital and question mark.
    proposition: the proposition that it states.
    fact: the fact that it comes from.
    form: index of its form.
  """

  statement: str
  question: str
  proposition: Proposition
  fact: Fact
  form: int


def claim(world: World, fact: Fact, form: int, *, synonym: int = 0) -> Claim:
  """Words `fact` by one form."""
  chosen = FORMS[manner(fact)][form]
  filling = words(world, fact, synonym=synonym)
  return Claim(
    chosen.statement.format(**filling),
    chosen.question.format(**filling),
    world.propositions(fact)[chosen.conclusion],
    fact,
    form,
  )


def says(
  world: World,
  rng: random.Random,
  fact: Fact,
  *,
  conclude: bool | None = None,
) -> Claim | None:
  """Words `fact` by a random form; None if not found.

  Args:
    world: the world.
    rng: draws the form.
    fact: the fact.
    conclude: True for the conclusion, False for the fact itself, None for either.
  """
  forms = list(range(len(FORMS[manner(fact)])))
  rng.shuffle(forms)
  for form in forms:
    if conclude in (None, bool(FORMS[manner(fact)][form].conclusion)):
      return claim(world, fact, form, synonym=rng.randrange(2))
  return None


KINDS = ('true', 'untrue', 'unsaid')


def claim_on(
  world: World,
  rng: random.Random,
  scene: Scene,
  kind: str,
  *,
  told: Sequence[str] = (),
  conclude: bool | None = None,
  crossed: bool = False,
) -> Claim | None:
  """Draws a claim on a scene; None if not found.

  Args:
    world: the world.
    rng: draws the claim.
    scene: the scene.
    kind: `true` in the scene; `untrue` (contradicts the scene on one of its topics);
      `unsaid` (about a person of the scene, on another topic).
    told: sentences of the passage; a true claim rarely repeats one.
    conclude: as in `says`.
    crossed: whether an untrue claim uses a fact about the other person.
  """
  truths = world.truths(scene)
  topics = {fact.topic for fact in scene.facts}
  for _ in range(8):
    fact: Fact | None = rng.choice(scene.facts)
    if kind == 'untrue':
      fact = world.untrue(rng, fact, scene, crossed=crossed)
    elif kind == 'unsaid':
      subject = rng.choice(scene.people)
      fact = world.fact(rng, rng.choice(world_lib.ALONE), subject)
      if fact and fact.topic in topics:
        fact = None
    made = says(world, rng, fact, conclude=conclude) if fact else None
    if made is None or (made.proposition in truths) != (kind == 'true'):
      continue
    if kind == 'true' and sentence(made.statement) in told and rng.random() < 0.65:
      continue
    return made
  return None


def draw_claim(
  world: World, rng: random.Random, kind: str, *, side: str
) -> tuple[Scene, str, Claim]:
  """Draws a scene that `side` may tell, its passage, and a claim on it.

  A quarter of the claims are conclusions; one of seven untrue ones crosses two people.
  The shares are the same on every side.
  """
  conclude = rng.random() < 0.25
  crossed = kind == 'untrue' and rng.random() < 0.15
  while True:
    scene = world.scene(rng, side=side)
    told = tell(world, rng, scene)
    made = claim_on(
      world,
      rng,
      scene,
      kind,
      told=told,
      conclude=conclude,
      crossed=crossed,
    )
    if made:
      return scene, ' '.join(told), made


def draw_pair(
  world: World, rng: random.Random, *, side: str, same: bool
) -> tuple[str, str]:
  """Draws two statements of `side` that say the same, or contradict each other."""
  while True:
    scene = world.scene(rng, side=SIDES[0])
    fact = rng.choice(scene.facts)
    first = says(world, rng, fact, conclude=False)
    if same:
      second = says(world, rng, fact, conclude=False)
    else:
      alone = Scene(scene.people, (fact,))
      second = claim_on(world, rng, alone, 'untrue', conclude=False)
    if first and second and first.statement != second.statement:
      pair = first.statement, second.statement
      if world.side('pair', *sorted(pair)) == side:
        return pair


def draw_joined(world: World, rng: random.Random, *, side: str, garble: bool) -> str:
  """Draws two statements joined by `and`, the words of one of them garbled or not."""
  facts = world.scene(rng, side=side, facts=(2,)).facts
  said = [claim(world, fact, rng.randrange(2)).statement for fact in facts]
  if garble:
    which = rng.randrange(2)
    said[which] = garbled(rng, said[which])
  return ' and '.join(said)


def sentence(text: str) -> str:
  """Adds a capital and a full stop."""
  return f'{text[0].upper()}{text[1:]}.'


def question(text: str) -> str:
  """Adds a capital and a question mark."""
  return f'{text[0].upper()}{text[1:]}?'


def pronoun(name: str) -> str:
  return 'she' if vocabulary.is_woman(name) else 'he'


def tell(world: World, rng: random.Random, scene: Scene) -> tuple[str, ...]:
  """The sentences of a passage; some use a pronoun for the person last named.

  Only forms of the facts themselves are used, no conclusions.
  """
  out = []
  last = ''
  for fact in scene.facts:
    forms = [
      i
      for i, form in enumerate(FORMS[manner(fact)])
      if not form.conclusion and 'synonym' not in form.statement
    ]
    form = FORMS[manner(fact)][rng.choice(forms)]
    filling = words(world, fact)
    if (
      fact.subject == last
      and not fact.other
      and form.statement.startswith('{s}')
      and rng.random() < 0.5
    ):
      filling['s'] = pronoun(last)
    out.append(sentence(form.statement.format(**filling)))
    last = '' if fact.other else fact.subject
  return tuple(out)


def ask(world: World, rng: random.Random, fact: Fact) -> tuple[str, str]:
  """A question on the fact, and its answer of a word or two of the passage."""
  pattern, answer = rng.choice(ASKING[manner(fact)])
  filling = words(world, fact)
  return pattern.format(**filling), answer.format(**filling)


GROUPS = (
  tuple(vocabulary.TRADES),
  vocabulary.TOWNS,
  tuple(vocabulary.ANIMAL_KIND),
  tuple(vocabulary.FOOD_KIND),
  vocabulary.COLOURS,
  vocabulary.THINGS,
  vocabulary.PLACES,
  vocabulary.DAYS,
  vocabulary.PEOPLE,
)


def rivals(rng: random.Random, answer: str, count: int) -> list[str]:
  """`count` other words of the same kind as `answer`, none a synonym of it."""
  if answer in vocabulary.MOOD_GROUP:
    groups = [g for g in vocabulary.MOODS if answer not in g]
    return [rng.choice(group) for group in rng.sample(groups, count)]
  group = next(group for group in GROUPS if answer in group)
  return rng.sample([word for word in group if word != answer], count)


def rivals_in(answer: str, text: str) -> list[str]:
  """Other words of the same kind as `answer` in `text`, without synonyms."""
  group = next((g for g in (*GROUPS, tuple(vocabulary.MOOD_GROUP)) if answer in g), ())
  same = vocabulary.MOOD_GROUP.get(answer, (answer,))
  parts = set(text.replace('.', ' ').split())
  return [word for word in group if word in parts and word not in same]


def garbled(rng: random.Random, statement: str) -> str:
  """The statement with a word moved, a word lost, or words added."""
  parts = statement.split()
  match rng.randrange(3):
    case 0:
      parts = [parts[-1], *parts[:-1]]
    case 1:
      verb = 3 if parts[0] == 'on' else 1
      del parts[verb]
    case _:
      parts = [*parts[:-1], 'the', 'of', parts[-1]]
  return ' '.join(parts)
