"""Makers: one function a dataset, which makes a record in a real dataset's format.

A maker takes the world, a random generator, the side (`train`, `dev` or `test`) and
the example's index, and returns a plain dict. Labels cycle with the index.
"""

import random

from flan_jax.microworld import commonsense, implied, language, velish, vocabulary
from flan_jax.microworld import world as world_lib
from flan_jax.microworld.language import pronoun, question, sentence
from flan_jax.microworld.vocabulary import PEOPLE
from flan_jax.microworld.world import Scene, World

UNANSWERABLE = 'it does not say'


def _passage(world: World, rng: random.Random, side: str) -> tuple[Scene, str]:
  scene = world.scene(rng, side=side)
  return scene, ' '.join(language.tell(world, rng, scene))


def _yes_no(rng: random.Random, yes: bool) -> str:
  """Kind of claim for an answer; a "no" is mostly `untrue`, sometimes `unsaid`."""
  if yes:
    return 'true'
  return 'untrue' if rng.random() < 0.8 else 'unsaid'


def _ask(world: World, rng: random.Random, side: str, *, answerable: bool = True):
  """Draws a passage, a question on it, and its answer."""
  while True:
    scene, text = _passage(world, rng, side)
    fact = rng.choice(scene.facts)
    if not answerable:
      unsaid = language.claim_on(world, rng, scene, 'unsaid')
      if not unsaid:
        continue
      fact = unsaid.fact
    asked, answer = language.ask(world, rng, fact)
    return scene, text, asked, answer


def rte(world: World, rng: random.Random, side: str, index: int):
  kind = _yes_no(rng, index % 2 == 0)
  _, text, said = language.draw_claim(world, rng, kind, side=side)
  return {
    'idx': index,
    'premise': text,
    'hypothesis': sentence(said.statement),
    'label': index % 2,
  }


def cb(world: World, rng: random.Random, side: str, index: int):
  kind = language.KINDS[index % 3]
  _, text, said = language.draw_claim(world, rng, kind, side=side)
  return {
    'idx': index,
    'premise': text,
    'hypothesis': sentence(said.statement),
    'label': index % 3,
  }


def boolq(world: World, rng: random.Random, side: str, index: int):
  yes = index % 2 == 0
  scene, text, claim = language.draw_claim(world, rng, _yes_no(rng, yes), side=side)
  return {
    'passage': text,
    'question': claim.question,
    'title': ' and '.join(scene.people),
    'answer': yes,
  }


def multirc(world: World, rng: random.Random, side: str, index: int):
  yes = index % 2 == 0
  if rng.random() < 0.5:
    _, text, said = language.draw_claim(world, rng, _yes_no(rng, yes), side=side)
    asked = f'what do we learn about {said.fact.subject}'
    answer = sentence(said.statement)
  else:
    _, text, asked, right = _ask(world, rng, side)
    answer = right if yes else distractors(rng, right, 1, text=text)[0]
  return {
    'paragraph': text,
    'question': question(asked),
    'answer': answer,
    'label': int(yes),
    'idx': {'paragraph': index, 'question': 0, 'answer': 0},
  }


def distractors(rng: random.Random, right: str, count: int, *, text: str):
  """Wrong answers; often one of them occurs in the passage."""
  drawn = language.rivals(rng, right, count)
  others = [word for word in language.rivals_in(right, text) if word not in drawn]
  if others and rng.random() < 0.7:
    drawn[0] = rng.choice(others)
  return drawn


def squad(world: World, rng: random.Random, side: str, index: int):
  answerable = index % 5 != 0
  scene, text, asked, answer = _ask(world, rng, side, answerable=answerable)
  return {
    'id': f'{index:05d}',
    'title': ' and '.join(scene.people),
    'context': text,
    'question': question(asked),
    'answers': {
      'text': [answer if answerable else UNANSWERABLE],
      'answer_start': [text.find(answer) if answerable else -1],
    },
    'is_impossible': not answerable,
  }


def obqa(world: World, rng: random.Random, side: str, index: int):
  """The question asks for a conclusion from the fact, or for a synonym in it."""
  while True:
    made = implied.conclusion_or_mood(world, rng, rng.choice(PEOPLE), side=side)
    if made and world.side('?', made.question) == side and len(made.rivals) > 2:
      break
  choices, key = _shuffled(rng, made.answer, list(made.rivals[:3]))
  return {
    'id': f'{index:05d}',
    'question': {
      'stem': made.question,
      **{f'choice_{letter}': c for letter, c in zip('ABCD', choices, strict=True)},
    },
    'fact1': sentence(made.given),
    'answerKey': key,
  }


def _shuffled(rng: random.Random, right: str, wrong: list[str]):
  """Shuffles the options; returns them and the index of the right one."""
  choices = [right, *wrong]
  rng.shuffle(choices)
  return choices, choices.index(right)


def arc(world: World, rng: random.Random, side: str, index: int):
  knowledge = world.knowledge()
  while True:
    relation, subject, value = rng.choice(knowledge)
    if world.side('ask', relation, subject) == side:
      break
  back = relation in ('makes', 'uses') and rng.random() < 0.4
  if back:
    values = [s for r, s, _ in knowledge if r == relation and s != subject]
    right = subject
  else:
    values = sorted({v for r, _, v in knowledge if r == relation and v != value})
    right = value
  choices, key = _shuffled(rng, right, rng.sample(values, 3))
  return {
    'id': f'{index:05d}',
    'question': question(commonsense.asks(rng, relation, subject, value, back=back)),
    'choices': {'text': choices, 'label': list('ABCD')},
    'answerKey': key,
  }


def _two_happenings(world: World, rng: random.Random, side: str, count: int):
  """Draws a person, the index of a cause, and those of `count` wrong causes."""
  who, index = commonsense.happening(world, rng, side=side)
  others: list[int] = []
  while len(others) < count:
    other = rng.randrange(len(commonsense.CAUSES))
    told = world.side('cause', who, str(other)) == side or side == 'train'
    if other != index and other not in others and told:
      others.append(other)
    elif not told and rng.random() < 0.02:  # too few on this side: draw another person
      who, index = commonsense.happening(world, rng, side=side)
      others.clear()
  return who, index, others


def copa(world: World, rng: random.Random, side: str, index: int):
  who, right, (wrong,) = _two_happenings(world, rng, side, 1)
  asked = rng.randrange(2)  # 0: the cause of an effect, 1: the effect of a cause
  label = index % 2
  she = pronoun(who)
  choices = [commonsense.CAUSES[i][asked] for i in (right, wrong)]
  if label:
    choices.reverse()
  return {
    'idx': index,
    'premise': f'{who} {commonsense.CAUSES[right][1 - asked]}.',
    'question': ('cause', 'effect')[asked],
    'choice1': sentence(f'{she} {choices[0]}'),
    'choice2': sentence(f'{she} {choices[1]}'),
    'label': label,
  }


def winogrande(world: World, rng: random.Random, side: str, index: int):
  (first, second), tie = commonsense.tied(world, rng, side=side)
  verb, *reasons = commonsense.TIES[tie]
  which = rng.randrange(2)
  label = index % 2
  options = [(first, second)[which], (first, second)[1 - which]]
  if label:
    options.reverse()
  return {
    'sentence': f'{first} {verb} {second} because _ {reasons[which]}.',
    'option1': options[0],
    'option2': options[1],
    'label': label,
  }


def cosmos(world: World, rng: random.Random, side: str, index: int):
  asked = rng.randrange(2)
  who, right, wrong = _two_happenings(world, rng, side, 3)
  cause, effect = commonsense.CAUSES[right]
  if asked:
    asks, given = f'what becomes of {who}', cause
  else:
    asks, given = f'what is the reason that {who} {effect}', effect
  she = pronoun(who)
  relation = rng.choice(('trade', 'home', 'pet', 'taste', 'belonging'))
  fact = world.fact(rng, relation, who)
  opening = sentence(language.claim(world, fact, 0).statement)
  answers = [sentence(f'{she} {commonsense.CAUSES[i][asked]}') for i in (right, *wrong)]
  options, label = _shuffled(rng, answers[0], answers[1:])
  return {
    'id': f'{index:05d}',
    'context': f'{opening} {sentence(f"{she} {given}")}',
    'question': question(asks),
    **{f'answer{i}': option for i, option in enumerate(options)},
    'label': label,
  }


def sst2(world: World, rng: random.Random, side: str, index: int):
  label = index % 2
  said = commonsense.opinion(world, rng, good=bool(label), side=side)
  if rng.random() < 0.4:
    said = f'{rng.choice(PEOPLE)} says that {said}'
  return {'idx': index, 'sentence': sentence(said), 'label': label}


def mrpc(world: World, rng: random.Random, side: str, index: int):
  label = index % 2
  first, second = language.draw_pair(world, rng, side=side, same=bool(label))
  return {
    'idx': index,
    'sentence1': sentence(first),
    'sentence2': sentence(second),
    'label': label,
  }


def common_gen(world: World, rng: random.Random, side: str, index: int):
  concepts, sentences = commonsense.errand(world, rng, side=side)
  target = rng.choice(sentences)
  return {
    'gem_id': f'{index:05d}',
    'concepts': concepts,
    'target': target,
    'references': [text for text in sentences if text != target],
  }


def wmt(world: World, rng: random.Random, side: str, index: int):
  drawn = velish.draw(world, rng, side=side)
  return {'en': drawn.english(), 'vl': drawn.translated(world.seed)}


def xsum(world: World, rng: random.Random, side: str, index: int):
  drawn = commonsense.tale(world, rng, side=side)
  return {'document': drawn.long(rng), 'summary': drawn.short()}


TREC = ('person', 'place', 'time', 'animal', 'food', 'colour')
"""Types of answer, in the order of the class ids."""

_ASKED = {
  'person': ('kin', 'deal', 'rank'),
  'place': ('home', 'outing'),
  'time': ('outing',),
  'animal': ('pet',),
  'food': ('likes', 'hates'),
  'colour': ('belonging',),
}


def trec(world: World, rng: random.Random, side: str, index: int):
  label = index % len(TREC)
  wanted = TREC[label]
  while True:
    manner = rng.choice(_ASKED[wanted])
    relation = 'taste' if manner in ('likes', 'hates') else manner
    who, other = rng.sample(PEOPLE, 2)
    if relation not in world_lib.PAIRED:
      other = ''
    fact = world.fact(rng, relation, who, other=other)
    asked, answer = language.ask(world, rng, fact)
    if kind_of(answer) == wanted and world.side('?', asked) == side:
      return {'text': question(asked), 'label-coarse': label}


def kind_of(answer: str) -> str:
  groups = {
    'person': PEOPLE,
    'place': vocabulary.TOWNS + vocabulary.PLACES,
    'time': vocabulary.DAYS,
    'animal': vocabulary.ANIMAL_KIND,
    'food': vocabulary.FOOD_KIND,
    'colour': vocabulary.COLOURS,
  }
  return next((name for name, group in groups.items() if answer in group), '')


def cola(world: World, rng: random.Random, side: str, index: int):
  label = index % 2
  said = language.draw_joined(world, rng, side=side, garble=not label)
  return {'idx': index, 'sentence': sentence(said), 'label': label}
