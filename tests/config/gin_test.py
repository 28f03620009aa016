"""gin files: types, origins, the nearest name; includes and references."""

import ast
import inspect
import re

import pytest

from flan_jax.catalog import registry
from flan_jax.cli import dispatch
from flan_jax.config import (
  decoder,
  decoding,
  evaluation,
  gin,
  mesh,
  optimizer,
  training,
)
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import GREEDY
from flan_jax.errors import InputError

BASE = ['MODEL_DIR=/tmp/x', 'MIXTURE_OR_TASK_NAME=flan_rte', 'TRAIN_STEPS=10']


def build(*flags: str) -> training.TrainConfig:
  return gin.load(['gin/runs/base.gin'], [*BASE, *flags]).build('Run')


def write(tmp_path, text: str) -> str:
  path = tmp_path / 'run.gin'
  path.write_text(text)
  return str(path)


def test_defaults_are_the_paper_s():
  run = build()
  assert (run.batch_tokens, run.sequence_length, run.batch_size) == (8192, 2048, 4)
  assert run.optimizer.learning_rate == 3e-5


def test_later_statements_win_and_flags_win_over_files(tmp_path):
  path = write(
    tmp_path, "include 'gin/runs/base.gin'\nTRAIN_STEPS = 5\nTRAIN_STEPS = 6\n"
  )
  flags = BASE[:2]
  assert gin.load([path], flags).build('Run').train_steps == 6
  assert gin.load([path], [*flags, 'TRAIN_STEPS=7']).build('Run').train_steps == 7


def test_unquoted_text_is_a_string():
  assert build('MODEL_DIR=runs/a-b').model_dir == 'runs/a-b'
  assert build("MODEL_DIR='runs/a'").model_dir == 'runs/a'
  assert build("MODEL_DIR=it's (1").model_dir == "it's (1"


def test_an_integer_serves_as_a_number():
  rate = build('Optimizer.learning_rate=1').optimizer.learning_rate
  assert rate == 1.0
  assert isinstance(rate, float)


def test_a_reference_builds_the_model():
  loaded = gin.load(
    ['gin/runs/base.gin', 'gin/models/tiny.gin'], [*BASE, 'NUM_LAYERS=3']
  )
  model = loaded.build('Run').model
  assert isinstance(model, DecoderConfig)
  assert model.num_layers == 3


def test_the_paper_s_model_has_137_billion_parameters():
  from flan_jax.config.decoder import parameter_count

  flags = ['MODEL_DIR=x', 'INITIAL_CHECKPOINT_PATH=y']
  run = gin.load(['gin/runs/flan_137b.gin'], flags).build('Run')
  assert parameter_count(run.model) == pytest.approx(137.7e9, rel=2e-3)
  assert (run.train_steps, run.batch_tokens) == (30_000, 8_192)


def test_the_paper_s_run_trains_its_62_datasets_and_prompts_the_base_in_plain_prose():
  """Its header lists every assumption beyond the paper."""
  flags = ['MODEL_DIR=x', 'INITIAL_CHECKPOINT_PATH=y']
  run = gin.load(['gin/runs/flan_137b.gin'], flags).build('Run')
  mixture = registry.mixture(run.mixture)
  assert mixture.held_out == ('nli',)
  assert all(dataset.in_paper for dataset in mixture.members)
  assert mixture.shared_cap
  assert run.evaluate.base_prompt_style == 'continuation'
  header = (gin.shipped() / 'runs' / 'flan_137b.gin').read_text(encoding='utf-8')
  assumptions = header.partition('does not say')[2].partition('flan train')[0]
  for name in ('schedule', 'warm-up', 'parameter scaling', 'z-loss', 'dropout',
               'decoding'):  # fmt: skip
    assert f'#   {name} ' in assumptions
  optimizer = run.optimizer
  assert (optimizer.schedule, optimizer.warmup_steps) == ('constant', 0)
  assert optimizer.scales(adapters=bool(run.lora.rank))
  assert (optimizer.decay_rate, optimizer.clipping_threshold) == (0.8, 1.0)
  assert (optimizer.momentum, optimizer.weight_decay, run.z_loss) == (None, None, 0)
  assert run.evaluate.decoding == GREEDY


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    (
      'TRAIN_STPES=1',
      r"--gin\.TRAIN_STPES: unknown macro.*did you mean 'TRAIN_STEPS'\? known macros: ",
    ),
    (
      'Optimizr.learning_rate=1',
      "unknown name 'Optimizr'.*did you mean 'Optimizer'",
    ),
    ('Optimizer.lerning_rate=1', "did you mean 'learning_rate'"),
    ('Optimizer.learning_rate=-1', 'must be above 0'),
    ("Optimizer.schedule='constnat'", "must be one of.*did you mean 'constant'"),
    ('TRAIN_STEPS=1.5', r'Run\.train_steps = 1\.5; must be an integer'),
    ('TRAIN_STEPS=True', 'must be an integer'),
    ('BATCH_TOKENS=5000', 'must be sequences x SEQUENCE_LENGTH.*nearest is 4,096'),
    ('Run.accumulation=3', 'must divide the 4 sequences of a step; the nearest is 2'),
    ('TRAIN_STEPS=%STEPS', "unknown macro 'STEPS'"),
    ('MAX_EXAMPLES=16', r'write --gin\.Evaluate\.max_examples=VALUE$'),
    ('Run.model=@Decoder()', "did you mean 'DecoderConfig'"),
    ('scope/Run.seed=1', 'scopes are not supported'),
    ("MISSING='ignore'", "must be one of 'refuse', 'skip'"),
    ('=3', "got name ''; must be --gin.NAME=VALUE"),
    ('TRAIN STEPS=3', "got name 'TRAIN STEPS'"),
    ('SEED=%SEED', '%SEED -> %SEED: a macro must not refer to itself'),
    ('MODEL_DIR=', "MODEL_DIR: got ''; must be a folder"),
    ('SEED=-1', r'SEED: got -1; must be 0 to 4294967295; the nearest is 0'),
    ('Run.z_loss=-1', 'z_loss: got -1.0; must be 0 or more'),
    ('Run.vocab_size=0', 'vocab_size: got 0; must be 1 or more'),
    ('Optimizer.learning_rate=1e999', 'learning_rate: got inf; must be above 0'),
    ('Evaluate.batch_size=0', 'batch_size: got 0; must be 1 or more'),
    ('Evaluate.max_decode=0', 'max_decode: got 0; must be 1 or more'),
    ("Mesh.rules=(('embed', 'modle'),)", "must be one of 'data'.*did you mean 'model'"),
    ("Mesh.rules=(('embd', 'model'),)", "did you mean 'embed'"),
    (
      "TASK_FEATURE_LENGTHS={'inputs': 64, 'targets': '32'}",
      "a dictionary from a string to an integer or None; '32' of 'targets' is not an",
    ),
    ('WRITERS=("jsonl", 3)', 'must be .*; 3 is not a string'),
    ('VALIDATION=(1', r"--gin\.VALIDATION: got '\(1'; '\(' is never closed"),
    ("TASK_FEATURE_LENGTHS={'inputs': (64)", r"LENGTHS: got .*; '\{' is never closed"),
    ("MODEL_DIR='''x", 'a quote is never closed'),
    ('Run.optimizer = @optax.adamw(', r"'@optax.adamw\('; '\(' is never closed"),
  ],
)
def test_a_mistake_is_named(flag, message):
  with pytest.raises(InputError, match=message):
    build(flag)


def test_a_required_macro_says_how_to_give_it():
  with pytest.raises(
    InputError, match=r'TRAIN_STEPS: not set; give --gin\.TRAIN_STEPS'
  ):
    gin.load(['gin/runs/base.gin'], BASE[:2]).build('Run')


def test_a_mistake_in_a_file_has_its_line(tmp_path):
  path = write(tmp_path, "include 'gin/runs/base.gin'\n\nRun.seeed = 3\n")
  with pytest.raises(InputError, match=r"run\.gin:3: Run has no field 'seeed'.*'seed'"):
    gin.load([path], BASE)
  path = write(tmp_path, "include 'gin/runs/base.gin'\nRun.seed = 'a'\n")
  with pytest.raises(InputError, match=r"run\.gin:2: Run\.seed = 'a'; must be an int"):
    gin.load([path], BASE).build('Run')


RUN = """include 'gin/runs/base.gin'
include 'gin/models/tiny.gin'
MODEL_DIR = 'x'
MIXTURE_OR_TASK_NAME = 'flan_rte'
TRAIN_STEPS = 1
"""
EVALUATION = """include 'gin/evaluate/zero_shot.gin'
CHECKPOINT = 'x'
OUTPUT_DIR = 'y'
CLUSTERS = 'nli'
NUM_FEWSHOT = 0
"""


@pytest.mark.parametrize(
  ('kind', 'line', 'message'),
  [
    ('Run', 'LORA_RANK = 8', 'LORA_RANK: got 8, and no model to adapt'),
    ('Run', 'SEED = -1', 'SEED: got -1'),
    ('Run', 'Run.accumulation = 3', 'Run.accumulation: got 3'),
    (
      'Run',
      "Mesh.rules = (('embed', 'modle'),)",
      "Mesh.rules: got (('embed', 'modle'),); mesh axis 'modle'",
    ),
    ('Run', "Optimizer.schedule = 'linear'", 'Optimizer.schedule: got'),
    ('Run', 'Lora.alpha = 0', 'Lora.alpha: got 0'),
    ('Run', 'Lora.alpha = 4.0', 'Lora.alpha: got 4.0 with LORA_RANK 0; must be 16.0'),
    ('Run', "Lora.targets = ('query',)", "Lora.targets: got ('query',) with LORA_RANK"),
    ('Run', 'EVAL_PERIOD = 0', 'EVAL_PERIOD: got 0'),
    ('Run', 'Decoding.top_k = 4', 'top_k: got 4 with temperature 0'),
    ('Run', 'DecoderConfig.num_kv_heads = 3', 'num_kv_heads: got 3; must divide'),
    ('Run', "REMAT = 'dot'", "REMAT: got 'dot'"),
    ('Run', 'Run.loss = @optax.l2_loss()', 'Run.loss: got @optax.l2_loss(); must not'),
    (
      'Run',
      'Run.loss = @optax.tree.zeros_like',
      "unknown name 'optax.tree.zeros_like'",
    ),
    ('Run', 'Run.loss = @optax.global_norm', 'Run.loss: got partial @optax.global_n'),
    (
      'Run',
      'Run.hooks = (@optax.sgd,)',
      'Run.hooks: got (partial @optax.sgd(),); must',
    ),
    ('Evaluation', 'Evaluation.ngram = 1', 'Evaluation.ngram: got 1'),
    ('Evaluation', 'EVAL_SEED = -1', 'EVAL_SEED: got -1'),
    ('Evaluation', 'CLUSTERS = ()', 'CLUSTERS: not set'),
  ],
)
def test_an_error_of_a_settings_class_has_the_line_that_set_the_value(
  kind, line, message, tmp_path
):
  """That line and no other, even if the message names other settings too."""
  start = RUN if kind == 'Run' else EVALUATION
  path = write(tmp_path, f'{start}{line}\n')
  with pytest.raises(InputError) as caught:
    gin.load([path]).build(kind)
  assert str(caught.value).startswith(f'{path}:6: {message}')


def test_an_illegal_default_blames_no_line(tmp_path):
  path = write(
    tmp_path, 'DecoderConfig.num_kv_heads = 2\nDecoderConfig.num_heads = 3\n'
  )
  shape = ('vocab_size', 'num_layers', 'd_model', 'd_ff', 'head_dim')
  flags = [f'DecoderConfig.{name}=8' for name in shape]
  with pytest.raises(InputError, match=r'^.*run\.gin:1: num_kv_heads: got 2; must div'):
    gin.load([path], flags).build('DecoderConfig')
  with pytest.raises(InputError, match='^temperature: got -1'):
    decoding.Decoding(temperature=-1)


@pytest.mark.parametrize(
  'module', [training, evaluation, mesh, optimizer, decoding, decoder]
)
def test_every_error_of_a_settings_class_carries_its_field(module):
  """refusal() and the rules add it; an InputError of its own must name it."""
  for node in ast.walk(ast.parse(inspect.getsource(module))):
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'InputError':
      assert 'field' in [keyword.arg for keyword in node.keywords], node.lineno


def unused(verb: str, *lines: str, flags: tuple[str, ...] = (), tmp_path) -> list[str]:
  start, kind = {'train': (RUN, 'Run'), 'eval': (EVALUATION, 'Evaluation')}[verb]
  path = write(tmp_path, '\n'.join([start, *lines, '']))
  parsed = gin.load([path], flags)
  parsed.build(kind)
  return parsed.refuse_unused(verb)


@pytest.mark.parametrize(
  ('verb', 'line', 'message'),
  [
    ('train', 'TRAIN_STPES = 1', r"run\.gin:7: unknown macro 'TRAIN_STPES'.*"
     "did you mean 'TRAIN_STEPS'"),
    ('eval', 'FEWSHOT = 3', r"run\.gin:7: unknown macro 'FEWSHOT'; did you "
     "mean 'NUM_FEWSHOT'"),
    ('train', 'Evaluation.seed = 1', r'run\.gin:7: Evaluation\.seed has no effect.*and '
     "no Evaluation; did you mean 'Evaluate'"),
    ('eval', 'Optimizer.schedule = 7', r'Optimizer\.schedule has no effect: `flan ev'),
    ('eval', 'Evaluate.decoding = None', r'Evaluate\.decoding = None; must be @Decod'),
    ('train', "Decoding.temperature = 'banana'", r"run\.gin:7: Decoding\.temperature = "
     "'banana'; must be a number"),
  ],
)  # fmt: skip
def test_a_setting_without_effect_in_a_file_is_a_typo(verb, line, message, tmp_path):
  with pytest.raises(InputError, match=message):
    unused(verb, line, tmp_path=tmp_path)


def test_a_binding_of_a_class_that_is_not_built_is_refused(tmp_path):
  path = write(tmp_path, "Decoding.temperature = 'banana'\nMesh.data = 1\n")
  parsed = gin.load([path])
  parsed.build('Mesh')
  with pytest.raises(InputError, match=r'run\.gin:1: Decoding\.temperature has no eff'):
    parsed.refuse_unused('train')


def test_a_file_may_set_known_macros_for_several_verbs(tmp_path):
  """With a warning if they have no effect; on the command line they are refused."""
  assert unused('eval', 'NUM_FEWSHOT = 3', 'EVAL_SEED = 3', tmp_path=tmp_path) == []
  warnings = unused('train', 'NUM_FEWSHOT = 3', 'SEED = 3', tmp_path=tmp_path)
  assert [w.partition('run.gin:')[2] for w in warnings] == [
    '7: NUM_FEWSHOT has no effect on `flan train`; write Evaluate.num_fewshot = VALUE'
  ]
  with pytest.raises(
    InputError, match=r'^--gin\.NUM_FEWSHOT: NUM_FEWSHOT has no effect on `flan train`'
  ):
    unused('train', 'NUM_FEWSHOT = 3', flags=('NUM_FEWSHOT=4',), tmp_path=tmp_path)


def test_a_macro_that_a_binding_has_replaced_is_refused_as_a_flag(tmp_path):
  with pytest.raises(
    InputError, match=r'^--gin\.SEED: SEED has no effect on `flan train`'
  ):
    unused('train', 'Run.seed = 3', flags=('SEED=4',), tmp_path=tmp_path)


def test_a_macro_that_only_another_unused_one_refers_to_is_unused(tmp_path):
  with pytest.raises(InputError, match="unknown macro 'MINE'"):
    unused('train', 'MINE = 3', 'THEIRS = %MINE', tmp_path=tmp_path)
  assert unused('train', 'MINE = 3', 'SEED = %MINE', tmp_path=tmp_path) == []


@pytest.mark.parametrize(
  ('arguments', 'text', 'message'),
  [
    (['train'], RUN, "run.gin:6: unknown macro 'TRAIN_STPES'"),
    (['plan', '--topology=v5e:2x2'], RUN, "run.gin:6: unknown macro 'TRAIN_STPES'"),
    (['eval'], EVALUATION, "run.gin:6: unknown macro 'TRAIN_STPES'"),
    (
      ['eval', '--gin.SEED=3'],
      EVALUATION,
      "SEED: unknown macro 'SEED'; did you mean 'EVAL_SEED'",
    ),
  ],
)
def test_a_verb_refuses_a_typo_before_it_writes_anything(
  arguments, text, message, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  write(tmp_path, f'{text}TRAIN_STPES = 1\n')
  assert dispatch.main([*arguments, '--gin_file=run.gin']) == 2
  assert re.search(message, capsys.readouterr().err)
  assert [path.name for path in tmp_path.iterdir()] == ['run.gin']


def test_a_syntax_error_has_its_line(tmp_path):
  with pytest.raises(InputError, match=r'run\.gin:2'):
    gin.load([write(tmp_path, 'A = 1\nB = = 2\n')], [])
  for end in ('@optax.adamw(', "'''x", '{1: [2]', '{[1]: 2}'):
    with pytest.raises(InputError, match=r'run\.gin:2: .*never|gin: .*unhashable'):
      gin.load([write(tmp_path, f'A = 1\nB = {end}\n')], [])


def test_a_file_that_is_binary_or_includes_itself_is_refused(tmp_path):
  path = write(tmp_path, "include 'run.gin'\n")
  with pytest.raises(InputError, match="run.gin', which includes this file"):
    gin.load([path])
  (tmp_path / 'run.gin').write_bytes(b'\xff\xfe\x00')
  with pytest.raises(InputError, match='not text; must be UTF-8'):
    gin.load([path])


def test_a_file_is_looked_for_beside_the_including_one_then_in_the_search_paths(
  tmp_path, monkeypatch
):
  """Those of the package come last."""
  for folder in ('first', 'second', 'beside'):
    (tmp_path / folder / 'runs').mkdir(parents=True)
  (tmp_path / 'beside' / 'run.gin').write_text("include 'runs/base.gin'\n")

  def put(folder):
    path = tmp_path / folder / 'runs' / 'base.gin'
    path.write_text(f"include 'gin/runs/base.gin'\nSTORE = {folder!r}\n")

  def store(*paths):
    given = [str(tmp_path / path) for path in paths]
    run = str(tmp_path / 'beside' / 'run.gin')
    return gin.load([run], BASE, search_paths=given).build('Run').store

  assert store() is None
  put('second')
  assert store() is None
  assert store('first', 'second') == 'second'
  put('first')
  assert store('first', 'second') == 'first'
  assert store(f'{tmp_path}/second,{tmp_path}/first') == 'second'
  put('beside')
  assert store('first') == 'beside'
  monkeypatch.chdir(tmp_path / 'first')
  assert gin.load(['runs/base.gin'], BASE).build('Run').store == 'first'


def test_a_file_may_be_included_twice(tmp_path):
  path = write(tmp_path, "include 'gin/runs/base.gin'\ninclude 'gin/runs/base.gin'\n")
  assert gin.load([path], BASE).build('Run').train_steps == 10


@pytest.mark.parametrize('line', ['import os', "MIXTURE_OR_TASK_MODULE = 'os'"])
def test_a_run_file_imports_no_code_by_itself(line, tmp_path):
  """It may name what the command line, or an installed package, has admitted."""
  with pytest.raises(InputError, match=r"'os': not admitted.*give --module os"):
    gin.load([write(tmp_path, f'{line}\n')], [])


def test_the_text_says_where_each_value_came_from():
  loaded = gin.load(['gin/runs/base.gin'], BASE)
  lines = loaded.text(loaded.build('Run')).splitlines()
  assert "Run.model_dir = '/tmp/x'  # --gin.MODEL_DIR" in lines
  assert any(line.startswith('Run.batch_tokens = 8192  # base.gin:') for line in lines)
  assert 'Run.z_loss = 0.0  # default' in lines


@pytest.mark.parametrize(
  'path',
  sorted(str(p) for p in gin.shipped().glob('runs/*.gin') if p.stem != 'base'),
)
def test_every_shipped_run_builds(path):
  flags = ['MODEL_DIR=x', 'INITIAL_CHECKPOINT_PATH=y']
  parsed = gin.load([path], flags)
  assert parsed.build('Run').train_steps > 0
  parsed.bound('DecoderConfig')
  assert parsed.refuse_unused('train') == []


@pytest.mark.parametrize(
  'path',
  sorted(str(p) for d in ('models', 'mesh') for p in gin.shipped().glob(f'{d}/*')),
)
def test_every_shipped_model_and_mesh_adds_to_a_run(path):
  parsed = gin.load(['gin/runs/base.gin', path], BASE)
  parsed.build('Run')
  parsed.bound('DecoderConfig')
  assert parsed.refuse_unused('train') == []


def test_the_shipped_evaluation_builds():
  flags = ['CHECKPOINT=x', 'OUTPUT_DIR=y', 'CLUSTERS=nli']
  parsed = gin.load(['gin/evaluate/zero_shot.gin'], flags)
  parsed.build('Evaluation')
  assert parsed.refuse_unused('eval') == []


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('TRAIN_STEPS = ' + '(' * 3_000, 'run.gin:'),
    ('TRAIN_STEPS = ' + '9' * 400, 'a number of 400 digits'),
    ('Optimizer.learning_rate = ' + '9' * 400, 'must be a number of 64 bits'),
    ('Optimizer.clip_global_norm = ' + '9' * 400, 'must be a number of 64 bits'),
    ('TRAIN_STEPS = 2147483648', 'must be 2,147,483,647 or less; the nearest is'),
    ("MODEL_DIR = 'a\\x00'", 'must be a text without NUL'),
    ("MODEL_DIR = '\\ud800'", 'must be a text that UTF-8 has, without surrogates'),
    ('SEED = {[]: 1}', 'run.gin: not gin: unhashable type'),
    ('SEED = nan', 'a text needs quotes'),
    ('A = %B\nB = (%A,)\nHELD_OUT = %A', 'a macro must not refer to itself'),
    (
      'Decoding.top_p = @Decoding()',
      r'-> @Decoding\(\): a class must not',
    ),
    ("HELD_OUT = '()'", r'a text; must be without its quotes: \(\)'),
    ("Mesh.rules = (('embed', ('fsdp', 'fsdp')),)", 'must have different mesh axes'),
    ('Decoding.beams = 100000', 'must be 1 to 256'),
    ("NUM_FEWSHOT = 'banana'", "run.gin:.*NUM_FEWSHOT = 'banana'; must be an integer"),
    ('optax.adamw.b1 = 2.0\nRun.optimizer = @optax.adamw()', 'b1 = 2.0; must be 0 or'),
  ],
)
def test_an_evil_value_is_one_line(text, message, tmp_path):
  path = write(tmp_path, f"include 'gin/runs/base.gin'\n{text}\n")
  values = {'MODEL_DIR': 'x', 'TRAIN_STEPS': 1, 'MIXTURE_OR_TASK_NAME': 'flan_rte'}

  def load():
    parsed = gin.load([path])
    parsed.give(values, origin='here')
    parsed.build('Run')
    parsed.refuse_unused('train')

  with pytest.raises(InputError, match=message) as caught:
    load()
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    # Each macro holds the next one twice: 2**40 values.
    (
      [f'M{i} = (%M{i + 1}, %M{i + 1})' for i in range(40)],
      'has more than 100,000',
    ),
    ([f'M{i} = %M{i + 1}' for i in range(3_000)], 'more than 100 macros'),
  ],
)
def test_macros_do_not_grow_without_end(lines, message, tmp_path):
  lines = [*lines, f'M{len(lines)} = 1', 'DecoderConfig.window = %M0']
  path = write(tmp_path, '\n'.join(lines))
  with pytest.raises(InputError, match=message):
    gin.load([path]).bound('DecoderConfig')


def test_a_flag_is_one_statement():
  """A line break in a value starts no other setting."""
  with pytest.raises(InputError, match='SEED: Run.seed = .*must be an integer'):
    build('SEED=1\nTRAIN_STEPS = 7')
