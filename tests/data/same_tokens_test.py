"""One example, template and length give the same tokens everywhere:

in training (the store's Renderer), evaluation, few-shot prompts without room for an
exemplar, and the seqio Tasks for training and evaluation.
"""

import json

import numpy as np
import pytest
import real_examples

from flan_jax.catalog import registry
from flan_jax.data import bpe, stable_hash, tokenizers
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.preprocess import Limits, Renderer
from flan_jax.evaluate import evaluator
from flan_jax.inference.generate import Generated
from flan_jax.inference.rank_options import Scored

WORDS = (
  'barn', 'harbour', 'the', '1970', 'red.', 'née', 'Ada', 'swam', 'lake', '語', 'so,',
  'unquestionably', '\n', 'old', 'three',
)  # fmt: skip
NAMES = ('quac', 'squad_v2', 'rte', 'imdb_reviews', 'record', 'wmt16_translate_deen')
LIMITS = Limits(500, 4096)
EXAMPLES = 12


def text(name, least, most):
  """Draws `least` to `most` words by a hash of `name`."""
  count = least + stable_hash.key('length', name) % (most - least)
  return ' '.join(WORDS[stable_hash.key(name, i) % len(WORDS)] for i in range(count))


def made(name, i):
  """Makes a record of a dataset; its longest fields have 1 to 300 words each."""
  own, long = f'{name}.{i}', text(f'{name}.{i}', 10, 300)
  answer = f'Birch {i}'
  if name == 'rte':
    return {'premise': long, 'hypothesis': text(f'h{own}', 2, 30), 'idx': i, 'label': 1}
  if name == 'imdb_reviews':
    return {'text': long, 'label': i % 2}
  if name == 'wmt16_translate_deen':
    return {'de': long, 'en': text(f'en{own}', 5, 300)}
  before = text(f'before{own}', 1, 300)
  context, start = f'{before} {answer} {long}', len(before) + 1
  if name == 'record':
    return {
      'passage': f'{context}\n@highlight\nNo more', 'query': 'It was @placeholder.',
      'entities': [answer, 'barn'], 'answers': [answer],
      'idx': {'passage': 0, 'query': i},
    }  # fmt: skip
  if name == 'squad_v2':
    found = {'text': [answer], 'answer_start': [start]}
    none = {'text': [], 'answer_start': []}
    return {
      'id': own, 'title': 'A_barn', 'context': context, 'question': 'Who swam?',
      'plausible_answers': none, 'is_impossible': i % 3 == 0,
      'answers': none if i % 3 == 0 else found,
    }  # fmt: skip
  spoken = {'text': answer, 'answer_start': start}
  if i % 3 == 0:
    spoken = {'text': 'CANNOTANSWER', 'answer_start': len(context) + 1}
  return {
    'title': 'Ada', 'section_title': 'Youth', 'background': 'A swimmer.',
    'context': f'{context} CANNOTANSWER', 'question': 'Who?', 'followup': 'y',
    'yesno': 'x', 'orig_answer': spoken,
    'answers': {key: [value] for key, value in spoken.items()},
  }  # fmt: skip


def records(name, source):
  if source == 'made':
    return [made(name, i) for i in range(EXAMPLES)]
  dataset = registry.get(name)
  folder = real_examples.FOLDER / dataset.tfds.rpartition(':')[0]
  folder = folder if any(folder.glob('*.jsonl')) else folder / 'default'
  files = sorted(folder.glob('train*.jsonl'))
  if not files:
    pytest.skip(f'no examples of {name} at hand')
  lines = [json.loads(line) for line in files[0].open(encoding='utf-8')]
  return sorted(lines, key=lambda record: -len(json.dumps(record)))[:EXAMPLES]


class RecordingModel:
  """A model that records its prompts."""

  sequence_length, max_length = 4096, None

  def __init__(self, tokenizer):
    self.tokenizer = tokenizer
    self.prompts = []

  def loglikelihood(self, requests):
    self.prompts += [request.prompt.tolist() for request in requests]
    found = [np.zeros(len(r.options), np.float32) for r in requests]
    return Scored(found, 1, 1)

  def generate(self, prompts, *, max_tokens):
    self.prompts += [prompt.tolist() for prompt in prompts]
    return Generated([[]] * len(prompts), [''] * len(prompts), [False] * len(prompts),
                     1, 1)  # fmt: skip


def evaluated(dataset, examples, tokenizer, *, num_fewshot=0):
  """(example id, template) -> tokens of the evaluator's prompt."""
  model, keys = RecordingModel(tokenizer), []

  def note(prediction, *, split, model):
    keys.append((prediction['example_id'], prediction['template']))

  evaluator.evaluate(
    model,
    evaluator.Protocol(splits=('test',), limits=LIMITS, num_fewshot=num_fewshot),
    datasets=[dataset],
    examples=lambda name, split: examples,
    emit=note,
  )
  return dict(zip(keys, model.prompts, strict=True))


def trained(dataset, examples, tokenizer, *, pool=None, epochs=None):
  """(example id, template) -> tokens of the training inputs, over all epochs."""
  renderer = Renderer(dataset, tokenizer=tokenizer, seed=0, limits=LIMITS, pool=pool)
  out = {}
  for epoch in range(epochs or len(dataset.templates)):
    for example, found in zip(examples, renderer(examples, epoch), strict=True):
      if found is not None:
        out[example.example_id, found.template] = found.tokens.inputs.tolist()
  return out


@pytest.fixture(scope='module')
def vocabularies(tmp_path_factory):
  path = tmp_path_factory.mktemp('words') / 'tokenizer.model'
  texts = [text(f'words{i}', 20, 40) for i in range(200)]
  return {
    'bytes': tokenizers.load('bytes'),
    'pieces': bpe.train(texts, vocab_size=420, path=path),
  }


def common(some, other):
  """Common keys; more than half of the evaluated ones must be in training as well."""
  keys = some.keys() & other.keys()
  assert len(keys) > len(other) / 2
  return keys


@pytest.mark.parametrize(
  ('name', 'source'),
  [
    *((name, 'made') for name in NAMES),
    ('squad_v2', 'real'),
    *(
      pytest.param(name, 'real', marks=pytest.mark.slow)
      for name in ('quac', 'rte', 'imdb_reviews')
    ),
  ],
)
@pytest.mark.parametrize(
  'kind', ['pieces', pytest.param('bytes', marks=pytest.mark.slow)]
)
def test_training_evaluation_and_few_shot_give_the_same_tokens(
  name, source, kind, vocabularies
):
  dataset, tokenizer = registry.get(name), vocabularies[kind]
  examples = [
    dataset.read(r, f'test.0.{i}') for i, r in enumerate(records(name, source))
  ]
  train = trained(dataset, examples, tokenizer)
  test = evaluated(dataset, examples, tokenizer)
  long = 0
  for key in common(train, test):
    assert train[key] == test[key]
    assert len(train[key]) < LIMITS.inputs
    long += len(train[key]) > LIMITS.inputs * 0.8
  assert long
  count = lambda texts: [len(ids) for ids in tokenizer.encode_batch(texts)]  # noqa: E731
  pool = FewShotPool(dataset, examples, num_fewshot=2, seed=0, count=count)
  # The exemplars of evaluation are those of the first epoch.
  shown = trained(dataset, examples, tokenizer, pool=pool, epochs=1)
  also = evaluated(dataset, examples, tokenizer, num_fewshot=2)
  both = shown.keys() & also.keys()
  for key in both:
    assert also[key] == shown[key]
  assert any(shown[key] == train[key] for key in both)  # no exemplar fits before it


@pytest.mark.parametrize('name', ['rte', pytest.param('quac', marks=pytest.mark.slow)])
def test_the_seqio_tasks_give_the_same_tokens(name, tmp_path, vocabularies):
  seqio = pytest.importorskip('seqio', reason='needs seqio', exc_type=ImportError)
  from flan_jax.data import fetch, raw_records
  from flan_jax.interop.seqio import tasks as tasks_lib
  from flan_jax.runtime.progress import Progress

  dataset, tokenizer = registry.get(name), vocabularies['bytes']
  builder = dataset.tfds.rpartition(':')[0]
  folder = tmp_path / 'raw' / (builder if '/' in builder else f'{builder}/default')
  folder.mkdir(parents=True)
  lines = '\n'.join(json.dumps(made(name, i)) for i in range(EXAMPLES))
  for split in ('train', 'validation'):
    (folder / f'{split}.jsonl').write_text(lines)
  data_dir = str(tmp_path / 'tfds')
  fetch.fetch(
    [dataset], data_dir=data_dir, folder=str(tmp_path / 'raw'),
    progress=Progress(quiet=True),
  )  # fmt: skip
  examples = [
    dataset.read(record, example_id)
    for example_id, record in raw_records.records(dataset, 'train', data_dir=data_dir)
  ]
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
  tasks_lib.register(seqio.ByteVocabulary(), data_dir=data_dir)
  try:
    lengths = {'inputs': LIMITS.inputs, 'targets': LIMITS.targets}

    def read(task):
      found = seqio.get_mixture_or_task(task).get_dataset(
        lengths, split='train', shuffle=False
      )
      return {
        (example['example_id'].decode(), int(example['template'])): example[
          'inputs'
        ].tolist()
        for example in found.as_numpy_iterator()
      }

    want = evaluated(dataset, examples, tokenizer) | trained(
      dataset, examples, tokenizer
    )
    cut = 0
    tasks = [f'{dataset.task}_template_{i}' for i in dataset.evaluated_templates]
    for task in (dataset.task, *tasks[:2]):
      found = read(task)
      assert len(found) >= len(examples) - 2
      for key, ids in found.items():
        assert ids == [*want[key], tokenizer.eos_id]
        cut += len(ids) > LIMITS.inputs * 0.8
    assert cut > EXAMPLES
    short = {'inputs': LIMITS.inputs, 'targets': 3}
    found = seqio.get_mixture_or_task(tasks[0]).get_dataset(
      short, split='train', shuffle=False
    )
    for example in found.as_numpy_iterator():  # no half of an answer ends in EOS
      whole = len(tokenizer.encode(example['targets_pretokenized'].decode())) < 3
      assert (example['targets'][-1] == tokenizer.eos_id) == whole
  finally:
    seqio.TaskRegistry.reset()
    seqio.MixtureRegistry.reset()
