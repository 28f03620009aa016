"""The base LM: plain text in, a model folder out."""

import dataclasses

import numpy as np

from flan_jax.catalog import dataset, registry
from flan_jax.checkpoints import model_dir
from flan_jax.data import tokenizers
from flan_jax.microworld import corpus, pretrain
from flan_jax.model import params

SMALL = dataclasses.replace(
  pretrain.CONFIG,
  vocab_size=512,
  num_layers=1,
  d_model=16,
  d_ff=32,
  num_heads=2,
  num_kv_heads=2,
  head_dim=8,
)


def test_the_written_model_loads(tmp_path, monkeypatch):
  monkeypatch.setattr(pretrain, 'WINDOW', 256)
  loss = pretrain.pretrain(
    str(tmp_path), steps=2, last_steps=2, config=SMALL, documents=500
  )
  assert 0 < loss < 10
  assert model_dir.config(str(tmp_path)) == SMALL
  shapes, _ = params.abstract_params(SMALL)
  model_dir.load(str(tmp_path), config=SMALL, shapes=shapes)
  tokenizer = tokenizers.load(model_dir.tokenizer_file(str(tmp_path)))
  assert tokenizer.vocab_size == 512


def test_sequences_hold_whole_documents_with_loss_on_every_token():
  tokenizer = tokenizers.load(tokenizers.BYTES)
  documents = list(corpus.documents(0, count=300))
  batch = next(pretrain.batches(iter(documents), tokenizer, seed=0))
  assert batch.tokens.shape == (pretrain.BATCH_SIZE, pretrain.SEQUENCE_LENGTH)
  np.testing.assert_array_equal(batch.loss_mask > 0, batch.segment_ids > 0)
  seen = set()
  for tokens, segments in zip(batch.targets, batch.segment_ids, strict=True):
    for segment in range(1, segments.max() + 1):
      seen.add(tokenizer.decode([t for t in tokens[segments == segment][:-1]]))
  whole = {d for d in documents if len(d.encode()) < pretrain.SEQUENCE_LENGTH - 2}
  assert seen & whole
  assert all(any(d.startswith(text) for d in documents) for text in seen)


def test_the_tokenizer_is_not_trained_on_the_held_out_clusters(monkeypatch):
  """The texts are documents, and prompts of every other cluster."""
  read = []
  examples = pretrain.records.records
  monkeypatch.setattr(
    pretrain.records,
    'records',
    lambda name, split: read.append(name) or examples(name, split),
  )
  texts = pretrain.tokenizer_texts(seed=0, documents=10)
  assert sum(1 for _ in texts) == 10 + 300 * len(read)
  datasets = registry.datasets('microworld')
  assert {datasets[name].cluster for name in read} == (
    set(dataset.CLUSTERS) - set(pretrain.HELD_OUT)
  )
