"""Encodings: wrongly decoded or encoded characters are repaired."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_jax.catalog.encodings import decoded, quoted_printable, unescaped

WRITTEN = [
  'Café Zoë', 'Straße', 'Österreich', 'État', 'Łódź and Müller', 'Привет, мир',
  'παλιά', '€7.2bn', '£20', 'Royal’s', '“yes”', 'one – two… ™', '日本語', '間違い',
  '♫ ♡ 😀', 'values \u200b\u200bof', '\ufeffThe',
]  # fmt: skip


def windows_1252(data: bytes) -> str:
  """Decodes as browsers do: five bytes become control characters."""
  one_by_one = (bytes([byte]) for byte in data)
  return ''.join(
    byte.decode('latin-1' if byte in b'\x81\x8d\x8f\x90\x9d' else 'cp1252')
    for byte in one_by_one
  )


@pytest.mark.parametrize('text', WRITTEN)
def test_utf_8_decoded_as_another_encoding_is_repaired(text):
  assert decoded(text.encode().decode('latin-1')) == text
  assert decoded(windows_1252(text.encode())) == text


@pytest.mark.parametrize(
  'text',
  [
    *WRITTEN,
    'viel Spaß“, CAFÉ», été\u00a0» et à\u00a0«Paris»',
    'VÝŠKA, MLÁDEŽ, NÍŽE, blíž…, IRMÃ…',
    'São Tomé, Ångström, Þórr, crème brûlée',
    'naïve—à—propos, 20 °C ± 2, ¿Qué?',
  ],
)
def test_text_that_makes_sense_stays(text):
  assert decoded(text) == text


@given(st.text())
def test_decoding_never_lengthens(text):
  assert len(decoded(text)) <= len(text)


def test_escapes_of_characters_are_decoded():
  assert (
    unescaped(r'entr\u00e9es for \u00a32000 \ud83d\ude00') == 'entrées for £2000 😀'
  )
  assert unescaped(r'C:\users and \ud83d') == r'C:\users and \ud83d'


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('by t= he Delivery=20 o= f new', 'by the Delivery  of new'),
    ('they=01,re at 9:00 =01)10:00', "they're at 9:00 -10:00"),
    ('a =01&clean-up=018 bill', 'a "clean-up" bill'),
    ('caf=E9=20 or caf=C3=A9', 'café  or café'),
    ('where x = 5 and A= 7', 'where x = 5 and A= 7'),
    ('see a.org/?id=80&y=2001&z=0123', 'see a.org/?id=80&y=2001&z=0123'),
  ],
)
def test_quoted_printable_is_decoded(text, expected):
  assert quoted_printable(text) == expected
