"""A study's grids: their cells, names and columns, and what is refused."""

import pytest

from flan_jax.config import gin, study
from flan_jax.config.study import StudyConfig
from flan_jax.errors import InputError

FILE = 'gin/runs/demo.gin'


def cells(**grids):
  return StudyConfig(study_dir='out', grids=grids).cells()


def grid(axes, **settings):
  return {'train': FILE, 'settings': settings, 'axes': axes}


def test_a_cell_is_one_choice_of_each_axis_with_the_last_changing_first():
  found = cells(tuned=grid({'HELD_OUT': ('nli', 'misc'), 'SEED': (0, 7)}))
  assert [cell.name for cell in found] == [
    'tuned/nli-s0', 'tuned/nli-s7', 'tuned/misc-s0', 'tuned/misc-s7',
  ]  # fmt: skip
  assert found[1].settings == {'HELD_OUT': 'nli', 'SEED': 7}
  assert [cell.seed for cell in found] == [0, 7, 0, 7]
  assert {cell.column for cell in found} == {'tuned'}


def test_labels_are_names_of_folders():
  axes = {
    'INITIAL_CHECKPOINT_PATH': ('models/gemma3_270m', '/data/a b'),
    'NUM_FEWSHOT': (0, 5),
    'Optimizer.learning_rate': (1e-3,),
  }
  assert [cell.name for cell in cells(x=grid(axes))] == [
    'x/gemma3_270m-num_fewshot0-learning_rate0.001',
    'x/gemma3_270m-num_fewshot5-learning_rate0.001',
    'x/a_b-num_fewshot0-learning_rate0.001',
    'x/a_b-num_fewshot5-learning_rate0.001',
  ]
  assert cells(x=grid({}))[0].name == 'x'


def test_an_axis_may_set_several_things_by_name_or_together():
  named = {'model': {'small': {'BASE': 'a', 'LR': 1}, 'large': {'BASE': 'b', 'LR': 2}}}
  together = {('BASE', 'LR'): (('a', 1), ('b', 2))}
  for axes in (named, together):
    assert [dict(cell.settings) for cell in cells(x=grid(axes, LR=9))] == [
      {'LR': 1, 'BASE': 'a'}, {'LR': 2, 'BASE': 'b'},
    ]  # fmt: skip
  assert [cell.column for cell in cells(x=grid(named))] == ['x small', 'x large']


def test_a_text_may_name_the_label_of_an_axis_and_the_folder():
  (cell,) = cells(
    x=grid({'HELD_OUT': ('nli',)}, MIXTURE='held_out_{HELD_OUT}', FILES='a.{split}',
           CHECKPOINT='{STUDY_DIR}/tuned/{HELD_OUT}')
  )  # fmt: skip
  assert cell.settings == {
    'MIXTURE': 'held_out_nli', 'FILES': 'a.{split}',
    'CHECKPOINT': 'out/tuned/nli', 'HELD_OUT': 'nli',
  }  # fmt: skip


def test_settings_may_be_several_of_which_the_last_wins():
  given = {'train': FILE, 'settings': ({'A': 1, 'B': 1}, {'B': 2}), 'axes': {}}
  assert cells(x=given)[0].settings == {'A': 1, 'B': 2}


@pytest.mark.parametrize(
  ('grids', 'message'),
  [
    ({}, 'STUDY: is empty'),
    ({'x': {'axes': {}}}, "must have one of 'train' and 'eval', a gin file; has 0"),
    ({'x': grid({}) | {'axis': {}}}, "got key 'axis'.*did you mean 'axes'"),
    ({'a b': grid({})}, "grid 'a b': must be letters"),
    ({'x': grid({'SEED': ()})}, "grid 'x': axis SEED: is empty"),
    ({'x': grid({'SEED': 3})}, 'axis SEED: got 3; must be'),
    ({'x': grid({'A': ('d/nli', 'e/nli')})}, "label 'nli' is twice"),
    ({'x': grid({'A': {'a/b': {}}})}, "label 'a/b' is no name of a folder"),
    ({'x': grid({'A': {'a': 3}})}, "axis A, 'a': got 3"),
    ({'x': grid({('A', 'B'): ((1,),)})}, r'axis A\+B: got \(1,\); must be 2 values'),
    ({'x': grid({}, MODEL_DIR='y')}, 'sets MODEL_DIR, which STUDY_DIR gives'),
  ],
)  # fmt: skip
def test_what_is_refused_in_one_line(grids, message):
  with pytest.raises(InputError, match=message) as error:
    cells(**grids)
  assert '\n' not in str(error.value)


def test_two_cells_of_one_name_are_refused():
  axes = {'A': ('x', 'x-s1'), 'B': {'s1-y': {}, 'y': {}}}
  with pytest.raises(InputError, match="two cells are named 'x/x-s1-y'"):
    cells(x=grid(axes))


@pytest.mark.parametrize(('got', 'nearest'), [(0, '1'), (10**9, '1,024')])
def test_the_number_of_processes_has_a_range(got, nearest):
  given = {'study_dir': 'out', 'grids': {'x': grid({})}}
  with pytest.raises(InputError, match=f'PROCESSES: got .*; the nearest is {nearest}'):
    StudyConfig(processes=got, **given)


def test_columns_to_compare_must_be_there():
  grids = {'tuned': grid({}), 'base': grid({})}
  given = {'study_dir': 'out', 'grids': grids}
  StudyConfig(compare=(('tuned', 'base'),), **given)
  with pytest.raises(InputError, match="COMPARE: got 'bse'.*did you mean 'base'"):
    StudyConfig(compare=(('tuned', 'bse'),), **given)


@pytest.mark.parametrize(
  'value',
  ['nli', 'models/x@200', 'None', '5', "it's", 0.003, None, True, ('a', 1), {'a': 1}],
)
def test_a_setting_is_read_again_from_the_command_as_it_was(value):
  (cell,) = cells(x=grid({}, INPUTS=value))
  (flag,) = cell.bindings
  loaded = gin.load([FILE], [flag])
  assert loaded.resolve(loaded.macros['INPUTS'], 'INPUTS').value == value
  assert study.command(cell.arguments('A=b')).startswith(
    f'flan train --gin_file={FILE}'
  )


@pytest.mark.parametrize('path', sorted(gin.shipped().glob('studies/*.gin')))
def test_a_cell_of_each_column_of_what_ships_is_a_whole_configuration(path):
  if path.stem == 'base':
    return
  loaded = gin.load([str(path)])
  config = loaded.build('Study')
  assert loaded.refuse_unused('study') == []
  for cell in {cell.column: cell for cell in config.cells()}.values():
    out = study.OUTPUT[cell.verb]
    parsed = gin.load(cell.files, [*cell.bindings, f'{out}=x'])
    parsed.build('Run' if cell.verb == 'train' else 'Evaluation')
    parsed.bound('DecoderConfig')
    assert parsed.refuse_unused(cell.verb) == []
