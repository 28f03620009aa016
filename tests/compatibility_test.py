"""Folders that the last commit before the names changed wrote are taken up as they are.

They stand in fixtures/schema_1 and hold the old keys; README.md there says how each was
made. A test works on a copy, from within it: the paths in it are relative.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from compile_flags import QUICK

from flan_jax.catalog import leakage, lineage, registry
from flan_jax.checkpoints import model_dir
from flan_jax.config.evaluation import EvalConfig
from flan_jax.config.optimizer import Lora
from flan_jax.config.training import TrainConfig
from flan_jax.data.packing import PackingPlan
from flan_jax.data.store import fingerprint, repair
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import training_history
from flan_jax.jobs import claim
from flan_jax.report import schema
from flan_jax.train import goodput, run_dir

OLD = pathlib.Path(__file__).parent / 'fixtures' / 'schema_1'
STORE = '1e68cdf748048c62a85881f04968b91f09973e4b4c96d7b816c479f5eae770ea'
RECIPE = '99f02902d0bad77e30df47eaa445230ae2202311c175f74106a0e6c76ee891f3'

# One device, as the folders were made; compiling well takes longer than running.


@pytest.fixture
def old(tmp_path, monkeypatch):
  """A copy of the folders, and the working directory."""
  folder = tmp_path / 'old'
  shutil.copytree(OLD, folder)
  for name in ('train', 'evaluation'):  # git keeps no empty folder
    (folder / 'stores' / '.halfway.partial' / name).mkdir(exist_ok=True)
  monkeypatch.chdir(folder)
  return folder


def read_json(path):
  return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))


def read_lines(path):
  text = pathlib.Path(path).read_text(encoding='utf-8')
  return [json.loads(line) for line in text.splitlines()]


def figures(results):
  """The results without the words of their templates, which older reports lack."""
  found = json.loads(json.dumps(results))
  for result in found:
    for of in (result, result.get('base', {})):
      for entry in of.get('per_template', ()):
        entry.pop('text', None)
  return found


def keys(value) -> set[str]:
  """Every key of a JSON value, at any depth."""
  if isinstance(value, dict):
    return set(value).union(*map(keys, value.values()))
  return set().union(*map(keys, value)) if isinstance(value, list) else set()


# Runs commands one after the other, and says whose output follows; at the end of an
# evaluation, also how many answers came from the file.
COMMANDS = """
import json, sys
from flan_jax.cli import dispatch
from flan_jax.evaluate.response_cache import ResponseCache
remove = ResponseCache.remove
def told(cache):
  print('replayed', cache.replayed, file=sys.stderr)
  remove(cache)
ResponseCache.remove = told
for name, command in json.loads(sys.argv[1]).items():
  print('command', name, file=sys.stderr)
  if dispatch.main(command):
    sys.exit(f'{name} failed')
"""

DATA = (
  '--gin.MIXTURE_OR_TASK_NAME=microworld_mini_copa', '--gin.BATCH_TOKENS=1024',
  '--gin.SEQUENCE_LENGTH=256', '--gin.Run.log_period=2', '--gin.Run.keep=1',
)  # fmt: skip
STOPPED = (
  'train', '--gin_file=tiny.gin', *DATA, '--gin.MODEL_DIR=runs/stopped',
  '--gin.STORE=runs/finished/store', '--gin.TRAIN_STEPS=12',
  "--gin.HELD_OUT=('sentiment',)", '--gin.Run.checkpoint_period=4',
  '--gin.EVAL_PERIOD=4', '--gin.Evaluate.eval_examples=4',
  '--gin.Evaluate.templates=2', '--gin.Evaluate.max_examples=6',
  '--gin.Evaluate.sequence_length=256',
  '--gin.Evaluate.batch_size=4', '--gin.Evaluate.max_decode=8',
)  # fmt: skip
ADAPTED = (
  'train', '--gin_file=gin/runs/base.gin', *DATA, '--gin.MODEL_DIR=runs/lora',
  '--gin.STORE=stores/copa', '--gin.INITIAL_CHECKPOINT_PATH=runs/finished',
  '--gin.LORA_RANK=2', '--gin.Run.bad_step=skip', '--gin.Run.loss_spike=3.0',
  '--gin.TRAIN_STEPS=6', '--gin.HELD_OUT=()',
)  # fmt: skip
EVALUATED = (
  'eval', '--gin_file=gin/evaluate/zero_shot.gin', '--gin.CHECKPOINT=runs/finished',
  '--gin.FAMILY=microworld', '--gin.MAX_EXAMPLES=4', '--gin.TEMPLATES=2',
  '--gin.Evaluate.sequence_length=256', '--gin.Evaluate.batch_size=4',
  '--gin.BASE_CHECKPOINT=base',
  '--gin.NUM_FEWSHOT=1', '--gin.BASE_PROMPT_STYLE=continuation',
  '--gin.NORMALIZATION=token', '--gin.Evaluate.max_decode=8',
  '--gin.Decoding.temperature=0.7', '--gin.CONTAMINATION=stores/copa',
  '--gin.Evaluation.ngram=3', '--gin.OUTPUT_DIR=evals/interrupted',
)  # fmt: skip


def go_on(folder, commands):
  """Runs commands in one process of one device; name of a command -> what it said."""
  done = subprocess.run(
    [sys.executable, '-c', COMMANDS, json.dumps(commands)],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': QUICK},
    cwd=folder, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  parts = (part.partition('\n') for part in done.stderr.split('command ')[1:])
  return {name: said for name, _, said in parts}


@pytest.fixture(scope='module')
def resumed(tmp_path_factory):
  """A copy of the folders in which everything went on, and what was said."""
  folder = tmp_path_factory.mktemp('resumed') / 'old'
  shutil.copytree(OLD, folder)
  evaluated = (*EVALUATED, "--gin.DATASETS=('mini_sst2',)")
  commands = {'stopped': STOPPED, 'evaluated': evaluated}
  return folder, go_on(folder, commands)


@pytest.fixture
def said(resumed, monkeypatch):
  """Name of a command -> what it said; the working directory is the folder of all."""
  folder, said = resumed
  monkeypatch.chdir(folder)
  return said


class TestStore:
  """Stores, their plans, and one that was interrupted."""

  def materialize(self, out):
    return materialize(
      registry.mixture('microworld_mini_copa'),
      StoreConfig(tokenizer='train', vocab_size=512, sequence_length=256, epochs=1),
      out=out,
    )

  @pytest.mark.parametrize('family', registry.families())
  def test_every_declaration_has_its_digest(self, family):
    """Renamed functions and fields count by their first name."""
    wanted = read_json(OLD / 'declarations.json')
    found = {
      f'{family}:{name}': fingerprint.digest(
        fingerprint.declaration(dataset, dataset.sizes)
      )
      for name, dataset in registry.datasets(family).items()
    }
    changed = [name for name in found if found[name] != wanted[name]]
    assert not changed, 'if a function was renamed, see fingerprint._HASHED'
    assert found.keys() == {n for n in wanted if n.startswith(f'{family}:')}

  def test_the_same_request_finds_the_store(self, old):
    before = read_json('stores/copa/manifest.json')
    manifest = self.materialize('stores/copa')
    assert (manifest['digest'], manifest['digests']['recipe']) == (STORE, RECIPE)
    assert manifest['datasets']['mini_copa']['examples'] == 1200
    assert manifest['plan']['sequences'] == before['plan']['rows']
    assert read_json('stores/copa/manifest.json') == before

  def test_another_request_does_not(self, old):
    with pytest.raises(InputError, match='a finished store is not rewritten'):
      materialize(
        registry.mixture('microworld_mini_copa'),
        StoreConfig(tokenizer='train', vocab_size=512, sequence_length=512, epochs=1),
        out='stores/copa',
      )

  @pytest.mark.parametrize('path', ['stores/copa', 'runs/finished/store'])
  def test_nothing_in_it_is_damaged(self, old, path):
    assert repair.repair(path) == []

  def test_a_damaged_shard_is_rebuilt_to_the_byte(self, old):
    shard = pathlib.Path('stores/copa/train/mini_copa.00.array_record')
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    (damage,) = repair.repair('stores/copa')
    assert (damage.dataset, damage.examples) == ('mini_copa', 1200)
    assert shard.read_bytes() == data

  def test_evaluation_examples_are_read_and_rebuilt_to_the_byte(self, old):
    store = Store.open('runs/finished/store')
    file = store.path / 'evaluation' / 'mini_sst2.dev.jsonl'
    data = file.read_bytes()
    examples = store.evaluation_examples('mini_sst2', 'dev')
    assert [e.example_id for e in examples] == [e['row_id'] for e in read_lines(file)]
    file.unlink()
    assert [damage.part for damage in repair.repair(store.path)] == ['dev']
    assert file.read_bytes() == data

  def test_its_plans_are_opened_and_would_be_made_the_same(self, old):
    store = Store.open('stores/copa')
    plans = sorted((store.path / 'plans').iterdir())
    for folder in plans:
      plan = PackingPlan.open(folder)
      said = read_json(folder / 'plan.json')
      assert (len(plan), plan.sequence_length) == (said['rows'], said['row_length'])
      assert store.plan(seed=0, sequences=len(plan), sequence_length=256).digest == (
        folder.name
      )
      arrays = {path.name: np.load(path) for path in folder.glob('*.npy')}
      shutil.rmtree(folder)
      again = store.plan(seed=0, sequences=len(plan), sequence_length=256)
      assert (again.digest, again.stream) == (folder.name, said['stream'])
      for name, array in arrays.items():
        np.testing.assert_array_equal(np.load(folder / name), array)
      assert keys(read_json(folder / 'plan.json')).isdisjoint({'rows', 'row_length'})
    assert sorted((store.path / 'plans').iterdir()) == plans

  def test_an_interrupted_materialization_goes_on(self, old):
    work = pathlib.Path('stores/.halfway.partial/work')
    note = read_json(work / 'read.mini_copa.json')
    note['said']['filters']['read'] = 1234  # what it found is not read again
    (work / 'read.mini_copa.json').write_text(json.dumps(note))
    manifest = self.materialize('stores/halfway')
    assert (manifest['digest'], manifest['digests']['recipe']) == (STORE, RECIPE)
    assert manifest['datasets']['mini_copa']['examples_read'] == 1234

  def test_a_new_one_is_the_same_but_for_its_keys(self, old):
    self.materialize('stores/new')
    ours = read_json('stores/new/manifest.json')
    assert set(ours.pop('validation')) == set(ours.pop('declared')) == {'mini_copa'}
    assert ours.pop('flan_jax')
    added = {name for name in ours['files'] if name.startswith('validation/')}
    assert len(added) == 3
    ours['files'] = {n: size for n, size in ours['files'].items() if n not in added}
    assert ours == dict(Store.open('stores/copa').manifest)
    assert keys(ours).isdisjoint(
      {'rows', 'rows_read', 'row_length', 'form', 'shots', 'unlabelled'}
    )


class TestRun:
  """MODEL_DIR of runs that were stopped."""

  def check_log(self, folder, wanted):
    """Losses, gradients and the sequences of every step are those of an older run."""
    log, wanted = read_lines(f'{folder}/log.jsonl'), read_lines(wanted)
    assert [entry['step'] for entry in log] == [entry['step'] for entry in wanted]
    fed = {e['step']: e['sequences'] for e in read_lines(f'{folder}/sequences.jsonl')}
    for entry, other in zip(log, wanted, strict=True):
      assert fed.get(entry['step'], entry.get('rows')) == other['rows']
      assert entry['loss'] == pytest.approx(other['loss'], rel=1e-6)
      assert entry['gradient_norm'] == pytest.approx(other['gradient_norm'], rel=1e-5)
    assert 'rows' not in log[-1]

  def check_new_keys(self, folder):
    """A resumed run writes the new names only."""
    settings, written = (
      read_json(f'{folder}/run.json'),
      keys(read_json(f'{folder}/model/training.json')),
    )
    assert keys(settings).isdisjoint(
      {'row_length', 'accept', 'head_chunk', 'spike', 'shots', 'form', 'max_rows'}
    )
    assert written.isdisjoint({'guard', 'watched', 'train_rows', 'accepted'})
    assert {'leakage', 'loss_guard', 'train_examples', 'allowed_overlap'} <= written

  def test_it_resumes_and_takes_the_missed_evaluation(self, said):
    assert 'Resuming at step 8' in said['stopped']
    self.check_log('runs/stopped', 'expected/stopped.log.jsonl')
    self.check_new_keys('runs/stopped')
    evaluations = read_lines('runs/stopped/evaluations.jsonl')
    assert [(e['step'], e.get('examples')) for e in evaluations] == [
      (4, None), (8, 4), (12, 4),
    ]  # fmt: skip
    pathlib.Path('wanted').mkdir()
    shutil.copy('expected/stopped.report.json', 'wanted/report.json')
    found, wanted = (
      figures(schema.load(folder)['results'])
      for folder in ('runs/stopped/report', 'wanted')
    )
    for result in (*found, *wanted):
      del result['base']['calibration']  # the base is drawn again, by today's names
    assert found == wanted

  @pytest.mark.slow  # its programs take long to compile
  def test_one_with_adapters_and_a_loss_guard_resumes(self, old):
    assert 'Resuming at step 4' in go_on(old, {'adapted': ADAPTED})['adapted']
    self.check_log('runs/lora', 'expected/lora.log.jsonl')
    self.check_new_keys('runs/lora')
    about = read_json('runs/lora/checkpoints/6/about/metadata')
    assert about['loss_guard'] is True
    assert keys(about).isdisjoint({'guard', 'watched', 'accepted', 'weights'})

  def test_another_setting_is_refused_by_its_new_name(self, old):
    run = TrainConfig(
      model_dir='runs/lora', mixture='microworld_mini_copa', train_steps=6,
      batch_tokens=1024, sequence_length=128, initial_checkpoint='runs/finished',
      held_out=(), lora=Lora(rank=2), loss_spike=4.0, logits_chunk=32,
      evaluate=EvalConfig(num_fewshot=1),
    )  # fmt: skip
    with pytest.raises(InputError) as raised:
      claim.check(run_dir.RunDir('runs/lora'), run)
    refused = str(raised.value).partition('holds a run of another config: ')[2]
    assert refused.partition('; give')[0] == (
      'logits_chunk was None, is 32; sequence_length was 256, is 128'
    )

  def test_time_spent_is_added_up_as_before(self, old):
    path = pathlib.Path('runs/stopped/goodput.jsonl')
    spent = goodput.summarize(goodput.read(path))
    assert (spent.starts, spent.steps, spent.recomputed_steps) == (1, 8, 0)
    assert spent.seconds['step'] == pytest.approx(5.084)
    lost = {'kind': 'lost', 'at': 1795912746.0, 'seconds': 0.03, 'steps': 3}
    path.write_text(path.read_text() + json.dumps(lost) + '\n')
    again = goodput.summarize(goodput.read(path))
    assert (again.steps, again.recomputed_steps) == (5, 3)
    assert again.seconds['step'] == pytest.approx(5.054)
    assert again.seconds['recomputed'] == 0.03


class TestEvaluation:
  """An evaluation that was interrupted takes its answers from the file."""

  def check(self, said, *, kinds, datasets):
    """Every kept answer of the kinds is replayed, and the figures are as before."""
    kept = {
      name: sum(
        not kinds.isdisjoint(entry.get('answer', ()))
        for entry in read_lines(OLD / f'evals/interrupted/{name}.journal.jsonl')
      )
      for name in ('tuned', 'base')
    }
    assert min(kept.values()) > 0
    assert 'started anew' not in said
    replayed = [x for x in said.splitlines() if x.startswith('replayed')]
    assert sorted(kept.values()) == sorted(int(line.split()[1]) for line in replayed)
    for name in ('predictions', 'predictions.base', 'predictions.dev'):
      places = (f'evals/{folder}/{name}.jsonl' for folder in ('done', 'interrupted'))
      wanted, lines = map(read_lines, places)
      wanted = [line for line in wanted if line['dataset'] in datasets]
      for line, other in zip(lines, wanted, strict=True):
        assert line.pop('log_probabilities', None) == pytest.approx(
          other.pop('log_probabilities', None), abs=1e-4
        )
        if name == 'predictions.base':  # older ones did not say it
          assert line.pop('prompt_style') == 'continuation'
          assert line.pop('separator') == 'none'
        assert line == {'example_id': other.pop('row_id'), **other}
    done, found = map(schema.load, ('evals/done', 'evals/interrupted'))
    wanted = [result for result in done['results'] if result['dataset'] in datasets]
    for result, other in zip(figures(found['results']), wanted, strict=True):
      if len(wanted) < len(done['results']):  # it depends on the number of results
        del result['p_holm'], other['p_holm']
      assert result == other

  def test_scores(self, said):
    self.check(said['evaluated'], kinds={'scores'}, datasets={'mini_sst2'})

  @pytest.mark.slow  # the programs that generate take long to compile
  def test_scores_and_texts(self, old):
    command = (*EVALUATED, "--gin.DATASETS=('mini_sst2','mini_wmt')")
    said = go_on(old, {'evaluated': command})['evaluated']
    both = {'mini_sst2', 'mini_wmt'}
    self.check(said, kinds={'scores', 'tokens'}, datasets=both)


class TestLineage:
  """What a model was trained on is known from the files of then."""

  WANTED = {'commonsense': 161}

  @pytest.mark.parametrize(
    ('read', 'path'),
    [
      (model_dir.lineage, 'runs/finished'),
      (model_dir.lineage, 'runs/finished/model'),
      (model_dir.lineage, 'returned_ours'),
      (training_history.read, 'exported_hf'),
    ],
  )
  def test_it_is_known(self, old, read, path):
    found = read(path)
    assert found.trained_on('microworld') == ('commonsense',)
    assert found.train_examples('microworld') == self.WANTED
    report = leakage.check_checkpoint(found, 'sentiment', family='microworld')
    assert report.seen == {'sentiment': leakage.NEVER}
    with pytest.raises(InputError, match='very cluster'):
      leakage.check_checkpoint(found, 'commonsense', family='microworld')
    assert lineage.of_json(found.as_json(), where='here') == found

  def test_adapters_inherit_it(self, old):
    found = model_dir.lineage('runs/lora')
    assert [training.model for training in found.trainings] == ['finished', 'lora']
    assert found.known

  @pytest.mark.parametrize('path', ['runs/finished/model', 'exported_hf'])
  def test_changed_weights_have_an_unknown_one(self, old, path):
    file = pathlib.Path(path, 'model.safetensors')
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    read = training_history.read if path == 'exported_hf' else model_dir.lineage
    assert not read(path).known

  def test_one_from_before_there_were_lineages_is_judged_by_its_leakage_report(
    self, old
  ):
    record = read_json('runs/finished/model/training.json')
    del record['lineage'], record['weights']
    pathlib.Path('runs/finished/model/training.json').write_text(json.dumps(record))
    found = model_dir.lineage('runs/finished')
    assert found.trained_on('microworld') == ('commonsense',)
    assert found.train_examples('microworld') == self.WANTED

  def test_the_model_that_ships_was_never_tuned(self):
    found = model_dir.lineage('microworld')
    assert found.known
    assert found.trained_on('microworld') == ()
