"""Checks the wording of docstrings, comments and messages; `make lint` runs it.

    python tests/wording.py [--count] [PATH ...]

One line a finding, `file:line: rule: text`; the exit code is 1 if there is any.

Rules:
  argument: an entry under Args, Attributes, Returns, Raises or Yields names the thing:
    its text does not begin with a word of HEADLESS (`Raises` may say `when`).
  field: the same for a string literal under a constant or a dataclass field.
  docstring: begins with a verb or a noun, not with a word of FUNCTION_WORDS. Articles
    and determiners (`The`, `Every`) are fine. Test functions and test classes are
    exempt: their docstrings are sentences that state a property.
  private: no phrase of PRIVATE in docstrings, comments (gin and Makefile included) and
    messages. The strings of tasks, of the microworld and of tests are data; code in
    backticks and quoted words are left out too.

Spelling is left to codespell.
"""

import argparse
import ast
import collections
import io
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
_words = str.split

PATHS = _words('flan_jax tasks mixtures gin tests benchmarks docs setup.py Makefile')
"""Files and folders that are checked by default."""

STYLE_GUIDE = frozenset(_words('of where what that how most'))
"""The style guide's own list; `--count` reports these for arguments."""

HEADLESS = STYLE_GUIDE | frozenset(_words('who whom whose which when'))
"""Words that an argument or field doc does not begin with."""

FUNCTION_WORDS = HEADLESS.union(
  _words('if whether unless until while because since though although as so than then'),
  _words(
    'and or but nor not for in on at to from by with without within into onto upon'
  ),
  _words(
    'beside between before after above below under over across through there here'
  ),
  _words('it its this these those he she they we you i his her their our your'),
)
"""Words that a docstring does not begin with."""

PRIVATE = {
  'anew': 'say "again", "recomputed", "rewritten"',
  'so many': 'say "n" or "the number of ..."',
  'it is for': 'name the purpose first',
  'where there (?:is|are)': 'say "if" or "when"',
  'there (?:is|are) none': 'say "None if not found"',
  'for ever': 'say "forever"',
  '(?:is|are) no number': 'say "is not a number" or "is not finite"',
  'who': 'say "if" or "when", or name the thing',
}
"""Phrase, as a regular expression -> advice."""

PEOPLE = frozenset(
  _words('anyone author contributor everyone people person reader user')
)
"""Nouns, without the plural's s, that `who` may follow."""

_PRIVATE = re.compile(
  r'(?:(?P<before>\w+),?\s+)?\b(?P<phrase>'
  + '|'.join(phrase.replace(' ', r'\s+') for phrase in PRIVATE)
  + r')\b',
  re.IGNORECASE,
)
_QUOTED = re.compile(r'`[^`]*`|"[^"\n]*"')
_SECTION = re.compile(r'(Args|Attributes|Returns|Raises|Yields):$')
_ENTRY = re.compile(r'[^\s:,]+(?:, [^\s:,]+)*(?: \([^)]*\))?:(?:\s+|$)')


class Finding(NamedTuple):
  """A breach of a rule at a line; `text` begins with a section's name for arguments."""

  path: pathlib.Path
  line: int
  rule: str
  text: str

  def __str__(self) -> str:
    return f'{_relative(self.path)}:{self.line}: {self.rule}: {self.text}'


def check(path: pathlib.Path) -> list[Finding]:
  """Returns the findings of one file, in the order of its lines."""
  source = path.read_text(encoding='utf-8')
  found = [*_comments(path, source)]
  if path.suffix == '.py':
    found += _python(path, ast.parse(source))
  return sorted(found)


def first_word(text: str) -> str:
  """The first word in lower case; '' if code or a quotation comes first."""
  match = re.match(r"[\s(\[*]*([A-Za-z][\w'-]*)", text)
  return match[1].lower() if match else ''


def entries(docstring: str) -> Iterator[tuple[str, int, str]]:
  """Yields (section, line offset, text) for each entry; Returns and Yields are one."""
  section, outer, inner, pending = '', 0, None, False
  for offset, line in enumerate(docstring.split('\n')):
    text, indent = line.strip(), len(line) - len(line.lstrip())
    if not text:
      continue
    if match := _SECTION.match(text):
      section, outer, inner, pending = match[1], indent, None, False
      continue
    section = section if indent > outer else ''
    if not section:
      continue
    first, inner = inner is None, indent if inner is None else inner
    if section in ('Returns', 'Yields'):
      pending = first
    elif indent == inner and (match := _ENTRY.match(text)):
      text, pending = text[match.end() :], True
    if pending and text:
      yield section, offset, text
      pending = False


def _python(path: pathlib.Path, tree: ast.Module) -> Iterator[Finding]:
  docs = set()
  for owner in ast.walk(tree):
    if not isinstance(owner, ast.Module | ast.ClassDef | ast.FunctionDef):
      continue
    for before, node in zip([None, *owner.body], owner.body, strict=False):
      is_field = isinstance(before, ast.Assign | ast.AnnAssign)
      is_text = isinstance(node, ast.Expr) and _is_text(node.value)
      if is_text and (before is None or is_field):
        docs.add(node.value)
        yield from _doc(path, owner, node.value, is_field=is_field)
  data = {'tests', 'tasks', 'mixtures', 'microworld'} & set(_relative(path).parts)
  for node in ast.walk(tree) if not data else ():
    if _is_text(node) and node not in docs:
      yield from _phrases(path, node.lineno, node.value, message=True)


def _is_text(node: ast.AST) -> bool:
  return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _doc(path, owner, node: ast.Constant, *, is_field: bool) -> Iterator[Finding]:
  word, start = first_word(node.value), node.value.strip().split('\n')[0]
  is_test = getattr(owner, 'name', '').lower().startswith('test')
  if word in (HEADLESS if is_field else () if is_test else FUNCTION_WORDS):
    yield Finding(path, node.lineno, 'field' if is_field else 'docstring', start)
  for section, offset, text in entries(node.value):
    word = first_word(text)
    if word in HEADLESS and (section, word) != ('Raises', 'when'):
      yield Finding(path, node.lineno + offset, 'argument', f'{section}: {text}')
  yield from _phrases(path, node.lineno, node.value)


def _comments(path: pathlib.Path, source: str) -> Iterator[Finding]:
  """Checks comments; those on adjoining lines are read as one text."""
  if path.suffix == '.py':
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = [(t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT]
  else:
    matches = enumerate((re.search(r'(?:^|\s)(#.*)', x) for x in source.split('\n')), 1)
    lines = [(number, match[1]) for number, match in matches if match]
  blocks: list[tuple[int, list[str]]] = []
  for line, text in lines:
    if not blocks or line != blocks[-1][0] + len(blocks[-1][1]):
      blocks.append((line, []))
    blocks[-1][1].append(text.lstrip('# '))
  for line, texts in blocks:
    yield from _phrases(path, line, '\n'.join(texts))


def _phrases(path, line: int, text: str, *, message: bool = False) -> Iterator[Finding]:
  """Finds private phrases; messages and the microworld may speak of people."""
  plain = _QUOTED.sub(lambda match: re.sub(r'\w', '_', match[0]), text)
  for match in _PRIVATE.finditer(plain):
    phrase, at = ' '.join(match['phrase'].split()), match.start('phrase')
    before = (match['before'] or '').lower()
    people = message or 'microworld' in path.parts or {before, before[:-1]} & PEOPLE
    if phrase.lower() == 'who' and people:
      continue
    around = ' '.join(text[max(at - 30, 0) : match.end() + 30].split())
    advice = next(v for k, v in PRIVATE.items() if re.fullmatch(k, phrase.lower()))
    said = f'{phrase!r} in "... {around} ...": {advice}'
    yield Finding(path, line + text.count('\n', 0, at), 'private', said)


def _relative(path: pathlib.Path) -> pathlib.Path:
  path = path.resolve()
  return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def files(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
  """Lists the Python and gin files and Makefiles under `paths`."""
  found = set()
  for path in map(pathlib.Path, paths):
    if not path.exists():
      sys.exit(f'wording: got {str(path)!r}; must be a file or a folder')
    inside = path.rglob('*') if path.is_dir() else [path]
    found |= {p for p in inside if p.suffix in ('.py', '.gin') or p.name == 'Makefile'}
  return sorted(found)


def table(findings: Sequence[Finding]) -> str:
  """Counts findings by folder and rule, and what the style guide's list forbids."""
  rules, total = ('argument', 'field', 'docstring', 'private'), 'total'
  counts = collections.Counter()
  for finding in findings:
    for folder in (str(_relative(finding.path).parent), total):
      counts[folder, finding.rule] += 1
  folders = [*sorted({folder for folder, _ in counts} - {total}), total]
  lines = [f'{"folder":28}' + ''.join(f'{rule:>10}' for rule in rules)]
  for folder in folders:
    lines.append(f'{folder:28}' + ''.join(f'{counts[folder, r]:>10}' for r in rules))
  docs = [
    finding.text.split(': ', 1) for finding in findings if finding.rule == rules[0]
  ]
  found = [section for section, text in docs if first_word(text) in STYLE_GUIDE]
  lines.append(
    f'headless argument docs (Args): {found.count("Args")}; all: {len(found)}'
  )
  return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = argparse.ArgumentParser(description='Checks the wording of the code.')
  parser.add_argument('paths', nargs='*', help=f'default: {" ".join(PATHS)}')
  parser.add_argument('--count', action='store_true', help='only counts, by folder')
  args = parser.parse_args(argv)
  paths = files(args.paths or [ROOT / path for path in PATHS])
  findings = [finding for path in paths for finding in check(path)]
  print(table(findings) if args.count else '\n'.join(map(str, findings)))
  return int(bool(findings))


if __name__ == '__main__':
  sys.exit(main())
