"""The seqio side: registered once, under the tokenizer that t5x is told."""

import numpy as np
import pytest

seqio = pytest.importorskip('seqio', reason='needs seqio', exc_type=ImportError)

from flan_jax.checkpoints import model_dir  # noqa: E402
from flan_jax.data import raw_records, tokenizers  # noqa: E402
from flan_jax.errors import InputError  # noqa: E402
from flan_jax.interop.t5x import mixtures  # noqa: E402

TASK = 'microworld_mini_copa'


def pieces(folder, **changes) -> str:
  """A SentencePiece model whose unknown piece is id 0, EOS id 2."""
  import sentencepiece

  path = folder / f'pieces{len(changes)}.model'
  settings = {'vocab_size': 32, 'unk_id': 0, 'bos_id': 1, 'eos_id': 2, 'pad_id': -1}
  with path.open('wb') as file:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(['some words of a text'] * 8), model_writer=file,
      hard_vocab_limit=False, minloglevel=2, **settings | changes,
    )  # fmt: skip
  return str(path)


@pytest.fixture(scope='module', autouse=True)
def empty_registry():
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()
  yield
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()


def test_the_vocabulary_is_the_tokenizer_of_the_model():
  found = mixtures.vocabulary('microworld')
  ours = tokenizers.load(model_dir.tokenizer_file('microworld'))
  text = 'Is the dog in the barn?'
  assert found.encode(text) == ours.encode(text).tolist()
  assert (found.pad_id, found.eos_id) == (ours.pad_id, ours.eos_id)
  assert mixtures.vocabulary('bytes') == seqio.ByteVocabulary()


def test_a_tokenizer_that_t5x_would_misread_is_refused(tmp_path):
  with pytest.raises(InputError, match='TOKENIZER: not set'):
    mixtures.vocabulary(None)
  with pytest.raises(InputError, match='padding 3, EOS 2 and 0 for letters that it'):
    mixtures.vocabulary(pieces(tmp_path, pad_id=3))


def test_letters_that_a_tokenizer_lacks_are_no_padding(tmp_path):
  """Its unknown piece is id 0, with which t5x pads; in bytes, no text becomes it."""
  refused = 'padding 2, EOS 2 and 0 for letters that it lacks; t5x pads with id 0'
  with pytest.raises(InputError, match=refused):
    mixtures.vocabulary(pieces(tmp_path))
  in_bytes = mixtures.vocabulary(pieces(tmp_path, byte_fallback=True, vocab_size=300))
  assert in_bytes.pad_id == 0
  assert 0 not in in_bytes.encode('Да, words \u2047 \ue000')


def test_tasks_and_mixtures_are_registered_once_and_known_by_our_names():
  assert mixtures.mixture(TASK, 'microworld') == TASK
  assert mixtures.mixture('microworld_held_out_nli', 'microworld')
  with pytest.raises(InputError, match=f"did you mean .*'{TASK}'"):
    mixtures.mixture('microworld_mini_coppa', 'microworld')
  with pytest.raises(InputError, match='seqio keeps one of a name'):
    mixtures.mixture(TASK, 'bytes')
  row = next(
    seqio.get_mixture_or_task(TASK)
    .get_dataset({'inputs': 192, 'targets': 64}, 'train', shuffle=False)
    .as_numpy_iterator()
  )
  ours = tokenizers.load(model_dir.tokenizer_file('microworld'))
  words = row['inputs_pretokenized'].decode()
  np.testing.assert_array_equal(row['inputs'], [*ours.encode(words), ours.eos_id])


def test_evaluation_is_a_mixture_of_one_task_a_template():
  name = mixtures.evaluation(
    ('nli', 'commonsense'), 'microworld', family='microworld', templates=2
  )
  tasks = seqio.get_subtasks(seqio.MixtureRegistry.get(name))
  names = [task.name for task in tasks]
  assert {f'{TASK}_template_{i}' for i in (0, 1)} < set(names)
  assert len(set(names)) == len(names)
  assert all(task.metric_fns for task in tasks)
  with pytest.raises(InputError, match="did you mean 'commonsense'"):
    mixtures.evaluation('comonsense', 'microworld', family='microworld')


def test_datasets_that_are_not_prepared_are_refused_or_left_out(monkeypatch):
  """Rates of the others are theirs in the whole mixture."""
  whole = 'microworld_held_out_nli'
  assert mixtures.mixture(whole, 'microworld', missing='skip') == whole
  sizes = raw_records.sizes

  def without_arc(dataset, **more):
    if dataset.name == 'mini_arc':
      raise InputError("dataset 'mini_arc': not prepared")
    return sizes(dataset, **more)

  monkeypatch.setattr(raw_records, 'sizes', without_arc)
  with pytest.raises(InputError, match="mini_arc.*leave it out: MISSING = 'skip'"):
    mixtures.mixture(whole, 'microworld')
  with pytest.raises(InputError, match="MISSING: got 'skipp'.*did you mean 'skip'"):
    mixtures.mixture(whole, 'microworld', missing='skipp')
  left = seqio.MixtureRegistry.get(
    mixtures.mixture(whole, 'microworld', missing='skip')
  )
  every = seqio.MixtureRegistry.get(whole)
  names = {task.name for task in left.tasks}
  assert {task.name for task in every.tasks} - names == {'microworld_mini_arc'}
  for task in left.tasks:
    assert left.get_rate(task) == every.get_rate(task)
