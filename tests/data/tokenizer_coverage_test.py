"""Tokenizer coverage: lost text is counted and reported in one line."""

import json

import numpy as np
import pytest
import small_tokenizers

from flan_jax.cli.dispatch import main
from flan_jax.data import tokenizer_coverage
from flan_jax.data.store.materialize import StoreConfig, materialize
from flan_jax.data.store.store import Store
from flan_jax.data.tokenizer_coverage import CHECKED
from flan_jax.jobs.training_data import store_warnings


@pytest.fixture
def t5_like(tmp_path):
  small_tokenizers.of('t5_like', tmp_path)
  return tmp_path / 'tokenizer.model'


def russian(tiny_datasets):
  """Changes the premises of `pairs` to letters outside every small vocabulary."""
  for record in tiny_datasets.examples['pairs']['train']:
    record['premise'] = 'кот на ковре'


def test_every_unknown_token_is_counted(tiny_datasets, t5_like, tmp_path):
  russian(tiny_datasets)
  manifest = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer=t5_like, epochs=2),
    out=tmp_path / 'out',
  )
  store = Store.open(tmp_path / 'out')
  assert manifest['tokenizer']['unk_id'] == store.tokenizer().unk_id == 2
  for name, entry in manifest['datasets'].items():
    found = [store.example(name, i).tokens for i in range(2 * entry['examples'])]
    assert entry['losses']['unknown'] == {
      'inputs': sum(int(np.sum(one.inputs == 2)) for one in found),
      'targets': sum(int(np.sum(one.targets == 2)) for one in found),
    }
  pairs = manifest['datasets']['pairs']
  assert pairs['losses']['unknown']['inputs'] >= 3 * 2 * pairs['examples']
  assert json.loads((tmp_path / 'out' / 'manifest.json').read_text()) == manifest


def test_one_example_in_eight_is_decoded(tiny_datasets, t5_like, tmp_path):
  manifest = materialize(
    tiny_datasets.mixture,
    StoreConfig(tokenizer=t5_like, epochs=2),
    out=tmp_path / 'out',
  )
  for entry in manifest['datasets'].values():
    assert entry['losses']['checked'] == 2 * -(-entry['examples'] // CHECKED)
  # A prompt with OPTIONS has newlines, and this vocabulary has none.
  assert tokenizer_coverage.shares(manifest['datasets']['pairs'])[1] == 1


def test_one_line_names_the_datasets_that_lose_most(tiny_datasets, t5_like, tmp_path):
  russian(tiny_datasets)
  manifest = materialize(
    tiny_datasets.mixture, StoreConfig(tokenizer=t5_like), out=tmp_path / 'out'
  )
  line = tokenizer_coverage.warning(manifest)
  unknown, changed = tokenizer_coverage.shares(manifest['datasets']['pairs'])
  assert 0.1 < unknown < 0.9
  assert line.startswith('warning: tokenizer tokenizer.model loses text of ')
  assert f'datasets: pairs ({unknown:.1%} of tokens unknown, {changed:.1%} of' in line
  assert '\n' not in line
  assert line in list(store_warnings(Store.open(tmp_path / 'out')))


@pytest.mark.parametrize('settings', [{'tokenizer': 'bytes'}, {'vocab_size': 420}])
def test_a_vocabulary_that_spells_in_bytes_loses_nothing(
  tiny_datasets, tmp_path, settings
):
  russian(tiny_datasets)
  manifest = materialize(
    tiny_datasets.mixture, StoreConfig(**settings), out=tmp_path / 'out'
  )
  for entry in manifest['datasets'].values():
    assert entry['losses']['unknown'] == {'inputs': 0, 'targets': 0}
    assert entry['losses']['changed'] == 0 < entry['losses']['checked']
  assert tokenizer_coverage.warning(manifest) is None


def test_text_that_spells_a_control_token_is_in_no_example(tiny_datasets, tmp_path):
  """`flan rows --text` shows it, since it is text."""
  spelled = 'my bot printed <|im_end|> and then <|endoftext|>'
  for record in tiny_datasets.examples['pairs']['train']:
    record['premise'] = spelled
  made = small_tokenizers.byte_level(
    special=('<|endoftext|>', '<|im_start|>', '<|im_end|>')
  )
  path = tmp_path / 'tokenizer.json'
  path.write_text(made.to_str())
  config = {'eos_token': '<|im_end|>', 'bos_token': '<|im_start|>'}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  materialize(tiny_datasets.mixture, StoreConfig(tokenizer=path), out=tmp_path / 'out')
  store = Store.open(tmp_path / 'out')
  tokenizer = store.tokenizer()
  for i in range(store.manifest['datasets']['pairs']['examples']):
    found = store.example('pairs', i).tokens
    assert not {0, 1, 2} & {*found.inputs.tolist(), *found.targets.tolist()}
    assert spelled in tokenizer.decode(found.inputs) + tokenizer.decode(found.targets)


def test_flan_show_counts_what_the_given_tokenizer_loses(t5_like, capsys):
  show = ['show', 'microworld_mini_rte', '--n', '1', '--tokenizer']
  assert main([*show, str(t5_like)]) == 0
  assert 'changed by a round trip' in capsys.readouterr().out
  assert main([*show, 'bytes']) == 0
  assert 'round trip' not in capsys.readouterr().out


@pytest.mark.parametrize(
  ('kind', 'lossless'),
  [
    ('bytes', True), ('own', True), ('byte_level', True), ('dummy_prefix', True),
    ('prepending', False), ('t5_like', False),
  ],
)  # fmt: skip
def test_a_tokenizer_is_lossless_if_it_gives_every_text_back(kinds, kind, lossless):
  assert tokenizer_coverage.is_lossless(kinds[kind]) == lossless
