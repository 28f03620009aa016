"""Prose: removes the traces of tokenizers and web pages, and nothing else."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flan_jax.catalog.prose import prose, verbatim

CLEANED = [
  # Contractions and possessives.
  ("it 's a dog 's life , is n't it ?", "it's a dog's life, isn't it?"),
  ("I ' m sure they ' ll come ; I 've heard", "I'm sure they'll come; I've heard"),
  ("DON 'T ask . Fresnel 's", "DON 'T ask. Fresnel's"),
  ("the brothers ' bid failed .", "the brothers' bid failed."),
  ("at six o 'clock , I 'm gon na go", "at six o'clock, I'm gonna go"),
  # Brackets and quotes.
  ('a -LRB- very -RRB- long -lsb- day -rsb- .', 'a (very) long [day].'),
  ("`` Go ! '' she said .", '"Go!" she said.'),
  ('" I saw it , " he said , " and left . "', '"I saw it," he said, "and left."'),
  ('" I saw it , he said .', '"I saw it, he said.'),
  ('I saw it , " he said .', 'I saw it," he said.'),
  ('He said , " I saw it .', 'He said, "I saw it.'),
  ("with `` Do Over '' , `` Twice", 'with "Do Over", "Twice'),
  ("on its ''10 Most Wanted'' list", 'on its "10 Most Wanted" list'),
  ("he called it ' odd ' .", "he called it 'odd'."),
  ("he said '' no ''", 'he said "no"'),
  ("the \"bleak'' outlook", 'the "bleak" outlook'),
  ("`` Help ! ''\nI said .", '"Help!"\nI said.'),
  ('the club is "\'\'Alvinegro".', 'the club is "Alvinegro".'),
  ('-LSB- XV , 1 -RSB- and -LCB- 2 -RCB-', '[XV, 1] and {2}'),
  ('Mary Roe (; born 1977) is', 'Mary Roe (born 1977) is'),
  ('Lee (; ] ; Japanese: Ri) is', 'Lee (Japanese: Ri) is'),
  ('Wu Di () is; Asana ( ), an app; Wang ()is', 'Wu Di is; Asana, an app; Wang is'),
  ('the maker ( NYSE : ACM ) fell', 'the maker (NYSE: ACM) fell'),
  # Numbers.
  ('$ 3.01 a share , up 1.4 %', '$3.01 a share, up 1.4%'),
  ('at 12 : 30 , 10 , 000 people', 'at 12:30, 10,000 people'),
  ('in the center. .', 'in the center.'),
  ('from 1828 - 1904', 'from 1828-1904'),
  ('open 12 : 00 - 5 : 00', 'open 12:00-5:00'),
  ('of dogs?.', 'of dogs?'),
  ('the end of it!.', 'the end of it!'),
  ('a state - of - the - art T - shirt', 'a state-of-the-art T-shirt'),
  # Web pages and CSV files.
  ('one<br /><br />two', 'one\n\ntwo'),
  ('Tom &amp; Jerry &amp;lt; 3 &#233;', 'Tom & Jerry < 3 é'),
  ('"Who wrote ""Emma""?"', 'Who wrote "Emma"?'),
  ('Â£20 for CafÃ© Royalâ€™s', '£20 for Café Royal’s'),
  ('the Library (), a library', 'the Library, a library'),
  ('built.[citation needed] So', 'built. So'),
  ('dry.[citation needed]. So, planned,[Citation needed] it', 'dry. So, planned, it'),
  # Blanks and invisible characters.
  ('1 cup oil    2 tsp salt     Pepper', '1 cup oil, 2 tsp salt, Pepper'),
  ('One ends.    Two begins     and goes on', 'One ends. Two begins and goes on'),
  ('Team Sky     31 hrs\nMovistar', 'Team Sky\n31 hrs\nMovistar'),
  ('two  blanks,\u00a0one\u200b \t tab ', 'two blanks, one tab'),
  ('one\r\ntwo\n\n\n\nthree', 'one\ntwo\n\nthree'),
  ('one\n-----\ntwo', 'one\n\ntwo'),
]


@pytest.mark.parametrize(('text', 'cleaned'), CLEANED)
def test_traces_of_tokenizers_and_pages_are_removed(text, cleaned):
  assert prose(text) == cleaned
  assert prose(cleaned) == cleaned


@pytest.mark.parametrize(
  'text',
  [
    'He said "no" and "yes", and left. "Why?" I asked.',
    "The letter 's' in 'bus', the dogs' home, rock 'n' roll.",
    'A 5" by 6" board costs $3.50 (20 % off).'.replace(' %', '%'),
    '(29 November 1825 - 16 August 1893)',
    'from 23rd July 1927 - 28th February 1966',
    'from 1/1/02 - 10/31/05, 3 1/2 - 1/2',
    'call foo () now, hey (; lol',
    "a 6'' man on ''03 Bonnie and Clyde' last year",
    'What??? Really?...',
    'Not bad :) but ;) well :( so :-D :P',
    "Jake: ? Adam: !! and :'\u2011( Aria",
    'Version .5 of .NET: f(x) = [1, 2] and a->b; really?!',
    'Well ... perhaps. Wait for it...',
    'A dash - like this - stays, and so does twenty-one.',
    'AT&T, R&D; x < y > z, and <b> in HTML.',
    'In 2003: 15 people. In 1990, 200 people.',
    'What??? Really!!',
    '...',
    '',
  ],
)
def test_clean_text_stays_as_it_is(text):
  assert prose(text) == text


PIECES = [
  *string.ascii_letters, *string.digits, *string.punctuation, *'   \n\n\t\u00a0é”Â£',
  " 's", " n't", '``', "''", " ' ", ' " ', '""', '&amp;', '-LRB-', '<br>', ' - ', ' , ',
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(''.join) | st.text())
@example('" "')
@example("' ' '")
@example('a " " " b')
def test_cleaning_is_idempotent_and_never_lengthens_a_text(text):
  cleaned = prose(text)
  assert prose(cleaned) == cleaned
  assert len(cleaned) <= len(text)
  assert cleaned == cleaned.strip()


@given(st.text())
def test_verbatim_changes_nothing(text):
  assert verbatim(text) == text
