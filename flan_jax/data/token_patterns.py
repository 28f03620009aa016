"""Patterns of a `tokenizer.json`: those that backtrack without end are refused.

`tokenizers` matches them by backtracking. With a pattern such as `(a+)+$`, a short text
takes as long as the engine allows, and it ends by a panic of the engine. Texts that are
bad for the patterns of a file are tried when it is loaded.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from flan_jax.errors import InputError, said

MAX_SECONDS = 0.5
"""Maximum time of a text of 1,024 characters; usual patterns take milliseconds."""

_LENGTHS = (32, 64, 128, 256, 512, 1024)
_USUAL = 'aA1 \n.-_é漢'
_MAX_SIGNS = 16


@contextlib.contextmanager
def guarded(name: str) -> Iterator[None]:
  """Turns a panic of the Rust library, which is no Exception, into a refusal."""
  try:
    yield
  except BaseException as error:
    if type(error).__name__ != 'PanicException':
      raise
    raise InputError(
      f'tokenizer {name!r}: failed on a text ({said(error):.200})'
    ) from None


def check(tokenizer: Any, file: Mapping[str, Any], *, name: str) -> None:
  """Tries texts that make patterns backtrack.

  Args:
    tokenizer: the loaded `tokenizers.Tokenizer`.
    file: the parsed tokenizer.json.
    name: name for messages.

  Raises:
    InputError: if one takes too long, or makes the library panic.
  """
  patterns = list(_patterns(file))
  if not patterns:
    return
  signs = dict.fromkeys(_USUAL + ''.join(c for p in patterns for c in p if c.isalnum()))
  signs = list(signs)[:_MAX_SIGNS]
  try:
    for length in _LENGTHS:
      for sign in signs:
        for end in '!\n':
          _try(tokenizer, sign * length + end)
  except _TooSlow as slow:
    raise InputError(
      f'tokenizer {name!r}: {slow} with the patterns '
      f'{json.dumps(patterns, ensure_ascii=False)[:200]}; must not backtrack so'
    ) from None


class _TooSlow(Exception):
  """Says how long a text took."""


def _try(tokenizer: Any, text: str) -> None:
  start = time.process_time()
  try:
    with _quiet():
      tokenizer.encode(text, add_special_tokens=False)
  except BaseException as error:
    if type(error).__name__ != 'PanicException':
      raise
    raise _TooSlow(f'a text of {len(text):,} characters fails') from None
  took = time.process_time() - start
  if took > MAX_SECONDS:
    raise _TooSlow(f'a text of {len(text):,} characters takes {took:.1f} s')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps the report of a panic, which Rust writes itself, from standard error."""
  sys.stderr.flush()
  kept = os.dup(2)
  nothing = os.open(os.devnull, os.O_WRONLY)
  try:
    os.dup2(nothing, 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(nothing)
    os.close(kept)


def _patterns(value: Any) -> Iterator[str]:
  """The regular expressions in a parsed tokenizer.json, outside its vocabulary."""
  left = [v for k, v in value.items() if k not in ('model', 'added_tokens')]
  while left:
    value = left.pop()
    if isinstance(value, Mapping):
      if isinstance(value.get('Regex'), str):
        yield value['Regex']
      left += value.values()
    elif isinstance(value, list):
      left += value
