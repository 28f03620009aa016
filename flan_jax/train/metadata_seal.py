"""The checksum of a checkpoint's metadata; reading it needs no Orbax."""

from typing import Any

from flan_jax.runtime import checksums


class Corrupt(Exception):
  """A checkpoint is torn, or holds other bits than were saved."""


def sealed(metadata: dict[str, Any]) -> dict[str, Any]:
  """The metadata with a checksum of itself."""
  metadata = {**metadata, _SEALED: True}
  return {**metadata, _CRC32: checksums.of_json(metadata)}


def unsealed(found: Any) -> dict[str, Any]:
  """The inverse of `sealed`; metadata of older versions has no checksum.

  Raises:
    Corrupt: if it is not what was sealed.
  """
  if not isinstance(found, dict):
    raise Corrupt('its metadata is no JSON object')
  metadata = dict(found)
  own = metadata.pop(_CRC32, None)
  if (own is not None or _SEALED in metadata) and own != checksums.of_json(metadata):
    raise Corrupt('its metadata is not what was saved')
  metadata.pop(_SEALED, None)
  return metadata


_SEALED, _CRC32 = 'sealed', 'crc32'
