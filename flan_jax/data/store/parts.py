"""Parts of a store that is being built, each a function of names and files.

  read      the training examples of a dataset -> a spool
  render    one epoch of a spool -> a shard
  evaluate  the dev and test examples of a dataset -> JSON Lines
  validate  the dev examples of a training dataset -> JSON Lines
  dev       those examples, rendered in epoch 0 -> a shard

A part writes its files and then its metadata. A part whose metadata exists is finished,
whichever process built it, and is not built again. A dataset is read once, so an epoch
is rendered without the raw data, and memory does not grow with it.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import pathlib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgpack
import numpy as np

from flan_jax.catalog import prompt, registry
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.fields import Unlabeled
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.catalog.source import SeqioTask
from flan_jax.data import preprocess, raw_records, shuffled, stable_hash, tokenizers
from flan_jax.data.batch import TokenizedExample
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.preprocess import Limits, Renderer
from flan_jax.data.store import shard as shard_lib
from flan_jax.data.store import store as store_lib
from flan_jax.data.store.finished_parts import WORK, finish, finished, metadata
from flan_jax.data.store.shard import ShardWriter, StoredExample
from flan_jax.data.tokenizer_coverage import CoverageCounter
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.runtime import atomic_file, modules
from flan_jax.runtime.worker_pool import Report

VALIDATION = 'validation'
"""Folder of the dev examples of training datasets."""
TOKENIZER_EXAMPLES = 4_000
"""Maximum number of examples of one dataset to train a tokenizer on."""

_CHUNK = 1024


class Job(NamedTuple):
  """Arguments shared by all parts of one build; plain data, for any process.

  Attributes:
    folder: folder of the unfinished store.
    style: prompt style.
    styles: dataset -> its own prompt style.
    seed: template seed.
    limits: maximum tokens of inputs and of targets.
    sequence_length: maximum tokens of an example; None for no further limit.
    data_dir: TFDS data directory.
    sizes: dataset -> TFDS split -> number of prepared examples.
    stamps: dataset -> stamp of its raw data on this machine; a part with another stamp
      is built again.
    tokenizer: file of the tokenizer in `folder`, or `bytes`; '' before it is known.
    tokenizer_digest: digest of that tokenizer.
    threads: number of tokenizer threads of a part; None for one per core.
    modules: the user's modules, which register the datasets.
    declared: datasets that no module registers.
    chat_template: text of the chat template; '' without conversations.
    shuffle_targets: whether answers are shuffled within each dataset.
  """

  folder: str
  seed: int
  limits: Limits
  sequence_length: int | None
  data_dir: str | None
  sizes: Mapping[str, Mapping[str, int]]
  stamps: Mapping[str, str]
  style: PromptStyle = PromptStyle()
  styles: Mapping[str, PromptStyle] = types.MappingProxyType({})
  tokenizer: str = ''
  tokenizer_digest: str = ''
  threads: int | None = None
  modules: tuple[str, ...] = ()
  declared: tuple[Dataset, ...] = ()
  chat_template: str = ''
  shuffle_targets: bool = False

  def path(self, *names: str) -> pathlib.Path:
    return pathlib.Path(self.folder, *names)

  def dataset(self, name: str) -> Dataset:
    """The dataset of that name, with the templates of the prompt style."""
    modules.admit(self.modules)
    registry.register(*self.declared, replace=True)
    found = self.style_of(name).apply(registry.get(name))
    if not isinstance(found.source, SeqioTask):
      return found
    return dataclasses.replace(found, source=self._reading(found.source))

  def _reading(self, source: SeqioTask) -> SeqioTask:
    """The source of a seqio Task with the seed and the limits of the store."""
    lengths = ()
    if source.tokenized:
      room = self.sequence_length and self.sequence_length - 1
      lengths = tuple(
        (name, min(limit, room or limit)) for name, limit in self.limits.lengths.items()
      )
    return dataclasses.replace(source, seed=self.seed, lengths=lengths)

  def style_of(self, name: str) -> PromptStyle:
    """The prompt style of a dataset."""
    return self.styles.get(name, self.style)


def split_examples(
  dataset: Dataset,
  split: str,
  *,
  sizes: Mapping[str, int],
  data_dir: str | None,
  filters: collections.Counter,
) -> Iterator[Example]:
  """Yields the examples of a canonical split; counts all and unlabeled in `filters`.

  Raises:
    InputError: if an example is bad; names the dataset and the example.
  """
  if not dataset.num_examples(split, sizes):
    return  # a missing split cannot be read
  for example_id, record in raw_records.records(dataset, split, data_dir=data_dir):
    filters['read'] += 1
    try:
      example = dataset.read(record, example_id)
    except Unlabeled:
      filters['unlabeled'] += 1
      continue
    except raw_records.BAD as error:
      raise raw_records.bad_example(dataset, example_id, error) from None
    yield example


def is_usable(dataset: Dataset, example: Example, seed: int) -> bool:
  """Tells if a training example has an answer, and a template that is not blank.

  The result is the same in a store and a seqio Task, for any order of the templates.
  """
  if example.tokens is not None:
    return len(example.tokens[1]) > 0
  if example.answer.is_blank:
    return False
  first = stable_hash.template(seed, example.example_id, 0, len(dataset.templates))
  # The drawn template is rarely blank: the others are rendered only if it is.
  return any(
    not preprocess.is_blank(prompt.render(dataset, template, example))
    for template in (first, *range(len(dataset.templates)))
  )


def training_examples(
  dataset: Dataset,
  *,
  seed: int,
  sizes: Mapping[str, int],
  data_dir: str | None,
  filters: collections.Counter,
) -> Iterator[Example]:
  """Yields the training examples in stored order; counts the rest in `filters`."""
  for example in split_examples(
    dataset, 'train', sizes=sizes, data_dir=data_dir, filters=filters
  ):
    if is_usable(dataset, example, seed):
      yield example
    else:
      filters['empty'] += 1


def few_shot_pool(
  dataset: Dataset,
  examples: Iterable[Example],
  *,
  num_fewshot: int,
  seed: int,
  tokenizer: Tokenizer,
) -> FewShotPool:
  """Few-shot pool of a dataset, the same from `training_examples` and the spool."""
  return FewShotPool(
    dataset,
    examples,
    num_fewshot=num_fewshot,
    seed=seed,
    count=lambda texts: [len(ids) for ids in tokenizer.encode_batch(texts)],
  )


class _Steps:
  """Reports progress every _CHUNK examples of a part, and the rest at its end."""

  def __init__(self, report: Report, stage: str, name: str):
    self._report, self._stage, self._name = report, stage, name
    self._reported = 0

  def to(self, done: int, *, end: bool = False) -> None:
    if done - self._reported >= _CHUNK or (end and done > self._reported):
      self._report(self._stage, self._name, done - self._reported)
      self._reported = done


def read(job: Job, name: str, report: Report) -> None:
  """Reads the training examples of a dataset into its spool.

  Its metadata is {"filters": {"read", "unlabeled", "empty"}, "kept": examples in the
  spool}.
  """
  dataset = job.dataset(name)
  part = f'read.{name}'
  steps = _Steps(report, 'read', name)
  found = metadata(job, part, job.stamps[name])
  if found is not None:
    steps.to(found['filters']['read'], end=True)
    return
  filters = collections.Counter(read=0, unlabeled=0, empty=0)
  examples = training_examples(
    dataset, seed=job.seed, sizes=job.sizes[name], data_dir=job.data_dir,
    filters=filters,
  )  # fmt: skip
  if job.shuffle_targets:
    examples = shuffled.targets(dataset, examples, seed=job.seed)
  kept = 0
  path = job.path(WORK, f'{name}.spool')
  with atomic_file.replacing(path) as draft, draft.open('wb') as spool:
    for example in examples:
      steps.to(filters['read'])
      parts = tuple(vars(example.answer).values())
      tokens = () if example.tokens is None else (_as_bytes(example.tokens),)
      packed = msgpack.packb((example.example_id, example.values, parts, *tokens))
      spool.write(cast(bytes, packed))
      kept += 1
  steps.to(filters['read'], end=True)
  found = {'filters': dict(filters), 'kept': kept}
  finish(job, part, job.stamps[name], found, [f'{WORK}/{name}.spool'])


def spooled(job: Job, name: str) -> Iterator[Example]:
  """Yields the examples of a dataset's spool."""
  with job.path(WORK, f'{name}.spool').open('rb') as file:
    for example_id, values, (text, *more), *tokens in msgpack.Unpacker(file):
      answer = Answer(text, *map(tuple, more))
      yield Example(example_id, values, answer, *map(_from_bytes, tokens))


def _as_bytes(tokens: Iterable[np.ndarray]) -> list[bytes]:
  return [np.asarray(ids, '<i4').tobytes() for ids in tokens]


def _from_bytes(tokens: Sequence[bytes]) -> TokenizedExample:
  return TokenizedExample(*(np.frombuffer(ids, '<i4') for ids in tokens))


def texts(job: Job, datasets: Iterable[Dataset]) -> Iterator[str]:
  """Yields texts of epoch 0 of the first examples, to train a tokenizer on."""
  for dataset in datasets:
    for example in itertools.islice(spooled(job, dataset.name), TOKENIZER_EXAMPLES):
      template = stable_hash.template(
        job.seed, example.example_id, 0, len(dataset.templates)
      )
      yield from prompt.render(dataset, template, example)


def render_metadata(job: Job, name: str, epoch: int) -> dict[str, Any]:
  """Metadata of a finished shard.

  Returns:
    {"digest", "too_long", "truncated": {reason: entries}, "num_fewshot": {exemplars:
    entries}, "losses": `CoverageCounter.as_json`}.
  """
  return finished(job, *_shard_part(job, name, epoch))


def _shard_part(job: Job, name: str, epoch: int) -> tuple[str, str]:
  """Name of the part that renders a shard, and what it is made from."""
  return f'render.{name}.{epoch}', f'{job.stamps[name]} {job.tokenizer_digest}'


def render(job: Job, name: str, epoch: int, stage: str, report: Report) -> None:
  """Renders one epoch of a dataset into its shard; `read` must be finished.

  Args:
    job: job of the build, with its tokenizer.
    name: name of the dataset.
    epoch: number of the epoch.
    stage: `render`, or `extend` for an epoch beyond those known to be needed.
    report: receives the number of examples done.
  """
  steps = _Steps(report, stage, name)
  kept = finished(job, f'read.{name}', job.stamps[name])['kept']
  if metadata(job, *_shard_part(job, name, epoch)) is not None:
    steps.to(kept, end=True)
    return
  renderer = _renderer(job, name)
  tokenizer = renderer.tokenizer
  num_fewshot: collections.Counter[int] = collections.Counter()
  truncated = collections.Counter(inputs=0, targets=0, redrawn=0)
  coverage = CoverageCounter(tokenizer)
  done = too_long = 0
  writer = ShardWriter(job.path('train'), name, epoch)
  try:
    examples = spooled(job, name)
    while batch := list(itertools.islice(examples, _CHUNK)):
      for example, found in zip(batch, renderer(batch, epoch), strict=True):
        if found is None:
          too_long += 1
          continue
        coverage.add(found, texts=not renderer.dataset.is_tokenized)
        truncated['inputs'] += found.cut_inputs
        truncated['targets'] += found.cut_targets
        truncated['redrawn'] += found.redrawn
        num_fewshot[len(found.exemplars)] += 1
        fields = (found.template, example.example_id, epoch, example.answer.options)
        writer.write(StoredExample(found.tokens, *fields, found.exemplars))
      done += len(batch)
      steps.to(done, end=True)
    digest = writer.close()
  finally:
    writer.abandon()
  found = {
    'digest': digest,
    'too_long': too_long,
    'truncated': dict(truncated),
    'num_fewshot': {str(n): num_fewshot[n] for n in sorted(num_fewshot)},
    'losses': coverage.as_json(),
  }
  files = [f'train/{file}' for file in shard_lib.files(name, epoch)]
  finish(job, *_shard_part(job, name, epoch), found, files)


def _renderer(job: Job, name: str) -> Renderer:
  """Renderer of a dataset; `read` must be finished."""
  tokenizer = tokenizers.load(
    job.path(job.tokenizer) if job.tokenizer != tokenizers.BYTES else job.tokenizer
  )
  tokenizer.threads = job.threads
  dataset = job.dataset(name)
  kept = finished(job, f'read.{name}', job.stamps[name])['kept']
  pool = None
  requested = job.style_of(name).num_fewshot
  if requested and kept:
    # From the spool, so every part of the dataset has the same pool.
    pool = few_shot_pool(
      dataset, spooled(job, name), num_fewshot=requested, seed=job.seed,
      tokenizer=tokenizer,
    )  # fmt: skip
  return Renderer(
    dataset, tokenizer=tokenizer, seed=job.seed, limits=job.limits,
    sequence_length=job.sequence_length, pool=pool, chat_template=job.chat_template,
  )  # fmt: skip


def render_dev(job: Job, name: str, report: Report) -> None:
  """Renders the dev examples of a training dataset; `validate` must be finished.

  Each has its template of epoch 0, as in training. Its metadata is {"digest",
  "too_long", "in_training": examples whose fields are those of a training example}.
  """
  part, made_from = dev_part(job, name)
  steps = _Steps(report, 'render dev', name)
  kept = finished(job, f'validate.{name}', job.stamps[name])['examples']['dev']
  if metadata(job, part, made_from) is not None:
    steps.to(kept, end=True)
    return
  renderer = _renderer(job, name)
  data = job.path(*_fields_file(VALIDATION, name)).read_bytes()
  examples = iter(store_lib.parse_fields(data))
  done = too_long = 0
  seen: collections.Counter[bytes] = collections.Counter()
  writer = ShardWriter(job.path(VALIDATION), name, 0)
  try:
    while batch := list(itertools.islice(examples, _CHUNK)):
      seen.update(map(_content, batch))
      for example, made in zip(batch, renderer(batch, 0), strict=True):
        if made is None:
          too_long += 1
          continue
        fields = (made.template, example.example_id, 0, example.answer.options)
        writer.write(StoredExample(made.tokens, *fields, made.exemplars))
      done += len(batch)
      steps.to(done, end=True)
    digest = writer.close()
  finally:
    writer.abandon()
  trained = {key for key in map(_content, spooled(job, name)) if key in seen}
  found = {'digest': digest, 'too_long': too_long}
  found['in_training'] = sum(seen[key] for key in trained)
  files = [f'{VALIDATION}/{file}' for file in shard_lib.files(name, 0)]
  finish(job, part, made_from, found, files)


def _content(example: Example) -> bytes:
  """Digest of the fields of an example."""
  values = json.dumps(example.values, sort_keys=True).encode()
  tokens = () if example.tokens is None else _as_bytes(example.tokens)
  return hashlib.blake2b(b'\0'.join((values, *tokens)), digest_size=16).digest()


def dev_part(job: Job, name: str) -> tuple[str, str]:
  """Name of the part that renders dev of a training dataset, and its sources."""
  return f'dev.{name}', f'{job.stamps[name]} {job.tokenizer_digest}'


def validate(job: Job, name: str, report: Report) -> None:
  """Writes the dev examples of a training dataset; metadata as of `evaluate`."""
  _write_fields(job, name, 'validate', VALIDATION, ('dev',), report)


def evaluate(job: Job, name: str, report: Report) -> None:
  """Writes the dev and test examples of a dataset.

  Its metadata is {"filters": {"read", "unlabeled", "empty"}, "examples": {split: n},
  "digest": {split: hex}}.
  """
  _write_fields(job, name, 'evaluate', 'evaluation', ('dev', 'test'), report)


def _write_fields(
  job: Job,
  name: str,
  stage: str,
  folder: str,
  splits: Sequence[str],
  report: Report,
) -> None:
  dataset = job.dataset(name)
  part = f'{stage}.{name}'
  steps = _Steps(report, stage, name)
  found = metadata(job, part, job.stamps[name])
  if found is not None:
    steps.to(found['filters']['read'], end=True)
    return
  filters = collections.Counter(read=0, unlabeled=0, empty=0)
  counts = {}
  digests = {}
  for split in splits:
    if split not in dataset.slices:
      continue
    digest = hashlib.sha256()
    counts[split] = 0
    source = split_examples(
      dataset, split, sizes=job.sizes[name], data_dir=job.data_dir, filters=filters
    )
    path = job.path(*_fields_file(folder, name, split))
    with atomic_file.replacing(path) as draft, draft.open('wb') as file:
      for example in source:
        steps.to(filters['read'])
        if example.answer.is_blank:
          filters['empty'] += 1
          continue
        line = store_lib.evaluation_line(example).encode('utf-8')
        digest.update(line)
        file.write(line)
        counts[split] += 1
    digests[split] = digest.hexdigest()
  steps.to(filters['read'], end=True)
  found = {'filters': dict(filters), 'examples': counts, 'digest': digests}
  files = ['/'.join(_fields_file(folder, name, split)) for split in counts]
  finish(job, part, job.stamps[name], found, files)


def _fields_file(folder: str, name: str, split: str = 'dev') -> tuple[str, str]:
  """Folder and file of the examples of a split, as fields."""
  return folder, f'{name}.{split}.jsonl'
