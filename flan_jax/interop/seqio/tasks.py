"""Declarations as seqio Tasks and Mixtures, over TFDS.

For every dataset: `flan_<dataset>` (training: one of its templates per example) and
`flan_<dataset>_template_<i>` (evaluation: one template, no turned-around ones, the
answer of its direction where it translates). A mixture in another style has training
tasks of its own, as `flan_<dataset>_5_shot`. The strings come from `catalogue.render`,
the one implementation of rendering.
"""

import collections
import hashlib
import json
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog import mixing_rates, splits
from flan_jax.catalog.dataset import Dataset, Row
from flan_jax.catalog.fields import Record, Unlabelled
from flan_jax.catalog.prompt_style import Style
from flan_jax.data import prompts, raw_records, tokenizers
from flan_jax.data.few_shot import Pool
from flan_jax.data.preprocess import Limits, Renderer
from flan_jax.data.store import parts
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics
from flan_jax.interop.seqio import vocabulary as vocabulary_lib

# TFDS calls functions that TensorFlow calls deprecated; nobody here can mend that.
tf.get_logger().setLevel('ERROR')

SEQIO_SPLITS = {'train': 'train', 'validation': 'dev', 'test': 'test'}
"""seqio's canonical split -> ours."""


_NO_LIMIT = 1 << 30
_JSON = '_json'
"""Feature of a generated record: all of it, as JSON."""


class _Loader(seqio.LazyTfdsLoader):
  """TFDS loader that names every row and fits the declared slices to the data."""

  def __init__(self, dataset: Dataset, data_dir: str | None):
    slices = {s: dataset.slices[ours] for s, ours in SEQIO_SPLITS.items()
              if ours in dataset.slices}  # fmt: skip
    super().__init__(dataset.tfds, data_dir=data_dir, split_map=slices, read_only=True)
    self._dataset = dataset

  @property
  def read_config(self) -> tfds.ReadConfig:
    return tfds.ReadConfig(add_tfds_id=True)

  def _get_builder(self, split: str | None = None):
    try:
      builder = super()._get_builder(split)
    except (AssertionError, tfds.core.DatasetNotFoundError) as error:
      raise InputError(f'dataset {self._dataset.name!r}: {error}') from None
    if not builder.is_prepared():
      # Not memoized: it may be prepared before the next call.
      self._MEMOIZED_BUILDERS.pop((self.name, self.data_dir), None)
      raise InputError(
        f'dataset {self._dataset.name!r}: {self._dataset.tfds} is not prepared in '
        f'{builder.data_path.parent}; `flan fetch {self._dataset.name}` prepares it'
      )
    return builder

  def _map_split(self, split: str) -> str:
    sizes = {name: s.num_examples for name, s in self.builder.info.splits.items()}
    return str(self._dataset.resolve_splits(sizes)[SEQIO_SPLITS[split]])

  def size(self, split: str) -> int:
    sizes = {name: s.num_examples for name, s in self.builder.info.splits.items()}
    return self._dataset.rows(SEQIO_SPLITS[split], sizes)


class Source(seqio.TfdsDataSource):
  """`seqio.TfdsDataSource` of one declared dataset."""

  def __init__(self, dataset: Dataset, data_dir: str | None = None):
    loader = _Loader(dataset, data_dir)
    super().__init__(dataset.tfds, data_dir, splits=dict(loader._split_map))
    self._tfds_dataset = loader


def plain(value: Any) -> Any:
  """A TFDS value as plain Python: str, int, float, bool, list, dict."""
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, bytes):
    return value.decode('utf-8')
  if isinstance(value, (tf.RaggedTensor, tf.compat.v1.ragged.RaggedTensorValue)):
    return plain(value.to_list())
  if isinstance(value, tf.Tensor):
    return plain(value.numpy())
  if isinstance(value, np.ndarray):
    return plain(value.tolist())
  if isinstance(value, np.generic):
    return plain(value.item())
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  return value


def row_id(tfds_id: str) -> str:
  """`super_glue-train.tfrecord-00000-of-00001__12` -> `train.0.12`."""
  file, _, position = tfds_id.rpartition('__')
  name, _, shards = file.partition('.')
  shard = shards.split('-')[1]
  return f'{name.rpartition("-")[2]}.{int(shard)}.{position}'


def records(
  dataset: Dataset, split: str, *, data_dir: str | None = None
) -> Iterator[tuple[str, Record]]:
  """Yields (row id, record) of a canonical split from the prepared TFDS dataset.

  Raises:
    InputError: if the dataset, or the TFDS split that it takes, is not prepared.
  """
  names = {ours: theirs for theirs, ours in SEQIO_SPLITS.items()}
  source = Source(dataset, data_dir)
  prepared = source.tfds_dataset.builder.info.splits
  wanted = splits.parse(dataset.slices[split]).split
  if wanted not in prepared:
    raise InputError(
      f'dataset {dataset.name!r}: its {split} rows come from TFDS split {wanted!r}, '
      f'which is not prepared (there are {", ".join(prepared)}); '
      f'`flan fetch {dataset.name}` prepares it'
    )
  rows = source.get_dataset(names[split], shuffle=False)

  def read():
    for record in rows.as_numpy_iterator():
      tfds_id = record.pop('tfds_id')
      yield row_id(tfds_id.decode()), plain(record)

  return read()


def sizes(dataset: Dataset, *, data_dir: str | None = None) -> dict[str, int]:
  """TFDS split -> number of rows prepared."""
  info = Source(dataset, data_dir).tfds_dataset.info
  return {name: split.num_examples for name, split in info.splits.items()}


def stamp(dataset: Dataset, *, data_dir: str | None = None) -> str:
  """Names, sizes and times of the prepared files, as one digest (hex)."""
  folder = Source(dataset, data_dir).tfds_dataset.builder.data_path
  found = hashlib.sha256()
  for path in sorted(pathlib.Path(folder).iterdir()):
    about = path.stat()
    found.update(f'{path.name} {about.st_size} {about.st_mtime_ns}\n'.encode())
  return found.hexdigest()


_FEATURES = {
  'row_id': ('', ()),
  'template': (-1, ()),
  'options': ([''], (None,)),
  'gold': ([-1], (None,)),
  'references': ([''], (None,)),
}
"""What every example carries beside its words: value where there is none, shape."""

_TOKENS = {
  'inputs': ([], (None,)),
  'targets': ([], (None,)),
  'inputs_pretokenized': ('', ()),
  'targets_pretokenized': ('', ()),
}


def _type(empty: Any) -> tf.DType:
  return tf.string if empty in ('', ['']) else tf.int32


def _array(value: Any, kind: tf.DType) -> np.ndarray | list[bytes] | bytes:
  """A Python value as `tf.numpy_function` takes it."""
  if kind != tf.string:
    return np.asarray(value, kind.as_numpy_dtype)
  if isinstance(value, str):
    return value.encode()
  return [text.encode() for text in value]


def _examples(
  dataset_tf: tf.data.Dataset,
  dataset: Dataset,
  spec: Mapping[str, tuple[Any, tuple]],
  words: Callable[[Row], tuple[int, Sequence[Any]] | None],
) -> tf.data.Dataset:
  """Records -> examples.

  Args:
    dataset_tf: TFDS records, or generated ones as JSON.
    dataset: the declaration.
    spec: features beside _FEATURES: value where there is none, shape.
    words: (template, values of `spec`) of a row; None for a row that is no example.
  """
  structure = dataset_tf.element_spec
  spec = {**spec, **_FEATURES}
  nothing = (*(empty for empty, _ in spec.values()), False)

  def python(*flat):
    record = plain(tf.nest.pack_sequence_as(structure, flat, expand_composites=True))
    name = record.pop('tfds_id')
    if _JSON in record:
      record = json.loads(record[_JSON])
    else:
      name = row_id(name)
    try:
      row = dataset.read(record, name)
    except Unlabelled:
      return nothing
    found = words(row)
    if found is None:
      return nothing
    template, values = found
    answer = row.answer
    return (*values, name, template, answer.options or [''], answer.gold or [-1],
            answer.references or [''], True)  # fmt: skip

  types = (*(_type(empty) for empty, _ in spec.values()), tf.bool)

  def arrays(*flat):
    return [
      _array(value, kind) for value, kind in zip(python(*flat), types, strict=True)
    ]

  def call(record):
    flat = tf.nest.flatten(record, expand_composites=True)
    # Stateless, and so an iterator over it can be saved: t5x resumes where it was.
    out = tf.numpy_function(arrays, flat, types, stateful=False)
    for value, (_, shape) in zip(out, [*spec.values(), (None, ())], strict=True):
      value.set_shape(shape)
    return dict(zip((*spec, 'keep'), out, strict=True))

  rows = dataset_tf.map(call, num_parallel_calls=tf.data.AUTOTUNE)
  rows = rows.filter(lambda row: row['keep'])
  return rows.map(lambda row: {**{key: row[key] for key in spec},
                               'dataset': dataset.name})  # fmt: skip


def _few_shot(
  dataset: Dataset,
  *,
  shots: int,
  seed: int,
  tokenizer: tokenizers.Tokenizer,
  data_dir: str | None,
) -> Callable[[], Pool]:
  """The exemplars of a training task, read when its first row asks for them."""
  lock = threading.Lock()
  made: list[Pool] = []

  def pool() -> Pool:
    with lock:
      if not made:
        rows = parts.examples(
          dataset,
          seed=seed,
          sizes=raw_records.sizes(dataset, data_dir=data_dir),
          data_dir=data_dir,
          filters=collections.Counter(),
        )
        made.append(
          parts.pool_of(dataset, rows, shots=shots, seed=seed, tokenizer=tokenizer)
        )
    return made[0]

  return pool


def _trained(
  dataset: Dataset,
  tokenizer: tokenizers.Tokenizer,
  seed: int,
  pool: Callable[[], Pool | None] = lambda: None,
):
  """Preprocessor of training: records -> token ids, fitted to the lengths asked for.

  A row is what it is in epoch 0 of a store of the same seed, tokenizer and limits:
  one Renderer makes both, after the exemplars of one `pool`.
  """

  def render(
    dataset_tf: tf.data.Dataset, sequence_length: Mapping[str, int] | None
  ) -> tf.data.Dataset:
    asked = sequence_length or {}
    limits = Limits(*(asked.get(key) or _NO_LIMIT for key in ('inputs', 'targets')))

    def words(row):
      if not parts.is_example(dataset, row, seed):
        return None
      renderer = Renderer(
        dataset, tokenizer=tokenizer, seed=seed, limits=limits, pool=pool()
      )
      (found,) = renderer([row], 0)
      if found is None:
        return None
      return found.template, (*found.example, *found.prompt)

    return _examples(dataset_tf, dataset, _TOKENS, words)

  return render


def _evaluated(dataset: Dataset, template: int, tokenizer: tokenizers.Tokenizer):
  """Preprocessor of evaluation: records -> token ids of one template.

  Inputs are fitted to the length asked for, as the evaluator fits them. Targets are
  whole; seqio trims one that is too long, EOS and all. What counts as right is in
  `references`.
  """

  def render(
    dataset_tf: tf.data.Dataset, sequence_length: Mapping[str, int] | None
  ) -> tf.data.Dataset:
    room = ((sequence_length or {}).get('inputs') or _NO_LIMIT) - 1

    def words(row):
      text = dataset_lib.render(dataset, template, row).targets
      if not text.strip():
        return None
      (found,) = prompts.fit(
        dataset, [(row, template)], tokenizer=tokenizer, rooms=[room]
      )
      if found is None:
        return None
      return template, (found.ids, tokenizer.encode(text), found.text, text)

    return _examples(dataset_tf, dataset, _TOKENS, words)

  return render


def _metric(dataset: Dataset):
  """The dataset's metric as seqio calls it."""
  metric = metrics.get(dataset.metric)

  def compute(
    targets: Sequence[Sequence[str]], predictions: Sequence[str]
  ) -> dict[str, float]:
    return {dataset.metric: metric.aggregate(metric.scores(predictions, targets))}

  return compute


def _references(target: str, *, example, is_target: bool = False, **_):
  """Postprocessor: every right answer for a target, the text for a prediction."""
  if not is_target:
    return target
  return [text.decode() for text in example['references'].tolist()]


def mixing_rate(
  name: str, group: Sequence[str], prefix: str, suffix: str
) -> Callable[[seqio.Task], int]:
  """Rate of dataset `name`, from the rows that are prepared.

  Examples-proportional mixing with a maximum of 3,000 (FLAN section 2.2), which the
  datasets of `group` share; their tasks are named PREFIX_dataset SUFFIX.
  """

  def rate(task: seqio.Task) -> int:
    del task  # of `name`; the rate may depend on the others of its group
    rows = {
      member: seqio.TaskRegistry.get(f'{prefix}_{member}{suffix}').num_input_examples(
        'train'
      )
      for member in group
    }
    return mixing_rates.shared(rows)[name]

  return rate


def register(
  vocabulary: seqio.Vocabulary,
  *,
  family: str = 'flan',
  seed: int = 0,
  data_dir: str | None = None,
) -> None:
  """Registers every task and mixture of a family with seqio.

  Args:
    vocabulary: of both features; inputs and targets both end with EOS.
    family: which world.
    seed: of the template drawn for a training example.
    data_dir: TFDS data directory; None for TFDS's default (`TFDS_DATA_DIR`).
  """
  features = {
    'inputs': seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32),
    'targets': seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32),
  }
  tokenizer = vocabulary_lib.tokenizer_of(vocabulary)
  found: dict[str, seqio.DataSource] = {}
  trained: set[str] = set()

  def train(dataset: Dataset, style: Style) -> None:
    name = dataset.task + style.suffix
    if name in trained:
      return
    trained.add(name)
    more = {}
    if style.shots:
      more['pool'] = _few_shot(
        dataset, shots=style.shots, seed=seed, tokenizer=tokenizer, data_dir=data_dir
      )
    seqio.TaskRegistry.add(
      name,
      source=found[dataset.name],
      preprocessors=[
        _trained(dataset, tokenizer, seed, **more),
        seqio.preprocessors.append_eos_after_trim,
      ],
      output_features=features,
    )

  for dataset in dataset_lib.family(family).values():
    source = found[dataset.name] = _task_source(dataset, data_dir)
    shared = {'source': source, 'output_features': features}
    if dataset.train:
      train(dataset, Style())
    for way in dataset.by_direction:
      for index in way.evaluated_templates:
        seqio.TaskRegistry.add(
          f'{dataset.task}_template_{index}',
          preprocessors=[
            _evaluated(way, index, tokenizer),
            seqio.preprocessors.append_eos,
          ],
          postprocess_fn=_references,
          metric_fns=[_metric(dataset)],
          **shared,
        )
  for mixture in dataset_lib.mixtures().values():
    if mixture.family != family:
      continue
    for dataset in mixture.members:
      train(dataset, mixture.style)
    suffix = mixture.style.suffix
    seqio.MixtureRegistry.add(
      mixture.name,
      [
        (f'{family}_{name}{suffix}', mixing_rate(name, group, family, suffix))
        for group in mixing_rates.groups(mixture)
        for name in group
      ],
    )


def _task_source(dataset: Dataset, data_dir: str | None) -> seqio.DataSource:
  if dataset.tfds:
    return Source(dataset, data_dir)
  return _generated(dataset)


def _generated(dataset: Dataset) -> seqio.DataSource:
  """A source over generated records, as JSON under the generator's own row ids."""
  names = {s: ours for s, ours in SEQIO_SPLITS.items() if ours in dataset.slices}

  def rows(split: str, shuffle_files: bool, seed: int | None = None):
    del shuffle_files, seed  # the order is the generator's; seqio shuffles later
    ids, texts = [], []
    for name, record in raw_records.records(dataset, names[split]):
      ids.append(name)
      texts.append(json.dumps(record))
    return tf.data.Dataset.from_tensor_slices({'tfds_id': ids, _JSON: texts})

  return seqio.FunctionDataSource(
    dataset_fn=rows,
    splits=list(names),
    num_input_examples={s: dataset.rows(ours) for s, ours in names.items()},
  )
