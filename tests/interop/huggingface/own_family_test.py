"""A model family that an outside package registers: docs/howto/model_family.md."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import small_models as models

from flan_jax.checkpoints import model_dir
from flan_jax.cli import dispatch
from flan_jax.errors import InputError
from flan_jax.interop.huggingface import (
  config_rules,
  conversion_cache,
  convert,
  families,
  llama,
  logit_check,
)
from flan_jax.interop.huggingface.family import ModelFamily

PAGE = (
  pathlib.Path(__file__).parents[3] / 'docs' / 'howto' / 'model_family.md'
).read_text()
(CODE,) = re.findall(r'```python\n(# acme.*?)```', PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current folder, with the page's package and a model of ours; then forgotten."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  monkeypatch.setenv('PYTHONPATH', '')
  monkeypatch.setenv('FLAN_JAX_MODULES', '')
  package(tmp_path / 'acme', CODE)
  models.random_model(
    tmp_path / 'flan', tokenizer=False, attention_bias='qkv', tied_embedding=False
  )
  before = set(sys.modules)
  with families.restored():
    yield tmp_path
  for name in set(sys.modules) - before:
    if name.startswith('acme'):
      del sys.modules[name]


def package(folder, code):
  folder.mkdir()
  (folder / 'models.py').write_text(code)


def flan(capsys, *arguments):
  """(exit code, last line of standard error) of `flan`."""
  code = dispatch.main(list(arguments))
  return code, capsys.readouterr().err.splitlines()[-1]


def test_it_is_exported_imported_and_measured(folder, quiet, by_numpy, capsys):
  export = ('convert', 'flan', 'hf', '--to', 'hf', '--family', 'seed_oss')
  code, error = flan(capsys, *export)
  assert code == 2
  assert "--family: got 'seed_oss'; must be one of llama, " in error

  assert flan(capsys, *export, '--module', 'acme.models')[0] == 0
  config = json.loads((folder / 'hf' / 'config.json').read_text())
  assert config['architectures'] == ['SeedOssForCausalLM']
  cached = conversion_cache.import_cached('hf', cache=folder / 'c', progress=quiet)
  for file in ('model.safetensors', 'config.json'):
    assert (cached / file).read_bytes() == (folder / 'flan' / file).read_bytes()
  assert [t.model for t in model_dir.lineage(cached).trainings] == ['flan']


def test_without_its_module_the_error_says_how_it_comes(folder, by_numpy, capsys):
  package(folder / 'acme_2', CODE.replace('seed_oss', 'seed_too'))
  with families.restored():
    code, _ = flan(
      capsys, 'convert', 'flan', 'hf', '--to', 'hf', '--family', 'seed_too',
      '--module', 'acme_2.models',
    )  # fmt: skip
  assert code == 0
  code, error = flan(capsys, 'convert', 'hf', 'again')
  assert code == 2
  assert error.startswith(
    "flan: error: config.json: model_type: got 'seed_too'; must be one of llama, "
  )
  assert 'or of a family that --module PACKAGE.MODULE registers' in error


def test_the_check_asks_numpy_where_transformers_lacks_the_family(
  folder, quiet, monkeypatch
):
  lacking = types.SimpleNamespace(CONFIG_MAPPING={})
  monkeypatch.setitem(sys.modules, 'transformers', lacking)
  monkeypatch.setattr(logit_check, '_installed', lambda name: True)
  done = convert.export_model('flan', 'hf', progress=quiet)
  assert (done.family, done.agreement.method) == ('qwen2', 'numpy')


@pytest.mark.slow
@pytest.mark.torch
def test_the_check_asks_transformers_only_for_what_it_knows(folder, capsys):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  package(folder / 'acme_2', CODE.replace('seed_oss', 'seed_too'))
  for name, module, method in (
    ('seed_oss', 'acme.models', 'transformers '),
    ('seed_too', 'acme_2.models', 'numpy'),
  ):
    code, _ = flan(
      capsys, 'convert', 'flan', name, '--to', 'hf', '--family', name,
      '--module', module,
    )  # fmt: skip
    assert code == 0
    written = json.loads((folder / name / 'conversion.json').read_text())
    assert written['check']['method'].startswith(method)


@pytest.mark.slow
def test_a_folder_of_the_family_is_evaluated_by_a_fresh_process(
  folder, by_numpy, capsys
):
  models.random_model(folder / 'text', attention_bias='qkv', tied_embedding=False)
  options = ('--family', 'seed_oss', '--module', 'acme.models')
  assert flan(capsys, 'convert', 'text', 'hf', '--to', 'hf', *options)[0] == 0
  done = subprocess.run(
    [sys.executable, '-m', 'flan_jax', 'eval', '--module', 'acme.models',
     '--gin.CHECKPOINT=hf', '--gin.DATASETS=mini_copa', '--gin.OUTPUT_DIR=out',
     '--gin.Evaluate.max_examples=4', '--gin.Evaluate.templates=1'],
    cwd=folder, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  report = json.loads((folder / 'out' / 'report.json').read_text())
  model = report['provenance']['models']['tuned']
  assert model['converted']['family'] == 'seed_oss'


def made(**fields):
  return ModelFamily(
    **{'model_type': 'mine', 'architecture': 'MineForCausalLM', 'rules': (),
       'tensors': llama.TENSORS, **fields}
  )  # fmt: skip


def test_a_name_is_taken_once():
  with families.restored():
    families.register_model_family(made(), made())
    with pytest.raises(InputError, match=r"'mine': registered twice, at .*py:\d+ and"):
      families.register_model_family(made(prefix=''))
    families.register_model_family(made(prefix=''), replace=True)
    assert families.get('mine').prefix == ''
    with pytest.raises(InputError, match='must be a ModelFamily'):
      families.register_model_family('mine')
  assert 'mine' not in families.registered()


@pytest.mark.parametrize(
  ('typed', 'message'),
  [
    ({}, "'mine': its rules set no vocab_size; must set fields of DecoderConfig"),
    (
      {'vocab_size': 3, 'positons': 'rotary'},
      "'mine': its rules set 'positons'; .*did you mean 'positions'",
    ),
  ],
)
def test_rules_that_make_no_config_are_named(typed, message):
  sizes = {'num_layers': 1, 'd_model': 4, 'd_ff': 4, 'num_heads': 1, 'num_kv_heads': 1,
           'head_dim': 4}  # fmt: skip
  with pytest.raises(InputError, match=message):
    made(rules=(config_rules.always(**sizes, **typed),)).read({})


@pytest.mark.parametrize(
  ('reference', 'message'),
  [
    (None, "'mine': has no numpy reference to check the logits with; must have one"),
    (
      lambda files, sequences, kept: [np.zeros((2, 7))],
      r'shapes \[\(2, 7\)\]; must be \[\(48, 300\)\]',
    ),
  ],
)
def test_a_reference_that_is_none_or_of_another_shape_writes_nothing(
  reference, message, folder, quiet, by_numpy
):
  families.register_model_family(
    families.get('llama')._replace(model_type='mine', reference=reference)
  )
  models.random_model(folder / 'plain', tokenizer=False)
  with pytest.raises(InputError, match=message):
    convert.export_model('plain', 'out', progress=quiet, model_type='mine')
  assert not (folder / 'out').exists()


@pytest.mark.parametrize(
  ('family', 'message'),
  [
    ('lama', "--family: got 'lama'; must be one of .*did you mean 'llama'"),
    ('llama', "--family 'llama': has no attention_bias='qkv'; leave it out"),
  ],
)
def test_a_family_that_does_not_fit_is_refused(family, message):
  config = dataclasses.replace(models.TINY, attention_bias='qkv')
  with pytest.raises(InputError, match=message):
    families.matching_family(config, model_type=family)
