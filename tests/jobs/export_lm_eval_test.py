"""Tasks of lm-eval: the prompts of an evaluation, whole, in files that it reads."""

import json
import pathlib
import sys

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'interop' / 'huggingface'))

from small_models import by_numpy_alone, tuned_model

from flan_jax.catalog import registry
from flan_jax.catalog.registry import Family
from flan_jax.cli import dispatch
from flan_jax.config.evaluation import EvalConfig
from flan_jax.config.mesh import MeshConfig
from flan_jax.data import tokenizers
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.errors import InputError
from flan_jax.evaluate import eval_data, load_model
from flan_jax.inference.generate import Generated
from flan_jax.inference.rank_options import Scored
from flan_jax.interop.huggingface import convert
from flan_jax.jobs import export_lm_eval, measure
from flan_jax.jobs.export_lm_eval import LmEvalConfig
from flan_jax.runtime.progress import Progress

QUIET = Progress(quiet=True)


def export(out: pathlib.Path, **settings):
  """Exports; returns the summary and path -> content of every file."""
  settings = {'tokenizer': 'bytes', 'family': 'tiny'} | settings
  summary = export_lm_eval.export(
    LmEvalConfig(out=str(out), **settings), progress=QUIET
  )
  files = {}
  for path in sorted(out.rglob('*')):
    text = path.read_text(encoding='utf-8') if path.is_file() else ''
    name = path.relative_to(out).as_posix()
    if path.suffix == '.jsonl':
      files[name] = [json.loads(line) for line in text.splitlines()]
    elif path.suffix == '.yaml':
      files[name] = yaml.safe_load(text)
  return summary, files


@pytest.fixture(autouse=True)
def family(tiny_datasets):
  registry.register(Family('tiny'))


class Silent:
  """A model that `flan eval` can ask: every option is as good."""

  tokenizer = tokenizers.load('bytes')
  sequence_length = 2048
  max_length = None

  def loglikelihood(self, requests):
    scores = [np.zeros(len(request.options), np.float32) for request in requests]
    return Scored(scores, 0, 0)

  def generate(self, prompts, *, max_tokens):
    none = [[] for _ in prompts]
    return Generated(none, ['' for _ in prompts], [False for _ in prompts], 0, 0, 0.0)


NAMES = ('pairs', 'stories', 'picks', 'twins')


@pytest.mark.parametrize(
  'settings',
  [
    {},
    {'max_examples': 2, 'templates': 3},
    {'num_fewshot': 2, 'options_style': 'letters'},
  ],
)
def test_rows_are_the_prompts_of_an_evaluation(tiny_datasets, tmp_path, settings):
  evaluate = EvalConfig(**settings)
  asked: dict[tuple, list] = {}

  def note(record, *, split, model):
    key = record['dataset'], record['template'], split
    asked.setdefault(key, []).append(record)

  measure.run(
    Silent(), evaluate=evaluate, seed=3, datasets=[registry.get(n) for n in NAMES],
    examples=eval_data.raw(data_dir=None, progress=QUIET), progress=QUIET, emit=note,
  )  # fmt: skip
  _, files = export(tmp_path / 'out', datasets=NAMES, evaluate=evaluate, seed=3)
  rows = {name: found for name, found in files.items() if name.endswith('.jsonl')}
  for found in rows.values():
    first = found[0]
    key = first['task_name'].removeprefix('tiny_'), first['template'], first['split']
    records = asked.pop(key)
    assert [row['inputs'] for row in found] == [r['prompt'] for r in records]
    for row, record in zip(found, records, strict=True):
      assert row['example_id'] == record['example_id']
      assert row['num_fewshot'] == len(record.get('exemplars', ()))
      if record['options']:
        ranked = record.get('labels', record['options'])
        assert row['choices'] == [f'{option}</s>' for option in ranked]
        assert row['gold'] == record['gold']
      else:
        assert row['references'] == record['gold']
  # What is left is the dev split of datasets that have a test split.
  assert {split for *_, split in asked} == {'dev'}
  assert {name for name, *_ in asked} == {'pairs', 'twins'}


def test_a_task_reads_its_rows_and_a_group_has_every_template(tiny_datasets, tmp_path):
  out = tmp_path / 'out'
  summary, files = export(out, clusters=('nli', 'summarization'))
  tasks = {
    content['task']: content for content in files.values() if 'doc_to_text' in content
  }
  for name, task in tasks.items():
    ((split, path),) = task['dataset_kwargs']['data_files'].items()
    assert task[f'{split}_split'] == split == 'test'
    assert pathlib.Path(path).is_absolute()
    rows = files[pathlib.Path(path).relative_to(out.resolve()).as_posix()]
    fields = [task['doc_to_text'], task['doc_to_target']]
    fields += [task['doc_to_choice']] if 'doc_to_choice' in task else []
    assert set(fields) <= set(rows[0])
    assert len(rows) == task['metadata']['examples'] == summary['tasks'][name]
    assert task['target_delimiter'] == ''
  templates = registry.get('pairs').evaluated_templates
  assert len(templates) < len(registry.get('pairs').templates)
  group = files['tiny_pairs/tiny_pairs.yaml']
  assert group['task'] == [f'tiny_pairs_template_{i}' for i in templates]
  assert set(group['task']) < set(tasks)
  cluster = files['tiny_cluster_nli.yaml']
  assert (cluster['group'], cluster['task']) == ('tiny_cluster_nli', ['tiny_pairs'])
  (metric,) = cluster['aggregate_metric_list']
  assert (metric['metric'], metric['weight_by_size']) == ('acc', False)
  (metric,) = files['tiny_cluster_summarization.yaml']['aggregate_metric_list']
  assert metric['metric'] == 'exact_match'


def test_a_mixture_gives_what_it_holds_out_from_a_store_too(tiny_datasets, tmp_path):
  registry.register(tiny_datasets.mixture)
  mixture = tiny_datasets.mixture.name
  summary, raw = export(tmp_path / 'raw', mixture=mixture, tokenizer='bytes')
  assert summary['groups'] == ['tiny_twins', 'tiny_cluster_paraphrase']
  materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer='bytes', evaluate=('paraphrase',)),
    out=tmp_path / 'store',
  )
  store = str(tmp_path / 'store')
  _, stored = export(tmp_path / 's', mixture=mixture, store=store, tokenizer=None)
  rows = [name for name in raw if name.endswith('.jsonl')]
  assert rows
  assert all(raw[name] == stored[name] for name in rows)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'tokenizer': None, 'clusters': ('nli',)}, '--tokenizer: not given'),
    ({}, '--mixture: not given'),
    ({'clusters': ('nly',)}, "--clusters 'nly': no such cluster"),
    (
      {'mixture': 'tiny_held_out_paraphrase', 'clusters': ('nli',)},
      "--clusters 'nli': mixture 'tiny_held_out_paraphrase' holds out paraphrase",
    ),
    ({'datasets': ('picks',), 'split': 'test'}, 'no dataset has an example'),
  ],
)
def test_bad_settings_are_one_line(tiny_datasets, tmp_path, settings, message):
  registry.register(tiny_datasets.mixture)
  with pytest.raises(InputError, match='^[^\n]+$') as caught:
    export(tmp_path / 'out', **settings)
  assert message in str(caught.value)
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--lm-eval', 'D', '--sampled', '3'], '--sampled: has no effect with --lm-eval'),
    (['--lm-eval', 'D', '--splits', 'train,dev'], 'must be dev or test'),
    (['--out', 'D', '--clusters', 'nli'], '--clusters: only with --lm-eval'),
    (['--mixture', 'flan_all'], '--out: not given, nor --lm-eval'),
  ],
)
def test_flags_of_the_other_export_are_refused(capsys, flags, message):
  assert dispatch.main(['export', *flags]) == 2
  assert message in capsys.readouterr().err


@pytest.mark.torch
def test_lm_eval_finds_the_accuracies_of_an_evaluation(tmp_path):
  """By its `hf` model on the exported folder, and by ours."""
  lm_eval = pytest.importorskip('lm_eval', reason="needs 'flan_jax[lm-eval]'")
  pytest.importorskip('torch', reason='the hf model runs in it')
  from lm_eval.tasks import TaskManager

  from flan_jax.interop.lm_eval import model

  own = tokenizers.load('bytes')
  tuned_model(tmp_path / 'flan', own, num_layers=1, vocab_size=own.vocab_size)
  with by_numpy_alone():
    convert.export_model(tmp_path / 'flan', tmp_path / 'hf', progress=QUIET)
  evaluate = EvalConfig(templates=2, batch_size=4)
  names = ('pairs', 'picks', 'twins')
  export(
    tmp_path / 'out', tokenizer=str(tmp_path / 'hf'), datasets=names, evaluate=evaluate
  )
  scorer = load_model.load(
    str(tmp_path / 'flan'), evaluate=evaluate, mesh=MeshConfig(), tokenizer=None,
    prompt_style='instructions',
  )  # fmt: skip
  results = measure.run(
    scorer, evaluate=evaluate, seed=0, datasets=[registry.get(name) for name in names],
    examples=eval_data.raw(data_dir=None, progress=QUIET), progress=QUIET,
  )  # fmt: skip
  expected = {
    f'tiny_{result.dataset.name}_template_{template}': scores.mean()
    for result in results.datasets
    for template, scores in zip(result.templates, result.reported.tuned, strict=True)
  }
  for name, folder in (('hf', 'hf'), (model.NAME, 'flan')):
    found = lm_eval.simple_evaluate(
      model=name, model_args={'pretrained': str(tmp_path / folder)}, batch_size=4,
      tasks=[f'tiny_{name}' for name in names], device='cpu', apply_chat_template=True,
      task_manager=TaskManager(
        include_path=str(tmp_path / 'out'), include_defaults=False
      ),
    )['results']  # fmt: skip
    assert {task: found[task]['acc,none'] for task in expected} == expected
    for group in ('tiny_pairs', 'tiny_twins'):
      templates = [v for task, v in expected.items() if task.startswith(group)]
      assert found[group]['acc,none'] == pytest.approx(np.mean(templates))
