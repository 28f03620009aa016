"""The pretraining text: the microworld in plain prose, without instructions.

A document is one of two dozen kinds: passages with claims about them and whether those
are right, passages with questions and answers, restatements, common knowledge, causes,
opinions, notices in two languages, stories, and drills in copying. Its passages are of the
train side (`World.tells`), but not the lists of facts in `quiz` and `day`. A question on a
passage has no side, since its answer is there; one of common knowledge has.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from flan_jax.microworld import (
  choices,
  commonsense,
  drills,
  implied,
  language,
  makers,
  velish,
  vocabulary,
)
from flan_jax.microworld.language import pronoun, question, sentence
from flan_jax.microworld.world import Scene, World

SIDE = 'train'
Kind = Callable[[World, random.Random], str]


def documents(seed: int = 0, *, count: int, first: int = 0) -> Iterator[str]:
  """Yields `count` documents from `first` on; each is a function of seed and index."""
  world = World(seed)
  for index in range(first, first + count):
    rng = random.Random(f'{seed}/corpus/{index}')
    kinds = _kinds(index)
    kind = rng.choices(*zip(*kinds, strict=True))[0]
    yield kind(world, rng)


def _kinds(index: int) -> Sequence[tuple[Kind, float]]:
  if index >= LAST_FROM:
    return LAST
  return next((kinds for end, kinds in FIRST if index < end), KINDS)


def _passage(
  world: World, rng: random.Random, facts: Sequence[int] = (1, 2, 2, 2, 3, 3, 4)
) -> tuple[Scene, tuple[str, ...]]:
  """A passage, sometimes of a single fact: easy passages are learned first."""
  scene = world.scene(rng, side=SIDE, facts=facts)
  return scene, language.tell(world, rng, scene)


def _strangers(rng: random.Random, people: Sequence[str], count: int) -> list[str]:
  return rng.sample([name for name in vocabulary.PEOPLE if name not in people], count)


def _claims(
  world: World,
  rng: random.Random,
  scene: Scene,
  told: Sequence[str],
  shares: tuple[float, float, float],
  count: int,
):
  """Up to `count` (kind, claim) on a passage, kinds drawn by `shares`, none twice."""
  made = {}
  for _ in range(2 * count):
    kind = rng.choices(language.KINDS, shares)[0]
    claim = language.claim_on(
      world, rng, scene, kind, told=told, crossed=rng.random() < 0.1,
      conclude=rng.random() < 0.15,
    )  # fmt: skip
    if claim and len(made) < count:
      made.setdefault(claim.statement, (kind, claim))
  return list(made.values())


def verdicts(world: World, rng: random.Random) -> str:
  """A passage, claims about it, and whether they are right."""
  scene, told = _passage(world, rng)
  asks = rng.random() < 0.5
  shares = (0.46, 0.46, 0.08) if rng.random() < 0.5 else (0.5, 0.5, 0.0)
  claims = _claims(world, rng, scene, told, shares, rng.choice((4, 5, 6, 7)))
  yes, no, unsaid = rng.choice(_VERDICTS)
  verdict = {'true': yes, 'untrue': no, 'unsaid': unsaid}
  who = _strangers(rng, scene.people, 1)[0] if asks else ''
  out = [' '.join(told)]
  lead = rng.choice(_ASKED if asks else _SAID)
  for kind, claim in claims:
    said = question(claim.question) if asks else sentence(claim.statement)
    given = verdict[kind]
    line = lead.format(said=said, verdict=given, Verdict=sentence(given), who=who,
                       statement=claim.statement)  # fmt: skip
    out.append(line)
  return rng.choice((' ', '\n')).join(out) if '\n' not in lead else '\n'.join(out)


_VERDICTS = (
  ('yes', 'no', 'it does not say'),
  ('yes', 'no', 'it does not say'),
  ('yes', 'no', 'it does not say'),
  ('true', 'false', 'unknown'),
  ('right', 'wrong', 'unknown'),
)
"""Verdicts on a true, an untrue and an unsaid claim."""

_SAID = (
  'Question: Is this so? {said}\nAnswer: {verdict}',
  '{said} {Verdict}',
  '{who} says: {said} {Verdict}',
  '{who} thinks that {statement}. {Verdict}',
  'Is it so that {statement}? {Verdict}',
)
_ASKED = (
  'Question: {said}\nAnswer: {verdict}',
  '{said} {Verdict}',
  '{who} asks: {said} {Verdict}',
)


def answers(world: World, rng: random.Random) -> str:
  """A passage, with questions about it and their answers."""
  scene, told = _passage(world, rng, (2, 2, 3, 3, 4))
  facts = list(scene.facts)
  rng.shuffle(facts)
  pairs = [language.ask(world, rng, fact) for fact in facts]
  if rng.random() < 0.5:
    unsaid = language.claim_on(world, rng, scene, 'unsaid')
    if unsaid:
      pairs.append((language.ask(world, rng, unsaid.fact)[0], makers.UNANSWERABLE))
  rng.shuffle(pairs)
  asker, answerer = _strangers(rng, scene.people, 2)
  form = rng.choice(
    (
      '\nQuestion: {q}\nAnswer: {a}',
      '\nQuestion: {q}\nAnswer: {a}',
      ' {q} {A}',
      '\n{q}\n{a}',
      ' {asker} asks: {q} {answerer} answers: {a}.',
    )
  )
  return ' '.join(told) + ''.join(
    form.format(q=question(asked), a=answer, A=sentence(answer), asker=asker,
                answerer=answerer)
    for asked, answer in pairs
    if world.side('?', asked) == SIDE
  )  # fmt: skip


def replies(world: World, rng: random.Random) -> str:
  """A passage, questions, right and wrong replies, and which they are."""
  scene, told = _passage(world, rng, (2, 2, 3))
  out = [' '.join(told)]
  yes, no, _ = rng.choice(_VERDICTS)
  who, *_ = _strangers(rng, scene.people, 1)
  form = rng.choice(
    (
      'Question: {q}\nReply: {r}\nIs the reply right?\nAnswer: {v}',
      'Question: {q}\nReply: {r}\nIs the reply right?\nAnswer: {v}',
      '{q} {R} {V}',
      '{who} is asked: {q} The reply of {who} is: {r}. {V}',
    )
  )
  for fact in scene.facts:
    asked, answer = language.ask(world, rng, fact)
    right = rng.random() < 0.5
    reply = answer if right else makers.distractors(rng, answer, 1, text=out[0])[0]
    verdict = yes if right else no
    if world.side('?', asked) == SIDE:
      out.append(form.format(q=question(asked), r=reply, R=sentence(reply), v=verdict,
                             V=sentence(verdict), who=who))  # fmt: skip
  return '\n'.join(out)


def pairs(world: World, rng: random.Random) -> str:
  """Two statements, and whether they say the same."""
  out = []
  form = rng.choice(
    (
      'A: {a}\nB: {b}\nQuestion: Do A and B mean the same thing?\nAnswer: {v}',
      'A: {a}\nB: {b}\nQuestion: Do A and B mean the same thing?\nAnswer: {v}',
      '{x} says: {a} {y} says: {b} {agree}',
      '{a} {b} {same}',
    )
  )
  for _ in range(3):
    same = rng.random() < 0.5
    a, b = language.draw_pair(world, rng, side=SIDE, same=same)
    x, y = rng.sample(vocabulary.PEOPLE, 2)
    out.append(
      form.format(
        a=sentence(a), b=sentence(b), x=x, y=y, v='yes' if same else 'no',
        agree='They agree.' if same else 'They do not agree.',
        same='The same.' if same else 'Not the same.',
      )
    )  # fmt: skip
  return '\n'.join(out)


def lists(world: World, rng: random.Random) -> str:
  """A passage, a question, several answers, and the one that is right."""
  scene, told = _passage(world, rng)
  asked, answer = language.ask(world, rng, rng.choice(scene.facts))
  if world.side('?', asked) != SIDE:
    return ' '.join(told)
  return ' '.join(told) + choices.listed(
    rng, asked, answer, language.rivals(rng, answer, 3)
  )


def quiz(world: World, rng: random.Random) -> str:
  """Facts about several people, and questions on their implications."""
  who = implied.people(rng, rng.choice((1, 1, 2, 3)))
  asked = implied.draw_asked(world, rng, who[0], side=SIDE)
  told = [asked, *(implied.draw(world, rng, name, side=SIDE) for name in who[1:])]
  rng.shuffle(told)
  text = ' '.join(sentence(piece.given) for piece in told)
  if rng.random() < 0.5:
    return f'{text}\n{question(asked.question)} {asked.answer}'
  return text + choices.listed(rng, asked.question, asked.answer, asked.rivals)


def school(world: World, rng: random.Random) -> str:
  """Questions of common knowledge, without those of the other sides."""
  knowledge, out = world.knowledge(), []
  plain = rng.random() < 0.6
  while len(out) < 4:
    relation, subject, value = rng.choice(knowledge)
    if world.side('ask', relation, subject) != SIDE:
      continue
    back = relation in ('makes', 'uses') and rng.random() < 0.4
    asked = commonsense.asks(rng, relation, subject, value, back=back)
    answer = subject if back else value
    if plain:
      out.append(f'Question: {question(asked)}\nAnswer: {answer}')
      continue
    values = {s if back else v for r, s, v in knowledge if r == relation} - {answer}
    out.append(choices.listed(rng, asked, answer, sorted(values)).lstrip())
  return '\n'.join(out)


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
  drawn = (language.says(world, rng, fact) for fact in scene.facts)
  again = [sentence(claim.statement) for claim in drawn if claim]
  if rng.random() < 0.5:
    return f'{" ".join(told)} In other words: {" ".join(again)}'
  return ' '.join(f'{a} That is: {b}' for a, b in zip(told, again, strict=True))


def knowledge(world: World, rng: random.Random) -> str:
  """Three pieces of common knowledge."""
  facts = rng.sample(world.knowledge(), 3)
  return ' '.join(commonsense.known(rng, *fact) for fact in facts)


def causes(world: World, rng: random.Random) -> str:
  """Events and their causes."""
  out = []
  form = rng.choice(
    (
      '{who} {cause}, so {she} {effect}.',
      '{who} {effect} because {she} {cause}.',
      '{who} {cause}.\nThe effect: {She} {effect}.',
      '{who} {effect}.\nThe cause: {She} {cause}.',
    )
  )
  for _ in range(3):
    who, index = commonsense.happening(world, rng, side=SIDE)
    cause, effect = commonsense.CAUSES[index]
    she = pronoun(who)
    out.append(
      form.format(who=who, cause=cause, effect=effect, she=she, She=she.capitalize())
    )
  return ('\n' if '\n' in form else ' ').join(out)


def opinions(world: World, rng: random.Random) -> str:
  """Praise and blame."""
  out = []
  form = rng.choice(
    (
      '{who} says: {said} {She} has a {view} opinion of it.',
      '{who} writes: {said} That is a {view} report.',
      '{said}\nThe feeling of this text is {view}',
    )
  )
  for _ in range(2):
    good = rng.random() < 0.5
    who = rng.choice(vocabulary.PEOPLE)
    said = commonsense.opinion(world, rng, good=good, side=SIDE)
    out.append(
      form.format(who=who, said=sentence(said), She=pronoun(who).capitalize(),
                  view='good' if good else 'bad')
    )  # fmt: skip
  return '\n'.join(out)


def notice(world: World, rng: random.Random) -> str:
  """Notices in two languages."""
  out = []
  for _ in range(rng.choice((2, 3))):
    drawn = velish.draw(world, rng, side=SIDE)
    english, other = drawn.english(), drawn.translated(world.seed)
    out.append(
      rng.choice(
        (
          f'English: {english} {velish.NAME}: {other}',
          f'{velish.NAME}: {other} English: {english}',
          f'{other}\nIn English: {english}',
          f'{english}\nIn {velish.NAME}: {other}',
        )
      )
    )
  return '\n'.join(out)


def dictionary(world: World, rng: random.Random) -> str:
  """Words in two languages."""
  entries = rng.sample(sorted(velish.lexicon(world.seed).items()), 6)
  if rng.random() < 0.5:
    return '\n'.join(f'{a} is {b} in {velish.NAME}.' for a, b in entries)
  return '\n'.join(f'{b} is {a} in English.' for a, b in entries)


def story(world: World, rng: random.Random) -> str:
  """A story with its title and summary."""
  drawn = commonsense.tale(world, rng, side=SIDE)
  if rng.random() < 0.5:
    return f'{drawn.title()}\n{drawn.long(rng)} In short: {drawn.short()}'
  return f'{drawn.long(rng)}\nIn one sentence: {drawn.short()}'


def ties(world: World, rng: random.Random) -> str:
  """Actions between two people, and whose trait is the reason."""
  out = []
  for _ in range(4):
    (first, second), index = commonsense.tied(world, rng, side=SIDE)
    verb, *reasons = commonsense.TIES[index]
    which = rng.randrange(2)
    who = (first, second)[which]
    out.append(f'{first} {verb} {second} because {who} {reasons[which]}.')
  return ' '.join(out)


def words(world: World, rng: random.Random) -> str:
  """A list of things, then a sentence that holds them all."""
  out = []
  form = rng.choice(
    ('{words}: {line}', 'Words: {words}\nA sentence with all of them: {line}')
  )
  for _ in range(2):
    concepts, sentences = commonsense.errand(world, rng, side=SIDE)
    out.append(form.format(words=', '.join(concepts), line=rng.choice(sentences)))
  return '\n'.join(out)


def lessons(world: World, rng: random.Random) -> str:
  """A child says a correct or incorrect sentence, and is told which."""
  out = []
  form = rng.choice(
    (
      'The child says: {said} That is {verdict}.',
      '{said}\nThis sentence is {verdict}',
    )
  )
  for _ in range(3):
    well = rng.random() < 0.5
    said = language.draw_joined(world, rng, side=SIDE, garble=not well)
    verdict = 'well said' if well else 'badly said'
    out.append(form.format(said=sentence(said), verdict=verdict))
  return '\n'.join(out)


def sorts(world: World, rng: random.Random) -> str:
  """Questions and the kinds of their answers."""
  out = []
  form = rng.choice(
    ('Question: {q}\nType of answer: {kind}', '{q} The answer is a {kind}.')
  )
  while len(out) < 3:
    scene = world.scene(rng, side=SIDE)
    asked, answer = language.ask(world, rng, rng.choice(scene.facts))
    kind = makers.kind_of(answer)
    if kind and world.side('?', asked) == SIDE:
      out.append(form.format(q=question(asked), kind=kind))
  return '\n'.join(out)


KINDS: tuple[tuple[Kind, float], ...] = (
  (verdicts, 18),
  (answers, 10),
  (replies, 4),
  (pairs, 5),
  (drills.roll_asked, 2),
  (lists, 4),
  (drills.rhyme, 1),
  (drills.game, 2),
  (quiz, 10),
  (school, 8),
  (day, 4),
  (portrait, 2),
  (knowledge, 4),
  (causes, 5),
  (opinions, 4),
  (notice, 8),
  (dictionary, 2),
  (story, 4),
  (ties, 6),
  (words, 3),
  (lessons, 6),
  (sorts, 3),
)
"""(kind of document, sampling weight)."""

LAST_FROM = 1_000_000
"""The documents from here on are of the kinds of `LAST`."""

LAST = (*KINDS, (choices.opinions_asked, 3), (choices.ties_asked, 3))
"""The kinds of documents that end the pretraining.

Only these ask for an opinion, or for the reason of a tie, with options.
"""

FIRST = (
  (16_000, ((drills.same, 1),)),
  (60_000, ((drills.same, 1), (drills.roll, 6))),
  (85_000, ((drills.roll, 1), (drills.roll_asked, 5))),
  (110_000, ((drills.roll, 1), (drills.roll_asked, 2), (verdicts, 9))),
  (
    145_000,
    (
      (drills.roll_asked, 2),
      (verdicts, 6),
      (pairs, 3),
      (replies, 2),
      (drills.rhyme, 1),
    ),
  ),
)
"""(end, kinds): the documents from the previous end to `end` are of these kinds.

Whether a claim is right is learned in steps of 0.5 to 2.4 million tokens: two words are
the same; a word is in a list; the same with a mark before the verdict; a claim
agrees with a passage. Mixed with copying from the start, or with a mark between word and
verdict from the start, the second step is not learned from two million.
"""

DRILLED = FIRST[-1][0]
"""Number of documents in these steps; the later ones are of `KINDS`, then of `LAST`."""
