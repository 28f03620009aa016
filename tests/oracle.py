"""Models that answer by a rule, and small datasets to evaluate them on."""

import dataclasses

import numpy as np

from flan_jax.catalog.answers import Answer, Label, Text
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.template import Template
from flan_jax.data import tokenizers
from flan_jax.inference.generate import Generated
from flan_jax.inference.rank_options import Scored

BYTES = tokenizers.load('bytes')
LABELS = ('yes', 'no')

RANKED = Dataset(
  name='tiny_nli', cluster='nli', source=None, train='train', dev='dev', test='test',
  sizes={}, fields={'premise': 'premise', 'hypothesis': 'hypothesis'},
  answer=Label('label', LABELS), metric='accuracy',
  templates=(
    Template('{premise} So {hypothesis}?\n{OPTIONS}'),
    Template('Write a premise for {hypothesis}', '{premise}', inverted=True),
    Template('Given {premise}, is it so that {hypothesis}?\n{OPTIONS}'),
  ),
)  # fmt: skip
WRITTEN = dataclasses.replace(
  RANKED, name='tiny_qa', cluster='closed_book_qa', metric='exact_match',
  answer=Text('{hypothesis}'), templates=(Template('Who is {premise}?'),),
)  # fmt: skip


def examples(dataset, count):
  """Returns a reader: (dataset name, split) -> examples with alternating labels."""

  def read(name, split):
    assert name == dataset.name
    out = []
    for i in range(count):
      values = {'premise': f'Fact {i} of {split}.', 'hypothesis': f'it is {i}'}
      if dataset.has_options:
        answer = Answer(LABELS[i % 2], LABELS, (i % 2,), (LABELS[i % 2],))
      else:
        answer = Answer(f'it is {i}', references=(f'it is {i}', f'number {i}'))
      example_id = f'{split}.0.{i}'
      out.append(Example(example_id, values | {'answer': answer.text}, answer))
    return out

  return read


class Oracle:
  """Answers by a rule over the prompt's text, through the same interface as Scorer."""

  tokenizer = BYTES
  sequence_length = 256
  max_length = None

  def __init__(self, rule):
    self._rule = rule

  def loglikelihood(self, requests):
    found = []
    for request in requests:
      said = self._rule(BYTES.decode(request.prompt))
      options = [BYTES.decode(option) for option in request.options]
      found.append(np.array([0.0 if o == said else -1.0 for o in options], np.float32))
    return Scored(found, 10, 20)

  def generate(self, prompts, *, max_tokens):
    texts = [self._rule(BYTES.decode(prompt)) for prompt in prompts]
    tokens = [BYTES.encode_batch([t])[0].tolist()[:max_tokens] for t in texts]
    texts = [self.tokenizer.decode(ids) for ids in tokens]
    return Generated(tokens, texts, [False] * len(prompts), 10, 20)


def says(word):
  return Oracle(lambda prompt: word)
