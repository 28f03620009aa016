"""The same examples as a flan_jax Batch and as the features of a t5x model."""

import numpy as np

from flan_jax.config.decoder import DecoderConfig
from flan_jax.data import batch
from flan_jax.data.batch import Batch, TokenizedExample

EOS = 1
TINY = DecoderConfig(
  vocab_size=64,
  num_layers=2,
  d_model=32,
  d_ff=64,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  positions='rotary',
)


def examples(count: int, *, seed: int = 0) -> list[TokenizedExample]:
  rng = np.random.default_rng(seed)

  def draw(low, high):
    return rng.integers(3, 64, rng.integers(low, high), np.int32)

  return [TokenizedExample(draw(2, 8), draw(1, 5)) for _ in range(count)]


def flan_batch(
  groups: list[list[TokenizedExample]],
  *,
  sequence_length: int,
  bos_id: int | None = None,
) -> Batch:
  """Packs each group into one sequence, as our trainer does."""
  return batch.stack([
    batch.assemble(group, sequence_length=sequence_length, bos_id=bos_id, eos_id=EOS)
    for group in groups
  ])  # fmt: skip


def t5x_features(
  groups: list[list[TokenizedExample]], *, sequence_length: int
) -> dict[str, np.ndarray]:
  """The same as features of seqio's DecoderFeatureConverter: int32 [B, L]."""
  names = ('target_tokens', 'input_tokens', 'loss_weights', 'segment_ids',
           'positions', 'causal_attention')  # fmt: skip
  out = {
    f'decoder_{name}': np.zeros((len(groups), sequence_length), np.int32)
    for name in names
  }
  for i, group in enumerate(groups):
    start = 0
    for segment, (inputs, targets) in enumerate(group, start=1):
      sequence = np.concatenate([inputs, [EOS], targets, [EOS]])
      stop, answer = start + len(sequence), start + len(inputs) + 1
      features = {name: value[i] for name, value in out.items()}
      features['decoder_target_tokens'][start:stop] = sequence
      features['decoder_input_tokens'][start + 1 : stop] = sequence[:-1]
      features['decoder_loss_weights'][answer:stop] = 1
      features['decoder_segment_ids'][start:stop] = segment
      features['decoder_positions'][start:stop] = np.arange(len(sequence))
      features['decoder_causal_attention'][start : answer + 1] = 1
      start = stop
  return out


def pairs(count: int = 8, *, seed: int = 0) -> list[list[TokenizedExample]]:
  """Groups of two examples, one packed sequence each."""
  found = examples(count, seed=seed)
  return [found[i : i + 2] for i in range(0, count, 2)]
