r"""Encodings: characters that a text spells as something else, put back.

UTF-8 that was read as Latin-1 or Windows-1252, `\u00e9` in full, and the
quoted-printable of mail.
"""

import re

_MARKS = {
  bytes([byte]).decode('cp1252'): byte
  for byte in range(0x80, 0xA0)
  if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
"""Windows-1252 has marks and letters where Latin-1 has control characters."""

_BYTES = _MARKS | {chr(byte): byte for byte in range(0x80, 0x100)}

_MORE = '[\x80-\xbf' + ''.join(_MARKS) + ']'
"""What may follow the first character of a letter of several bytes."""

_TYPED = '\xa0\xab\xbb‘’“”–—…™‹›'
"""What a writer may put after a letter with an accent: `CAFÉ»`, `Spaß“`."""

_CHARACTER = re.compile(
  f'[\xc2-\xdf]{_MORE}|[\xe0-\xef]{_MORE}{{2}}|[\xf0-\xf4]{_MORE}{{3}}'
)
_RUN = re.compile(f'(?:{_CHARACTER.pattern})+')


def decoded(text: str) -> str:
  """UTF-8 that was read as Latin-1 or Windows-1252: `CafÃ©` -> `Café`.

  Only runs of characters that are valid UTF-8 are changed, and only where nobody would
  have written them: an accented letter before a quote, a dash or a guillemet stays,
  and so does `VÝŠKA`.
  """
  return _RUN.sub(_decode, text)


def _decode(match: re.Match[str]) -> str:
  characters = _CHARACTER.findall(match[0])
  after = match.string[match.end() : match.end() + 1]
  if not any(_is_misread(c, match[0], after) for c in characters):
    return match[0]
  return ''.join(
    _read(c) if len(characters) > 1 or _is_misread(c, match[0], after) else c
    for c in characters
  )


def _is_misread(character: str, run: str, after: str) -> bool:
  """Whether `character`, which ends `run` before `after` if alone, is no writer's."""
  first, second, last = character[0], character[1], character[-1]
  if first in 'ÂÃ' and second in '\xa0\xab\xbb' or character == 'ï»¿':
    return True
  if first in 'ÂÃÄÅ' and second in _TYPED:
    return run == character and after.isalnum()
  if second.isalpha() and first not in 'ÂÃÄÅÐÑð':
    return len(character) > 2 and last not in _TYPED and not last.isalpha()
  if first == 'â' and second in '™–—':  # symbols, as in `â™«`
    return second == '™' or (last not in _TYPED and not last.isalpha())
  return second not in _TYPED


def _read(character: str) -> str:
  try:
    return bytes(_BYTES[c] for c in character).decode('utf-8')
  except UnicodeDecodeError:  # a surrogate, or longer than it need be: not UTF-8
    return character


_ESCAPES = re.compile(r'(?:\\u[0-9a-fA-F]{4})+')


def unescaped(text: str) -> str:
  r"""The characters that `\u` and four digits stand for: `entr\u00e9e` -> `entrée`."""

  def character(match: re.Match[str]) -> str:
    units = bytes.fromhex(match[0].replace('\\u', ''))
    try:
      return units.decode('utf-16-be')
    except UnicodeDecodeError:  # half of a pair: there is no such character
      return match[0]

  return _ESCAPES.sub(character, text)


_SOFT_BREAK = re.compile(r'=(?:[ \n]|\Z)')
_CODE = re.compile(r'(?:=(?:20|3D|0[0-9A-F]|[89A-F][0-9A-F]))+')
_TRANSPORTED = re.compile(
  r'=20(?=\s|\Z)|=09(?=[\s$A-Z])|=01[,)*&]|(?:[a-z]= [a-z].*){2}', re.DOTALL
)
_MARKS_OF_01 = {'=01,': "'", '=01)': '-', '=01*': ' - ', '=01&': '"', '=018': '"'}
"""Marks of the Enron mails: what their codes stood for in the text processor."""


def quoted_printable(text: str) -> str:
  """Mail as it was before its transport: `o= f=20` -> `of `, `=E9` -> `é`.

  A line that was cut ends with `=`, and its newline may have become a blank. A text is
  taken for quoted-printable if it has a code of a blank or of the marks of the Enron
  mails, or two words that are cut; in any other, `x = 5` stays.
  """
  if not _TRANSPORTED.search(text):
    return text
  text = _SOFT_BREAK.sub('', text)
  for code, mark in _MARKS_OF_01.items():
    text = text.replace(code, mark)
  return _CODE.sub(_code, text)


def _code(match: re.Match[str]) -> str:
  raw = bytes.fromhex(match[0].replace('=', ''))
  try:
    text = raw.decode('utf-8')
  except UnicodeDecodeError:
    text = raw.decode('cp1252', errors='ignore')
  return ''.join(c if c.isprintable() else ' ' for c in text)
