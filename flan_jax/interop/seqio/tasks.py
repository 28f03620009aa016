"""Registers declarations as seqio Tasks and Mixtures, over TFDS.

For every dataset: `flan_<dataset>` (training: one of its templates per example) and
`flan_<dataset>_template_<i>` (evaluation: one template, no inverted ones; a translation
has the answers of its direction). A mixture in another prompt style has training tasks
of its own, as `flan_<dataset>_5_shot`. `catalog.prompt.render` renders all strings.
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
from flan_jax.catalog.registry import Mixture
from flan_jax.catalog.source import UNKNOWN_SIZE
from flan_jax.data import prompts, raw_records, tokenizers
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.preprocess import Limits, Renderer
from flan_jax.data.sources import seqio_vocabulary
from flan_jax.data.store import parts
from flan_jax.data.tfds_source import (
  SEQIO_SPLITS,
  Source,
  example_id,
  plain,
)
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics
from flan_jax.evaluate.value_metric import Metric

# TFDS calls functions that TensorFlow has deprecated.
tf.get_logger().setLevel('ERROR')


_NO_LIMIT = 1 << 30
_JSON = '_json'
"""Feature that holds a generated record as JSON."""


_FEATURES = {
  'example_id': ('', ()),
  'template': (-1, ()),
  'options': ([''], (None,)),
  'gold': ([-1], (None,)),
  'references': ([''], (None,)),
}
"""Features of every example beside its text: (empty value, shape)."""

_TOKENS = {
  'inputs': ([], (None,)),
  'targets': ([], (None,)),
  'inputs_pretokenized': ('', ()),
  'targets_pretokenized': ('', ()),
}


def _type(empty: Any) -> tf.DType:
  return tf.string if empty in ('', ['']) else tf.int32


def _array(value: Any, kind: tf.DType) -> np.ndarray | list[bytes] | bytes:
  """Converts a Python value for `tf.numpy_function`."""
  if kind != tf.string:
    return np.asarray(value, kind.as_numpy_dtype)
  if isinstance(value, str):
    return value.encode()
  return [text.encode() for text in value]


def _examples(
  dataset_tf: tf.data.Dataset,
  dataset: Dataset,
  spec: Mapping[str, tuple[Any, tuple]],
  render: Callable[[Example], tuple[int, Sequence[Any]] | None],
) -> tf.data.Dataset:
  """Converts raw records to rendered examples.

  Args:
    dataset_tf: TFDS records, or generated ones as JSON.
    dataset: the declaration.
    spec: features beside _FEATURES: (empty value, shape).
    render: returns (template, values of `spec`) for an example; None to drop it.
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
      example = dataset.read(record, name)
    except Unlabeled:
      return nothing
    found = render(example)
    if found is None:
      return nothing
    template, values = found
    answer = example.answer
    return (*values, name, template, answer.options or [''], answer.gold or [-1],
            answer.references or [''], True)  # fmt: skip

  types = (*(_type(empty) for empty, _ in spec.values()), tf.bool)

  def arrays(*flat):
    return [
      _array(value, kind) for value, kind in zip(python(*flat), types, strict=True)
    ]

  def call(record):
    flat = tf.nest.flatten(record, expand_composites=True)
    # Stateless, so that an iterator over it can be saved and t5x can resume.
    out = tf.numpy_function(arrays, flat, types, stateful=False)
    for value, (_, shape) in zip(out, [*spec.values(), (None, ())], strict=True):
      value.set_shape(shape)
    return dict(zip((*spec, 'keep'), out, strict=True))

  examples = dataset_tf.map(call, num_parallel_calls=tf.data.AUTOTUNE)
  examples = examples.filter(lambda example: example['keep'])
  return examples.map(lambda example: {**{key: example[key] for key in spec},
                                       'dataset': dataset.name})  # fmt: skip


def _few_shot(
  dataset: Dataset,
  *,
  num_fewshot: int,
  seed: int,
  tokenizer: tokenizers.Tokenizer,
  data_dir: str | None,
) -> Callable[[], FewShotPool]:
  """Few-shot pool of a training task, read when its first example is rendered."""
  lock = threading.Lock()
  made: list[FewShotPool] = []

  def pool() -> FewShotPool:
    with lock:
      if not made:
        examples = parts.training_examples(
          dataset,
          seed=seed,
          sizes=raw_records.sizes(dataset, data_dir=data_dir),
          data_dir=data_dir,
          filters=collections.Counter(),
        )
        made.append(
          parts.few_shot_pool(
            dataset, examples, num_fewshot=num_fewshot, seed=seed, tokenizer=tokenizer
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
  """Preprocessor for training: records -> token ids, cut to the sequence lengths.

  An example is the same as in epoch 0 of a store with the same seed, tokenizer and
  limits: one Renderer makes both, with the exemplars of one `pool`.
  """

  def preprocess(
    dataset_tf: tf.data.Dataset, sequence_length: Mapping[str, int] | None
  ) -> tf.data.Dataset:
    lengths = sequence_length or {}
    limits = Limits(*(lengths.get(key) or _NO_LIMIT for key in ('inputs', 'targets')))

    def render(example):
      if not parts.is_usable(dataset, example, seed):
        return None
      renderer = Renderer(
        dataset, tokenizer=tokenizer, seed=seed, limits=limits, pool=pool()
      )
      (found,) = renderer([example], 0)
      if found is None:
        return None
      return found.template, (*found.tokens, *found.prompt)

    return _examples(dataset_tf, dataset, _TOKENS, render)

  return preprocess


def _evaluated(dataset: Dataset, template: int, tokenizer: tokenizers.Tokenizer):
  """Preprocessor for evaluation: records -> token ids of one template.

  Inputs are cut to their sequence length, as in the evaluator. Targets are whole; seqio
  trims one that is too long, with its EOS. The right answers are in `references`.
  """

  def preprocess(
    dataset_tf: tf.data.Dataset, sequence_length: Mapping[str, int] | None
  ) -> tf.data.Dataset:
    limit = ((sequence_length or {}).get('inputs') or _NO_LIMIT) - 1

    def render(example):
      text = prompt.render(dataset, template, example).targets
      if not text.strip():
        return None
      (found,) = prompts.fit(
        dataset, [(example, template)], tokenizer=tokenizer, max_tokens=[limit]
      )
      if found is None:
        return None
      return template, (found.ids, tokenizer.encode(text), found.text, text)

    return _examples(dataset_tf, dataset, _TOKENS, render)

  return preprocess


def _metric(dataset: Dataset):
  """The dataset's metric as a seqio metric function."""
  metric = metrics.get(dataset.metric)

  def compute(
    targets: Sequence[Sequence[str]], predictions: Sequence[str]
  ) -> dict[str, float]:
    found = metric.scores(predictions, targets)
    if isinstance(metric, Metric):
      return metric.aggregates(found)
    return {dataset.metric: metric.aggregate(found)}

  return compute


def _references(target: str, *, example, is_target: bool = False, **_):
  """Postprocessor: returns all right answers of a target, or a prediction's text."""
  if not is_target:
    return target
  return [text.decode() for text in example['references'].tolist()]


def task_name(name: str, mixture: Mixture) -> str:
  """Name of the seqio Task of a dataset in the prompt style of a mixture."""
  return registry.get(name).task + mixture.style_of(name).suffix


def mixing_rate(
  name: str, mixture: Mixture, members: Sequence[str] | None = None
) -> Callable[[seqio.Task], float]:
  """Mixing rate of dataset `name`, from the number of prepared examples.

  Args:
    name: the dataset.
    mixture: its mixture, with rates of its own or in proportion to its examples, with
      a maximum of 3,000 (FLAN section 2.2).
    members: the datasets of the mixture that are mixed; None for all.
  """

  def rate(task: seqio.Task) -> float:
    del task  # of `name`; the rate may depend on the others that share its maximum
    sizes = {}
    for member in mixing_rates.peers(name, mixture):
      if members is None or member in members:
        other = seqio.TaskRegistry.get(task_name(member, mixture))
        count = other.num_input_examples('train')
        sizes[member] = UNKNOWN_SIZE if count is None else count
    found = mixing_rates.rates(mixture, sizes)
    if name not in found:
      raise InputError(
        f'mixture {mixture.name!r}: rate of {name!r}: seqio does not know its number '
        'of examples; must have num_input_examples, or a rate of its own'
      )
    return found[name]

  return rate


def register(
  vocabulary: seqio.Vocabulary,
  *,
  family: str | None = None,
  seed: int = 0,
  data_dir: str | None = None,
) -> None:
  """Registers every task and mixture, or those of one dataset family, with seqio.

  Args:
    vocabulary: vocabulary of both features; inputs and targets both end with EOS.
    family: dataset family; None for all.
    seed: template seed, for training examples.
    data_dir: TFDS data directory; None for TFDS's default (`TFDS_DATA_DIR`).
  """
  features = {
    'inputs': seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32),
    'targets': seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32),
  }
  tokenizer = seqio_vocabulary.tokenizer_of(vocabulary)
  found: dict[str, seqio.DataSource] = {}
  trained: set[str] = set()

  def train(dataset: Dataset, style: PromptStyle) -> None:
    name = dataset.task + style.suffix
    if name in trained or dataset.is_tokenized:  # a task of seqio already
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
      source=found[dataset.name],  # pyright: ignore[reportArgumentType]  # its hint
      preprocessors=[
        _trained(dataset, tokenizer, seed, **more),
        seqio.preprocessors.append_eos_after_trim,
      ],
      output_features=features,
    )

  for dataset in registry.datasets(family).values():
    if dataset.is_tokenized:
      continue
    source = found[dataset.name] = _task_source(dataset, data_dir)
    shared = {'source': source, 'output_features': features}
    if 'train' in dataset.slices:
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
    if family is not None and mixture.family != family:
      continue
    for name, dataset in zip(mixture.datasets, mixture.members, strict=True):
      train(dataset, mixture.style_of(name))
    names = [task_name(name, mixture) for name in mixture.datasets]
    if len({tuple(seqio.TaskRegistry.get(one).output_features) for one in names}) > 1:
      continue  # some have no inputs: seqio mixes tasks of the same features
    rates = [mixing_rate(name, mixture) for name in mixture.datasets]
    seqio.MixtureRegistry.add(mixture.name, list(zip(names, rates, strict=True)))


def _task_source(dataset: Dataset, data_dir: str | None) -> seqio.DataSource:
  if dataset.tfds:
    return Source(dataset, data_dir)
  return _generated(dataset)


def _generated(dataset: Dataset) -> seqio.DataSource:
  """Source of generated records, as JSON with the generator's own example ids."""
  names = {
    seqio_split: name
    for seqio_split, name in SEQIO_SPLITS.items()
    if name in dataset.slices
  }

  def records(split: str, shuffle_files: bool, seed: int | None = None):
    del shuffle_files, seed  # the order is the generator's; seqio shuffles later
    ids, texts = [], []
    for name, record in raw_records.records(dataset, names[split]):
      ids.append(name)
      texts.append(json.dumps(record, default=str))  # dates, as a Field reads them
    columns = {'tfds_id': ids, _JSON: texts}  # TensorFlow's types know no columns
    return tf.data.Dataset.from_tensor_slices(columns)  # pyright: ignore[reportArgumentType]

  return seqio.FunctionDataSource(
    dataset_fn=records,
    splits=list(names),
    num_input_examples={
      seqio_split: dataset.num_examples(name) for seqio_split, name in names.items()
    },
  )
