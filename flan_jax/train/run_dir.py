"""MODEL_DIR: the files of a run."""

import pathlib

from flan_jax.runtime.object_store import Bucket
from flan_jax.train import goodput


class RunDir:
  """Paths of MODEL_DIR.

  Attributes:
    path: MODEL_DIR itself, or its copy on this machine.
    name: name of the run.
    bucket: MODEL_DIR if it is gs://BUCKET/PATH, else None.
    store: the store, unless the run names another.
    model: the tuned model once the run is done: safetensors, config, tokenizer.
    report: the held-out evaluation.
    log: one JSON object per log period.
    sequences: digests of the sequences trained on, one JSON object per log period.
    evaluations: one JSON object per evaluation step on the held-out clusters.
    validation: one JSON object per evaluation step on dev of the training datasets.
    goodput: time by purpose.
    settings: settings of the run, as of its last start.
  """

  def __init__(self, model_dir: str):
    """Names the files; creates nothing.

    Raises:
      InputError: if MODEL_DIR is neither a folder nor gs://BUCKET/PATH.
    """
    self.bucket = Bucket('MODEL_DIR', model_dir) if '://' in model_dir else None
    self.path = self.bucket.local if self.bucket else pathlib.Path(model_dir)
    self.name = self.path.absolute().name
    self.store = self.path / 'store'
    self.model = self.path / 'model'
    self.report = self.path / 'report'
    self.log = self.path / 'log.jsonl'
    self.sequences = self.path / 'sequences.jsonl'
    self.evaluations = self.path / 'evaluations.jsonl'
    self.validation = self.path / 'validation.jsonl'
    self.goodput = self.path / goodput.FILE
    self.settings = self.path / 'run.json'

  def pull(self) -> None:
    """Copies the files of earlier starts from the object store, if there is one."""
    if self.bucket:
      self.bucket.pull()

  def push(self) -> None:
    """Copies the files to the object store, if there is one."""
    if self.bucket:
      self.bucket.push()

  def begun(self) -> bool:
    """Returns whether MODEL_DIR may hold more than settings (in a bucket: True)."""
    made = ('checkpoints', 'checkpoints.broken', 'store', 'model', 'report')
    return (
      self.bucket is not None
      or self.log.is_file()
      or self.sequences.is_file()
      or any(any((self.path / name).glob('*')) for name in made)
    )
