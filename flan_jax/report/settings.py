"""Settings that differ between two reports."""

from collections.abc import Mapping
from typing import Any


def differing(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[list[str]]:
  """Returns the settings that differ: [name, old, new]; [] if one has no provenance.

  What only a run has, or only an evaluation, is no difference.
  """
  if not all(report.get('provenance') for report in (new, old)):
    return []
  both = [
    flat(report['provenance']) | {'evaluation seed': str(report['seed'])}
    for report in (new, old)
  ]
  selectors = [{name.partition('.')[0] for name in found} for found in both]
  names = dict.fromkeys([*both[1], *both[0]])
  return [
    [name, both[1].get(name, ''), both[0].get(name, '')]
    for name in names
    if both[0].get(name) != both[1].get(name)
    and ('.' not in name or all(name.partition('.')[0] in of for of in selectors))
  ]


_NO_DIFFERENCE = ('.output_dir', '.model_dir', '.eval_seed', 'Evaluation.seed')
"""Settings that make no other figures, or that a report names itself."""


def flat(found: Mapping[str, Any]) -> dict[str, str]:
  """Returns settings, versions and weights by name, but for output folders."""
  out = {}
  for line in found.get('config', '').splitlines():
    name, _, value = line.rpartition('  # ')[0].partition(' = ')
    if not name.endswith(_NO_DIFFERENCE):
      out[name] = value
  for name, version in found.get('versions', {}).items():
    out[f'version of {name}'] = version
  for name, model in found.get('models', {}).items():
    which = 'the base' if name == 'base' else 'the model'
    out[f'weights of {which}'] = model['fingerprint']
    out[f'tokenizer of {which}'] = model['tokenizer']['digest'][:12]
  return out
