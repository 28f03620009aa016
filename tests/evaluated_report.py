"""Reports of small evaluations by models that answer by a rule."""

import html
import itertools
import re

from oracle import Oracle
from written_once import written_once

from flan_jax.catalog import leakage, lineage, registry
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.catalog.lineage import Lineage, Training
from flan_jax.data import raw_records
from flan_jax.evaluate import evaluator, measured_data, predictions
from flan_jax.report import write as write_lib

CLEAN = lineage.RANDOM.then(
  lineage.of_mixture(registry.mixture('flan_sentiment140'), model='tiny')
)


SEEN = lineage.RANDOM.then(
  lineage.of_mixture(registry.mixture('flan_rte'), model='tiny')
)


UNKNOWN = Lineage((lineage.unknown('smollm2'),))


PROSE = Lineage((Training(model='prose', datasets=(), note='prose'),))


SMALL_WORLD = lineage.RANDOM.then(
  lineage.of_mixture(registry.mixture('microworld_mini_cb'), model='tiny')
)


MOSTLY = Oracle(
  lambda prompt: 'no' if int(re.findall(r'Fact (\d+)', prompt)[-1]) % 4 else 'yes'
)


NO = Oracle(lambda prompt: 'no')


MOSTLY.sequence_length = NO.sequence_length = 2048


WRITER = Oracle(lambda prompt: 'the old house\n\nby the sea')


def rte(name, split, count=20):
  """MOSTLY is right on three of four examples, NO on two."""
  for i in range(count):
    gold = int(i % 4 in (0, 1))
    values = {'premise': f'Fact {i} of {split}.', 'hypothesis': f'It is {i}.'}
    words = ('no', 'yes')
    answer = Answer(words[gold], ('yes', 'no'), (1 - gold,), (words[gold],))
    yield Example(f'{split}.0.{i}', {**values, 'answer': answer.text}, answer)


def texts(name, split):
  """Examples with a text to generate: a summary, or a translation."""
  for i in range(4):
    text = f'the old red house by the sea number {i}'
    values = {
      'chat': f'Dialogue {i} of {split}', 'beginning': 'Dialogue', 'summary': text,
      'english': text, 'foreign': f'la maison {i} de {split}',
    }  # fmt: skip
    yield Example(
      f'{split}.0.{i}', {**values, 'answer': text}, Answer(text, (), (), (text,))
    )


def small_world(name, split):
  dataset = registry.get(name)
  for example_id, record in itertools.islice(raw_records.records(dataset, split), 8):
    yield dataset.read(record, example_id)


@written_once
def evaluated(
  out, *, dataset='rte', family='flan', model=MOSTLY, base=None, name='tiny',
  chain=CLEAN, allow_overlap=None, examples=rte, where=None, answers=None,
  weights=None, beside=None, **more
):  # fmt: skip
  """Measures a model and writes its report, as `flan eval` does."""
  declared = registry.get(dataset)
  proof = leakage.check_checkpoint(
    chain, declared.cluster, family=family, allow_overlap=allow_overlap
  )
  with predictions.Predictions(out) as emit:
    results = evaluator.evaluate(
      model,
      evaluator.Protocol(**more),
      datasets=[declared],
      examples=examples,
      base=base,
      emit=emit,
    )
  return write_lib.write(
    out,
    results,
    model=name,
    checkpoint=f'runs/{name}',
    held_out=[declared.cluster],
    data_digest='',
    data=where or measured_data.in_raw([declared], '/data/tfds'),
    seed=0,
    leakage=leakage.with_base(proof, beside),
    answers=answers,
    provenance={
      'config': '',
      'versions': {},
      'models': {
        which: {
          'fingerprint': (weights or {}).get(which, which[0]),
          'parameters': 1,
          'tokenizer': {'name': 'b', 'digest': 'd'},
        }  # fmt: skip
        for which in (['tuned'] if base is None else ['tuned', 'base'])
      },
    },
    **chain.summary(family),
  )


def page(out):
  return (out / 'report.html').read_text(encoding='utf-8')


def said(out, pattern):
  """The text of the only element that matches, without its tags and intervals."""
  (found,) = re.findall(pattern, page(out), re.DOTALL)
  return re.sub(r'\[[^]]*\]', '[..]', html.unescape(re.sub(r'<[^>]+>', '', found)))


def provenance(out, name):
  return said(out, f'<dt>{name}</dt><dd>(.*?)</dd>')


MICROWORLD = {
  'dataset': 'mini_copa', 'family': 'microworld', 'examples': small_world, 'model': NO,
  'base': NO, 'chain': SMALL_WORLD,
}  # fmt: skip
"""Settings of an evaluation of another dataset family."""
