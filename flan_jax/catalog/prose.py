r"""Prose: repairs text that was tokenized or taken from web pages.

Many datasets hold text that was split into tokens (`it 's a -lrb- new -rrb- day .`),
or that still has HTML and invisible characters of the page it was taken from. A
declaration with `cleaning=prose` has every field, option and reference cleaned alike,
so that a gold span is still found in its passage; clean text stays as it is.
docs/explanation/text_cleaning.md lists the repairs, and the flaws that stay.
"""

import functools
import html
import itertools
import re

from flan_jax.catalog.encodings import decoded

_LINE_BREAK = re.compile(r'(?i)<br\s*/?>|</?nowiki>')
_OTHER_BREAK = re.compile(r'\r\n?|[\x0b\x0c\x85\u2028\u2029]')
_ENTITY = re.compile(r'&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,30});')
_INVISIBLE = re.compile(
  r'[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u2060\ufeff]'
)
_LIST = re.compile(r'(?<=[\w)%"\']) [ \xa0]{3,}(?=[A-Z\d])')
"""Blanks between entries of a list: four or more, not after the end of a sentence."""
_WORDLESS_LINE = re.compile(r'(?m)^[^\w\n]+$')

_CLITICS = r'(?:s|re|ve|ll|d|m)\b(?! ?\')'
_LINKS = '(?:a|an|and|at|by|for|in|of|off|on|or|out|the|to|up)'
_PART_OF_DATE = re.compile(
  r'(?i)\b(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?'
  r'|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?'
  r'|\d+(?:st|nd|rd|th))\b|\d/\d'
)


def _range(match: re.Match[str]) -> str:
  """Closes up `1828 - 1904`, but not `3 May 1825 - 16 August 1893`.

  The text around the hyphen is searched, since a match may be part of a date or a
  fraction.
  """
  before = match.string[max(0, match.start() - 40) : match.start()].split()[-3:]
  after = match.string[match.end() : match.end() + 40].split()[:2]
  return match[0] if _PART_OF_DATE.search(' '.join([*before, '-', *after])) else '-'


_WIKI_NOTE = (
  r'\[(?i:(?:full citation|citation|clarification|verification|page|year) needed'
  r'|original research\??|not in citation given|dubious)\]'
)
_RULES = tuple(
  (marks, re.compile(pattern), by)
  for marks, pattern, by in (
    # Brackets and quotes that a tokenizer spelled out.
    (('b-', 'B-'), r'-(?i:lrb)-', '('),
    (('b-', 'B-'), r'-(?i:rrb)-', ')'),
    (('b-', 'B-'), r'-(?i:lsb)-', '['),
    (('b-', 'B-'), r'-(?i:rsb)-', ']'),
    (('b-', 'B-'), r'-(?i:lcb)- ?', '{'),
    (('b-', 'B-'), r' ?-(?i:rcb)-', '}'),
    # A wiki's notes in its text.
    (('.[', '. ['), rf'(?<=\.)\s?{_WIKI_NOTE}\.(?!\.)', ''),
    (('[',), rf'\s?{_WIKI_NOTE}', ''),
    # Quotes doubled by a CSV file, and remains around a dropped word.
    (('""',), r'\A"((?=(?:[^"]|"(?!"))*"")(?:[^"]|"")*)"\Z', r'\1'),
    (('""',), r'(?<=\s)""(?=\s)', ''),
    (('""',), r'"{2,}', '"'),
    ((' ()',), r'(?<=\w )\(\)(?=[a-z]{2})', ''),
    ((' (',), r' \([\s;,]+\)', ''),
    ((' ()',), r'(?<!\w)([A-Z\d]\w*[.!?"\']*) \(\)', r'\1'),
    (
      (' (',),
      r'(?<=[\w"\'] \()[\s;,\]]*[;,][\s;,\]]* '
      r'(?=[\w\["\'][^()]*(?:\([^()]*\)[^()]*)*\))',
      '',
    ),
    # Contractions: it 's, do n't, I ' m, o 'clock, gon na.
    ((" '",), rf" (?<=[\w.)\"] )'(?={_CLITICS})", "'"),
    ((" '",), r" (?<=[A-Z] )'(?=(?:S|RE|VE|LL|D|M)\b(?! ?'))", "'"),
    ((" n't", " N'T"), r" (?<=\w )(?=(?:n't|N'T)\b)", ''),
    ((" '",), r" (?<=\w )' ?(?=(?:s|t|re|ve|ll|d|m)\b(?! ?'))", "'"),
    ((" '",), r"\b([Oo]|[Yy]|[Mm]a) '(?=clock\b|all\b|am\b)", r"\1'"),
    (('on na', 'an na'), r'\b([Gg]on|[Ww]an) (?=na\b)', r'\1'),
    (('ot ta',), r'\b([Gg]ot) (?=ta\b)', r'\1'),
    # Punctuation, numbers, brackets.
    (('. . .',), r'\.(?: \.){2,}', '...'),
    ((' : ',), r' : (?<=\d : )(?=\d\d\b)', ':'),
    ((' , 000',), r'(?<!\d)(\d{1,3}) , (?=000\b)', r'\1,'),
    (
      (' ,', ' .', ' ?', ' !', ' ;', ' :'),
      r' (?<=[\w"\'’”)\]%*_!?,…] )'
      r'(?=[,?!](?!\w)|\.(?:["\')\]]|\s|$)|[;:](?:\s|$))',
      '',
    ),
    ((' .',), r'(?<=\w)\. \.(?!\S)', '.'),
    (('?.', '!.'), r'(?<=[?!])\.\s*\Z', ''),
    (('$ ', '£ ', '€ ', '# '), r' (?<=[$£€#] )(?=\d)', ''),
    ((' %',), r' (?<=\d )(?=%(?!\w))', ''),
    (('( ', '[ '), r'(?<![^\s\w".,])([(\[]) (?=[\w"\'$£€.])', r'\1'),
    ((' )', ' ]'), r' (?<=[\w.,!?"\'%] )(?=[)\]](?!\w))', ''),
    # Quotations in single quotes; after an s the quote may be a plural's possessive.
    (('`',), r"(?<!\S)` ?([^`'\n]+?) '(?!\w)", r"'\1'"),
    ((" '",), r"(?<![sS] )(?<!\S)' ([^'\n]+?) '(?=[\s.,!?]|$)", r"'\1'"),
    # Hyphens that cannot be dashes.
    (
      (' - ',),
      r' - (?:(?<=\b[Tt] - )(?=shirt)|(?<=\b[Xx] - )(?=ray)|(?<=\b[Ee] - )(?=mail)'
      r'|(?<=\b[Ss]elf - )(?=[a-z]))',
      '-',
    ),
    ((' - ',), r' - (?<=\d - )(?=\d)', _range),
    ((' - ',), rf' - (?<=\w - )({_LINKS}) - (?=\w)', r'-\1-'),
    ((' - ',), rf'-({_LINKS})-({_LINKS}) - (?=\w)', r'-\1-\2-'),
  )
)
"""(texts of which one must occur, pattern, replacement)."""

_OPENING = re.compile(r'``+ ?')
_CLOSING = re.compile(r"(?<!\w)''+(?=\w)| ?''+(?!\w)")
_PAIR = re.compile(r"(?<!\w)'' ?(?! )((?:(?!'').)+?) ?''(?!\w)", re.DOTALL)
_AFTER_STOP = re.compile(r"(?<=[.,!?]) ?''+(?!\w)")
_OTHER_USE = re.compile(r"(?<!\w)''(?=\w)|\d''")
_BESIDE_QUOTE = re.compile(r"(?<=\")''(?=\w)|(?<=\w)''(?=\")")
_POSSESSIVE = re.compile(r"(?<=[sS]) '(?= \w)")
_LONE = re.compile(r"(?<!\S)'(?!\S)")
_LONE_CLOSING = re.compile(
  r'(?<=[,.?!]) "(?= (?:\w+ ){0,3}(?:said|says|told|added|asked|wrote)\b)'
)
_LONE_OPENING = re.compile(
  r'(?<=[\s(])" (?!(?:\w+ ){0,3}(?:said|says|told|added|asked|wrote)\b)(?=\w)'
)


@functools.lru_cache(maxsize=256)
def prose(text: str) -> str:
  """The text without the traces of tokenizers and web pages.

  No rule makes a text longer; they are applied until none changes it, so cleaning is
  idempotent.
  """
  while (cleaned := _once(text)) != text:
    text = cleaned
  return text


def verbatim(text: str) -> str:
  """The text as the dataset has it."""
  return text


def _once(text: str) -> str:
  if '&' in text:
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
  if '<' in text:
    text = _LINE_BREAK.sub(lambda match: '\n' if 'b' in match[0].lower() else '', text)
  if not text.isascii():
    text = decoded(text)
  text = _INVISIBLE.sub('', _OTHER_BREAK.sub('\n', text))
  if '   ' in text:
    text = _LIST.sub('\n' if '\n' in text.strip() else ', ', text)
  text = '\n'.join(' '.join(line.split()) for line in text.split('\n'))
  if '``' in text or "''" in text:
    text = _doubled(text)
  for marks, pattern, by in _RULES:
    if any(mark in text for mark in marks):
      text = pattern.sub(by, text)
  if " '" in text or '" ' in text or ' "' in text:
    text = '\n'.join(_quotations(_possessive(line)) for line in text.split('\n'))
  if '\n' in text and re.search(r'\w', text):
    text = _WORDLESS_LINE.sub('', text)
    text = re.sub(r'\n{3,}', '\n\n', text).strip()
  return text.strip()


def _doubled(text: str) -> str:
  """Quotes of two marks each as double quotes: ` ``no'' ` -> `"no"`.

  Opening ones are unambiguous; if a text has any, so are its closing ones. Two
  apostrophes after a comma or a full stop are quotes too. Others may mean something
  else, as in `6''` or `on ''03 Clyde'`, and stay unless they pair up all the double
  quotes of their line.
  """
  text = _BESIDE_QUOTE.sub('', text)
  if '``' in text:
    return _CLOSING.sub('"', _OPENING.sub('"', text))
  text = _AFTER_STOP.sub('"', text)
  return '\n'.join(_paired(line) for line in text.split('\n'))


def _paired(line: str) -> str:
  """Turns double apostrophes into double quotes if all quotes then form pairs."""
  pairs = _PAIR.sub(r'"\1"', line)
  if "''" in pairs:
    pairs = _CLOSING.sub('"', line) if not _OTHER_USE.search(line) else line
  return pairs if pairs.count('"') % 2 == 0 else line


def _possessive(line: str) -> str:
  """Closes up `the brothers ' bid` if the line has no second lone apostrophe."""
  return _POSSESSIVE.sub("'", line) if len(_LONE.findall(line)) == 1 else line


def _quotations(line: str) -> str:
  """Closes up double quotes: the first opens, the next closes, and so on.

  With an odd number, the first has no partner if the line begins with it, or else the
  last if the line ends with it. Any other such line changes only if it has a single
  mark, which closes before `he said` and opens elsewhere.
  """
  if '" ' not in line and ' "' not in line:
    return line
  marks = [match.start() for match in re.finditer('"', line)]
  drop = set()
  if len(marks) % 2:
    if marks[0] == 0:
      drop |= {1} if line[1:2] == ' ' else set()
      marks = marks[1:]
    elif marks[-1] == len(line) - 1:
      drop |= {marks[-1] - 1} if line[marks[-1] - 1 : marks[-1]] == ' ' else set()
      marks = marks[:-1]
    elif len(marks) == 1:
      return _LONE_CLOSING.sub('"', _LONE_OPENING.sub('"', line))
    else:
      return line
  for opened, closed in zip(marks[::2], marks[1::2], strict=True):
    apart = line[opened + 1] == ' ' and line[closed - 1] == ' '
    if (
      apart and closed - opened > 3 and line[opened - 1 : opened] in ('', ' ', '(', '[')
    ):
      drop |= {opened + 1, closed - 1}
  kept = (
    line[i + 1 : j] for i, j in itertools.pairwise([-1, *sorted(drop), len(line)])
  )
  return ''.join(kept)
