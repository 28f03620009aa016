"""Contamination: planted examples are found anywhere in a text, and nothing else is."""

import gzip
import json
import tracemalloc

import numpy as np
import pytest
from oracle import RANKED, says

from flan_jax.catalog import registry
from flan_jax.catalog.answers import Answer
from flan_jax.catalog.dataset import Example
from flan_jax.data import raw_records
from flan_jax.data.store import materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.evaluate import contamination, evaluator
from flan_jax.evaluate.contamination import Index
from flan_jax.report import build
from flan_jax.runtime.progress import Progress

LABELS = ('yes', 'no')


def sentence(*names, words=20):
  """Words that no two names share."""
  name = ''.join(map(str, names))
  return ' '.join(f'{name}w{k}' for k in range(words))


def example(i, premise, hypothesis='short one'):
  values = {'premise': premise, 'hypothesis': hypothesis, 'answer': 'yes'}
  return Example(f'test.0.{i}', values, Answer('yes', LABELS, (0,), ('yes',)))


EXAMPLES = [example(i, sentence('ex', i)) for i in range(6)]


def contaminated(examples, *texts, ngram=13):
  index = Index(examples, ngram=ngram)
  index.add(texts)
  return index.overlap().contaminated.tolist()


def test_an_example_in_the_text_is_contaminated_and_the_others_are_clean():
  text = 'Before. ' + sentence('ex', 2) + ' And after.'
  assert contaminated(EXAMPLES, text) == [
    False, False, True, False, False, False,
  ]  # fmt: skip


@pytest.mark.parametrize(('kept', 'found'), [(20, True), (13, True), (12, False)])
def test_thirteen_successive_words_are_enough_and_twelve_are_not(kept, found):
  part = ' '.join(sentence('ex', 0).split()[:kept])
  assert contaminated(EXAMPLES[:1], f'{part} something else') == [found]


def test_case_punctuation_and_line_breaks_do_not_hide_it():
  text = 'A man, (who was old) walked -- slowly! -- down the road to the sea today.'
  copy = 'a MAN who was\nold walked slowly down the road; to the sea TODAY'
  assert contaminated([example(0, text)], copy) == [True]


@pytest.mark.parametrize(('words', 'judged'), [(7, False), (8, True), (12, True)])
def test_a_short_field_counts_whole_and_a_shorter_one_is_not_judged(words, judged):
  examples = [example(0, sentence('s', words=words))]
  index = Index(examples, ngram=13)
  index.add([f'so {sentence("s", words=words)} it was'])
  found = index.overlap()
  assert (found.judged.tolist(), found.contaminated.tolist()) == ([judged], [judged])


def test_share_is_the_part_of_the_ngrams_that_occur():
  index = Index(EXAMPLES[:1], ngram=13)
  index.add([' '.join(sentence('ex', 0).split()[:14])])
  assert index.overlap().share.tolist() == [2 / 8]


def test_words_are_not_joined_over_two_texts():
  words = sentence('ex', 0).split()
  assert contaminated(EXAMPLES[:1], ' '.join(words[:10]), ' '.join(words[10:])) == [
    False
  ]


@pytest.fixture
def folder(tmp_path):
  """A folder of texts, with one example in each kind of file, at any depth."""
  (tmp_path / 'deep').mkdir()
  (tmp_path / 'a.txt').write_text(sentence('ex', 0), encoding='utf-8')
  line = {'meta': {'id': 3}, 'texts': ['x', sentence('ex', 1)]}
  (tmp_path / 'deep' / 'b.jsonl').write_text(json.dumps(line) + '\n\n')
  with gzip.open(tmp_path / 'deep' / 'c.txt.gz', 'wt', encoding='utf-8') as file:
    file.write(sentence('ex', 2))
  (tmp_path / 'd.bin').write_text(sentence('ex', 3), encoding='utf-8')
  return tmp_path


def test_a_folder_is_read_recursively(folder):
  (texts,) = contamination.suspects(str(folder))
  assert contaminated(EXAMPLES, *texts) == [True, True, True, False, False, False]


def test_no_ngram_is_cut_in_two_by_the_chunks_of_a_file(tmp_path, monkeypatch):
  monkeypatch.setattr(contamination, '_BUFFER', 97)
  text = ' '.join(sentence('filler', k) for k in range(5))
  text += ' ' + ' '.join(r.values['premise'] for r in EXAMPLES)
  (tmp_path / 'a.txt').write_text(text, encoding='utf-8')
  (texts,) = contamination.suspects(str(tmp_path))
  assert contaminated(EXAMPLES, *texts) == [True] * 6


def test_memory_does_not_grow_with_the_text(tmp_path):
  line = sentence('filler', words=2_000) + '\n'
  with (tmp_path / 'a.txt').open('w', encoding='utf-8') as file:
    file.writelines(line for _ in range(600))  # about 20 MB
  index = Index(EXAMPLES, ngram=13)
  (texts,) = contamination.suspects(str(tmp_path))
  chunks = iter(texts)
  index.add([next(chunks)])
  tracemalloc.start()
  first = 0
  for k, chunk in enumerate(chunks):
    index.add([chunk])
    if k == 2:
      first = tracemalloc.get_traced_memory()[1]
    if k == 12:
      break
  assert tracemalloc.get_traced_memory()[1] < 1.5 * first
  tracemalloc.stop()


def test_a_training_store_is_decoded_into_text(tmp_path):
  """Training examples are contaminated; others of the same dataset are not."""
  out = tmp_path / 'store'
  materialize.materialize(
    registry.mixture('microworld_mini_squad'),
    materialize.StoreConfig(tokenizer='bytes', epochs=1),
    out=out,
  )
  dataset = registry.get('mini_squad')
  store = Store.open(out)
  (texts,) = contamination.suspects(str(out))
  some = [
    dataset.read(record, example_id)
    for (example_id, record), _ in zip(
      raw_records.records(dataset, 'train'), range(20), strict=False
    )
  ]
  planted = some + [example(i, sentence('ex', i)) for i in range(5)]
  index = Index(planted, ngram=13)
  assert index.add(texts) > 10 * store.num_examples('mini_squad')
  found = index.overlap()
  assert found.contaminated[:20][found.judged[:20]].all()
  assert found.judged[:20].any()
  assert not found.contaminated[20:].any()


def test_a_path_that_is_neither_store_nor_text_is_refused(tmp_path):
  with pytest.raises(InputError, match='no such folder'):
    contamination.suspects(str(tmp_path / 'absent'))
  with pytest.raises(InputError, match=r'contains no text.*\.txt'):
    contamination.suspects(str(tmp_path))
  (tmp_path / 'a.jsonl').write_text('{"text": ', encoding='utf-8')
  (texts,) = contamination.suspects(str(tmp_path))
  with pytest.raises(InputError, match=r'a\.jsonl.*, line 1: not JSON'):
    list(texts)


def test_the_report_has_the_clean_examples_beside_all(folder):
  """Three examples are planted, and the model is right on those only."""
  examples = {'dev': [], 'test': EXAMPLES}
  known = [sentence('ex', i) for i in range(3)]

  class Parrot(type(says('yes'))):
    def __init__(self):
      super().__init__(
        lambda prompt: 'yes' if any(m in prompt for m in known) else 'no'
      )

  results = evaluator.evaluate(
    Parrot(), datasets=[RANKED], examples=lambda _, split: examples[split]
  )
  found = contamination.find_overlaps(
    results,
    suspects=contamination.suspects(str(folder)),
    ngram=13,
    progress=Progress(quiet=True),
  )
  assert found.against == (str(folder),)
  made = build.build(
    results,
    build.Metadata(
      model='m', checkpoint='', held_out=(), trained_on=(), train_examples={},
      data_digest='', seed=0,
    ),
    contamination=found,
  )  # fmt: skip
  (line,) = made['results']
  assert line['mean'] == 50
  counts = {
    key: line['contamination'][key] for key in ('judged', 'contaminated', 'clean')
  }
  assert counts == {'judged': 6, 'contaminated': 3, 'clean': 3}
  assert line['contamination']['mean'] == 0
  assert made['contamination']['ngram'] == 13
  assert np.isfinite(line['contamination']['ci95']).all()
