"""TensorBoard's event files: scalars by step, written here.

The writers on the registry bring TensorFlow or torch with them, seconds of start-up
for a few numbers every ten steps. An event is a protocol buffer (tensorflow.Event) in a
record with CRC-32C checksums; only the fields of scalars are written.
"""

import os
import pathlib
import socket
import struct
import time

_START = 1  # SessionLog.START: what an earlier start wrote from this step on is void


class Writer:
  """Appends to a new event file."""

  def __init__(self, folder: pathlib.Path, *, purge_step: int):
    """Opens it.

    Args:
      folder: of the run; made if absent.
      purge_step: steps from here on that earlier files hold are not shown any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f'events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}'
    self._file = (folder / name).open('wb')
    self._write(_text(3, 'brain.Event:2'))
    self._write(_int(2, purge_step) + _message(7, _int(1, _START)))

  def scalars(self, values: dict[str, float], *, step: int) -> None:
    """Writes `values` of one step; they are on the disk when it returns."""
    summary = b''.join(
      _message(1, _text(1, name) + struct.pack('<Bf', 2 << 3 | 5, value))
      for name, value in values.items()
    )
    self._write(_int(2, step) + _message(5, summary))

  def close(self) -> None:
    self._file.close()

  def _write(self, event: bytes) -> None:
    event = struct.pack('<Bd', 1 << 3 | 1, time.time()) + event
    length = struct.pack('<Q', len(event))
    parts = length, _checksum(length), event, _checksum(event)
    self._file.write(b''.join(parts))
    self._file.flush()


def _varint(value: int) -> bytes:
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*out, value])


def _int(field: int, value: int) -> bytes:
  return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
  return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
  return _message(field, text.encode())


def _entry(byte: int) -> int:
  for _ in range(8):
    byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
  return byte


_TABLE = [_entry(byte) for byte in range(256)]


def _checksum(data: bytes) -> bytes:
  """CRC-32C of `data`, masked as TFRecords have it."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
  crc ^= 0xFFFFFFFF
  masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
  return struct.pack('<I', masked)
