"""A field states its macro and its rule; gin files, docs and messages agree with it."""

import ast
import functools
import math
import pathlib
import re
import typing

import page_script
import pytest

from flan_jax.cli import dispatch
from flan_jax.config import checks, gin, value_types
from flan_jax.config import setting as setting_lib
from flan_jax.config.setting import macros
from flan_jax.config.training import TrainConfig
from flan_jax.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
SHIPPED = {
  name: (gin.shipped() / name).read_text(encoding='utf-8')
  for name in (
    'runs/base.gin',
    'evaluate/zero_shot.gin',
    'infer.gin',
    'studies/base.gin',
  )
}
REQUIRED = {
  'Run': "include 'gin/runs/base.gin'\nMODEL_DIR = 'x'\nTRAIN_STEPS = 1\n"
  "MIXTURE_OR_TASK_NAME = 'flan_rte'\n",
  'Evaluation': "include 'gin/evaluate/zero_shot.gin'\nCHECKPOINT = 'x'\n"
  "OUTPUT_DIR = 'y'\nCLUSTERS = 'nli'\n",
  'Infer': "include 'gin/infer.gin'\nCHECKPOINT = 'x'\nOUTPUT_DIR = 'y'\n"
  "PROMPTS = 'z.txt'\n",
  'Study': "include 'gin/studies/base.gin'\nSTUDY_DIR = 'x'\n"
  "STUDY = {'a': {'train': 'gin/runs/demo.gin'}}\n",
  'DecoderConfig': ''.join(
    f'DecoderConfig.{name} = 8\n'
    for name in ('vocab_size', 'num_layers', 'd_model', 'd_ff', 'num_heads',
                 'num_kv_heads', 'head_dim')
  ),
}  # fmt: skip
BAD_VALUES = (-1e300, -2.0, -2, '', '?', ('?',), ('',), (('?', None),))
WRONG_TYPE = 7.5


def bad_value(cls: type, field: str, rule: checks.Rule):
  """A value of the field's type that breaks its rule; else one of a wrong type."""
  hint = typing.get_type_hints(cls)[field]
  for value in BAD_VALUES:
    if value_types.fits(value, hint) and rule(value):
      return value
  assert not value_types.fits(WRONG_TYPE, hint)
  return WRONG_TYPE


@pytest.mark.parametrize(
  ('selector', 'field', 'rule'),
  [
    pytest.param(selector, field, rule, id=f'{selector}.{field}')
    for selector, cls in gin.CLASSES.items()
    for field, rule in setting_lib.rules(cls)
  ],
)
def test_a_value_that_breaks_a_rule_has_the_line_that_set_it(
  selector, field, rule, tmp_path
):
  start = REQUIRED.get(selector, '')
  cls = gin.CLASSES[selector]
  value = bad_value(cls, field, rule)
  line = start.count('\n') + 1
  path = tmp_path / 'run.gin'
  path.write_text(f'{start}{selector}.{field} = {value!r}\n# the last line\n')
  with pytest.raises(InputError) as caught:
    gin.load([str(path)]).build(selector)
  message = str(caught.value)
  if value == WRONG_TYPE:
    assert message.startswith(f'{path}:{line}: {selector}.{field} = {value}; must be ')
  else:
    name = setting_lib.label(cls, field)
    assert message.startswith(f'{path}:{line}: {name}: got {checks.shown(value)}; ')
  assert '\n' not in message


def bindings(text: str) -> list[tuple[str, str, str]]:
  """(selector, field, macro) of each `Run.seed = %SEED`."""
  return re.findall(r'^(\w+)\.(\w+) = %([A-Z_]+)$', text, re.MULTILINE)


@pytest.mark.parametrize('name', sorted(SHIPPED))
def test_shipped_files_bind_each_field_to_its_macro(name):
  found = bindings(SHIPPED[name])
  assert found
  for selector, field, macro in found:
    assert macros(gin.CLASSES[selector])[field] == macro


def test_every_macro_of_a_field_is_bound_and_has_a_default_in_the_file():
  declared = {
    (selector, field, macro)
    for selector, cls in gin.CLASSES.items()
    for field, macro in macros(cls).items()
  }
  assert declared == {one for text in SHIPPED.values() for one in bindings(text)}
  for text in SHIPPED.values():
    for _, _, macro in bindings(text):
      assert re.search(f'^{macro} = ', text, re.MULTILINE)


def listed(path: str, heading: str) -> set[str]:
  """Macros in the first column of the table with this heading."""
  text = (ROOT / path).read_text(encoding='utf-8')
  table = text.partition(heading)[2].partition('\n\n')[0]
  first = [line.split('|')[1] for line in table.splitlines() if line.startswith('|')]
  return {name for cell in first for name in re.findall(r'`([A-Z_]+)`', cell)}


@pytest.mark.parametrize(
  ('page', 'file'),
  [
    ('docs/howto/evaluate.md', 'evaluate/zero_shot.gin'),
    ('docs/howto/ask.md', 'infer.gin'),
  ],
)
def test_the_table_of_a_page_lists_the_macros_of_its_file(page, file):
  assert listed(page, '| macro |') == {macro for _, _, macro in bindings(SHIPPED[file])}


def test_the_reference_has_every_macro_with_its_meaning_and_links_that_lead_there():
  """Its table and sections are made of the settings classes."""
  tables = page_script.load('settings_tables')
  rows = re.findall(r'^\| `(\w+)` \| (.+?) Sets (.+) \|$', tables.render_macros(), re.M)
  declared = {macro for cls in gin.CLASSES.values() for macro in macros(cls).values()}
  assert {name for name, _, _ in rows} == declared
  sections = tables.render()
  for _, meaning, links in rows:
    assert len(meaning) > 5
    for anchor in re.findall(r'\(#([\w-]+)\)', links):
      assert f'{{#{anchor}}}' in sections
  for name in declared:
    assert f'Macro `{name}`.' in sections


def test_messages_name_a_field_by_its_macro_and_errors_carry_the_field():
  needed = {'model_dir': 'x', 'mixture': 'flan_rte', 'train_steps': 1}
  with pytest.raises(InputError, match=r'^SEQUENCE_LENGTH: got 4; must be 8') as caught:
    TrainConfig(**needed, batch_tokens=64, sequence_length=4)
  assert caught.value.field == 'Run.sequence_length'
  with pytest.raises(InputError, match=r'^Run\.keep: got 0; must be 1') as caught:
    TrainConfig(**needed, batch_tokens=64, sequence_length=8, keep=0)
  assert caught.value.field == 'Run.keep'


def test_an_error_of_a_job_has_the_line_of_its_setting(tmp_path):
  """Also an error that is raised long after the file was parsed."""
  path = tmp_path / 'run.gin'
  path.write_text(REQUIRED['Run'] + "STORE = 'elsewhere'\n")
  parsed = gin.load([str(path)])
  parsed.build('Run')
  for field, message in (
    ('Run.store', f'^{path}:5: no such store$'),
    ('STORE', f'^{path}:5: no such store$'),
    ('Run.keep', '^no such store$'),
    ('CHECKPOINT', '^no such store$'),
    (None, '^no such store$'),
  ):
    with pytest.raises(InputError, match=message), parsed.located():
      raise InputError('no such store', field=field)


SETTING = re.compile(
  rf'(?:(?:{"|".join(gin.CLASSES)})\.\w+|'
  rf'{"|".join(sorted({m for c in gin.CLASSES.values() for m in macros(c).values()}))})'
  r'\b'
)


def first_text(node: ast.expr) -> str:
  """The literal text that an expression of strings begins with."""
  match node:
    case ast.BinOp(left=left):
      return first_text(left)
    case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
      return text
    case ast.Constant(value=str(text)):
      return text
  return ''


@functools.cache
def refusals() -> list[tuple[str, ast.Call]]:
  """(place, call) of every InputError in the library."""
  return [
    (f'{path}:{node.lineno}', node)
    for path in sorted((ROOT / 'flan_jax').rglob('*.py'))
    if 'InputError(' in (text := path.read_text(encoding='utf-8'))
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'InputError'
  ]


def test_every_error_that_names_a_setting_carries_it():
  """In the whole library, so that `located` finds where the value was given."""
  found = 0
  for where, node in refusals():
    match node.args:
      case [message] if SETTING.match(first_text(message)):
        found += 1
        assert 'field' in [keyword.arg for keyword in node.keywords], where
  assert found > 30


def test_every_field_that_an_error_carries_exists():
  legal = {
    f'{selector}.{field}'
    for selector, cls in gin.CLASSES.items()
    for field in cls.__dataclass_fields__
  }
  legal |= {name for cls in gin.CLASSES.values() for name in macros(cls).values()}
  for where, node in refusals():
    for keyword in node.keywords:
      if isinstance(keyword.value, ast.Constant):
        assert keyword.value.value in legal, where


def test_an_error_of_a_running_job_has_the_line_of_its_setting(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'run.gin').write_text(
    REQUIRED['Run']
    + "include 'gin/models/tiny.gin'\nMIXTURE_OR_TASK_NAME = 'flan_ret'\n"
  )
  assert dispatch.main(['train', '--gin_file=run.gin']) == 2
  assert re.search(r"error: run\.gin:6: .*'flan_ret'", capsys.readouterr().err)


def test_a_field_that_does_not_exist_is_an_error_of_the_programmer():
  with pytest.raises(TypeError, match="no field 'trian_steps'"):
    setting_lib.qualified(TrainConfig, 'trian_steps')


NUMBERS = [
  pytest.param(cls, field, hint, id=f'{selector}.{field}')
  for selector, cls in gin.CLASSES.items()
  for field, hint in typing.get_type_hints(cls).items()
  if {int, float} & set(typing.get_args(hint) or (hint,)) and hint is not bool
]


@pytest.mark.parametrize(('cls', 'field', 'hint'), NUMBERS)
def test_every_number_has_a_range(cls, field, hint):
  """No field takes NaN, infinity, more than 64 bits, or both signs without end."""
  bad = [10**400, -(10**400), 2**64]
  bad += [math.nan, math.inf, -math.inf, -1e300] * value_types.fits(0.5, hint)
  for value in bad:
    assert value_types.unfit(value, cls, field), value


def test_a_watchdog_waits_a_year_at_most():
  assert not value_types.unfit(float(checks.YEAR_S), TrainConfig, 'hang_s')
  refused = value_types.unfit(1e300, TrainConfig, 'hang_s')
  assert 'the nearest is 31,536,000' in refused
