"""The examples in tests/examples are records that the TFDS builders could have made."""

import json
import pathlib

import pytest

from flan_jax.catalog import registry

fetch = pytest.importorskip(
  'flan_jax.data.fetch', reason='needs tensorflow-datasets', exc_type=ImportError
)
tfds = pytest.importorskip('tensorflow_datasets')

EXAMPLES = pathlib.Path(__file__).parents[1] / 'examples'
NAMES = list(dict.fromkeys(d.tfds for d in registry.datasets('flan').values()))


@pytest.mark.parametrize('name', NAMES)
def test_two_examples_fit_the_features_of_their_builder(name):
  (path,) = fetch.split_files(name, EXAMPLES).values()
  features = tfds.builder(name).info.features
  records = [json.loads(line) for line in path.open(encoding='utf-8')]
  assert len(records) == 2
  for number, record in enumerate(records, 1):
    fetch.check(features, record, f'{path}:{number}')


def test_every_file_belongs_to_a_declared_dataset():
  used = {p for name in NAMES for p in fetch.split_files(name, EXAMPLES).values()}
  assert set(EXAMPLES.rglob('*.jsonl')) == used
