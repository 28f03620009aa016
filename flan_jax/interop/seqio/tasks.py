"""Declarations as seqio Tasks and Mixtures, over TFDS.

For every dataset: `flan_<dataset>` (training: one of its templates per example) and
`flan_<dataset>_template_<i>` (evaluation: one template, no turned-around ones, the
answer of its direction where it translates). A mixture in another style has training
tasks of its own, as `flan_<dataset>_5_shot`. The strings come from `catalog.render`,
the one implementation of rendering.
"""

import collections
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flan_jax.catalog import mixing_rates, prompt, registry
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.fields import Unlabeled
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.data import prompts, raw_records, tokenizers
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.preprocess import Limits, Renderer
from flan_jax.data.store import parts
from flan_jax.data.tfds_source import (
  SEQIO_SPLITS,
  Source,
  example_id,
  plain,
)
from flan_jax.evaluate import metrics
from flan_jax.interop.seqio import vocabulary as vocabulary_lib

# TFDS calls functions that TensorFlow calls deprecated; nobody here can mend that.
tf.get_logger().setLevel('ERROR')


_NO_LIMIT = 1 << 30
_JSON = '_json'
"""Feature of a generated record: all of it, as JSON."""


_FEATURES = {
  'example_id': ('', ()),
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
  words: Callable[[Example], tuple[int, Sequence[Any]] | None],
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
      name = example_id(name)
    try:
      row = dataset.read(record, name)
    except Unlabeled:
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
  num_fewshot: int,
  seed: int,
  tokenizer: tokenizers.Tokenizer,
  data_dir: str | None,
) -> Callable[[], FewShotPool]:
  """The exemplars of a training task, read when its first row asks for them."""
  lock = threading.Lock()
  made: list[FewShotPool] = []

  def pool() -> FewShotPool:
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
          parts.pool_of(
            dataset, rows, num_fewshot=num_fewshot, seed=seed, tokenizer=tokenizer
          )
        )
    return made[0]

  return pool


def _trained(
  dataset: Dataset,
  tokenizer: tokenizers.Tokenizer,
  seed: int,
  pool: Callable[[], FewShotPool | None] = lambda: None,
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
      text = prompt.render(dataset, template, row).targets
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
    return mixing_rates.shared_rates(rows)[name]

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

  def train(dataset: Dataset, style: PromptStyle) -> None:
    name = dataset.task + style.suffix
    if name in trained:
      return
    trained.add(name)
    more = {}
    if style.num_fewshot:
      more['pool'] = _few_shot(
        dataset,
        num_fewshot=style.num_fewshot,
        seed=seed,
        tokenizer=tokenizer,
        data_dir=data_dir,
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

  for dataset in registry.datasets(family).values():
    source = found[dataset.name] = _task_source(dataset, data_dir)
    shared = {'source': source, 'output_features': features}
    if dataset.train:
      train(dataset, PromptStyle())
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
  for mixture in registry.mixtures().values():
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
    num_input_examples={s: dataset.num_examples(ours) for s, ours in names.items()},
  )
