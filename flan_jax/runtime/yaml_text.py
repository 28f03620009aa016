"""Writes YAML by PyYAML, which alone quotes: no value can end its own line or key."""

from collections.abc import Mapping
from typing import Any


def dump(content: Mapping[str, Any]) -> str:
  """Returns the YAML of plain values, in their order.

  Text of several lines is a block wherever YAML can hold it so.
  """
  import yaml  # the command line imports no more than it needs

  class Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block, and no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
      return True

  def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = '|' if '\n' in value else None
    return dumper.represent_scalar('tag:yaml.org,2002:str', value, style=style)

  Dumper.add_representer(str, text)
  return yaml.dump(
    dict(content), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=2**31
  )
