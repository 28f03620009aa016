r"""Prose: text of a dataset as a person would print it.

Many datasets hold text that was split into tokens (`it 's a -lrb- new -rrb- day .`),
or that still has HTML and invisible characters of the page it was taken from. A
declaration with `cleaning=prose` has every field, option and reference cleaned alike,
so that a gold span still stands in its passage; text that needs nothing stays as it is.
docs/data.md lists what is cleaned and what is left as the dataset has it.
"""

import functools
import html
import itertools
import re

_LINE_BREAK = re.compile(r'(?i)<br\s*/?>|</?nowiki>')
_OTHER_BREAK = re.compile(r'\r\n?|[\x0b\x0c\x85\u2028\u2029]')
_ENTITY = re.compile(r'&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,30});')
_MISREAD = re.compile(r'[\xc2\xc3][\x80-\xbf]')
_MISREAD_MARKS = {
  'â€˜': '‘', 'â€™': '’', 'â€œ': '“', 'â€\x9d': '”',
  'â€“': '–', 'â€”': '—', 'â€¦': '…', 'â€¢': '•',
}  # fmt: skip
"""UTF-8 that was read as Windows-1252; _MISREAD finds the letters."""
_INVISIBLE = re.compile(
  r'[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u2060\ufeff]'
)
_WORDLESS_LINE = re.compile(r'(?m)^[^\w\n]+$')

_CLITICS = r'(?:s|re|ve|ll|d|m)\b(?! ?\')'
_LINKS = '(?:a|an|and|at|by|for|in|of|off|on|or|out|the|to|up)'
_RULES = tuple(
  (marks, re.compile(pattern), by)
  for marks, pattern, by in (
    # Brackets and quotes that a tokenizer spelled out.
    (('b-', 'B-'), r'-(?i:lrb|lsb|lcb)-', '('),
    (('b-', 'B-'), r'-(?i:rrb|rsb|rcb)-', ')'),
    (('``',), r'``+ ?', '"'),
    (("''",), r"(?<!\w)''+(?=\w)| ?''+(?!\w)", '"'),
    # Quotes doubled by a CSV file, and what a dropped word has left behind.
    (('""',), r'\A"((?=(?:[^"]|"(?!"))*"")(?:[^"]|"")*)"\Z', r'\1'),
    (('""',), r'(?<=\s)""(?=\s)', ''),
    (('""',), r'"{2,}', '"'),
    ((' (',), r' \([\s;,]*\)', ''),
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
    (('$ ', '£ ', '€ ', '# '), r' (?<=[$£€#] )(?=\d)', ''),
    ((' %',), r' (?<=\d )(?=%(?!\w))', ''),
    (('( ', '[ '), r'(?<![^\s\w".,])([(\[]) (?=[\w"\'$£€.])', r'\1'),
    ((' )', ' ]'), r' (?<=[\w.,!?"\'%] )(?=[)\]](?!\w))', ''),
    # Quotations in single marks; what follows an s may be a plural's possessive.
    (('`',), r"(?<!\S)` ?([^`'\n]+?) '(?!\w)", r"'\1'"),
    ((" '",), r"(?<![sS] )(?<!\S)' ([^'\n]+?) '(?=[\s.,!?]|$)", r"'\1'"),
    # Hyphens where they can be nothing else; elsewhere they may be dashes.
    (
      (' - ',),
      r' - (?:(?<=\b[Tt] - )(?=shirt)|(?<=\b[Xx] - )(?=ray)|(?<=\b[Ee] - )(?=mail)'
      r'|(?<=\b[Ss]elf - )(?=[a-z])|(?<=\d - )(?=\d))',
      '-',
    ),
    ((' - ',), rf' - (?<=\w - )({_LINKS}) - (?=\w)', r'-\1-'),
    ((' - ',), rf'-({_LINKS})-({_LINKS}) - (?=\w)', r'-\1-\2-'),
  )
)
"""(texts of which one must occur, pattern, by what it is replaced)."""

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

  Every rule makes a text shorter or leaves its length, so the rules come to an end;
  they are applied until none of them changes anything, and so cleaning what is clean
  changes nothing.
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
    text = _MISREAD.sub(lambda match: match[0].encode('latin-1').decode('utf-8'), text)
    for misread, mark in _MISREAD_MARKS.items():
      text = text.replace(misread, mark)
  text = _INVISIBLE.sub('', _OTHER_BREAK.sub('\n', text))
  text = '\n'.join(' '.join(line.split()) for line in text.split('\n'))
  for marks, pattern, by in _RULES:
    if any(mark in text for mark in marks):
      text = pattern.sub(by, text)
  if " '" in text or '" ' in text or ' "' in text:
    text = '\n'.join(_quotations(_possessive(line)) for line in text.split('\n'))
  if '\n' in text and re.search(r'\w', text):
    text = _WORDLESS_LINE.sub('', text)
    text = re.sub(r'\n{3,}', '\n\n', text).strip()
  return text.strip()


def _possessive(line: str) -> str:
  """`the brothers ' bid`, where no other mark of the line could make it a quotation."""
  return _POSSESSIVE.sub("'", line) if len(_LONE.findall(line)) == 1 else line


def _quotations(line: str) -> str:
  """Closes up double quotes: the first opens, the next closes, and so on.

  Of an odd number one is without its partner: the first, if the line begins with it,
  or the last, if the line ends with it. In any other line nothing is changed but a mark
  that is alone: it closes before `he said`, and opens elsewhere.
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
