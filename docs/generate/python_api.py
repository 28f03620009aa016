"""Directives of mkdocstrings for the public names of flan_jax, by folder."""

import flan_jax

GROUPS = {
  'catalog': 'Declarations',
  'data': 'Sources',
  'jobs': 'Jobs',
  'evaluate': 'Metrics',
  'config': 'Configuration',
  'train': 'Training',
  'interop': 'Model families',
}
"""First folder of a public name's module -> heading; every folder has one."""


def render() -> str:
  lines = []
  for folder, heading in GROUPS.items():
    lines += [f'## {heading}', '']
    for name, module in sorted(flan_jax._PUBLIC.items()):
      if module.split('.')[0] == folder:
        lines += [f'::: flan_jax.{module}.{name}', '']
  return '\n'.join(lines)
