"""A reader of the microworld's English that shares no code with the generator.

It parses sentences into facts by its own patterns, draws conclusions by the common
knowledge of the pretraining text, judges claims and answers questions. The tests use it
to check the generator's labels.
"""

import re

N = r'([A-Z][a-z]+)'
W = r'([a-z]+)'
DAY = r'((?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)'
COLOUR = r'(red|blue|green|yellow|black|white|brown|grey|pink|purple)'
MOODS = (
  ('happy', 'glad', 'cheerful'),
  ('sad', 'unhappy', 'gloomy'),
  ('angry', 'cross', 'furious'),
  ('tired', 'weary', 'sleepy'),
  ('afraid', 'scared', 'frightened'),
  ('calm', 'quiet', 'peaceful'),
)
MOOD = '(' + '|'.join(word for group in MOODS for word in group) + ')'
KIN = '(sister|brother|mother|father|daughter|son|aunt|uncle|niece|nephew)'
KIND = '(fruit|vegetable|sweet|nut|drink|dog|bird|horse|fish|cat|snake)'
MORE = {'taller': 'tall', 'older': 'old', 'richer': 'rich', 'faster': 'fast'}
MORE |= {'stronger': 'strong'}
LESS = {'shorter': 'tall', 'younger': 'old', 'poorer': 'rich', 'slower': 'fast'}
LESS |= {'weaker': 'strong'}
OFFSPRING = {'mother', 'father'}
SIBLINGS = {'sister', 'brother'}


def mood_of(word):
  return next(group[0] for group in MOODS if word in group)


def _kin(who, role, whom):
  """A kinship without gender: (kind, elder or first, younger or second)."""
  if role in SIBLINGS:
    return ('kin', 'sibling', *sorted((who, whom)))
  if role in ('daughter', 'son'):
    return 'kin', 'parent', whom, who
  if role in ('niece', 'nephew'):
    return 'kin', 'aunt', whom, who
  return 'kin', 'parent' if role in OFFSPRING else 'aunt', who, whom


PATTERNS = (
  (rf'{N} keeps a kind of {KIND}', lambda s, k: ('pet kind', s, k)),
  (rf'{N} likes a kind of {KIND}', lambda s, k: ('likes kind', s, k)),
  (rf'{N} hates a kind of {KIND}', lambda s, k: ('hates kind', s, k)),
  (rf'{N} (?:is|feels) {MOOD}', lambda s, m: ('mood', s, mood_of(m))),
  (rf'{N} (?:works as|is|has the trade of) a {W}', lambda s, w: ('trade', s, w)),
  (rf'{N} lives by (the [a-z]+)', lambda s, f: ('near', s, f)),
  (rf'{N} (?:lives|has a house) in {N}', lambda s, t: ('home', s, t)),
  (rf'the home of {N} is in {N}', lambda s, t: ('home', s, t)),
  (rf'{N} has a {W} at home', lambda s, a: ('pet', s, a)),
  (rf'{N} (?:keeps|looks after) a {W}', lambda s, a: ('pet', s, a)),
  (rf'{N} (?:likes|is fond of|enjoys) {W}', lambda s, f: ('likes', s, f)),
  (rf'{N} (?:hates|cannot stand|dislikes) {W}', lambda s, f: ('hates', s, f)),
  (rf'{N} (?:has|owns) a {COLOUR} {W}', lambda s, c, d: ('colour', s, d, c)),
  (rf'the {W} of {N} is {COLOUR}', lambda d, s, c: ('colour', s, d, c)),
  (rf'{N} owns a {W}', lambda s, d: ('owns', s, d)),
  (rf'{N} (?:goes to|visits) the {W} on {DAY}', lambda s, p, d: ('goes', s, p, d)),
  (rf'on {DAY} {N} goes to the {W}', lambda d, s, p: ('goes', s, p, d)),
  (rf'{N} visits the {W}', lambda s, p: ('visits', s, p)),
  (rf'{N} is the {KIN} of {N}', _kin),
  (rf'the {KIN} of {N} is {N}', lambda role, o, s: _kin(s, role, o)),
  (
    rf'{N} is (taller|older|richer|faster|stronger) than {N}',
    lambda s, more, o: ('rank', MORE[more], s, o),
  ),
  (
    rf'{N} is (shorter|younger|poorer|slower|weaker) than {N}',
    lambda o, less, s: ('rank', LESS[less], s, o),
  ),
  (
    rf'{N} is not as (tall|old|rich|fast|strong) as {N}',
    lambda o, plain, s: ('rank', plain, s, o),
  ),
  (rf'{N} (gives|sells|lends) {N} a {W}', lambda s, v, o, d: ('deal', v, s, o, d)),
  (rf'{N} (gives|sells|lends) a {W} to {N}', lambda s, v, d, o: ('deal', v, s, o, d)),
  (
    rf'{N} (gets|buys|borrows) a {W} from {N}',
    lambda o, v, d, s: (
      'deal',
      {'gets': 'gives', 'buys': 'sells', 'borrows': 'lends'}[v],
      s,
      o,
      d,
    ),
  ),
  # Last: any other verb is that of a trade.
  (rf'{N} ([a-z]+ [a-z]+(?: people)?)', lambda s, deed: ('deed', s, deed)),
)


def read(sentence):
  """Parses one sentence; None if no pattern fits."""
  text = sentence.strip().rstrip('.')
  first = text.split(' ', 1)[0]
  if first in ('The', 'On'):
    text = text[0].lower() + text[1:]
  for pattern, says in PATTERNS:
    match = re.fullmatch(pattern, text)
    if match:
      return says(*match.groups())
  return None


def read_passage(text):
  """The facts of a passage, in order; a pronoun means the last subject."""
  facts, last = [], ''
  for sentence in re.findall(r'[^.]+\.', text):
    sentence = re.sub(r'^(She|He)\b', last, sentence.strip())
    fact = read(sentence)
    assert fact, f'cannot read {sentence!r}'
    facts.append(fact)
    last = fact[1]
  return facts


class Knowledge:
  """Common knowledge, collected from the pretraining text."""

  def __init__(self, text):
    def pairs(pattern):
      return dict(re.findall(pattern, text))

    self.deed = pairs(
      r'\bA ([a-z]+) ((?!is\b|works\b|needs\b)[a-z]+ [a-z]+(?: people)?)\.'
    )
    self.near = pairs(r'\b([A-Z][a-z]+) lies by (the [a-z]+)\.')
    self.region = pairs(r'\b([A-Z][a-z]+) is a town in the ([a-z]+)\.')
    self.tool = pairs(r'\bA ([a-z]+) needs ([a-z ]+)\.')
    self.animal = pairs(r'\bA ([a-z]+) is a kind of ([a-z]+)\.')
    found = re.findall(r'\b([A-Z][a-z]+) (?:is|are) a kind of ([a-z]+)\.', text)
    self.food = {food.lower(): kind for food, kind in found}
    self.effects = {}
    for cause, effect in re.findall(
      r'\b[A-Z][a-z]+ ([a-z ]+), so (?:she|he) ([a-z ]+)\.', text
    ):
      self.effects.setdefault(cause, set()).add(effect)
    self.reasons = {}
    for first, verb, second, who, reason in re.findall(
      r'\b([A-Z][a-z]+) ([a-z ]+) ([A-Z][a-z]+) because ([A-Z][a-z]+) ([a-z ]+)\.', text
    ):
      self.reasons[verb, reason] = 0 if who == first else 1
      assert who in (first, second)

  def closure(self, facts):
    """The facts and all their conclusions."""
    out = set(facts)
    for fact in facts:
      kind, subject, value = fact[:3]
      match kind:
        case 'trade':
          out.add(('deed', subject, self.deed[value]))
        case 'home':
          out.add(('near', subject, self.near[value]))
        case 'pet':
          out.add(('pet kind', subject, self.animal[value]))
        case 'likes' | 'hates':
          out.add((f'{kind} kind', subject, self.food[value]))
        case 'colour':
          out.add(('owns', subject, value))
        case 'goes':
          out.add(('visits', subject, value))
    return out

  def judge(self, passage, claim):
    """`true`, `untrue` (contradicted on its topic) or `unsaid`."""
    facts = read_passage(passage)
    said = read(claim)
    assert said, f'cannot read {claim!r}'
    if said in self.closure(facts):
      return 'true'
    return 'untrue' if topic(said) in {topic(fact) for fact in facts} else 'unsaid'


TOPICS = {
  'deed': 'trade',
  'near': 'home',
  'pet kind': 'pet',
  'likes': 'taste',
  'hates': 'taste',
  'likes kind': 'taste',
  'hates kind': 'taste',
  'owns': 'colour',
  'visits': 'goes',
}


def topic(fact):
  """The topic of a fact: its kind and its people."""
  if fact[0] in ('kin', 'rank', 'deal'):
    return fact[0], frozenset(fact[2:4])
  return TOPICS.get(fact[0], fact[0]), fact[1]


THIRD = {'have': 'has', 'go': 'goes', 'catch': 'catches', 'teach': 'teaches'}


def stated(question):
  """Turns a yes-no question into a statement."""
  text = question.strip().rstrip('?')
  text = text[0].lower() + text[1:]
  match = re.fullmatch(r'does ([A-Z]\w+) find (\w+) hard to stand', text)
  if match:
    return f'{match[1]} cannot stand {match[2]}'
  match = re.fullmatch(r'does ([A-Z]\w+) (\w+) (.*)', text)
  if match:
    return f'{match[1]} {THIRD.get(match[2], match[2] + "s")} {match[3]}'
  match = re.fullmatch(r'is (the \w+ of [A-Z]\w+|[A-Z]\w+) (.*)', text)
  return f'{match[1]} is {match[2]}'


ASKED = (
  (r'what is the trade of N|what does N work as', 'trade', 2),
  (r'where does N live|in what town is N at home', 'home', 2),
  (r'what animal does N keep|what pet has N got|what does N look after', 'pet', 2),
  (r'what does N like|what is N fond of|what food is dear to N', 'likes', 2),
  (r'what does N hate|what does N dislike|what food does N hate', 'hates', 2),
  (r'how does N feel|in what mood is N', 'mood', 2),
)


def answers(passage, question):
  """The right short answers; a mood becomes the first word of its group."""
  facts = read_passage(passage)
  text = question.rstrip('?')
  text = text[0].lower() + text[1:]
  for patterns, kind, where in ASKED:
    match = re.fullmatch(patterns.replace('N', N), text)
    if match:
      who = next(filter(None, match.groups()))
      return {fact[where] for fact in facts if fact[0] == kind and fact[1] == who}
  out = set()
  for fact in facts:
    kind, *parts = fact
    if kind == 'colour':
      who, thing, colour = parts
      out |= {colour} if text == f'what colour is the {thing} of {who}' else set()
      out |= {thing} if text == f'what {colour} thing has {who} got' else set()
    elif kind == 'goes':
      who, place, day = parts
      out |= {place} if text == f'where does {who} go on {day}' else set()
      out |= {day} if text == f'when does {who} go to the {place}' else set()
    elif kind == 'deal':
      verb, giver, taker, thing = parts
      get = {'gives': 'get', 'sells': 'buy', 'lends': 'borrow'}[verb]
      out |= {giver} if text == f'who {verb} {taker} a {thing}' else set()
      out |= {thing} if text == f'what does {taker} {get} from {giver}' else set()
    elif kind == 'rank':
      plain, more, less = parts
      word = next(word for word, of in MORE.items() if of == plain)
      out |= {more} if text == f'who is {word} than {less}' else set()
      word = next(word for word, of in LESS.items() if of == plain)
      out |= {less} if text == f'who is {word} than {more}' else set()
    elif kind == 'kin':
      match = re.fullmatch(rf'who is the {KIN} of {N}', text)
      for who in parts[1:]:
        if match and _kin(who, match[1], match[2]) == fact and who != match[2]:
          out.add(who)
  return out
