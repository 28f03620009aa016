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
from flan_jax.data import bpe, packing, stable_hash
from flan_jax.data.batch import Batch, TokenizedExample
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.microworld import corpus, records
from flan_jax.model import params as params_lib
from flan_jax.runtime import malloc, platform
from flan_jax.runtime.progress import Progress
from flan_jax.train import train_step


def _config(*, num_layers: int, d_model: int) -> DecoderConfig:
  return DecoderConfig(
    vocab_size=2048,
    num_layers=num_layers,
    d_model=d_model,
    d_ff=3 * d_model,
    num_heads=4,
    num_kv_heads=4,
    head_dim=d_model // 4,
    activation='swiglu',
    positions='rotary',
    scan_layers=False,
  )


CONFIG = _config(num_layers=4, d_model=128)
SIZES = {
  '0.1M': _config(num_layers=2, d_model=32),
  '0.4M': _config(num_layers=4, d_model=72),
  '1M': CONFIG,
  '1.5M': _config(num_layers=6, d_model=128),
  '5M': _config(num_layers=7, d_model=224),
}
"""Name of a size -> its decoder; the shipped one is of 1.1M parameters."""
SEQUENCE_LENGTH = 160
BATCH_SIZE = 8
WINDOW = 8_192
PEAK = 3e-3
NOTE = 'pretrained on prose of the microworld, tuned on none of its datasets'
"""Note in the lineage of the base model."""
HELD_OUT = ('commonsense',)
"""Clusters whose templates the tokenizer never sees: the demo's held-out cluster."""


def tokenizer_texts(*, seed: int, documents: int = 12_000) -> Iterator[str]:
  """Yields the tokenizer's training texts: documents, and prompts of other clusters."""
  yield from corpus.documents(seed, count=documents, first=corpus.DRILLED)
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
  last_steps: int = 0,
  seed: int = 0,
  config: DecoderConfig = CONFIG,
  documents: int = 12_000,
) -> float:
  """Trains and writes a model folder; returns the last loss in nats per token.

  Args:
    out: the folder.
    steps: number of steps, each of BATCH_SIZE x SEQUENCE_LENGTH tokens.
    last_steps: number of further steps, on the documents from `corpus.LAST_FROM` on and
      at half the peak learning rate.
    seed: seed of the world, the text, and the initial parameters.
    config: config of the decoder.
    documents: number of documents that the tokenizer is trained on.
  """
  progress = Progress()
  progress.stage('Tokenizer')
  tokenizer = bpe.train(
    tokenizer_texts(seed=seed, documents=documents),
    vocab_size=config.vocab_size,
    bos=True,
    words_alike=True,
  )
  size = f'{parameter_count(config):,} parameters'
  progress.stage(f'Model: {size}, {steps:,} + {last_steps:,} steps')
  params = params_lib.init_params(config, seed=seed)
  loss = float('nan')
  for first, count, peak in (
    (0, steps, PEAK),
    (corpus.LAST_FROM, last_steps, PEAK / 2),
  ):
    if count:
      # A sequence holds about three documents; sixteen is more than enough.
      text = corpus.documents(seed, first=first, count=count * BATCH_SIZE * 16)
      found = batches(text, tokenizer, seed=seed)
      params, loss = _train(
        params, itertools.islice(found, count), config=config, steps=count, peak=peak,
        progress=progress,
      )  # fmt: skip
  folder = pathlib.Path(out)
  model_dir.save(
    folder, params, config=config, tokenizer=tokenizer, provenance=provenance()
  )
  progress.stage(f'Done: {out}, loss {loss:.3f} nats')
  return loss


def _train(
  params: Any,
  found: Iterator[Batch],
  *,
  config: DecoderConfig,
  steps: int,
  peak: float,
  progress: Progress,
) -> tuple[Any, float]:
  """Trains with AdamW: warmup, then cosine decay. Returns parameters and last loss."""
  warmup = min(200, steps // 2)
  rate = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, peak / 20)
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.98, weight_decay=0.05)
  )
  mesh = Mesh(np.asarray(jax.devices()), ('data',))
  params, state = jax.device_put(
    (params, optimizer.init(params)), NamedSharding(mesh, P())
  )

  @jax.jit
  def update(params, state, batch):
    grads, metrics = train_step.gradients(params, batch, config=config)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, metrics

  loss = float('nan')
  with progress.bar('pretrain', steps, unit='steps') as bar:
    for number, batch in enumerate(found, 1):
      batch = jax.device_put(batch, NamedSharding(mesh, P('data')))
      params, state, metrics = update(params, state, batch)
      note = ''
      if number % 20 == 0 or number == steps:
        loss = float(metrics.loss) / float(metrics.weight)
        note = f'loss {loss:.3f} nats'
      bar.advance(1, note)
  return params, loss


def provenance() -> dict[str, Any]:
  """The base model's training.json: prose, and no dataset of any family."""
  training = lineage.Training(
    model='microworld', datasets=(), family='microworld', note=NOTE
  )
  return {'lineage': lineage.Lineage((training,)).as_json()}


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
  parser.add_argument('--out', required=True)
  parser.add_argument('--size', choices=SIZES, default='1M')
  parser.add_argument('--steps', type=int, default=12_000)
  parser.add_argument('--last-steps', type=int, default=1_000)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  if 'JAX_PLATFORMS' not in os.environ:
    platforms = platform.accelerator_environment().get('JAX_PLATFORMS')
    jax.config.update('jax_platforms', platforms)
  malloc.keep()
  config = SIZES[options.size]
  pretrain(
    options.out, steps=options.steps, last_steps=options.last_steps,
    seed=options.seed, config=config,
  )  # fmt: skip


if __name__ == '__main__':
  main()
