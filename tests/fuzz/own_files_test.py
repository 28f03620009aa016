"""Files of flan_jax, damaged: seen, whatever file, or without any effect.

A case takes a folder of whole files, flips one bit of one file or cuts it short, and
reads all that is in the folder. It must be refused by an InputError of one line, or
give the content of the whole files: other content is silent damage. Journals,
bookkeeping and unfinished stores are never refused: what is damaged is skipped, or made
again. The figures are printed.
"""

import collections
import json
import pathlib
import random
import shutil
import sys

import jax
import numpy as np
import pytest
import small_tokenizers
from fuzzing import content, show
from oracle import BYTES, Oracle

from flan_jax.catalog import registry
from flan_jax.checkpoints import model_dir, weights
from flan_jax.data import chat_template, packing, raw_records
from flan_jax.data.store import manifest as manifest_lib
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.evaluate import predictions
from flan_jax.evaluate.response_cache import ResponseCache
from flan_jax.inference.rank_options import Request
from flan_jax.jobs import provenance, run_report
from flan_jax.report import schema
from flan_jax.runtime import checksums
from flan_jax.train import checkpoint, goodput
from flan_jax.train.run_dir import RunDir
from flan_jax.train.state import Layout, TrainState
from flan_jax.train.writers.jsonl import JsonlFile
from flan_jax.train.writers.writer import RunInfo

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / 'interop' / 'huggingface'))
OLD = HERE.parent / 'fixtures' / 'schema_1'


# Whole files.


@pytest.fixture(scope='module')
def tiny():
  """Four tiny datasets as raw data, and blocks of which a small file has many."""
  from tiny_datasets import DATASETS, TinyDatasets

  found = TinyDatasets()
  with pytest.MonkeyPatch.context() as patch, registry.restored():
    patch.setattr(checksums, 'BLOCK', 1 << 12)
    for name in ('records', 'sizes', 'stamp'):
      patch.setattr(raw_records, name, getattr(found, name))
    registry.register(*DATASETS, family='tiny')
    yield found


@pytest.fixture(scope='module')
def whole(tiny, tmp_path_factory):
  """A folder of each kind."""
  root = tmp_path_factory.mktemp('whole')
  build(tiny, root / 'store')
  (root / 'store' / chat_template.FILE).write_text(chat_template.load('chatml'))
  checksums.record(root / 'store', [*listed(root / 'store'), chat_template.FILE])
  store = Store.open(root / 'store')
  store.plan(seed=1, sequences=9, sequence_length=600)
  (root / 'store' / 'plans').rename(root / 'plans')
  (plan,) = (root / 'plans').iterdir()
  plan.rename(root / 'plan')
  write_model(root / 'model')
  (root / 'journal').mkdir()
  answer(root / 'journal')
  write_checkpoint(root / 'checkpoint')
  write_bookkeeping(root / 'bookkeeping')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(manifest_lib, 'assemble', interrupt)
    with pytest.raises(KeyboardInterrupt):
      build(tiny, root / 'unfinished' / 'out')
  return root


def interrupt(*_, **__):
  raise KeyboardInterrupt


def build(tiny, out):
  return materialize(tiny.mixture, StoreConfig(vocab_size=420), out=out)


def listed(folder):
  return list(checksums.of(folder).files)


def write_model(folder):
  from small_models import random_model

  random_model(folder)
  (folder / 'tokenizer.model').write_bytes(small_tokenizers.sentence_pieces())
  (folder / chat_template.FILE).write_text(chat_template.load('chatml'))
  trained = json.loads((model_dir.SHIPPED / 'training.json').read_text())
  about = {'settings_digest': 'a', 'step': 1, 'seed': 0, 'modules': [{'module': 'm'}]}
  checksum = model_dir.checksum(folder)
  model_dir.write_provenance(folder, {**trained, **about}, checksum=checksum)
  converted = {'source': 'x', 'family': 'llama', 'check': {'method': 'numpy'}}
  (folder / provenance.CONVERSION).write_text(json.dumps(converted))
  model_dir.finish(folder, checksum=checksum)


def state(step):
  draw = np.random.default_rng(step)
  params = {'a': draw.normal(size=(8, 40)).astype(np.float32)}
  return TrainState(np.int32(step), params, {'m': params['a'] ** 2})


def write_checkpoint(folder):
  checkpoints = checkpoint.Checkpoints(str(folder), keep=9)
  about = {'step': 1, 'store': 'abc', 'lineage': [{'trained_on': ['nli']}]}
  checkpoints.save(jax.device_put(state(1)), step=1, metadata=about)
  checkpoints.close()


def write_bookkeeping(folder):
  log = goodput.GoodputLog(folder / goodput.FILE, began=1.0)
  log.start(0)
  log.add('compile', 1.0)
  log.add('step', 2.0, **{'from': 0, 'to': 3})
  log.start(2)
  run = RunDir(str(folder))
  for step in range(1, 4):
    figures = {'rte': {'metrics': {'accuracy': {'value': 50.0}}}}
    for path, entry in (
      (run.log, {'loss': 1.5, 'loss_tokens': 9}),
      (run.sequences, {'sequences': {'0': 'ab'}}),
      (run.validation, {'loss': 2.5, 'datasets': figures}),
      (run.evaluations, {'clusters': {'nli': 40.0}}),
    ):
      with path.open('a') as file:
        file.write(json.dumps({'step': step, **entry}) + '\n')
  RunInfo(name='r', folder=folder).save_id('wandb', 'id')


# Doors.


def plain(value):
  """A value with arrays as bytes, to compare."""
  if isinstance(value, np.ndarray):
    return value.dtype.str, value.shape, value.tobytes()
  if isinstance(value, dict):
    return {name: plain(each) for name, each in value.items()}
  return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def read_store(folder):
  store = Store.open(folder)
  held = store.manifest['evaluation']
  return plain([
    dict(store.manifest),
    [store.lengths(name) for name in store.datasets],
    [store.examples(n, range(len(store.lengths(n)))) for n in store.datasets],
    [store.evaluation_examples(n, s) for n in held for s in held[n]['examples']],
    [store.validation_examples(name) for name in store.validation or {}],
    [store.rendered_validation(name) for name in store.validation or {}],
    [store.tokenizer().digest, store.chat_template],
  ])  # fmt: skip


def read_plan(folder):
  plan = packing.PackingPlan.open(folder)
  about = [plan.datasets, plan.seed, plan.sequence_length, plan.pack, plan.stream]
  sequences = [(plan.sequence(k), plan.used(k)) for k in range(len(plan))]
  return plain([*about, plan.digest, sequences, plan.fill, plan.counts()])


def read_model(folder):
  config = weights.load_config(folder)
  return plain([
    repr(config),
    weights.flatten(weights.load(folder, config)),
    (known := model_dir.lineage(folder)).as_json(),
    provenance.training(folder, known),
    provenance.of_conversion(str(folder)),
    model_dir.modules(folder),
    model_dir.tokenizer_digest(folder),
    model_dir.chat_template(folder),
  ])  # fmt: skip


def answer(folder):
  """Answers of a model that takes what it can from the journal."""
  model = Oracle(lambda prompt: 'yes' if len(prompt) % 2 else 'no')
  cache = ResponseCache(model, folder / 'x.journal.jsonl', model_id='a')
  options = tuple(BYTES.encode_batch(['yes', 'no']))
  found = []
  for text in ('one', 'three', 'fourth'):
    prompt = BYTES.encode_batch([text])[0]
    found.append(cache.loglikelihood([Request(prompt, options)]).log_probabilities)
    found.append(cache.generate([prompt], max_tokens=4).texts)
  cache.close()
  return plain(found)


def restore(folder):
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state(1))
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  layout = Layout(shapes, None, jax.tree.map(lambda _: one, shapes))
  checkpoints = checkpoint.Checkpoints(str(folder), keep=9)

  def read(step):
    metadata = checkpoints.metadata(step)
    return metadata, checkpoints.restore(step, layout=layout, metadata=metadata)

  try:
    found = checkpoints.restore_newest(read, warn=print)
  finally:
    checkpoints.close()
  if found is None:
    raise InputError('no checkpoint is there')
  metadata, restored = found[1]
  return plain([metadata, [np.asarray(x) for x in jax.tree.leaves(restored)]])


def keep_books(folder):
  run = RunDir(str(folder))
  run_report.curves(run)
  goodput.summarize(goodput.read(folder / goodput.FILE))
  log = goodput.GoodputLog(folder / goodput.FILE, began=2.0)
  log.start(3)
  for path in (run.log, run.sequences):
    JsonlFile(path, step=2).add({'step': 3})
  info = RunInfo(name='r', folder=folder)
  info.saved_id('wandb')
  info.save_id('mlflow', 'id')


def read_report(folder):
  schema.load(folder)
  list(predictions.records(folder / 'predictions.jsonl'))


def finish(folder):
  """The content of a store whose build goes on."""
  from tiny_datasets import TinyDatasets

  build(TinyDatasets(), folder / 'out')
  return read_store(folder / 'out')


KINDS = {
  'store': ('store', read_store),
  'plan': ('plan', read_plan),
  'model folder': ('model', read_model),
  'journal': ('journal', answer),
  'checkpoint': ('checkpoint', restore),
  'bookkeeping': ('bookkeeping', keep_books),
}
"""Kind -> (folder of whole files, what reads all of it)."""

SLOW_KINDS = {'unfinished store': ('unfinished', finish)}
"""Kinds whose cases take long."""

NEVER_REFUSED = ('journal', 'bookkeeping', 'unfinished store')

OLDER = {
  'store without checksums': ('stores/copa', read_store),
  'model folder without checksums': ('runs/finished/model', read_model),
  'report': ('evals/done', read_report),
}
"""The same of files that have no checksums: only tracebacks and hangs are faults."""


# Damage.


def damaged(data: bytes, rng: random.Random) -> bytes:
  """A file with one bit flipped, or cut short."""
  if not data:
    return b'\0'
  if rng.random() < 0.3:
    return data[: rng.choice((0, len(data) - 1, rng.randrange(len(data))))]
  at = rng.randrange(len(data))
  if rng.random() < 0.3:  # headers
    at = rng.randrange(min(len(data), 256))
  return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def run(whole: pathlib.Path, work: pathlib.Path, kinds, *, cases: int, seed: int = 0):
  """Runs cases of each kind; returns kind -> outcome -> count, and faults.

  The files of a folder are damaged in turn, so that none is left out.
  """
  counts, faults = collections.defaultdict(collections.Counter), []
  for kind, (name, door) in kinds.items():
    here = work / f'{seed} {kind}' / name
    shutil.copytree(whole / name, here)
    state, good = content(door, here)
    assert state == 'taken', (kind, state)
    files = sorted(path for path in (whole / name).rglob('*') if path.is_file())
    start = random.Random(f'{seed} {kind}').randrange(len(files))
    for case in range(cases):
      rng = random.Random(f'{seed} {kind} {case}')
      file = files[(start + case) % len(files)].relative_to(whole / name)
      shutil.rmtree(here)
      shutil.copytree(whole / name, here)
      data = (here / file).read_bytes()
      (here / file).write_bytes(damaged(data, rng))
      found, value = content(door, here)
      if found == 'taken':
        other = 'unseen' if kinds is OLDER else 'silent'
        found = 'unchanged' if value == good else other
      if found == 'refused' and kind in NEVER_REFUSED:
        found = 'stopped'
      counts[kind][found.partition(':')[0]] += 1
      if found not in ('refused', 'unchanged', 'unseen'):
        faults.append(f'{kind}, {file}, seed {seed}, case {case}: {found}')
    shutil.rmtree(work / f'{seed} {kind}')
  return counts, faults


def check(whole, work, *, cases, slow, older, seed=0):
  counts, faults = {}, []
  for root, kinds, each in ((whole, KINDS, cases), (whole, SLOW_KINDS, slow),
                            (OLD, OLDER, older)):  # fmt: skip
    found, wrong = run(root, work, kinds, cases=each, seed=seed)
    counts |= found
    faults += wrong
  show(counts)
  assert not faults, '\n'.join(faults)
  assert sum(found['refused'] for found in counts.values()) > cases


def test_damage_is_seen_or_has_no_effect(whole, tmp_path):
  check(whole, tmp_path, cases=46, slow=3, older=7)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize('seed', range(1, 6))
def test_thousands_of_damages_are_seen_or_have_no_effect(whole, tmp_path, seed):
  check(whole, tmp_path, cases=150, slow=40, older=20, seed=seed)
