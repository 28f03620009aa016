"""Trains the base LM of the microworld on plain text without instructions.

The shipped folder was made by

  python -m flan_jax.microworld.pretrain --out flan_jax/microworld/base

Documents are packed into sequences, each as its own segment, [BOS] document [EOS], with
loss on every token. EOS always ends a document, so that only tuning teaches EOS between
an instruction and its answer.
"""

import argparse
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flan_jax.catalog import lineage, prompt, registry
from flan_jax.checkpoints import model_dir
from flan_jax.config.decoder import DecoderConfig, parameter_count
from flan_jax.data import batch as batch_lib
from flan_jax.data import packing, stable_hash, tokenizers
from flan_jax.data.batch import Batch, TokenizedExample
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.microworld import corpus, records
from flan_jax.model import params as params_lib
from flan_jax.runtime import platform
from flan_jax.runtime.progress import Progress
from flan_jax.train import train_step

CONFIG = DecoderConfig(
  vocab_size=2048,
  num_layers=4,
  d_model=128,
  d_ff=384,
  num_heads=4,
  num_kv_heads=4,
  head_dim=32,
  activation='swiglu',
  positions='rotary',
  scan_layers=False,
)
SEQUENCE_LENGTH = 160
BATCH_SIZE = 8
WINDOW = 8_192
PEAK = 3e-3
NOTE = 'pretrained on prose of the microworld, tuned on none of its datasets'
"""Note in the lineage of the base model."""
HELD_OUT = ('commonsense',)
"""Clusters whose templates the tokenizer never sees: the demo's held-out cluster."""


def tokenizer_texts(*, seed: int, documents: int = 20_000) -> Iterator[str]:
  """Yields the tokenizer's training texts: documents, and prompts of other clusters."""
  yield from corpus.documents(seed, count=documents)
  for dataset in registry.datasets('microworld').values():
    if dataset.cluster in HELD_OUT:
      continue
    found = itertools.islice(records.records(dataset.name, 'train'), 300)
    for example_id, record in found:
      example = dataset.read(record, example_id)
      template = stable_hash.template(seed, example_id, 0, len(dataset.templates))
      yield '\n'.join(prompt.render(dataset, template, example))


def batches(
  documents: Iterator[str], tokenizer: Tokenizer, *, seed: int
) -> Iterator[Batch]:
  """Packs documents into batches [BATCH_SIZE, SEQUENCE_LENGTH], window by window."""
  nothing = np.zeros(0, np.int32)
  for number in itertools.count():
    texts = list(itertools.islice(documents, WINDOW))
    if not texts:
      return
    room = SEQUENCE_LENGTH - batch_lib.length(0, 0, None)
    examples = [
      TokenizedExample(nothing, ids[:room]) for ids in tokenizer.encode_batch(texts)
    ]
    yield from _packed(
      examples, tokenizer, seed=stable_hash.key(seed, 'pretrain', number)
    )


def _packed(
  examples: Sequence[TokenizedExample], tokenizer: Tokenizer, *, seed: int
) -> Iterator[Batch]:
  lengths = np.array(
    [batch_lib.length(0, len(e.targets), None) for e in examples], np.int64
  )
  members: dict[int, list[TokenizedExample]] = {}
  for example, index in zip(
    examples, packing.best_fit(lengths, SEQUENCE_LENGTH), strict=True
  ):
    members.setdefault(int(index), []).append(example)
  order = stable_hash.permutation(len(members), seed)
  groups = [members[int(index)] for index in order]
  for start in range(0, len(groups) - BATCH_SIZE + 1, BATCH_SIZE):
    yield batch_lib.stack([
      _sequence(group, tokenizer) for group in groups[start : start + BATCH_SIZE]
    ])  # fmt: skip


def _sequence(documents: Sequence[TokenizedExample], tokenizer: Tokenizer) -> Batch:
  sequence = batch_lib.assemble(
    documents, sequence_length=SEQUENCE_LENGTH, bos_id=None, eos_id=tokenizer.eos_id
  )
  if tokenizer.bos_id is None:
    return sequence
  first = (sequence.positions == 0) & (sequence.segment_ids > 0)
  return sequence._replace(tokens=np.where(first, tokenizer.bos_id, sequence.tokens))


def pretrain(
  out: str,
  *,
  steps: int,
  seed: int = 0,
  config: DecoderConfig = CONFIG,
  documents: int = 20_000,
) -> float:
  """Trains and writes a model folder; returns the last loss in nats per token.

  Args:
    out: the folder.
    steps: number of steps, each of BATCH_SIZE x SEQUENCE_LENGTH tokens.
    seed: seed of the world, the text, and the initial parameters.
    config: config of the decoder.
    documents: number of documents that the tokenizer is trained on.
  """
  progress = Progress()
  progress.stage('Tokenizer')
  tokenizer = tokenizers.train(
    tokenizer_texts(seed=seed, documents=documents),
    vocab_size=config.vocab_size,
    bos=True,
  )
  # A sequence holds about three documents; sixteen is more than enough.
  text = corpus.documents(seed, count=steps * BATCH_SIZE * 16)
  found = batches(text, tokenizer, seed=seed)
  progress.stage(f'Model: {parameter_count(config):,} parameters, {steps:,} steps')
  warmup = min(100, steps // 2)
  rate = optax.warmup_cosine_decay_schedule(0.0, PEAK, warmup, steps, PEAK / 20)
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.98, weight_decay=0.05)
  )
  params = params_lib.init_params(config, seed=seed)
  state = optimizer.init(params)
  mesh = Mesh(np.asarray(jax.devices()), ('data',))
  params, state = jax.device_put((params, state), NamedSharding(mesh, P()))

  @jax.jit
  def update(params, state, batch):
    grads, metrics = train_step.gradients(params, batch, config=config)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, metrics

  loss = float('nan')
  with progress.bar('pretrain', steps, unit='steps') as bar:
    for number, batch in enumerate(itertools.islice(found, steps), 1):
      batch = jax.device_put(batch, NamedSharding(mesh, P('data')))
      params, state, metrics = update(params, state, batch)
      note = ''
      if number % 20 == 0 or number == steps:
        loss = float(metrics.loss) / float(metrics.weight)
        note = f'loss {loss:.3f} nats'
      bar.advance(1, note)
  folder = pathlib.Path(out)
  model_dir.save(
    folder, params, config=config, tokenizer=tokenizer, provenance=provenance()
  )
  progress.stage(f'Done: {out}, loss {loss:.3f} nats')
  return loss


def provenance() -> dict[str, Any]:
  """The base model's training.json: prose, and no dataset of any family."""
  training = lineage.Training(
    model='microworld', datasets=(), family='microworld', note=NOTE
  )
  return {'lineage': lineage.Lineage((training,)).as_json()}


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
  parser.add_argument('--out', required=True)
  parser.add_argument('--steps', type=int, default=5_000)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  if 'JAX_PLATFORMS' not in os.environ:
    platforms = platform.accelerator_environment().get('JAX_PLATFORMS')
    jax.config.update('jax_platforms', platforms)
  pretrain(options.out, steps=options.steps, seed=options.seed)


if __name__ == '__main__':
  main()
