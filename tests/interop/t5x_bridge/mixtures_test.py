"""Mixtures and vocabularies for t5x: registered once, with one tokenizer."""

import numpy as np
import pytest

seqio = pytest.importorskip('seqio', reason='needs seqio', exc_type=ImportError)

from flan_jax.checkpoints import model_dir  # noqa: E402
from flan_jax.data import raw_records, tokenizers  # noqa: E402
from flan_jax.errors import InputError  # noqa: E402
from flan_jax.interop.t5x import mixtures  # noqa: E402

TASK = 'microworld_mini_copa'


def pieces(folder, **changes) -> str:
  """A SentencePiece model with UNK 0 and EOS 2."""
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
  tokenizer = tokenizers.load(model_dir.tokenizer_file('microworld'))
  text = 'Is the dog in the barn?'
  assert found.encode(text) == tokenizer.encode(text).tolist()
  assert (found.pad_id, found.eos_id) == (tokenizer.pad_id, tokenizer.eos_id)
  assert mixtures.vocabulary('bytes') == seqio.ByteVocabulary()


def test_a_tokenizer_with_another_padding_id_is_refused(tmp_path):
  with pytest.raises(InputError, match='TOKENIZER: got None'):
    mixtures.vocabulary(None)
  with pytest.raises(
    InputError, match='padding 3, EOS 2 and UNK 0; t5x pads with id 0'
  ):
    mixtures.vocabulary(pieces(tmp_path, pad_id=3))


def test_unknown_characters_must_not_encode_to_padding(tmp_path):
  """UNK is id 0, with which t5x pads; with byte fallback no text encodes to it."""
  refused = 'padding 2, EOS 2 and UNK 0; t5x pads with id 0'
  with pytest.raises(InputError, match=refused):
    mixtures.vocabulary(pieces(tmp_path))
  in_bytes = mixtures.vocabulary(pieces(tmp_path, byte_fallback=True, vocab_size=300))
  assert in_bytes.pad_id == 0
  assert 0 not in in_bytes.encode('Да, words \u2047 \ue000')


def test_tasks_and_mixtures_are_registered_once_under_our_names():
  assert mixtures.mixture(TASK, 'microworld') == TASK
  assert mixtures.mixture('microworld_held_out_nli', 'microworld')
  with pytest.raises(InputError, match=f"did you mean .*'{TASK}'"):
    mixtures.mixture('microworld_mini_coppa', 'microworld')
  with pytest.raises(InputError, match='seqio allows one task per name'):
    mixtures.mixture(TASK, 'bytes')
  example = next(
    seqio.get_mixture_or_task(TASK)
    .get_dataset({'inputs': 192, 'targets': 64}, 'train', shuffle=False)
    .as_numpy_iterator()
  )
  tokenizer = tokenizers.load(model_dir.tokenizer_file('microworld'))
  words = example['inputs_pretokenized'].decode()
  np.testing.assert_array_equal(
    example['inputs'], [*tokenizer.encode(words), tokenizer.eos_id]
  )


def test_evaluation_is_a_mixture_of_one_task_per_template():
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


def test_unprepared_datasets_are_refused_or_skipped(monkeypatch):
  """The others keep their rates of the whole mixture."""
  whole = 'microworld_held_out_nli'
  assert mixtures.mixture(whole, 'microworld', missing='skip') == whole
  sizes = raw_records.sizes

  def without_arc(dataset, **more):
    if dataset.name == 'mini_arc':
      raise InputError("dataset 'mini_arc': not prepared")
    return sizes(dataset, **more)

  monkeypatch.setattr(raw_records, 'sizes', without_arc)
  with pytest.raises(InputError, match="mini_arc.*skip it: MISSING = 'skip'"):
    mixtures.mixture(whole, 'microworld')
  with pytest.raises(InputError, match="MISSING: got 'skipp'.*did you mean 'skip'"):
    mixtures.mixture(whole, 'microworld', missing='skipp')
  kept = seqio.MixtureRegistry.get(
    mixtures.mixture(whole, 'microworld', missing='skip')
  )
  whole_mixture = seqio.MixtureRegistry.get(whole)
  names = {task.name for task in kept.tasks}
  assert {task.name for task in whole_mixture.tasks} - names == {'microworld_mini_arc'}
  for task in kept.tasks:
    assert kept.get_rate(task) == whole_mixture.get_rate(task)
