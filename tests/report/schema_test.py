"""The keys of report.json and of the files beside it, and reports of schema 1."""

import io
import json
import pathlib
import shutil

import pytest
from oracle import Oracle

from flan_jax.catalog import leakage, lineage, registry
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.errors import InputError
from flan_jax.evaluate import contamination, evaluator, measured_data, predictions
from flan_jax.report import compare, schema, shown_answers, terminal
from flan_jax.report import write as write_lib
from flan_jax.runtime.progress import Progress

ROOT = pathlib.Path(__file__).parents[2]
OLD = ROOT / 'tests' / 'fixtures' / 'schema_1'
SCHEMA_1 = {
  'a run': OLD / 'runs' / 'finished' / 'report',
  'an evaluation': OLD / 'evals' / 'done',
  'an evaluation of a store': OLD / 'evals' / 'from_store',
  'before forms': ROOT / 'docs' / 'results' / 'first_real_run',
  'before lineages, beside a base': ROOT / 'docs' / 'results' / 'gemma3_270m' / 'nli',
  'before lineages': ROOT / 'docs' / 'results' / 'smollm2_zero_shot',
}

FIGURES = {
  'mean', 'std_over_templates', 'ci95', 'per_template', 'best_dev_template',
  'prompt_style', 'calibration',
}  # fmt: skip
TIMING = {
  'examples_per_s', 'examples', 'seconds', 'tokens_scored', 'tokens_naive',
  'prefill_tokens', 'generated_tokens', 'unpadded_tokens', 'written_tokens',
  'tokens_scored_per_s', 'written_tokens_per_s', 'padding_share',
}  # fmt: skip
TRAINING = {
  'model', 'digest', 'trained_on', 'family', 'mixture', 'datasets', 'train_examples',
  'allowed_overlap', 'note',
}  # fmt: skip
LEAKAGE = {
  'mixture', 'family', 'held_out', 'excluded', 'trained_on', 'datasets',
  'allowed_overlap', 'seen', 'warnings',
}  # fmt: skip
KEYS = {
  '': {
    'schema', 'model', 'checkpoint', 'held_out', 'trained_on', 'train_examples',
    'lineage', 'data_digest', 'seed', 'results', 'timing', 'data', 'leakage', 'answers',
    'contamination', 'provenance', 'warnings', 'base_checkpoint',
  },
  'lineage': TRAINING,
  'lineage.datasets': {'name', 'cluster', 'sources'},
  'results': FIGURES | {
    'dataset', 'direction', 'cluster', 'metric', 'signature', 'split', 'n',
    'n_declared', 'num_fewshot', 'num_fewshot_shown', 'base_prompt_style', 'seeds',
    'chance', 'majority', 'templates_declared', 'base', 'delta', 'delta_ci95', 'p',
    'p_holm', 'detectable', 'published', 'contamination',
  },
  'results.per_template': {'template', 'text', 'dev', 'test', 'n'},
  'results.best_dev_template': {'template', 'dev', 'test'},
  'results.calibration': {'ece', 'n', 'bins'},
  'results.calibration.bins': {'low', 'high', 'n', 'confidence', 'right'},
  'results.base': FIGURES,
  'results.base.per_template': {'template', 'text', 'dev', 'test', 'n'},
  'results.base.best_dev_template': {'template', 'dev', 'test'},
  'results.base.calibration': {'ece', 'n', 'bins'},
  'results.base.calibration.bins': {'low', 'high', 'n', 'confidence', 'right'},
  'results.published.*': {'value', 'mark'},
  'results.contamination': {'judged', 'contaminated', 'clean', 'mean', 'ci95'},
  'timing': TIMING | {'base', 'by_dataset'},
  'timing.base': TIMING | {'by_dataset'},
  'timing.by_dataset.*': TIMING,
  'timing.base.by_dataset.*': TIMING,
  'data': {'family', 'directory', 'digest', 'datasets'},
  'data.datasets': {'dataset', 'direction', 'tfds', 'digest', 'splits'},
  'data.datasets.splits.*': {'examples', 'declared'},
  'leakage': LEAKAGE | {'base'},
  'leakage.base': LEAKAGE | {'lineage'},
  'leakage.base.lineage': TRAINING,
  'answers': {'normalization', 'decoding'},
  'answers.decoding': {'beams'},
  'contamination': {'ngram', 'against', 'words'},
  'provenance': {'config', 'models', 'versions'},
  'provenance.models.*': {'fingerprint', 'parameters', 'config', 'tokenizer'},
  'provenance.models.*.tokenizer': {'name', 'digest'},
}  # fmt: skip
"""Level of report.json -> its keys.

Items of a list are one level, and so are the values of an object with names for keys.
"""

NAMED = {
  'sources',
  'train_examples',
  'seen',
  'published',
  'splits',
  'models',
  'by_dataset',
  'also',
  'versions',
}
"""Objects whose keys are names: of clusters, figures, splits, models, packages."""

SOMETIMES = {
  'results': {'also', 'differs'},
  'results.base': {'also'},
  'data': {'store', 'store_digest', 'template_seed', 'sources'},
  'leakage.allowed_overlap': {
    'dataset', 'cluster', 'source', 'held_out', 'by', 'model',
  },
  'provenance': {'modules'},
  'provenance.models.*': {'converted'},
  'provenance.models.*.converted': {'source', 'family', 'logits_of'},
}  # fmt: skip
"""Level -> further keys, of some metrics, datasets, sources and models."""

PREDICTION = {
  'example_id', 'dataset', 'template', 'prompt', 'options', 'gold', 'predicted',
  'exemplars', 'direction',
}  # fmt: skip
RANKED, GENERATED = {'log_probabilities'}, {'text'}
MAYBE = {'references', 'tied', 'prompt_style', 'separator'}

DIFFERENCE = {
  '': {
    'new', 'old', 'results', 'only_new', 'only_old', 'other_examples', 'settings',
  },
  'new': {'model', 'checkpoint', 'data_digest', 'seed', 'title'},
  'old': {'model', 'checkpoint', 'data_digest', 'seed', 'title'},
  'results': {
    'dataset', 'direction', 'cluster', 'metric', 'splits', 'reports', 'n', 'templates',
    'paired', 'unpaired_reason', 'old', 'new', 'delta', 'delta_ci95', 'p', 'p_holm',
    'unit', 'gained', 'lost', 'examples',
  },
  'results.reports': {'new', 'old'},
  'results.reports.new': {'mean', 'n', 'templates'},
  'results.reports.old': {'mean', 'n', 'templates'},
  'results.examples': {
    'kind', 'example_id', 'template', 'template_text', 'prompt', 'old_prompt',
    'expected', 'new', 'old',
  },
}  # fmt: skip


def keys(value, path='') -> dict[str, set[str]]:
  """Level of a JSON value -> its keys."""
  found: dict[str, set[str]] = {}
  parts = []
  if isinstance(value, dict):
    named = path.rpartition('.')[2] in NAMED
    if value and not named:
      found[path] = set(value)
    parts = [
      (f'{path}.{"*" if named else key}'.lstrip('.'), item)
      for key, item in value.items()
    ]
  elif isinstance(value, list):
    parts = [(path, item) for item in value]
  for below, item in parts:
    for level, names in keys(item, below).items():
      found.setdefault(level, set()).update(names)
  return found


def examples(name, split):
  """Examples of RTE, or of a translation."""
  for i in range(24):
    example_id = f'{split}.0.{i}'
    if name == 'rte':
      gold = i % 2
      values = {'hypothesis': f'It is {i}.'}
      values['premise'] = f'Fact {i} of {split} is one of many in a long list.'
      answer = Answer(('no', 'yes')[gold], ('yes', 'no'), (1 - gold,))
    else:
      text = f'the old red house number {i}'
      values = {'english': text, 'foreign': f'la maison {i} de {split}'}
      answer = Answer(text, (), (), (text,))
    yield Example(example_id, {**values, 'answer': answer.text}, answer)


def evaluated(out, says='yes', base='no'):
  """Writes a report with all that a report can have."""
  models = [Oracle(lambda prompt, word=word: word) for word in (says, base)]
  for model in models:
    model.sequence_length = 4096  # the oracle's tokens are bytes
  tuned, untuned = (
    lineage.RANDOM.then(lineage.of_mixture(registry.mixture('flan_sst2'), model='m')),
    lineage.Lineage((lineage.Training(model='b', datasets=(), note='prose'),)),
  )
  reports = [
    leakage.check_checkpoint(found, ('nli', 'translation'), family='flan')
    for found in (tuned, untuned)
  ]
  with predictions.Predictions(out) as emit:
    results = evaluator.evaluate(
      models[0],
      evaluator.Protocol(templates=2, num_fewshot=1, base_prompt_style='continuation'),
      datasets=[registry.get('rte'), registry.get('wmt14_enfr')],
      examples=examples,
      base=models[1],
      emit=emit,
    )
  text = out / 'text'
  text.mkdir()
  (text / 'a.txt').write_text('nothing of the kind', encoding='utf-8')
  overlap = contamination.find_overlaps(
    results,
    suspects=contamination.suspects(str(text)),
    ngram=5,
    progress=Progress(quiet=True),
  )
  model = {
    'fingerprint': 'f', 'parameters': 1, 'config': {},
    'tokenizer': {'name': 'bytes', 'digest': 'd'},
  }  # fmt: skip
  counts = {'train_examples': {'sentiment': 8}}
  return write_lib.write(
    out, results, model='m', checkpoint='runs/m', held_out=['nli', 'translation'],
    data_digest='', seed=3, base='runs/b',
    data=measured_data.in_raw([registry.get('rte')], '/data'),
    leakage=leakage.with_base(*reports), contamination=overlap,
    answers={'normalization': 'none', 'decoding': {'beams': 1}},
    provenance={
      'config': 'Evaluate.num_fewshot = 1  # flag', 'versions': {},
      'models': {'tuned': model, 'base': model | {'fingerprint': 'g'}},
    },
    **tuned.summary('flan') | counts,
  )  # fmt: skip


class TestKeys:
  """What is written today has the documented keys, and no others."""

  def test_of_a_report(self, tmp_path):
    evaluated(tmp_path)
    report = json.loads((tmp_path / 'report.json').read_text(encoding='utf-8'))
    assert report['schema'] == schema.SCHEMA == 2
    assert keys(report) == KEYS

  def test_of_predictions(self, tmp_path):
    evaluated(tmp_path)
    for path in tmp_path.glob('predictions*.jsonl'):
      for line in path.read_text(encoding='utf-8').splitlines():
        found = set(json.loads(line))
        assert found >= set(predictions.KEYS)
        answer = GENERATED if 'text' in found else RANKED
        assert answer <= found <= PREDICTION | answer | MAYBE

  def test_of_a_difference(self, tmp_path):
    evaluated(tmp_path / 'new')
    evaluated(tmp_path / 'old', says='no')
    compare.write(tmp_path / 'new', tmp_path / 'old')
    path = tmp_path / 'new' / 'difference.json'
    assert keys(json.loads(path.read_text(encoding='utf-8'))) == DIFFERENCE


def copied(name, out):
  """A copy of a folder of schema 1."""
  shutil.copytree(SCHEMA_1[name], out)
  return out


@pytest.mark.parametrize('name', SCHEMA_1)
class TestSchema1:
  """A report from before the keys changed is read under the keys of today."""

  def test_its_keys_are_those_of_today(self, name):
    report = schema.load(SCHEMA_1[name])
    assert report['schema'] == 2
    for level, names in keys(report).items():
      documented = KEYS.get(level, set()) | SOMETIMES.get(level, set())
      free = level.endswith(('.decoding', '.config', '.also'))
      assert names <= documented or free, level
    needed = {
      'dataset', 'n', 'n_declared', 'num_fewshot', 'prompt_style', 'base_prompt_style',
      'seeds', 'per_template', 'templates_declared',
    }  # fmt: skip
    for result in report['results']:
      assert needed <= set(result)

  def test_its_figures_are_kept(self, name):
    text = (SCHEMA_1[name] / 'report.json').read_text(encoding='utf-8')
    old, new = json.loads(text), schema.load(SCHEMA_1[name])
    assert new['train_examples'] == old['train_rows']
    assert new['leakage'].get('seen') == old['guard'].get('seen')
    for one, other in zip(new['results'], old['rows'], strict=True):
      for key in ('mean', 'ci95', 'n', 'per_template', 'published', 'delta'):
        assert one.get(key) == other.get(key)
      assert one['num_fewshot'] == other['shots']
      assert one['prompt_style'] == other.get('form', 'instructions')

  def test_page_tables_and_plots_are_made_of_it(self, name, tmp_path):
    out = copied(name, tmp_path / 'report')
    write_lib.render(out)
    report = schema.load(out)
    page = (out / 'report.html').read_text(encoding='utf-8')
    for average in schema.averages(report):
      assert schema.headline(average) in page
    printed = io.StringIO()
    terminal.print_table(report, file=printed)
    for result in report['results']:
      assert result['dataset'] in printed.getvalue()
      assert f'{result["mean"]:.1f}' in (out / 'report.tex').read_text(encoding='utf-8')
    with_predictions = (out / 'predictions.jsonl').is_file()
    assert ('id="examples"' in page) == with_predictions

  def test_it_is_compared_with_one_of_today(self, name, tmp_path):
    """The same report under the new keys differs from it by nothing."""
    old = copied(name, tmp_path / 'old')
    new = copied(name, tmp_path / 'new')
    text = json.dumps(schema.load(old), ensure_ascii=False)
    (new / 'report.json').write_text(text, encoding='utf-8')
    for path in new.glob('predictions*.jsonl'):
      lines = path.read_text(encoding='utf-8').replace('"row_id"', '"example_id"')
      path.write_text(lines, encoding='utf-8')
    assert schema.load(new) == schema.load(old)
    for pair in ((new, old), (old, new)):
      found = compare.write(*pair)
      assert found['settings'] == []
      assert found['other_examples'] == []
      for result in found['results']:
        assert result['delta'] == 0
        assert result['paired'] == (old / 'predictions.jsonl').is_file()


def test_no_setting_differs_by_its_name_alone(tmp_path):
  """Every setting of a run has today's name, and is compared under it."""
  old = schema.load(SCHEMA_1['a run'])
  lines = old['provenance']['config'].splitlines()
  names = [line.partition(' = ')[0] for line in lines]
  assert len(set(names)) == len(names)
  for name in (
    'Run.sequence_length', 'Run.allow_overlap', 'Run.logits_chunk', 'Run.loss_spike',
    'Evaluate.max_examples', 'Evaluate.batch_size', 'Evaluate.sequence_length',
    'Evaluate.normalization', 'Evaluate.num_fewshot', 'Evaluate.prompt_style',
    'Evaluate.base_prompt_style', 'Evaluate.eval_period', 'Evaluate.eval_examples',
  ):  # fmt: skip
    assert name in names
  # Values and origins stay: `--gin.ROW_LENGTH` is what was typed then.
  assert 'Run.sequence_length = 256  # --gin.ROW_LENGTH' in lines
  evaluation = schema.load(SCHEMA_1['an evaluation'])['provenance']['config']
  assert 'Evaluation.allow_overlap = None' in evaluation


def test_a_comparison_of_then_is_made_again(tmp_path):
  """Its figures are those of the old program, and so are the settings of both."""
  path = OLD / 'expected' / 'finished.difference.json'
  wanted = json.loads(path.read_text(encoding='utf-8'))
  found = compare.compare(SCHEMA_1['a run'], SCHEMA_1['an evaluation of a store'])
  assert [values for _, *values in found['settings']] == [
    values for name, *values in wanted['settings'] if all(values) or '.' not in name
  ]
  assert found['other_examples'] == wanted['other_rows']
  for one, other in zip(found['results'], wanted['rows'], strict=True):
    assert one['unpaired_reason'] == other.pop('apart')
    assert {key: one[key] for key in other} == other


class TestRefused:
  @pytest.mark.parametrize(
    'text', ['', '{"model": ', '[]', '{}', '{"rows": 1}', 'null']
  )
  def test_what_is_no_report(self, text, tmp_path):
    (tmp_path / 'report.json').write_text(text, encoding='utf-8')
    with pytest.raises(InputError, match='not a report'):
      schema.load(tmp_path)

  def test_a_newer_schema(self, tmp_path):
    text = json.dumps({'schema': 3, 'results': []})
    (tmp_path / 'report.json').write_text(text, encoding='utf-8')
    with pytest.raises(InputError, match='schema 3; must be 1 or 2'):
      schema.load(tmp_path)


def test_an_old_prediction_is_shown_and_a_torn_one_is_refused(tmp_path):
  out = copied('an evaluation', tmp_path / 'report')
  (example, *_) = shown_answers.draw(out, schema.load(out))['mini_sst2']
  assert example['example_id'].startswith('mini_sst2-test-')
  with (out / 'predictions.jsonl').open('a', encoding='utf-8') as file:
    file.write('{"row_id": "r"}\n')
  with pytest.raises(InputError, match='is not a whole prediction'):
    shown_answers.draw(out, schema.load(out))
