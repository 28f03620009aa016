"""Files beside the weights: chat template, settings, card, license; and shards."""

import json
import re
import shutil

import made_report
import pytest
from safetensors.numpy import load_file
from small_models import as_tuned, by_numpy_alone, random_model
from small_tokenizers import byte_level

from flan_jax.data import tokenizers as tokenizers_lib
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import (
  chat_template,
  convert,
  gguf,
  sharded_writer,
  source_files,
)
from flan_jax.interop.huggingface.source import Folder
from flan_jax.runtime.progress import Progress

TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
CARD = """---
license: other
license_name: acme-1
language:
- en
- "de"
tags: [a, b]
---
# Acme
"""


@pytest.fixture(scope='module')
def made_chat_model(tmp_path_factory):
  """A Hugging Face folder as a chat model has it, of the older layout."""
  folder = tmp_path_factory.mktemp('chat')
  names = {'eos_token': '</s>', 'bos_token': '<s>'}
  own = tokenizers_lib.HuggingFace(byte_level().to_str().encode(), names, name='x')
  random_model(folder / 'flan', tokenizer=False, vocab_size=420)
  own.save(folder / 'flan' / 'tokenizer.json')
  out = folder / 'hf'
  with by_numpy_alone():
    convert.export_model(folder / 'flan', out, progress=Progress(quiet=True))
  config = json.loads((out / 'config.json').read_text())
  config |= {'bos_token_id': 0, 'eos_token_id': [1, 2], 'pad_token_id': None}
  (out / 'config.json').write_text(json.dumps(config))
  settings = {
    **names, 'model_max_length': 77, 'tokenizer_class': 'AcmeTokenizer',
    'auto_map': {'AutoTokenizer': 'acme.Tokenizer'},
    'chat_template': [
      {'name': 'default', 'template': TEMPLATE}, {'name': 'rag', 'template': 'x'},
      {'name': '../up', 'template': 'y'},
    ],
  }  # fmt: skip
  (out / 'tokenizer_config.json').write_text(json.dumps(settings))
  (out / 'generation_config.json').write_text('{"temperature": 0.6}')
  (out / 'README.md').write_text(CARD)
  (out / 'LICENSE.txt').write_text('Acme')
  return out


@pytest.fixture
def chat_model(made_chat_model, by_numpy):
  return made_chat_model


def test_a_model_not_tuned_here_leaves_as_it_came(chat_model, tmp_path, quiet):
  imported = convert.import_model(chat_model, tmp_path / 'here', progress=quiet)
  convert.export_model(imported.folder, tmp_path / 'hf', progress=quiet)
  for file in ('generation_config.json', 'README.md', 'LICENSE.txt', 'tokenizer.json'):
    first, second = (folder / file for folder in (chat_model, tmp_path / 'hf'))
    assert first.read_bytes() == second.read_bytes()
  assert (tmp_path / 'hf' / chat_template.FILE).read_text() == TEMPLATE
  others = tmp_path / 'hf' / source_files.TEMPLATES
  assert [path.name for path in others.iterdir()] == ['rag.jinja']
  config = json.loads((tmp_path / 'hf' / 'config.json').read_text())
  ids = [config[key] for key in source_files.TOKEN_IDS]
  assert ids == [0, [1, 2], None]
  settings = json.loads((tmp_path / 'hf' / 'tokenizer_config.json').read_text())
  assert settings['model_max_length'] == 77
  assert settings['tokenizer_class'] == 'PreTrainedTokenizerFast'
  assert not {'auto_map', 'chat_template', 'add_bos_token'} & set(settings)


def test_a_model_tuned_from_it_has_its_license_and_a_card_of_its_own(
  chat_model, tmp_path, quiet
):
  base = convert.import_model(chat_model, tmp_path / 'base', progress=quiet).folder
  run = tmp_path / 'run'
  random_model(run / 'model', tokenizer=False, vocab_size=420)
  for file in ('tokenizer.json', 'tokenizer_config.json'):
    shutil.copyfile(base / file, run / 'model' / file)
  as_tuned(run / 'model')
  (run / 'report').mkdir()
  (run / 'report' / 'report.json').write_text(json.dumps(made_report.report()))
  (run / 'run.json').write_text(json.dumps({'initial_checkpoint': str(base)}))
  convert.export_model(run, tmp_path / 'hf', progress=quiet)
  card = (tmp_path / 'hf' / 'README.md').read_text()
  assert source_files.header(tmp_path / 'hf' / 'README.md') == {
    'license': 'other', 'license_name': 'acme-1', 'languages': ['en', 'de'],
  }  # fmt: skip
  assert "model='hf'" in card
  assert '| NLI | 1,200 | rte |' in card
  assert '- steps: 40' in card
  (headline,) = re.findall('- (NLI, zero-shot.*)', card)
  assert re.search(r'base [\d.]+ → tuned [\d.]+', headline)
  assert 'Acme' not in card
  assert (
    'one prompt and one answer' in (tmp_path / 'hf' / 'chat_template.jinja').read_text()
  )
  settings = json.loads((tmp_path / 'hf' / 'generation_config.json').read_text())
  assert settings['eos_token_id'] == 1
  assert settings['do_sample'] is False
  assert not (tmp_path / 'hf' / 'LICENSE.txt').exists()


def test_a_kept_file_must_be_inside_the_folder(hf_model, tmp_path, quiet):
  (tmp_path / 'secret').write_text('secret')
  (hf_model / 'LICENSE').symlink_to(tmp_path / 'secret')
  with pytest.raises(InputError, match="'LICENSE' leads out of the folder"):
    convert.import_model(hf_model, tmp_path / 'here', progress=quiet)
  assert not (tmp_path / 'here').exists()


def test_weights_leave_in_shards_and_come_back(flan_model, tmp_path, quiet, by_numpy):
  convert.export_model(flan_model, tmp_path / 'hf', progress=quiet, shard_bytes=20_000)
  files = sorted(path.name for path in (tmp_path / 'hf').glob('*.safetensors'))
  assert len(files) > 2
  assert files[0] == f'model-00001-of-{len(files):05d}.safetensors'
  index = json.loads((tmp_path / 'hf' / sharded_writer.INDEX).read_text())
  for file in files:
    held = load_file(tmp_path / 'hf' / file)
    assert {index['weight_map'][name] for name in held} == {file}
    assert len(held) == 1 or sum(x.nbytes for x in held.values()) <= 20_000
  size = sum(x.nbytes for x in load_file(flan_model / 'model.safetensors').values())
  assert index['metadata']['total_size'] == size
  assert set(Folder(tmp_path / 'hf').tensors) == set(index['weight_map'])
  convert.import_model(tmp_path / 'hf', tmp_path / 'again', progress=quiet)
  first, second = (f / 'model.safetensors' for f in (flan_model, tmp_path / 'again'))
  assert first.read_bytes() == second.read_bytes()


def test_a_gguf_files_template_and_license_are_kept(tmp_path):
  file = object.__new__(gguf.File)
  file._fields = {
    'tokenizer.chat_template': TEMPLATE, 'general.license': 'mit',
    'general.languages': ['en'],
  }  # fmt: skip
  file.config = {'bos_token_id': 1}
  source_files.keep(file, tmp_path / 'x.gguf', tmp_path)
  assert (tmp_path / chat_template.FILE).read_text() == TEMPLATE
  assert source_files.described(file, tmp_path / 'x.gguf') == {
    'token_ids': {'bos_token_id': 1, 'eos_token_id': None, 'pad_token_id': None},
    'license': 'mit', 'languages': ['en'],
  }  # fmt: skip
