"""A prompt and its answer in a chat are the tokens of the whole conversation."""

import json

import numpy as np
import pytest
import small_tokenizers
from chat_templates import MARKED, MARKS

from flan_jax.data import tokenizers
from flan_jax.data.chat import ChatTemplate
from flan_jax.inference.chat_prompts import ChatPrompts
from flan_jax.inference.rank_options import Request, Scorer

INST = """\
{{- bos_token }}
{%- for message in messages %}
  {%- if message['role'] == 'user' %}
    {{- '[INST] ' + message['content'] + ' [/INST]' }}
  {%- else %}
    {{- ' ' + message['content'] + '<|im_end|>' + eos_token }}
  {%- endif %}
{%- endfor %}"""
"""Another kind: answers follow a blank, and the end mark is not EOS."""


@pytest.fixture(scope='module')
def plain():
  """The tokenizer of the file, which turns any spelling of a control token into it."""
  return small_tokenizers.byte_level(special=MARKS)


@pytest.fixture(scope='module')
def chat(plain, tmp_path_factory):
  path = tmp_path_factory.mktemp('chat') / 'tokenizer.json'
  return made(MARKED, plain, path, eos='<|im_end|>')


@pytest.fixture(scope='module')
def inst(plain, tmp_path_factory):
  path = tmp_path_factory.mktemp('inst') / 'tokenizer.json'
  return made(INST, plain, path, eos='<|pad|>', bos='<|im_start|>')


def made(template, plain, path, **roles) -> ChatPrompts:
  path.write_text(plain.to_str())
  names = {f'{role}_token': token for role, token in roles.items()}
  path.with_name('tokenizer_config.json').write_text(
    json.dumps(names | {'pad_token': '<|pad|>', 'add_bos_token': False})
  )
  return ChatPrompts(ChatTemplate(template, tokenizers.load(path)))


def turn(role: str, content: str) -> dict[str, str]:
  return {'role': role, 'content': content}


@pytest.mark.parametrize('kind', ['chat', 'inst'])
def test_a_prompt_and_its_answers_are_whole_conversations(kind, plain, request):
  """As `transformers` renders and tokenizes them, up to the end mark."""
  transformers = pytest.importorskip('transformers')
  found = request.getfixturevalue(kind)
  roles = found.template.tokenizer.roles
  theirs = transformers.PreTrainedTokenizerFast(
    tokenizer_object=plain,
    chat_template=MARKED if kind == 'chat' else INST,
    **{f'{role}_token': token for role, token in roles.items()},
  )
  prompt, options = 'is the cat on the mat?\n\n- yes', ('yes', 'no 10 dogs', '12', 'y')
  (joined,) = found.join([(prompt, options)])
  assert joined.prompt.tolist() == found.prompt(prompt).tolist()
  end = plain.token_to_id('<|im_end|>')
  assert found.end_id == end
  for option, ids in zip(options, joined.options, strict=True):
    turns = [turn('user', prompt), turn('assistant', option)]
    whole = theirs.apply_chat_template(turns, return_dict=False)
    ours = [*joined.prompt.tolist(), *ids.tolist()]
    assert whole[: len(ours)] == ours
    assert ours[-1] == end
    assert end not in whole[len(ours) :] + ids.tolist()[:-1]


def test_scores_are_those_of_the_whole_conversation(inst, tiny_model):
  tokenizer = inst.template.tokenizer
  model = tiny_model(vocab_size=tokenizer.vocab_size)
  scorer = Scorer(
    params=model.params, config=model.config, tokenizer=tokenizer, chat=inst,
    batch_size=4, sequence_length=64,
  )  # fmt: skip
  asked = [('does it rain?', ('yes', 'no, 12 dogs')), ('a cat?', ('no', 'on the mat'))]
  joined = inst.join(asked)
  found = scorer.loglikelihood([Request(*each) for each in joined]).log_probabilities
  for one, scores in zip(joined, found, strict=True):
    for option, score in zip(one.options, scores, strict=True):
      whole = np.concatenate([one.prompt, option])
      logits = model.logits(whole, prefix=0, width=64)
      logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
      at = np.arange(len(one.prompt), len(whole))
      assert score == pytest.approx(logp[at - 1, whole[at]].sum(), abs=1e-4)


def test_generation_stops_at_the_end_mark(inst, tiny_model, monkeypatch):
  """Also in a stream; the mark here is the third token that the model writes."""
  model = tiny_model(vocab_size=inst.template.tokenizer.vocab_size)
  scorer = Scorer(
    params=model.params,
    config=model.config,
    tokenizer=inst.template.tokenizer,
    chat=inst,
  )
  prompt = inst.prompt('is the cat on the mat?')
  free = scorer.generate([prompt], max_tokens=6).tokens[0]
  assert len(free) == 6
  assert free[2] not in free[:2]
  monkeypatch.setitem(inst.__dict__, 'end_id', free[2])
  found = scorer.generate([prompt], max_tokens=6)
  assert found.tokens == [free[:2]]
  assert ''.join(scorer.stream(prompt, max_tokens=6)) == found.texts[0]
