"""A user's module: a seqio Task with metrics of every kind, registered at import."""

import collections

import numpy as np
import seqio
import tensorflow as tf

WORDS = ('red', 'blue', 'green')
SIZES = {'train': 24, 'validation': 9, 'test': 15}


def records(split, shuffle_files=False, seed=None):
  del shuffle_files, seed
  rows = [
    {'question': f'{split} {i}: which?', 'label': i % 3, 'weight': 1.0 + i}
    for i in range(SIZES[split])
  ]
  return tf.data.Dataset.from_tensor_slices(
    {key: [row[key] for row in rows] for key in rows[0]}
  )


def asked(dataset):
  words = tf.constant(WORDS)
  return dataset.map(
    lambda row: {
      **row, 'inputs': row['question'], 'targets': tf.gather(words, row['label'])
    }
  )  # fmt: skip


def label(text, *, example=None, is_target=False):
  """Class of a text; a target's comes with the weight of its example."""
  found = WORDS.index(text) if text in WORDS else -1
  return (found, float(example['weight'])) if is_target else found


def accuracy(targets, predictions):
  right = [
    target == found for (target, _), found in zip(targets, predictions, strict=True)
  ]
  return {'accuracy': 100 * np.mean(right), 'count': len(right)}


def f1(targets, predictions):
  """F1 of the first class over all examples."""
  pairs = collections.Counter(
    (target == 0, found == 0)
    for (target, _), found in zip(targets, predictions, strict=True)
  )
  wrong = pairs[True, False] + pairs[False, True]
  return {'f1': seqio.metrics.Scalar(
    2 * pairs[True, True] / max(2 * pairs[True, True] + wrong, 1))}  # fmt: skip


def perplexity(targets, scores):
  weights = [weight for _, weight in targets]
  return {
    'loss': float(-np.mean(scores)),
    'weighted': float(np.sum(np.multiply(weights, scores)) / np.sum(weights)),
  }


def register(name='their_task', **changes):
  """Registers the Task, and another whose metrics are objects."""
  features = dict.fromkeys(
    ('inputs', 'targets'), seqio.Feature(seqio.ByteVocabulary(), add_eos=True)
  )
  settings = {
    'source': seqio.FunctionDataSource(records, splits=tuple(SIZES)),
    'preprocessors': [
      asked, seqio.preprocessors.tokenize, seqio.preprocessors.append_eos_after_trim
    ],
    'output_features': features,
    'postprocess_fn': label,
    'metric_fns': [accuracy, f1, perplexity],
  }  # fmt: skip
  seqio.TaskRegistry.add(name, **settings | changes)


def register_objects(name='their_objects'):
  wrap = seqio.metrics.PassthroughLegacyMetric.from_metric_fn
  register(name, metric_fns=[perplexity], metric_objs=[wrap(f1, label).empty()])


if 'their_task' not in seqio.TaskRegistry.names():
  register()
  register_objects()
