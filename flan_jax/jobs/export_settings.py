"""Settings of an export, and of the run whose draw it takes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from flan_jax.data import export_files
from flan_jax.data.store import materialize
from flan_jax.errors import InputError, did_you_mean

SPLITS = ('train', 'dev', 'test')
SEQUENCE_LENGTH = 2048
"""Sequence length of a run whose settings are not known, as in `flan rows`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
  """Settings of an export.

  Attributes:
    out: new folder.
    mixture: mixture, task or file; None for that of the store.
    store: a store, or the MODEL_DIR of a run; None to render afresh.
    format: one of `export_files.FORMATS`.
    splits: splits to export.
    sampled: number of training examples, drawn as a run draws them; None for all.
    epochs: epochs of all examples, each with other templates.
    seed: SEED of the run; None for the run's own, or 0.
    sequence_length: tokens of a sequence of the run; None for the run's own, or
      SEQUENCE_LENGTH.
    unpacked: whether the run has one example a sequence.
    chat: whether to add the column of chats.
    shard_size: maximum number of examples of a file.
    inputs, targets: columns of a file.
    fresh: settings of a store that is built for the export.
    data_dir: TFDS data directory.
    workers: number of processes.
  """

  out: str
  mixture: str | None = None
  store: str | None = None
  format: str = 'jsonl'
  splits: tuple[str, ...] = ('train',)
  sampled: int | None = None
  epochs: int | None = None
  seed: int | None = None
  sequence_length: int | None = None
  unpacked: bool = False
  chat: bool = False
  shard_size: int = 100_000
  inputs: str = 'inputs'
  targets: str = 'targets'
  fresh: materialize.StoreConfig = materialize.StoreConfig(vocab_size=32_000)
  data_dir: str | None = None
  workers: int = 1

  def __post_init__(self):
    if self.format not in export_files.FORMATS:
      raise InputError(
        f'--format {self.format!r}: must be one of {", ".join(export_files.FORMATS)}'
        + did_you_mean(self.format, export_files.FORMATS)
      )
    splits = tuple(split for split in SPLITS if split in self.splits)
    for split in self.splits:
      if split not in SPLITS:
        raise InputError(
          f'--splits {split!r}: must be of {", ".join(SPLITS)}'
          + did_you_mean(split, SPLITS)
        )
    object.__setattr__(self, 'splits', splits)
    if self.mixture is None and self.store is None:
      raise InputError(
        '--mixture: not given, nor --store; `flan tasks --mixture` lists mixtures'
      )
    for flag, value in (
      ('--seed', self.seed),
      ('--sequence-length', self.sequence_length),
      ('--unpacked', self.unpacked or None),
    ):
      if self.sampled is None and value is not None:
        raise InputError(f'{flag}: all examples have no draw; give --sampled as well')
    if self.sampled is not None and self.epochs is not None and self.store:
      raise InputError(
        f'--epochs {self.epochs}: with --sampled, the draw takes the epochs that the '
        'store has'
      )


class Draw(NamedTuple):
  """The draw of a run.

  Attributes:
    sampled: number of examples.
    seed: SEED of the run.
    sequence_length: tokens of a sequence.
    unpacked: whether a sequence holds one example.
  """

  sampled: int
  seed: int
  sequence_length: int
  unpacked: bool


def draw(config: ExportConfig, run: Mapping[str, Any]) -> Draw | None:
  """The draw that an export takes; None for all examples.

  Args:
    config: settings of the export.
    run: settings of a run, as in run.json; empty for a store alone.
  """
  if config.sampled is None:
    return None
  return Draw(
    config.sampled,
    run.get('seed', 0) if config.seed is None else config.seed,
    config.sequence_length or run.get('sequence_length', SEQUENCE_LENGTH),
    config.unpacked or not run.get('pack', True),
  )
