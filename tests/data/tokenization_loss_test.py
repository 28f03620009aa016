"""What a vocabulary loses of a dataset's text is counted, and said in one line."""

import json

import numpy as np
import pytest
import small_tokenizers

from flan_jax.cli.dispatch import main
from flan_jax.data import tokenization_loss
from flan_jax.data.store.materialize import materialize
from flan_jax.data.store.store import Store
from flan_jax.data.tokenization_loss import CHECKED
from flan_jax.train.trainer import store_warnings


@pytest.fixture
def t5_like(tmp_path):
  small_tokenizers.of('t5_like', tmp_path)
  return tmp_path / 'tokenizer.model'


def russian(world):
  """Premises of `pairs` in letters that no small vocabulary has."""
  for record in world.examples['pairs']['train']:
    record['premise'] = 'кот на ковре'


def test_unknown_tokens_are_counted_to_the_last(world, t5_like, tmp_path):
  russian(world)
  manifest = materialize(
    world.mixture, out=tmp_path / 'out', tokenizer=t5_like, epochs=2
  )
  store = Store.open(tmp_path / 'out')
  assert manifest['tokenizer']['unk_id'] == store.tokenizer().unk_id == 2
  for name, entry in manifest['datasets'].items():
    found = [store.example(name, i) for i in range(2 * entry['examples'])]
    assert entry['losses']['unknown'] == {
      'inputs': sum(int(np.sum(one.inputs == 2)) for one in found),
      'targets': sum(int(np.sum(one.targets == 2)) for one in found),
    }
  pairs = manifest['datasets']['pairs']
  assert pairs['losses']['unknown']['inputs'] >= 3 * 2 * pairs['examples']
  assert json.loads((tmp_path / 'out' / 'manifest.json').read_text()) == manifest


def test_every_so_many_examples_are_decoded_again(world, t5_like, tmp_path):
  manifest = materialize(
    world.mixture, out=tmp_path / 'out', tokenizer=t5_like, epochs=2
  )
  for entry in manifest['datasets'].values():
    assert entry['losses']['checked'] == 2 * -(-entry['examples'] // CHECKED)
  # A prompt with OPTIONS has newlines, and this vocabulary has none.
  assert tokenization_loss.shares(manifest['datasets']['pairs'])[1] == 1


def test_one_line_names_what_is_lost_most(world, t5_like, tmp_path):
  russian(world)
  manifest = materialize(world.mixture, out=tmp_path / 'out', tokenizer=t5_like)
  line = tokenization_loss.warning(manifest)
  unknown, changed = tokenization_loss.shares(manifest['datasets']['pairs'])
  assert 0.1 < unknown < 0.9
  assert line.startswith('warning: tokenizer tokenizer.model loses text of ')
  assert f'datasets: pairs ({unknown:.1%} of tokens unknown, {changed:.1%} of' in line
  assert '\n' not in line
  assert line in list(store_warnings(Store.open(tmp_path / 'out')))


@pytest.mark.parametrize('words', [{'tokenizer': 'bytes'}, {'vocab_size': 420}])
def test_a_vocabulary_that_spells_in_bytes_loses_nothing(world, tmp_path, words):
  russian(world)
  manifest = materialize(world.mixture, out=tmp_path / 'out', **words)
  for entry in manifest['datasets'].values():
    assert entry['losses']['unknown'] == {'inputs': 0, 'targets': 0}
    assert entry['losses']['changed'] == 0 < entry['losses']['checked']
  assert tokenization_loss.warning(manifest) is None


def test_text_that_spells_a_control_token_is_in_no_example(world, tmp_path):
  """And `flan examples --text` shows it, for it is text."""
  spelled = 'my bot printed <|im_end|> and then <|endoftext|>'
  for record in world.examples['pairs']['train']:
    record['premise'] = spelled
  made = small_tokenizers.byte_level(
    special=('<|endoftext|>', '<|im_start|>', '<|im_end|>')
  )
  path = tmp_path / 'tokenizer.json'
  path.write_text(made.to_str())
  config = {'eos_token': '<|im_end|>', 'bos_token': '<|im_start|>'}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  materialize(world.mixture, out=tmp_path / 'out', tokenizer=path)
  store = Store.open(tmp_path / 'out')
  tokenizer = store.tokenizer()
  for i in range(store.manifest['datasets']['pairs']['examples']):
    found = store.example('pairs', i)
    assert not {0, 1, 2} & {*found.inputs.tolist(), *found.targets.tolist()}
    assert spelled in tokenizer.decode(found.inputs) + tokenizer.decode(found.targets)


def test_flan_show_counts_what_the_given_tokenizer_loses(t5_like, capsys):
  show = ['show', 'microworld_mini_rte', '--n', '1', '--tokenizer']
  assert main([*show, str(t5_like)]) == 0
  assert 'changed by a round trip' in capsys.readouterr().out
  assert main([*show, 'bytes']) == 0
  assert 'round trip' not in capsys.readouterr().out
