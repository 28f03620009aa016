"""Settings and arguments of every verb, drawn from a grammar of values that hurt."""

import dataclasses
import functools
import random
import typing

from flan_jax.cli import dispatch
from flan_jax.config import gin, setting

NUMBERS = (
  *('0', '1', '2', '-1', '-5', '0.5', '1.5', '-0.0', '1e400', '-1e400', '1e-400'),
  *('nan', 'inf', '-inf', '1e308', '-1e308', '1e8', '0x10', '01', '1j', '1_000'),
  *('9' * 400, '-' + '9' * 400, '9' * 5_000, '2147483647', '2147483648'),
  *('-2147483649', '4294967296', '9223372036854775807', '9223372036854775808'),
)
"""Numbers out of range, of the wrong kind, or of none."""

INTEGERS = ('0', '1', '2', '3', '16', '100', '-1', '1000000', '134217728', '4294967295')
"""Integers, some of which a flag may have."""

TEXTS = (
  *('', "''", "'x'", 'banana', "'\\x00'", "'\\ud800'", 'a\x00b', '\udcff', 'é\u2028'),
  *('a' * 10_000, "'../../..'", "'gs://'", "'gs://b/../..'", "'gs://b/x'", "'s3://x'"),
  *("'/dev/null'", "'/proc/self/mem'", "'.'", "'/'", "'~'", "'*'", "'x@*'", "'x@-1'"),
  *("'x@99999999999999999999'", "'x@nan'", "'microworld@3'", "'file.txt'", "'\\n'"),
  *(
    '"unclosed',
    "'unclosed",
    "'''",
    '"""x',
    '\\',
    '\\x',
    '${HOME}',
    '$(id)',
    '-',
    '--',
  ),
  *("'x.jsonl'", "'{split}.jsonl'", "'**/*.jsonl'", "'.gitignore'", "'a/' * 999"),
  *("'/dev/zero'", "'/dev/stdin'", "'fifo'", "'fifo.jsonl'", "'fifo.model'", "'loop'"),
  *("'loop/x.jsonl'", "'store'", "'report'", "'x.jsonl/x'", "'microworld'", "'-'"),
  *("b'bytes'", "f'{1}'", "'a' 'b'", "r'\\'", "'\\N{BELL}'", "'\\N{NO SUCH}'"),
)
"""Texts: paths that are none, and quotes that never end."""

STRUCTURES = (
  *('(', '((', ')', '())', '[', ']', '{', '}', '{1', '(1', '()', '[]', '{}', '(,)'),
  *('(1,)', '(1)', "('x',)", "('x', 'x')", '(None,)', '(True,)', '((),)', '(nan,)'),
  *('(0, 0)', '(-1,)', '[1, 2]', '{1: 2}', '{[]: 1}', '{{}: 1}', '{1, 2}', '{1: }'),
  *("{'inputs': -1}", "{'inputs': 1e9}", "{'inputs': True}", "{'nosuch': 3}"),
  *("{'inputs': 99999999999999999999}", "{'inputs': {'inputs': 3}}", '{1: {}}'),
  *('(' * 50, '(' * 300, '(' * 90 + ')' * 90, '(' * 3_000 + ')' * 3_000),
  *('[' * 150 + ']' * 150, '{1:' * 90 + '1' + '}' * 90, '-' * 3_000 + '1'),
  *(str(tuple(range(20_000))), str(tuple('x' * 2_000)), '1 2', '1 +', '1 + 1', '...'),
  *('lambda: 0', '__import__("os")', '[x for x in y]', '#', '1 # c', 'a = b', 'a;b'),
  *('\nTRAIN_STEPS = 3', "\ninclude 'x'", '\nimport os', ' \n ', '\t', 'None', 'True'),
  *("(('embed', 'fsdp'), ('embed', 'fsdp'))", "(('embed', ('fsdp', 'fsdp')),)"),
  *("(('embed', 'nosuch'),)", "(('nosuch', None),)", '((1, 2),)', "(('embed',),)"),
  *("(('embed', 'model'), ('mlp', 'model'), ('heads', ('data', 'model')))", '((), ())'),
)
"""Values that are no literal, or one of a shape that nothing expects."""

REFERENCES = (
  *('%', '@', '%%', '@@', '%gin.REQUIRED', '%NO_SUCH', '%TRAIN_STEPS', '%MODEL_DIR'),
  *('(%TRAIN_STEPS, %TRAIN_STEPS)', '{%TRAIN_STEPS: %MODEL_DIR}', '%a/b', '% X'),
  *('@Run()', '@Run', '@Optimizer', '@Optimizer()', '@Mesh()', '@Evaluate()', '@()'),
  *('@DecoderConfig()', '@Lora()', '@Decoding()', '(@Optimizer(), @Mesh())', '@/Run()'),
  *(
    '@optax.adamw()',
    '@optax.adamw',
    '@optax.sgd()',
    '@optax.nosuch()',
    '@optax.lion()',
  ),
  *(
    '@optax.contrib.muon()',
    '@optax.constant_schedule()',
    '@optax.chain()',
    '@os.system',
  ),
  *('@a/b/optax.adamw()', '@gin.macro()', '@TRAIN_STEPS/macro()', '@X/gin.singleton()'),
  *('@optax.adamw()()', '@optax.adamw(1)', '@optax.adamw().b1', '@optax.identity()'),
)
"""References to macros and functions: to themselves, to none, or of another kind."""

NAMES = (
  *(
    'X',
    '',
    '/',
    '.',
    'a/b.c',
    'Run.',
    '.x',
    'Run.nosuch',
    'optax.adamw.b1',
    'a.b.c.d',
  ),
  *(
    'é',
    'TRAIN_STEPS/',
    's/Run.seed',
    'TRAIN_STPES',
    'Run',
    'Run.seed.seed',
    '1X',
    '%X',
  ),
  *('optax.adamw.learning_rate', 'optax.adamw.nosuch', 'optax.sgd.momentum', 'a\x00b'),
  *(
    'TRAIN_STEPS/macro.value',
    'gin.macro.value',
    'MIXTURE_OR_TASK_MODULE',
    'a' * 5_000,
  ),
  *(
    '\ud800',
    'X\nY',
    ' X ',
    'optax.adamw.b2',
    'optax.lion.b1',
    '__gin__.x',
    'Run.seed()',
  ),
)
"""Names of settings that are none, and of functions' arguments."""


LINES = (
  *('Run.seed = 1 2', 'Run.seed =', '= 3', 'Run.seed', '  x = 1', 'x = (\n1,\n'),
  *('\tx = 1', 'Run.seed: 3', 'Run:\n  seed = 3', 'Run:\n  seed = (\n', 'x = 1;;'),
  *('if True:\n  x = 1', 'x == 1', '\x0c', '@x', '%x', 'a/b = 3', 'a//b.c = 3'),
)
"""Lines of a file that are no statements."""


CLASSES = {
  'train': (
    'Run',
    'Mesh',
    'Optimizer',
    'Evaluate',
    'Decoding',
    'Lora',
    'DecoderConfig',
  ),
  'eval': ('Evaluation', 'Mesh', 'Evaluate', 'Decoding'),
  'infer': ('Infer', 'Mesh', 'Evaluate', 'Decoding'),
  'study': ('Study',),
}
"""Verb -> selectors of the settings that it uses."""

STUDY = ('CLUSTERS', 'SEEDS', 'STEPS', 'TEST_EXAMPLES', 'TEST_TEMPLATES')
"""Macros of the study that is drawn from."""


@functools.cache
def names(verb: str = '') -> tuple[str, ...]:
  """Every macro and field of the settings; of a verb, those that it uses."""
  used = CLASSES.get({'plan': 'train'}.get(verb, verb), tuple(gin.CLASSES))
  classes = [(selector, gin.CLASSES[selector]) for selector in used]
  fields = [f'{s}.{field.name}' for s, c in classes for field in dataclasses.fields(c)]
  macros = {name for _, cls in classes for name in setting.macros(cls).values()}
  macros.update(STUDY if verb == 'study' else ())
  return (*sorted(macros if verb else gin.known_macros()), *fields)


def value(rng: random.Random) -> str:
  """One value, as it stands after `NAME=`."""
  kinds = (NUMBERS, TEXTS, STRUCTURES, REFERENCES)
  found = rng.choice(rng.choices(kinds, (4, 3, 3, 2))[0])
  if rng.random() < 0.08:
    other = rng.choice(rng.choice(kinds))
    found = rng.choice((f'({found}, {other})', f'{found}{other}', f'[{found}]',
                        f"{{'inputs': {found}}}", f"'{found}'"))  # fmt: skip
  return found


@functools.cache
def _kinds_of(name: str) -> str:
  """Kind of a macro or field: 'number', 'text', 'several'; '' for other things."""
  for selector, cls in gin.CLASSES.items():
    hints = typing.get_type_hints(cls)
    macros = setting.macros(cls)
    for field in dataclasses.fields(cls):
      if name in (f'{selector}.{field.name}', macros.get(field.name)):
        kinds = {typing.get_origin(kind) or kind for kind in _kinds(hints[field.name])}
        for wanted, kind in (({int, float}, 'number'), ({tuple, list}, 'several')):
          if kinds & wanted:
            return kind
        return 'text' if str in kinds else ''
  return ''


def typed(rng: random.Random, name: str) -> str:
  """A value of the type that a setting has, if it is known, and else any."""
  kind = _kinds_of(name)
  if kind == 'number':
    return rng.choice(NUMBERS)
  if kind == 'text':
    return rng.choice(TEXTS)
  if kind == 'several':
    several = [found for found in STRUCTURES if found.startswith('(')]
    return rng.choice(
      (*several, f'({rng.choice(NUMBERS)},)', f'({rng.choice(TEXTS)},)')
    )
  return value(rng)


def binding(rng: random.Random, known: typing.Sequence[str]) -> tuple[str, str]:
  """The name of a setting, and its value."""
  name = rng.choice(NAMES if rng.random() < 0.12 else known)
  found = typed(rng, name) if rng.random() < 0.5 else value(rng)
  if rng.random() < 0.06:
    found = f'%{name}'
  return name, found


def file(rng: random.Random, path: str, known: typing.Sequence[str]) -> bytes:
  """A gin file."""
  lines = [f'{name} = {found}' for name, found in
           (binding(rng, known) for _ in range(rng.choice((1, 1, 2, 3))))]  # fmt: skip
  kind = rng.randrange(16)
  if kind == 0:
    lines.append(f'include {path!r}')
  elif kind == 1:
    lines.append(rng.choice(("include ''", 'include', "include 'no\\x00'",
                             "include '/dev/null'", "include '.'", 'import os',
                             'from os import path', 'import', 'import a.b as c',
                             'from __gin__ import dynamic_registration')))  # fmt: skip
  elif kind == 2:  # each macro holds the next one twice
    more = [f'M{i} = (%M{i + 1}, %M{i + 1})' for i in range(40)]
    lines += [*more, 'M40 = 1', f'{rng.choice(known)} = %M0']
  elif kind == 3:  # a long chain
    lines += [f'M{i} = %M{i + 1}' for i in range(3_000)]
    lines += ['M3000 = 1', f'{rng.choice(known)} = %M0']
  elif kind == 4:
    lines += ['A = %B', 'B = (%A,)', f'{rng.choice(known)} = %B']
  elif kind == 5:
    lines += ['s/optax.adamw.learning_rate = @s/optax.adamw()',
              'Run.optimizer = @s/optax.adamw()']  # fmt: skip
  elif kind == 6:
    lines += ['Run.optimizer = @optax.adamw()',
              f'optax.adamw.learning_rate = {value(rng)}',
              f'optax.adamw.{rng.choice(("b1", "b2", "eps", "mask"))} = {value(rng)}',
              ]  # fmt: skip
  elif kind == 7:
    lines.append(rng.choice(LINES))
  rng.shuffle(lines)
  data = '\n'.join(lines).encode('utf-8', 'surrogatepass')
  mark = rng.randrange(20)
  if mark == 0:
    data = b'\xef\xbb\xbf' + data
  elif mark == 1:
    data = data + rng.choice((b'\xff\xfe', b'\0', b'\r', b'\r\n', b'\x1a'))
  elif mark == 2:
    data = data[: rng.randrange(len(data) + 1)]
  return data


def numeric_fields() -> list[tuple[type, str]]:
  """(settings class, field) of every field that holds a number."""
  return [
    (cls, field.name)
    for cls in gin.CLASSES.values()
    for field in dataclasses.fields(cls)
    if {int, float} & set(_kinds(typing.get_type_hints(cls)[field.name]))
  ]


def _kinds(hint: typing.Any) -> tuple[typing.Any, ...]:
  return typing.get_args(hint) or (hint,)


FLAGS = {
  'ask': ('--max-tokens', '--temperature', '--seed', '--options'),
  'infer': (),
  'tasks': ('--mixture',),
  'show': (
    '--n',
    '--template',
    '--split',
    '--tokenizer',
    '--inputs',
    '--html',
    '--messages',
    '--data-dir',
  ),  # fmt: skip
  'lint': (),
  'fetch': ('--from', '--workers', '--data-dir'),
  'materialize': (
    '--vocab-size',
    '--template-seed',
    '--epochs',
    '--steps',
    '--batch-tokens',
    '--sequence-length',
    '--task-feature-lengths',
    '--missing',
    '--workers',
    '--tokenizer',
    '--runner',
    '--inputs',
    '--messages',
    '--chat-template',
    '--data-dir',
    '--mixture',
    '--out',
  ),  # fmt: skip
  'rows': (
    '--seed',
    '--step',
    '--start',
    '--count',
    '--sequence-length',
    '--hosts',
    '--host',
    '--batch-size',
  ),  # fmt: skip
  'report': ('--against', '--html', '--csv', '--latex'),
  'convert': ('--to', '--family'),
  'export': (
    '--mixture',
    '--format',
    '--splits',
    '--sampled',
    '--seed',
    '--epochs',
    '--sequence-length',
    '--shard-size',
    '--workers',
    '--vocab-size',
    '--template-seed',
    '--task-feature-lengths',
    '--tokenizer',
    '--store',
    '--inputs',
    '--missing',
    '--out',
    '--data-dir',
  ),  # fmt: skip
  'export --lm-eval': (
    '--datasets',
    '--clusters',
    '--family',
    '--max-examples',
    '--templates',
    '--num-fewshot',
    '--prompt-style',
    '--seed',
    '--options-style',
    '--task-feature-lengths',
    '--splits',
    '--tokenizer',
    '--mixture',
    '--lm-eval',
  ),  # fmt: skip
  'launch': (
    '--tpu',
    '--zone',
    '--type',
    '--max-restarts',
    '--grace',
    '--runtime',
    '--project',
    '--extra',
    '--engine',
    '--create-arg',
    '--cluster',
    '--image',
    '--bundle',
  ),  # fmt: skip
  'plan': ('--topology', '--step', '--chip-watts', '--pue', '--grid', '--cache'),
  'train': ('--profile', '--multihost', '--gin_search_paths', '--gin_file'),
  'eval': ('--multihost', '--gin_search_paths', '--gin_file'),
  'study': ('--only', '--gin_search_paths'),
  'lm-eval': (),
}
"""Verb -> its flags that take a value."""

MULTIHOST = (
  *('h:0,2,0', 'h:-5,2,0', ',2,0', ':8476,2,0', 'h,2,0', 'h:99999,2,0', 'h:8476,0,0'),
  *('h:8476,-1,0', 'h:8476,2,2', 'h:8476,2,-1', 'h:8476,2', '', ',', 'h:x,2,0', 'auto'),
  *('h:8476,999999999999,0', ' :1,1,0', 'a b:1,1,0', '[::1]:8476,1,0', 'h\x00:1,1,0'),
  *('\ud800:1,1,0', 'h:8476,1.5,0', 'h:8476,2,0,0', '://:1,2,0', '1' * 400 + ':1,2,0'),
)


@functools.cache
def _flag_kinds(verb: str) -> dict[str, tuple[typing.Any, typing.Sequence[str]]]:
  """Flag of a verb -> type of its value, None for a text, and the legal ones."""
  verbs = next(action for action in dispatch.parser()._actions if action.choices)
  return {
    name: (action.type, tuple(action.choices or ()))
    for action in verbs.choices[verb]._actions
    for name in action.option_strings
  }


def flag(rng: random.Random, verb: str) -> list[str]:
  """A flag of a verb, with a value."""
  legal = FLAGS[verb]
  if not legal:
    return []
  name = rng.choice(legal)
  found = rng.choice(MULTIHOST) if name == '--multihost' else value(rng)
  kind, choices = _flag_kinds(verb.split()[0])[name]
  if kind is not None and rng.random() < 0.8:
    found = rng.choice((*NUMBERS, *INTEGERS, *INTEGERS))
  elif choices and rng.random() < 0.8:
    found = rng.choice(choices)
  if rng.random() < 0.5:  # as people write them
    found = found.strip('\'"')
  return [f'{name}={found}']


def module(rng: random.Random) -> list[str]:
  """`--module` with a name that is none, now and then."""
  if rng.random() > 0.03:
    return []
  names = ('', '.', '..', 'no.such', 'x.py', 'a b', '\x00', '\ud800', '1', 'a' * 5_000)
  return [f'--module={rng.choice(names)}']
