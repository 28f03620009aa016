"""Build: the parts of a store in the making, each a function of names and files.

  read      the training rows of a dataset -> a spool of them
  render    one epoch of a spool -> a shard
  evaluate  the dev and test rows of a dataset -> JSON Lines

A part leaves its files and then a note of what it did; where the note is there the
part is finished, whichever process made it, and is not made again. A dataset is read
once, so every epoch is rendered without the raw data, and memory does not grow with it.
"""

import collections
import hashlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgpack

from flan_jax.catalog import prompt, registry
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.fields import Unlabeled
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data import preprocess, raw_records, stable_hash, tokenizers
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.preprocess import Limits, Renderer
from flan_jax.data.store import store as store_lib
from flan_jax.data.store.shard import Record, ShardWriter
from flan_jax.data.tokenization_loss import Losses
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, renamed_keys
from flan_jax.runtime.renamed_keys import upgraded
from flan_jax.runtime.worker_pool import Report

WORK = 'work'
"""Folder of spools and notes in an unfinished store; gone from a finished one."""

_CHUNK = 1024


class Job(NamedTuple):
  """What every part of one build must know; plain data, for any process.

  Attributes:
    folder: the unfinished store.
    family: the world that its datasets are declared in.
    style: how its rows are put into words.
    seed: template seed.
    limits: most tokens of inputs and of targets.
    sequence_length: most positions of an example; None for no further limit.
    data_dir: TFDS data directory.
    sizes: dataset -> TFDS split -> rows really there.
    stamps: dataset -> state of its raw data on this machine; a part made from another
      state is made again.
    tokenizer: its file in `folder`, or `bytes`; '' until there is one.
    tokenizer_digest: of that tokenizer.
    threads: that a part may use in its tokenizer.
  """

  folder: str
  family: str
  seed: int
  limits: Limits
  sequence_length: int | None
  data_dir: str | None
  sizes: Mapping[str, Mapping[str, int]]
  stamps: Mapping[str, str]
  style: PromptStyle = PromptStyle()
  tokenizer: str = ''
  tokenizer_digest: str = ''
  threads: int | None = None

  def path(self, *names: str) -> pathlib.Path:
    return pathlib.Path(self.folder, *names)

  def dataset(self, name: str) -> Dataset:
    """The dataset of that name, in the words of the build's style."""
    return self.style.apply(registry.get(name, family=self.family))


def note(job: Job, part: str, made_from: str) -> dict[str, Any] | None:
  """What a finished part says of itself; None if it is not finished.

  Args:
    job: of the build.
    part: its name.
    made_from: what it must have been made from.
  """
  path = job.path(WORK, f'{part}.json')
  if not path.is_file():
    return None
  found = upgraded(json.loads(path.read_text(encoding='utf-8')), renamed_keys.PART)
  return found['metadata'] if found['made_from'] == made_from else None


def finish(job: Job, part: str, made_from: str, said: Mapping[str, Any]) -> None:
  """Leaves the note that a part is finished."""
  text = json.dumps({'made_from': made_from, 'metadata': said})
  atomic_file.write_text(job.path(WORK, f'{part}.json'), text)


def examples_of(
  dataset: Dataset,
  split: str,
  *,
  sizes: Mapping[str, int],
  data_dir: str | None,
  filters: collections.Counter,
) -> Iterator[Example]:
  """Rows of a canonical split; counts all, and the unlabeled ones, into `filters`.

  Raises:
    InputError: on a bad row; names the dataset and the row.
  """
  if not dataset.num_examples(split, sizes):
    return  # a split that is not there cannot be asked for
  for example_id, record in raw_records.records(dataset, split, data_dir=data_dir):
    filters['read'] += 1
    try:
      row = dataset.read(record, example_id)
    except Unlabeled:
      filters['unlabeled'] += 1
      continue
    except (ValueError, TypeError, AttributeError, LookupError) as error:
      raise InputError(
        f'dataset {dataset.name!r}, row {example_id!r}: {error}'
      ) from None
    yield row


def is_example(dataset: Dataset, row: Example, seed: int) -> bool:
  """Whether a training row has an answer, and a template that is not blank with it.

  In a store as in a seqio Task, and whatever the order of its templates.
  """
  if row.answer.is_blank:
    return False
  first = stable_hash.template(seed, row.example_id, 0, len(dataset.templates))
  # The drawn one is blank in few rows: only those look at the others.
  return any(
    not preprocess.is_blank(prompt.render(dataset, template, row))
    for template in (first, *range(len(dataset.templates)))
  )


def examples(
  dataset: Dataset,
  *,
  seed: int,
  sizes: Mapping[str, int],
  data_dir: str | None,
  filters: collections.Counter,
) -> Iterator[Example]:
  """The rows of `dataset` that train, in stored order; counts the rest in `filters`."""
  for row in examples_of(
    dataset, 'train', sizes=sizes, data_dir=data_dir, filters=filters
  ):
    if is_example(dataset, row, seed):
      yield row
    else:
      filters['empty'] += 1


def pool_of(
  dataset: Dataset,
  rows: Iterable[Example],
  *,
  num_fewshot: int,
  seed: int,
  tokenizer: Tokenizer,
) -> FewShotPool:
  """The exemplars of a dataset: the same from its `examples` as from their spool."""
  return FewShotPool(
    dataset,
    rows,
    num_fewshot=num_fewshot,
    seed=seed,
    count=lambda texts: [len(ids) for ids in tokenizer.encode_batch(texts)],
  )


class _Steps:
  """Reports every _CHUNK units of a part's work, and the rest at its end."""

  def __init__(self, report: Report, stage: str, name: str):
    self._report, self._stage, self._name = report, stage, name
    self._done = self._said = 0

  def to(self, done: int, *, end: bool = False) -> None:
    if done - self._said >= _CHUNK or (end and done > self._said):
      self._report(self._stage, self._name, done - self._said)
      self._said = done


def read(job: Job, name: str, report: Report) -> None:
  """Reads the training rows of a dataset into its spool.

  The note: {"filters": {"read", "unlabeled", "empty"}, "kept": rows in the spool}.
  """
  dataset = job.dataset(name)
  part = f'read.{name}'
  steps = _Steps(report, 'read', name)
  found = note(job, part, job.stamps[name])
  if found is not None:
    steps.to(found['filters']['read'], end=True)
    return
  filters = collections.Counter(read=0, unlabeled=0, empty=0)
  rows = examples(
    dataset, seed=job.seed, sizes=job.sizes[name], data_dir=job.data_dir,
    filters=filters,
  )  # fmt: skip
  kept = 0
  path = job.path(WORK, f'{name}.spool')
  with atomic_file.replacing(path) as draft, draft.open('wb') as spool:
    for row in rows:
      steps.to(filters['read'])
      answer = row.answer
      parts = (
        answer.text, answer.options, answer.gold, answer.references, answer.span
      )  # fmt: skip
      spool.write(msgpack.packb((row.example_id, row.values, parts)))
      kept += 1
  steps.to(filters['read'], end=True)
  finish(job, part, job.stamps[name], {'filters': dict(filters), 'kept': kept})


def spooled(job: Job, name: str) -> Iterator[Example]:
  """The rows of a dataset's spool."""
  with job.path(WORK, f'{name}.spool').open('rb') as file:
    for example_id, values, (text, *more) in msgpack.Unpacker(file):
      yield Example(example_id, values, Answer(text, *map(tuple, more)))


def render_note(job: Job, name: str, epoch: int) -> dict[str, Any] | None:
  """The note of a shard.

  {"digest", "too_long", "truncated": {why: entries}, "num_fewshot": {exemplars: entries},
  "losses": of `Losses.as_json`}
  """
  made_from = f'{job.stamps[name]} {job.tokenizer_digest}'
  return note(job, f'render.{name}.{epoch}', made_from)


def render(job: Job, name: str, epoch: int, stage: str, report: Report) -> None:
  """Renders one epoch of a dataset into its shard. `read` comes first.

  Args:
    job: of the build, with its tokenizer.
    name: of the dataset.
    epoch: which.
    stage: `render`, or `extend` for an epoch that was found to be needed later.
    report: told the rows done.
  """
  steps = _Steps(report, stage, name)
  kept = note(job, f'read.{name}', job.stamps[name])['kept']
  if render_note(job, name, epoch) is not None:
    steps.to(kept, end=True)
    return
  tokenizer = tokenizers.load(
    job.path(job.tokenizer) if job.tokenizer != tokenizers.BYTES else job.tokenizer
  )
  tokenizer.threads = job.threads
  dataset = job.dataset(name)
  shown = None
  if job.style.num_fewshot and kept:
    # Of the spool's first rows, so every part of the dataset shows the same ones.
    shown = pool_of(
      dataset, spooled(job, name), num_fewshot=job.style.num_fewshot, seed=job.seed,
      tokenizer=tokenizer,
    )  # fmt: skip
  renderer = Renderer(
    dataset, tokenizer=tokenizer, seed=job.seed, limits=job.limits,
    sequence_length=job.sequence_length, pool=shown,
  )  # fmt: skip
  num_fewshot: collections.Counter[int] = collections.Counter()
  truncated = collections.Counter(inputs=0, targets=0, redrawn=0)
  losses = Losses(tokenizer)
  done = too_long = 0
  writer = ShardWriter(job.path('train'), name, epoch)
  try:
    rows = spooled(job, name)
    while batch := list(itertools.islice(rows, _CHUNK)):
      for row, found in zip(batch, renderer(batch, epoch), strict=True):
        if found is None:
          too_long += 1
          continue
        losses.add(found)
        truncated['inputs'] += found.cut_inputs
        truncated['targets'] += found.cut_targets
        truncated['redrawn'] += found.redrawn
        num_fewshot[len(found.exemplars)] += 1
        about = (found.template, row.example_id, epoch, row.answer.options)
        writer.write(Record(found.example, *about, found.exemplars))
      done += len(batch)
      steps.to(done, end=True)
    digest = writer.close()
  finally:
    writer.abandon()
  said = {
    'digest': digest,
    'too_long': too_long,
    'truncated': dict(truncated),
    'num_fewshot': {str(n): num_fewshot[n] for n in sorted(num_fewshot)},
    'losses': losses.as_json(),
  }
  made_from = f'{job.stamps[name]} {job.tokenizer_digest}'
  finish(job, f'render.{name}.{epoch}', made_from, said)


def evaluate(job: Job, name: str, report: Report) -> None:
  """Writes the dev and test rows of a dataset.

  The note: {"filters": {"read", "unlabeled", "empty"}, "examples": {split: n},
  "digest": {split: hex}}.
  """
  dataset = job.dataset(name)
  part = f'evaluate.{name}'
  steps = _Steps(report, 'evaluate', name)
  found = note(job, part, job.stamps[name])
  if found is not None:
    steps.to(found['filters']['read'], end=True)
    return
  filters = collections.Counter(read=0, unlabeled=0, empty=0)
  rows = {}
  digests = {}
  for split in ('dev', 'test'):
    if split not in dataset.slices:
      continue
    digest = hashlib.sha256()
    rows[split] = 0
    source = examples_of(
      dataset, split, sizes=job.sizes[name], data_dir=job.data_dir, filters=filters
    )
    path = job.path('evaluation', f'{name}.{split}.jsonl')
    with atomic_file.replacing(path) as draft, draft.open('wb') as file:
      for row in source:
        steps.to(filters['read'])
        if row.answer.is_blank:
          filters['empty'] += 1
          continue
        line = store_lib.evaluation_line(row).encode('utf-8')
        digest.update(line)
        file.write(line)
        rows[split] += 1
    digests[split] = digest.hexdigest()
  steps.to(filters['read'], end=True)
  said = {'filters': dict(filters), 'examples': rows, 'digest': digests}
  finish(job, part, job.stamps[name], said)
