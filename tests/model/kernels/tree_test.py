"""The kernel equals dense attention over the same tree."""

import functools
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from flan_jax.config.decoder import DecoderConfig
from flan_jax.inference import prefix_tree
from flan_jax.inference.log_likelihood import forward
from flan_jax.inference.prefix_tree import PrefixTrees, ScoredSequence
from flan_jax.model import attention
from flan_jax.model.attention import Layout
from flan_jax.model.kernels import tree as tree_lib
from tests.train import train_step_test


def packed_trees(*, batch_size, sequence_length, seed=0):
  """Packed trees with prompts of 5 to 60 tokens and 1 to 5 options, and padding."""
  generator = np.random.default_rng(seed)

  def draw(low, high):
    return generator.integers(0, 9, generator.integers(low, high), dtype=np.int32)

  sequences = []
  for _ in range(3 * batch_size):
    prompt = draw(5, 60)
    sequences += [
      ScoredSequence(prompt, draw(1, 12)) for _ in range(generator.integers(1, 6))
    ]
  prefix_trees = PrefixTrees(sequences, whole_contexts=False)
  places, sizes = prefix_trees.cut(sequence_length)
  trees = [
    prefix_trees.tree(p, size=int(n)) for p, n in zip(places, sizes, strict=True)
  ]
  packed = prefix_tree.pack(sizes, sequence_length=sequence_length)[:batch_size]
  laid = [[trees[i] for i in sequence] for sequence in packed]
  return prefix_tree.pack_trees(
    prefix_trees, laid, batch_size=batch_size, sequence_length=sequence_length
  )[0]


def random(*shape, seed):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
  ('sequence_length', 'block', 'biased', 'others'),
  [
    (160, 128, False, {}),
    (384, 128, True, {'scale': 0.3, 'softcap': 2.0}),
    pytest.param(384, 128, True, {}, marks=pytest.mark.slow),
    pytest.param(
      256, 256, False, {'scale': 0.3, 'softcap': 2.0}, marks=pytest.mark.slow
    ),
  ],
)
def test_equals_dense_attention(sequence_length, block, biased, others):
  B, H, K, C = 2, 4, 2, 64
  laid = packed_trees(batch_size=B, sequence_length=sequence_length)
  ends = laid.subtree_end
  query = random(B, sequence_length, H, C, seed=1)
  key, value = (random(B, sequence_length, K, C, seed=s) for s in (2, 3))
  bias = random(B, H, sequence_length, sequence_length, seed=4) if biased else None
  tokens = Layout(laid.positions, laid.segment_ids, None, ends)

  @jax.jit
  def both(query, key, value, bias):
    return tree_lib.attend(
      query, key, value, subtree_end_BxT=ends, bias_BxHxTxS=bias, block=block,
      interpret=True, **others,
    ), attention.dot_product_attention(
      query, key, value, mask_BxTxS=attention.attention_mask(tokens, tokens),
      bias_BxHxTxS=bias, **others,
    )  # fmt: skip

  got, wanted = both(query, key, value, bias)
  np.testing.assert_allclose(got, wanted, atol=2e-6)


@pytest.mark.parametrize(
  'positions', [pytest.param('rotary', marks=pytest.mark.slow), 't5']
)
def test_a_model_gives_the_same_states_with_the_kernel_as_without(
  positions, monkeypatch
):
  config = DecoderConfig(
    vocab_size=9, num_layers=2, d_model=16, d_ff=16, num_heads=4, num_kv_heads=2,
    head_dim=8, positions=positions,
  )  # fmt: skip
  laid = packed_trees(batch_size=1, sequence_length=160)
  params = train_step_test.drawn(config)
  plain = forward(params, laid, config=config)
  interpreted = functools.partial(tree_lib.attend, interpret=True)
  monkeypatch.setattr(tree_lib, 'attend', interpreted)
  by_kernel = forward(params, laid, config=config, kernel=True)
  read = laid.segment_ids > 0
  by_kernel, plain = np.asarray(by_kernel), np.asarray(plain)
  np.testing.assert_allclose(by_kernel[read], plain[read], atol=1e-5)


COMPILE = """
import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flan_jax.model.kernels.tree import attend

B, T, H, K, C = 2, 1280, 9, 3, 64
cases = ('v3:2x2', 'float32', True), ('v5e:2x2', 'bfloat16', False)
for name, dtype, biased in cases:
  found = topologies.get_topology_desc(name, platform='tpu')
  one = NamedSharding(Mesh(np.array(found.devices[:1]), ('x',)), PartitionSpec())

  def array(*shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=one)

  compiled = jax.jit(attend).lower(
    *(array(B, T, heads, C, dtype=dtype) for heads in (H, K, K)),
    subtree_end_BxT=array(B, T, dtype='int32'),
    bias_BxHxTxS=array(B, H, T, T, dtype='float32') if biased else None,
  ).compile()
  assert 'tree_attention' in compiled.as_text()
"""


def test_it_compiles_for_tpus_without_a_tpu():
  pytest.importorskip('libtpu')
  alone = {
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    'TPU_SKIP_MDS_QUERY': '1',
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '',  # libtpu refuses those of CPUs
  }
  done = subprocess.run(
    [sys.executable, '-c', COMPILE],
    env=os.environ | alone,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
