"""Import tiers: the libraries that a module may import, seen in a fresh process.

One process imports every module, those of the strictest tier first: what is loaded
after a module is loaded by it or by one before it, none of which may load more.
"""

import json
import subprocess
import sys

import pytest
import small_run

HEAVY = ('numpy', 'jax', 'flax', 'optax', 'orbax', 'grain', 'gin', 'rich')
JAX = ('jax', 'flax', 'optax', 'orbax', 'grain', 'tensorflow', 'seqio')
TENSORFLOW = ('tensorflow', 'seqio', 'tensorflow_datasets')

TIERS = {
  'flan_jax.cli.dispatch': (*HEAVY, *TENSORFLOW),
  'flan_jax.tpu.launch.launch': (*HEAVY, *TENSORFLOW),
  'flan_jax.tpu.launch.manifests': (*HEAVY, *TENSORFLOW),
  'flan_jax.catalog.template': JAX,
  'flan_jax.catalog.dataset': JAX,
  'flan_jax.tasks': JAX,
  'flan_jax.mixtures': JAX,
  'flan_jax.catalog.lint': JAX,
  'flan_jax.catalog.leakage': JAX,
  'flan_jax.catalog.mixing_rates': JAX,
  'flan_jax.catalog.prompt_style': JAX,
  'flan_jax.cli.task_table': JAX,
  'flan_jax.data.few_shot': JAX,
  'flan_jax.data.packing': JAX,
  'flan_jax.data.prompts': JAX,
  'flan_jax.data.batch': JAX,
  'flan_jax.evaluate.metrics': JAX,
  'flan_jax.evaluate.statistics': JAX,
  'flan_jax.microworld.tasks': JAX,
  'flan_jax.config.gin': JAX,
  'flan_jax.config.study': JAX,
  'flan_jax.model.decoder': TENSORFLOW,
  'flan_jax.data.loader': TENSORFLOW,
  'flan_jax.data.store.materialize': TENSORFLOW,
  'flan_jax.data.store.repair': TENSORFLOW,
  'flan_jax.runtime.atomic_file': (*HEAVY, *TENSORFLOW),
  'flan_jax.runtime.worker_pool': (*HEAVY, *TENSORFLOW),
  'flan_jax.train.trainer': TENSORFLOW,
  'flan_jax.jobs.train_and_evaluate': TENSORFLOW,
  'flan_jax.jobs.evaluate_checkpoint': TENSORFLOW,
  'flan_jax.jobs.export': (*TENSORFLOW, 'torch', 'transformers', 'datasets'),
  'flan_jax.jobs.infer': TENSORFLOW,
  'flan_jax.jobs.study': TENSORFLOW,
  'flan_jax.data.prompt_file': JAX,
  'flan_jax.report.html': TENSORFLOW,
  'flan_jax.interop.huggingface.convert': (*TENSORFLOW, 'torch', 'transformers'),
  'flan_jax.report.catalog_page': TENSORFLOW,
  'flan_jax.microworld.pretrain': TENSORFLOW,
}


UNUSED = (
  'tensorflow',
  'matplotlib',
  'sacrebleu',
  'rouge_score',
  'jinja2',
  'jax.experimental.pallas.tpu',
)
"""Libraries that training never needs; importing them takes seconds."""


def loaded(code: str) -> set[str]:
  """Names of the modules in a fresh process after `code`."""
  done = subprocess.run(
    [sys.executable, '-c', f'{code}; import sys; print(*sys.modules)'],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  return set(done.stdout.split())


STRICTEST_FIRST = sorted(TIERS, key=lambda module: -len(TIERS[module]))
EACH = """
import importlib, json, sys
seen = {}
for name in %r:
  importlib.import_module(name)
  seen[name] = sorted({module.partition('.')[0] for module in sys.modules})
print('seen:', json.dumps(seen))
"""


@pytest.fixture(scope='module')
def seen():
  """Module -> top-level names loaded after it and the modules before it."""
  done = subprocess.run(
    [sys.executable, '-c', EACH % STRICTEST_FIRST],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  return json.loads(done.stdout.partition('seen:')[2])


@pytest.mark.parametrize('module', STRICTEST_FIRST)
def test_a_module_stays_in_its_tier(module, seen):
  """If several fail, the first is the one that imports too much."""
  assert not set(seen[module]) & set(TIERS[module])


def test_a_run_does_not_import_libraries_that_it_does_not_use(tmp_path):
  """The run writes its log and checkpoint; no cluster is held out."""
  values = {
    'MODEL_DIR': tmp_path / 'run', 'MIXTURE_OR_TASK_NAME': 'microworld_mini_copa',
    'TRAIN_STEPS': 1, 'HELD_OUT': '()', 'TOKENIZER': 'bytes',
  }  # fmt: skip
  arguments = ['train', *(f'--gin_file={file}' for file in small_run.FILES)]
  arguments += [f'--gin.{flag}' for flag in small_run.flags(values)]
  names = loaded(
    f'from flan_jax.cli import dispatch; assert dispatch.main({arguments!r}) == 0'
  )
  assert (tmp_path / 'run' / 'model' / 'config.json').is_file()
  assert not names & set(UNUSED)
