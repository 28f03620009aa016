r"""Encodings: repairs of text that was decoded wrongly or left encoded.

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

_CONTINUATION = '[\x80-\xbf' + ''.join(_MARKS) + ']'
"""Characters that a continuation byte of UTF-8 is misread as."""

_PLAUSIBLE = '\xa0\xab\xbb‘’“”–—…™‹›'
"""Marks that may rightly follow an accented letter: `CAFÉ»`, `Spaß“`."""

_CHARACTER = re.compile(
  f'[\xc2-\xdf]{_CONTINUATION}|[\xe0-\xef]{_CONTINUATION}{{2}}|[\xf0-\xf4]{_CONTINUATION}{{3}}'
)
_RUN = re.compile(f'(?:{_CHARACTER.pattern})+')


def decoded(text: str) -> str:
  """UTF-8 that was read as Latin-1 or Windows-1252: `CafÃ©` -> `Café`.

  Only runs of characters that are valid UTF-8 are changed, and only if they make no
  sense as written: an accented letter before a quote, a dash or a guillemet stays, and
  so does `VÝŠKA`.
  """
  return _RUN.sub(_decode, text)


def _decode(match: re.Match[str]) -> str:
  characters = _CHARACTER.findall(match[0])
  after = match.string[match.end() : match.end() + 1]
  if not any(_is_misread(c, match[0], after) for c in characters):
    return match[0]
  return ''.join(
    _reread(c) if len(characters) > 1 or _is_misread(c, match[0], after) else c
    for c in characters
  )


def _is_misread(character: str, run: str, after: str) -> bool:
  """True if `character` of `run`, which `after` follows, is misread UTF-8."""
  first, second, last = character[0], character[1], character[-1]
  if first in 'ÂÃ' and second in '\xa0\xab\xbb' or character == 'ï»¿':
    return True
  if first in 'ÂÃÄÅ' and second in _PLAUSIBLE:
    return run == character and after.isalnum()
  if second.isalpha() and first not in 'ÂÃÄÅÐÑð':
    return len(character) > 2 and last not in _PLAUSIBLE and not last.isalpha()
  if first == 'â' and second in '™–—':  # symbols, as in `â™«`
    return second == '™' or (last not in _PLAUSIBLE and not last.isalpha())
  return second not in _PLAUSIBLE


def _reread(character: str) -> str:
  try:
    return bytes(_BYTES[c] for c in character).decode('utf-8')
  except UnicodeDecodeError:  # a surrogate or an overlong form: not UTF-8
    return character


_ESCAPES = re.compile(r'(?:\\u[0-9a-fA-F]{4})+')


def unescaped(text: str) -> str:
  r"""Replaces `\u` and four digits by their character: `entr\u00e9e` -> `entrée`."""

  def character(match: re.Match[str]) -> str:
    units = bytes.fromhex(match[0].replace('\\u', ''))
    try:
      return units.decode('utf-16-be')
    except UnicodeDecodeError:  # half of a surrogate pair
      return match[0]

  return _ESCAPES.sub(character, text)


_SOFT_BREAK = re.compile(r'=(?:[ \n]|\Z)')
_CODE = re.compile(r'(?:=(?:20|3D|0[0-9A-F]|[89A-F][0-9A-F]))+')
_TRANSPORTED = re.compile(
  r'=20(?=\s|\Z)|=09(?=[\s$A-Z])|=01[,)*&]|(?:[a-z]= [a-z].*){2}', re.DOTALL
)
_ENRON_MARKS = {'=01,': "'", '=01)': '-', '=01*': ' - ', '=01&': '"', '=018': '"'}
"""Code in the Enron mails -> its mark in the text processor that wrote it."""


def quoted_printable(text: str) -> str:
  """Decodes quoted-printable mail: `o= f=20` -> `of `, `=E9` -> `é`.

  A broken line ends with `=`, and its newline may have become a blank. A text counts as
  quoted-printable if it has a code of a blank or of the marks of the Enron mails, or
  two broken words; in any other, `x = 5` stays.
  """
  if not _TRANSPORTED.search(text):
    return text
  text = _SOFT_BREAK.sub('', text)
  for code, mark in _ENRON_MARKS.items():
    text = text.replace(code, mark)
  return _CODE.sub(_code, text)


def _code(match: re.Match[str]) -> str:
  raw = bytes.fromhex(match[0].replace('=', ''))
  try:
    text = raw.decode('utf-8')
  except UnicodeDecodeError:
    text = raw.decode('cp1252', errors='ignore')
  return ''.join(c if c.isprintable() else ' ' for c in text)
