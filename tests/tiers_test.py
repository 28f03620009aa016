"""Import tiers: what each module may pull in, seen in a fresh process."""

import subprocess
import sys

import pytest

HEAVY = ('numpy', 'jax', 'flax', 'optax', 'orbax', 'grain', 'gin', 'rich')
JAX = ('jax', 'flax', 'optax', 'orbax', 'grain', 'tensorflow', 'seqio')
TENSORFLOW = ('tensorflow', 'seqio', 'tensorflow_datasets')

TIERS = {
  'flan_jax.cli': (*HEAVY, *TENSORFLOW),
  'flan_jax.pod.launch': (*HEAVY, *TENSORFLOW),
  'flan_jax.pod.manifests': (*HEAVY, *TENSORFLOW),
  'flan_jax.templates': JAX,
  'flan_jax.catalogue': JAX,
  'flan_jax.tasks': JAX,
  'flan_jax.mixtures': JAX,
  'flan_jax.lint': JAX,
  'flan_jax.guard': JAX,
  'flan_jax.rates': JAX,
  'flan_jax.styles': JAX,
  'flan_jax.listing': JAX,
  'flan_jax.data.exemplars': JAX,
  'flan_jax.data.plan': JAX,
  'flan_jax.data.rows': JAX,
  'flan_jax.evaluate.metrics': JAX,
  'flan_jax.evaluate.statistics': JAX,
  'flan_jax.microworld.tasks': JAX,
  'flan_jax.config': JAX,
  'flan_jax.model.decoder': TENSORFLOW,
  'flan_jax.data.loader': TENSORFLOW,
  'flan_jax.data.materialize': TENSORFLOW,
  'flan_jax.data.repair': TENSORFLOW,
  'flan_jax.pool': (*HEAVY, *TENSORFLOW),
  'flan_jax.train.loop': TENSORFLOW,
  'flan_jax.evaluate.held_out': TENSORFLOW,
  'flan_jax.evaluate.page': TENSORFLOW,
  'flan_jax.interop.convert': (*TENSORFLOW, 'torch', 'transformers'),
  'flan_jax.catalogue_page': TENSORFLOW,
  'flan_jax.microworld.pretrain': TENSORFLOW,
}


@pytest.mark.parametrize('module', TIERS)
def test_a_module_stays_in_its_tier(module):
  code = f'import {module}, sys; print(*sys.modules)'
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  loaded = {name.partition('.')[0] for name in done.stdout.split()}
  assert not loaded & set(TIERS[module])
