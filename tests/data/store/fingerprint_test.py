"""Fingerprints: the same declaration is the same data, in any process."""

import dataclasses
import subprocess
import sys

from flan_jax.catalog import fields, registry
from flan_jax.data.store import fingerprint

CODE = """
from flan_jax import tasks
from flan_jax.data.store import fingerprint
print(fingerprint.digest([fingerprint.declaration(d, d.sizes) for d in tasks.DATASETS]))
"""


def test_declarations_are_the_same_data_in_every_process():
  """No address and no hash of a string gets into the digest of a recipe."""
  digests = {
    subprocess.run(
      [sys.executable, '-c', CODE],
      env={'PYTHONHASHSEED': seed, 'PYTHONPATH': ':'.join(sys.path)},
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    for seed in ('1', '2')
  }
  assert len(digests) == 1


def test_a_change_of_cleaning_is_a_change_of_recipe(tiny_datasets):
  """Functions count by name and by what they close over."""
  dataset = registry.get('stories')
  cleanings = [
    (),
    (fields.squeeze,),
    (fields.drop(r'<.*>'),),
    (fields.drop(r'#'),),
    (fields.replace('a', 'b'),),
    (fields.replace('a', 'c'),),
    (fields.altered(fields.replace('a', 'b')),),
    (fields.altered(fields.replace('a', 'c')),),
  ]
  digests = set()
  for cleaning in cleanings:
    changed = {**dataset.fields, 'story': fields.Field('story', *cleaning)}
    made = dataclasses.replace(dataset, fields=changed)
    digests.add(fingerprint.digest(fingerprint.declaration(made, dataset.sizes)))
  assert len(digests) == len(cleanings)
