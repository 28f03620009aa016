"""seqio's own pipeline yields the examples of epoch 0 of the store, task by task."""

import collections
import json
import os
import pathlib

import numpy as np
import pytest

from flan_jax.catalog import registry
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.catalog.registry import Mixture
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store

seqio = pytest.importorskip('seqio', reason='needs seqio', exc_type=ImportError)

from flan_jax.data import fetch  # noqa: E402
from flan_jax.interop.seqio import tasks  # noqa: E402
from flan_jax.runtime.progress import Progress  # noqa: E402

LENGTHS = {'inputs': 1024, 'targets': 256}
EOS = 1
PLAIN = PromptStyle()


@pytest.fixture(autouse=True)
def registries():
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
  yield
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()


def stored(store, name):
  """Counts (inputs, targets) of epoch 0 of a dataset."""
  records = store.examples(name, range(store.num_examples(name)))
  return collections.Counter(
    (tuple(example.inputs.tolist()), tuple(example.targets.tolist()))
    for example in (record.tokens for record in records)
  )


def whole(ids):
  """Token ids of a feature without padding and its EOS, which must be there."""
  ids = ids[: np.flatnonzero(ids)[-1] + 1] if ids.any() else ids
  assert ids[-1] == EOS
  return tuple(ids[:-1].tolist())


def converted(task, converter):
  """Converts the examples of a task with one of seqio's feature converters."""
  dataset = seqio.get_mixture_or_task(task).get_dataset(
    LENGTHS, split='train', shuffle=True, seed=3
  )
  return converter(dataset, task_feature_lengths=LENGTHS).as_numpy_iterator()


def encoder_decoder(task):
  """Counts (inputs, targets) of the sequences that seqio packed."""
  found = collections.Counter()
  for sequence in converted(task, seqio.EncDecFeatureConverter(pack=True)):
    for number in range(1, sequence['encoder_segment_ids'].max() + 1):
      found[
        whole(
          sequence['encoder_input_tokens'][sequence['encoder_segment_ids'] == number]
        ),
        whole(
          sequence['decoder_target_tokens'][sequence['decoder_segment_ids'] == number]
        ),
      ] += 1
  return found


def decoder_only(task):
  """Counts `inputs EOS targets EOS`, the input of a decoder."""
  examples = converted(task, seqio.PrefixLMFeatureConverter(pack=False))
  return collections.Counter(
    whole(example['decoder_target_tokens']) for example in examples
  )


def vocabulary(store):
  file = store.manifest['tokenizer']['file']
  if file:
    return seqio.SentencePieceVocabulary(str(store.path / file))
  return seqio.ByteVocabulary()


def compare(names, *, out, family='flan', data_dir=None, style=PLAIN, **settings):
  """Materializes `names` and compares all their tasks with the store."""
  mixture = Mixture(name='some', datasets=tuple(names), style=style)
  materialize(mixture, StoreConfig(**settings), out=out, data_dir=data_dir)
  store = Store.open(out)
  tasks.register(vocabulary(store), family=family, data_dir=data_dir)
  for name in names:
    task = registry.get(name).task + style.suffix
    want = stored(store, name)
    assert sum(want.values()) == store.num_examples(name) > 0
    assert encoder_decoder(task) == want, name
    joined = collections.Counter()
    for (inputs, targets), count in want.items():
      joined[(*inputs, EOS, *targets)] += count
    assert decoder_only(task) == joined, name
  return store


@pytest.mark.parametrize(
  ('names', 'style'),
  [
    (('mini_cb',), PLAIN),
    *(
      pytest.param(('mini_copa', 'mini_cb'), style, marks=pytest.mark.slow)
      for style in (
        PLAIN,
        PromptStyle(num_fewshot=2),
        PromptStyle(prompt_style='no_template'),
      )
    ),
  ],
)
def test_generated_tasks_equal_the_store(tmp_path, names, style):
  family = 'microworld'
  compare(names, out=tmp_path / 'out', family=family, tokenizer='bytes', style=style)


def prepare(root, examples):
  for name, splits in examples.items():
    for split, records in splits.items():
      path = root / 'raw' / name / f'{split}.jsonl'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text('\n'.join(map(json.dumps, records)))
  fetch.fetch(
    [registry.get(name) for name in ('rte', 'common_gen')],
    data_dir=str(root / 'tfds'),
    folder=str(root / 'raw'),
    progress=Progress(quiet=True),
  )
  return str(root / 'tfds')


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """Long fields, long targets, a blank example, one that no template fits, a sign."""
  rte = [
    {'premise': f'Barn {i} is red. ' * (1 + 9 * i), 'hypothesis': f'{i} is a barn.',
     'idx': i, 'label': i % 2}
    for i in range(40)
  ]  # fmt: skip
  rte[3]['premise'] = 'a \u2581 sign'
  rte[4] |= {'premise': '', 'hypothesis': ''}
  common_gen = [
    {'gem_id': '', 'gem_parent_id': '', 'concept_set_id': i,
     'concepts': ['boat', 'lake'] * (1 + 40 * (i % 3)),
     'target': f'Boat {i}. ' * (1 + 20 * (i % 4)), 'references': []}
    for i in range(24)
  ]  # fmt: skip
  common_gen[5]['target'] = ' '
  return prepare(
    tmp_path_factory.mktemp('prepared'),
    {
      'super_glue/rte': {'train': rte, 'validation': rte[:7]},
      'gem/common_gen': {'train': common_gen, 'validation': common_gen[:4]},
    },
  )


@pytest.mark.parametrize(
  'settings',
  [
    {'tokenizer': 'bytes'},
    pytest.param({'vocab_size': 600}, marks=pytest.mark.slow),
    pytest.param(
      {'vocab_size': 600, 'style': PromptStyle(num_fewshot=5)}, marks=pytest.mark.slow
    ),
  ],
)
def test_tasks_cut_redraw_and_drop_examples_as_the_store_does(
  data_dir, tmp_path, settings
):
  store = compare(
    ('rte', 'common_gen'), out=tmp_path / 'out', data_dir=data_dir, **settings
  )
  entries = store.manifest['datasets']
  assert entries['rte']['truncated']['inputs'] > 0
  assert entries['common_gen']['filters']['empty'] == 1
  if 'style' in settings:  # some prompts have room for exemplars, some do not
    shown = entries['rte']['num_fewshot']
    assert '0' in shown
    assert max(map(int, shown)) > 0
  if settings.get('tokenizer') == 'bytes':
    # The longest targets do not fit: other templates are used.
    assert entries['common_gen']['truncated']['targets'] == 0
    assert entries['common_gen']['truncated']['redrawn'] > 0


REAL = (
  'rte', 'bool_q', 'arc_easy', 'copa', 'winogrande', 'cosmos_qa', 'sst2', 'paws_wiki',
  'common_gen', 'wmt16_translate_deen', 'cnn_dailymail', 'trec',
)  # fmt: skip


@pytest.mark.parametrize('name', REAL)
def test_real_examples_equal_the_store(name, tmp_path):
  data_dir = os.environ.get('TFDS_DATA_DIR')
  if data_dir is None or not pathlib.Path(data_dir).is_dir():
    pytest.skip('TFDS_DATA_DIR names no folder of prepared datasets')
  compare((name,), out=tmp_path / 'out', data_dir=data_dir, vocab_size=2000)
