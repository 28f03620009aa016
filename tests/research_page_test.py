"""docs/howto/research.md: its wishes and its examples train, are saved, resume."""

import json
import os
import pathlib
import re
import sys

import pytest
import small_run

import gin
from flan_jax.catalog import options_style, prompt_style, registry
from flan_jax.cli import dispatch
from flan_jax.evaluate import metrics
from flan_jax.interop.huggingface import families

PAGE = (
  pathlib.Path(__file__).parents[1] / 'docs' / 'howto' / 'research.md'
).read_text()
IMPORTS = (
  'import dataclasses\nimport jax\nimport jax.numpy as jnp\nimport numpy as np\n'
  'import optax\nimport flan_jax as flan\n\n'
)
NOTES = """
flan.register(flan.Dataset(
  name='notes', cluster='notes', source=flan.Json('notes.{{split}}.jsonl'),
  fields={{'text': 'text', 'mood': 'mood'}}, answer={answer}, metric={metric!r},
  templates=(flan.Template({template!r}),)))
"""
FREE = {'answer': "flan.Text('{mood}')", 'template': 'The mood of {text}?'}
RANKED = {
  'answer': "flan.Label('id', ('glad', 'sad'))",
  'template': 'The mood of {text}?\n\n{OPTIONS}',
}


def table() -> dict[str, tuple[str, str]]:
  """Wish -> its lines in gin, and in a module."""
  found = {}
  for line in PAGE.partition('| wish |')[2].splitlines()[2:]:
    if not line.startswith('| '):
      break
    wish, *cells = re.split(r'\s*\|\s*', line.strip('| '))
    lines = ['\n'.join(re.findall('`(.*?)`', cell)) for cell in cells]
    found[wish] = (lines[0], lines[1] if len(lines) > 1 else '')
  return found


WISHES = table()
QUICK = ('a frozen embedding',)


def blocks(language: str) -> str:
  return '\n'.join(re.findall(rf'```{language}\n(.*?)```', PAGE, re.DOTALL))


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current folder; what its modules register is forgotten."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [*sys.path])
  for variable in ('FLAN_JAX_MODULES', 'PYTHONPATH'):
    monkeypatch.setenv(variable, os.environ.get(variable, ''))
  monkeypatch.setattr(metrics, 'METRICS', dict(metrics.METRICS))
  monkeypatch.setattr(metrics, '_places', dict(metrics._places))
  monkeypatch.setattr(families, '_entries', dict(families._entries))
  for styles in (options_style._styles, prompt_style._styles):
    for part in ('_items', '_places'):
      monkeypatch.setattr(styles, part, dict(getattr(styles, part)))
  for split, n in (('train', 24), ('valid', 4), ('test', 6)):
    with (tmp_path / f'notes.{split}.jsonl').open('w') as file:
      for i in range(n):
        note = {'text': f'{split} {i}', 'mood': ('glad', 'sad')[i % 2], 'id': i % 2}
        file.write(json.dumps(note) + '\n')
  before = {name for name, _ in gin.config._REGISTRY.items()}
  with registry.restored():
    yield tmp_path
  for name in [name for name, _ in gin.config._REGISTRY.items() if name not in before]:
    gin.config._REGISTRY.pop(name)
  for name in [name for name in sys.modules if name.startswith('acme_')]:
    del sys.modules[name]


def train(module: str, python: str, bindings: str, steps: int, **values) -> int:
  pathlib.Path(f'{module}.py').write_text(IMPORTS + python)
  pathlib.Path('mine.gin').write_text(bindings + '\n')
  settings = small_run.flags(
    {
      'MODEL_DIR': 'run', 'TRAIN_STEPS': steps, 'Run.log_period': 1,
      'TOKENIZER': 'bytes', 'HELD_OUT': '()',
      'MIXTURE_OR_TASK_NAME': 'microworld_mini_cola', **values,
    }
  )  # fmt: skip
  if 'Run.optimizer' in bindings:
    settings = [each for each in settings if not each.startswith('Optimizer.')]
  files = [f'--gin_file={name}' for name in (*small_run.FILES, 'mine.gin')]
  given = [f'--gin.{each}' for each in settings]
  return dispatch.main(['train', '--module', module, *files, *given])


def entries(name: str = 'log') -> list[dict]:
  """Lines of a JSON Lines file of the run."""
  lines = pathlib.Path(f'run/{name}.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def result(report: str = 'run/report/report.json') -> dict[str, dict]:
  found = json.loads(pathlib.Path(report).read_text())
  return {each['metric']: each for each in found['results']}


def test_the_table_has_every_wish_in_a_few_lines():
  assert list(WISHES) == [
    'AdamW', 'Lion', 'a cosine', 'label smoothing', 'a frozen embedding', 'a metric',
    'a model', 'W&B', 'an own gin configurable',
  ]  # fmt: skip
  for lines in WISHES.values():
    assert all(part.count('\n') < 4 for part in lines)


@pytest.mark.parametrize(
  'wish',
  [w if w in QUICK else pytest.param(w, marks=pytest.mark.slow) for w in WISHES],
)
def test_a_wish_trains_is_saved_and_resumes(wish, folder, monkeypatch, capfd):
  bindings, python = WISHES[wish]
  if wish == 'W&B':
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
  module = f'acme_{list(WISHES).index(wish)}'
  more = {}
  if wish == 'a metric':
    python += NOTES.format(metric='letters_off', **FREE)
    more = {'HELD_OUT': 'notes', 'Evaluate.max_decode': 4, 'Evaluate.base': False}
  for steps in (1, 2):
    assert train(module, python, bindings, steps, **more) == 0
  assert 'Resuming at step 1' in ''.join(capfd.readouterr())
  assert [entry['step'] for entry in entries()] == [1, 2]
  if wish == 'a metric':
    assert result()['letters_off']['kind'] == 'value'
  if wish == 'a model':
    assert 'acme' in families.registered()
  if wish == 'W&B':
    assert list(pathlib.Path('run').glob('wandb/offline-run-*'))


def test_the_examples_of_the_page_train_and_are_measured(folder, capfd):
  """A loss, a hook, a prompt style, an options style and two metrics in one run."""
  python = blocks('python') + NOTES.format(metric='letters_off', **RANKED)
  python += """
flan.register(flan.Mixture(name='mine', datasets=('mini_cola',), style=flan.PromptStyle(
  prompt_style='politely', options_style='roman')))
"""
  values = {
    'MIXTURE_OR_TASK_NAME': 'mine', 'HELD_OUT': 'notes', 'Evaluate.base': False,
  }  # fmt: skip
  assert train('acme_page', python, blocks('gin'), 2, **values) == 0
  shown = ''.join(capfd.readouterr())
  assert 'the loss is @acme_page.focal, gamma = 2.0' in shown
  norms = entries('norms')
  assert [entry['step'] for entry in norms] == [1, 2]
  assert all(entry['params'] > 0 for entry in norms)
  assert set(result()) == {'letters_off', 'answered'}
  assert result()['answered']['mean'] == 1
  assert result()['answered']['options_style'] == 'roman'
  assert 'Run.loss = @acme_page.focal' in pathlib.Path('run/config.gin').read_text()
  line = pathlib.Path('run/report/predictions.jsonl').read_text().splitlines()[0]
  record = json.loads(line)
  assert record['prompt'].startswith('Please: The mood of test 0?')
  assert record['prompt'].endswith('i) glad\nii) sad')
  assert (record['options'], record['labels']) == (['glad', 'sad'], ['i', 'ii'])
  store = json.loads(pathlib.Path('run/store/manifest.json').read_text())
  assert store['style']['options_style'] == 'roman'
  assert 'Please: ' in json.dumps(store['prompts']['mini_cola'])
  assert metrics.get('length_ratio').kind == 'value'
