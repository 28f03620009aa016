"""Conversations in a store: their loss, their cut, and their files."""

import json
import random

import numpy as np
import pytest
import small_tokenizers

from flan_jax.catalog import chats, registry
from flan_jax.config.training import TrainConfig
from flan_jax.data import chat_template
from flan_jax.data.chat import ChatTemplate
from flan_jax.data.sources import file_task
from flan_jax.data.sources.files import Json
from flan_jax.data.store import repair
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.inference.chat_prompts import ChatPrompts
from flan_jax.jobs import training_data

LENGTH = 96
CHATML = chat_template.load('chatml')


def turn(role: str, content: str) -> dict[str, str]:
  return {'role': role, 'content': content}


def conversations(count: int) -> list[list[dict[str, str]]]:
  """Random ones of one to four pairs; the longest do not fit in LENGTH tokens."""
  rng = random.Random(0)
  words = ('the', 'cat', 'is', 'on', 'mat', 'dog', 'eats', 'bread', 'yes', 'no')
  said = lambda: ' '.join(rng.choices(words, k=rng.randint(1, 6)))  # noqa: E731
  return [
    [turn(r, said()) for _ in range(i % 4 + 1) for r in ('user', 'assistant')]
    for i in range(count)
  ]


def write(name, records) -> str:
  with open(name, 'w') as file:
    file.writelines(f'{json.dumps(record)}\n' for record in records)
  return str(name)


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  folder = tmp_path_factory.mktemp('model')
  marks = ('<|im_start|>', '<|im_end|>', '<|pad|>')
  small_tokenizers.byte_level(special=marks).save(str(folder / 'tokenizer.json'))
  names = {'eos_token': '<|im_end|>', 'pad_token': '<|pad|>', 'add_bos_token': False}
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({**names, 'chat_template': CHATML})
  )
  return folder / 'tokenizer.json'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(file_task, '_declared', {})
  with registry.restored():
    yield tmp_path


def made(tokenizer, name='chats.jsonl', out='store', length=LENGTH, **more) -> Store:
  dataset = file_task.declare(name, **more)
  config = StoreConfig(tokenizer=tokenizer, epochs=1, sequence_length=length)
  materialize(registry.mixture(dataset.name), config, out=out)
  return Store.open(out)


def test_a_sequence_has_its_conversations_as_the_template_gives_them(tokenizer):
  """Packed, each with the loss on its own turns; too long ones lose their last."""
  some = conversations(24)
  records = [{'messages': each} for each in some]
  records += [{'messages': [turn('user', 'nobody?')]}, {'messages': []}]
  records += [{'messages': [turn('user', 'a ' * LENGTH), turn('assistant', 'b')]}]
  records += [{'messages': [*some[0], turn('user', 'and?'), turn('assistant', ' ')]}]
  store = made(tokenizer, write('chats.jsonl', records))
  entry = store.manifest['datasets']['chats']
  assert entry['filters'] == {'unlabeled': 2, 'empty': 1, 'too_long': 1}
  assert entry['truncated']['targets'] > 0
  template = ChatTemplate(CHATML, store.tokenizer())
  plan = store.plan(seed=0, sequences=4, sequence_length=LENGTH)
  for k in range(len(plan)):
    sequence, start = store.sequence(plan, k), 0
    for _, at in plan.sequence(k):
      turns = some[int(store.example('chats', at).example_id.split('.')[-1])]
      ends = range(len(turns), 0, -2)
      whole = next(
        found for found in (template.conversation(turns[:end]) for end in ends)
        if len(found.tokens) - 1 <= LENGTH
      )  # fmt: skip
      part = slice(start, start + len(whole.tokens) - 1)
      assert sequence.tokens[part].tolist() == whole.tokens[:-1].tolist()
      assert sequence.targets[part].tolist() == whole.tokens[1:].tolist()
      assert sequence.loss_mask[part].tolist() == whole.loss[1:].tolist()
      assert len(set(sequence.segment_ids[part].tolist())) == 1
      start = part.stop
    assert start == plan.used(k)
    assert not sequence.loss_mask[start:].any()
  (line,) = training_data.store_warnings(store)
  assert 'dropped 2 without a turn of the assistant, 1 with an empty turn of' in line
  assert line.endswith('after the last turn that fits')


def test_the_same_conversations_make_the_same_store_and_a_repair_its_bytes(tokenizer):
  write('chats.jsonl', [{'messages': each} for each in conversations(12)])
  one, other = (made(tokenizer, out=out) for out in ('one', 'other'))
  assert one.digest == other.digest
  assert one.manifest['version'] == 5
  shard = next((one.path / 'train').glob('*.array_record'))
  data = shard.read_bytes()
  shard.write_bytes(data[:-8])
  repair.repair('one')
  assert shard.read_bytes() == data
  write('other.jsonl', [{'inputs': 'a', 'targets': 'b'}])
  assert made(tokenizer, 'other.jsonl', out='plain').manifest['version'] == 4


def test_chats_of_which_none_is_left_are_told_by_their_reason(tokenizer):
  write('chats.jsonl', [{'messages': [turn('user', 'nobody?')]}] * 3)
  with pytest.raises(InputError, match='dropped 3 without a turn of the assistant$'):
    made(tokenizer)


def test_chatml_ends_a_turn_with_a_token_of_the_tokenizer(tmp_path):
  """`<|im_end|>` would be learnt as text, and nothing would stop at it."""
  path = tmp_path / 'tokenizer.model'
  path.write_bytes(small_tokenizers.sentence_pieces(bos_id=3))
  dataset = file_task.declare(
    write('chats.jsonl', [{'messages': each} for each in conversations(4)])
  )

  def made_with(template, out):
    config = StoreConfig(
      tokenizer=path, epochs=1, sequence_length=LENGTH * 4, chat_template=template
    )
    materialize(registry.mixture(dataset.name), config, out=out)
    return Store.open(out)

  (*_, line) = training_data.store_warnings(made_with(f'{CHATML} ', 'own'))
  assert line.startswith("warning: the chat template ends an answer by '<|im_end|>'")
  store = made_with(CHATML, 'store')
  assert not any('template' in one for one in training_data.store_warnings(store))
  assert '<|im_end|>' not in store.chat_template
  ids = store.tokenizer()
  template = ChatTemplate(store.chat_template, ids)
  found = template.conversation(conversations(4)[0])
  (answer,) = [run for loss, run in found.runs() if loss]
  assert ids.decode(answer).strip() == conversations(4)[0][1]['content']
  assert answer[-1] == ids.eos_id == ChatPrompts(template).end_id


def test_a_store_without_a_chat_template_is_refused(tokenizer):
  write('chats.jsonl', [{'messages': each} for each in conversations(4)])
  with pytest.raises(InputError, match=r"'chats' has conversations, .* or 'chatml'$"):
    made('bytes')


def test_which_files_are_conversations(tokenizer):
  """Those of one column; those of an export have the two as well, and are named."""
  both = {'inputs': 'is it?', 'targets': 'yes'}
  messages = [turn('user', 'is it?'), turn('assistant', 'yes')]
  write('export.jsonl', [{**both, 'messages': messages}] * 3)
  write('talk.jsonl', [{'talk': messages}] * 3)
  assert not file_task.declare('export.jsonl').messages
  assert file_task.declare('export.jsonl', messages='messages').messages
  store = made(tokenizer, 'talk.jsonl', messages='talk')
  (first,) = store.examples('talk', [0])
  assert [loss for loss, _ in first.tokens.runs()] == [False, True, False]
  with pytest.raises(InputError, match=r"no column 'talks'; .* named by MESSAGES; did"):
    file_task.declare('talk.jsonl', messages='talks')
  with pytest.raises(InputError, match=r"INPUTS; .* in 'talk', are named by MESSAGES"):
    file_task.declare('talk.jsonl')


def test_a_store_tells_what_a_file_held_that_is_gone(tokenizer, folder):
  write('chats.jsonl', [{'messages': each} for each in conversations(8)])
  store = made(tokenizer, validation=2)
  (folder / 'chats.jsonl').unlink()
  assert not file_task.declare('chats.jsonl', stored=True).messages
  file_task.as_stored(store.manifest)
  assert registry.get('chats').messages


def test_conversations_train_beside_prompts_and_answers(tokenizer):
  """A dataset of a module, from any source; each example is as it is alone."""
  write('own.jsonl', [{'messages': each} for each in conversations(6)])
  write('sums.jsonl', [{'inputs': f'Say {i}.', 'targets': str(i)} for i in range(6)])
  registry.register(
    chats.chat('own', Json('own.jsonl')),
    registry.Mixture(
      name='both',
      datasets=('own', file_task.declare('sums.jsonl').name),
      rates={'own': 1, 'sums': 1},
    ),
  )
  config = StoreConfig(tokenizer=tokenizer, epochs=1, sequence_length=LENGTH)
  materialize(registry.mixture('both'), config, out='both')
  store = Store.open('both')
  plan = store.plan(seed=0, sequences=3, sequence_length=LENGTH)
  sequence = store.sequence(plan, 0)
  for segment, (name, entry) in enumerate(plan.sequence(0), start=1):
    (alone,) = store.examples(name, [entry])
    joined, learnt = alone.tokens.joined(store.bos_id, store.eos_id)
    within = sequence.segment_ids == segment
    assert sequence.targets[within].tolist() == joined[1:].tolist()
    assert np.array_equal(sequence.loss_mask[within] == 1, learnt[1:])


@pytest.mark.parametrize(
  ('messages', 'message'),
  [
    ('hi', r"chats.jsonl:2\): messages: got 'hi'; must be a list of turns"),
    (['hi'], r"turn 1 is 'hi'; must be an object"),
    ([{'from': 'human', 'value': 'x'}], r"turn 1, 'role': got none, but from, value"),
    (
      [turn('assistnat', 'x')],
      r"got 'assistnat'; must .* tool; did you mean 'assistant'",
    ),
    ([turn('user', None)], r"turn 1, 'content': got None; must be a text"),
  ],
)
def test_what_is_no_conversation_is_named_with_its_line(messages, message, tokenizer):
  write('chats.jsonl', [{'messages': m} for m in (*conversations(1), messages)])
  with pytest.raises(InputError, match=message):
    made(tokenizer)


def test_a_chat_template_without_conversations_has_no_effect():
  config = TrainConfig(
    model_dir='run', mixture='rte', train_steps=1, batch_tokens=64, sequence_length=64,
    chat_template='chatml',
  )  # fmt: skip
  with pytest.raises(InputError, match='has no effect: there are no conversations'):
    training_data._chat_template(config, registry.mixture('rte'))
