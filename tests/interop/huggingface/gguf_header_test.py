"""A GGUF header is believed only up to the file's own length."""

import struct
import time

import pytest

from flan_jax.errors import InputError

pytest.importorskip('gguf')
from flan_jax.interop.huggingface import gguf_header

U8, U32, BOOL, STRING, ARRAY, U64 = 0, 4, 7, 8, 9, 10
F32, Q4_0 = 0, 2


def text(value: bytes) -> bytes:
  return struct.pack('<Q', len(value)) + value


def header(*fields: bytes, tensors=(), num_fields=None, num_tensors=None) -> bytes:
  counts = [len(tensors), len(fields)]
  for at, count in enumerate((num_tensors, num_fields)):
    counts[at] = counts[at] if count is None else count
  return b'GGUF' + struct.pack('<IQQ', 3, *counts) + b''.join((*fields, *tensors))


def array(kind: int, count: int, data: bytes = b'') -> bytes:
  return text(b'a') + struct.pack('<IIQ', ARRAY, kind, count) + data


def tensor(name: bytes, shape, *, kind: int = F32, offset: int = 0) -> bytes:
  info = struct.pack(f'<I{len(shape)}QIQ', len(shape), *shape, kind, offset)
  return text(name) + info


BOMBS = {
  'array': header(array(U8, 2**40)),
  'largest array': header(array(U8, 2**63)),
  'flags': header(array(BOOL, 2**40)),
  'strings': header(array(STRING, 2**40)),
  'behind zeros': header(array(U64, 2**40)) + bytes(20 << 20),
  'many zeros': header(array(U8, 20 << 20, bytes(20 << 20))),
  'nested': header(array(ARRAY, 1, struct.pack('<IQ', ARRAY, 1) * 10_000)),
  'string': header(text(b'a') + struct.pack('<IQ', STRING, 2**62)),
  'name': header(struct.pack('<Q', 2**62) + b'a' * 20),
  'fields': header(num_fields=2**60),
  'tensors': header(num_tensors=2**60),
  'axes': header(tensors=[text(b't') + struct.pack('<I', 2**31) + bytes(64)]),
  'no axes': header(tensors=[tensor(b't', ()) + bytes(64)]),
  'no values': header(tensors=[tensor(b't', (2**60, 0))]) + bytes(64),
  'values': header(tensors=[tensor(b't', (2**62, 2**62))]) + bytes(64),
  'offset': header(tensors=[tensor(b't', (4,), offset=2**63)]) + bytes(64),
  'blocks': header(tensors=[tensor(b't', (33,), kind=Q4_0)]) + bytes(99),
  'storage type': header(tensors=[tensor(b't', (4,), kind=77)]) + bytes(99),
  'overlap': header(tensors=[tensor(b'a', (8,)), tensor(b'b', (8,))]) + bytes(99),
  'one name': header(tensors=[tensor(b'a', (4,)), tensor(b'a', (4,))]) + bytes(99),
  'alignment': header(
    text(b'general.alignment') + struct.pack('<II', U32, 0),
    tensors=[tensor(b'a', (1,))],
  )
  + bytes(64),
  'twice': header(array(U8, 0), array(U8, 0)),
  'type': header(text(b'a') + struct.pack('<I', 99)),
  'not text': header(text(b'\xff') + struct.pack('<IB', U8, 0)),
  'version': b'GGUF' + struct.pack('>IQQ', 3, 0, 0),
  'empty': b'',
}


@pytest.mark.parametrize('bomb', BOMBS)
def test_what_a_file_announces_is_bounded_by_its_length(bomb, tmp_path):
  path = tmp_path / 'x.gguf'
  path.write_bytes(BOMBS[bomb])
  start = time.process_time()
  with pytest.raises(InputError, match='not a GGUF file, or a truncated one') as error:
    gguf_header.read(path)
  assert time.process_time() - start < 2
  assert '\n' not in str(error.value)
  assert len(str(error.value)) < len(str(path)) + 300


def test_a_header_is_read(tmp_path):
  """As the package that writes such files reads it, but for what no model has."""
  import gguf
  import numpy as np

  path = tmp_path / 'x.gguf'
  writer = gguf.GGUFWriter(path, 'llama')
  writer.add_array('words', ['a', 'b\u2581'])
  writer.add_array('numbers', [1.5, -2.0])
  writer.add_bool('flag', True)
  weights = {name: np.arange(n, dtype=np.float32).reshape(2, -1) for name, n in
             {'a': 6, 'b': 128}.items()}  # fmt: skip
  writer.add_tensor('a', weights['a'])
  kind = gguf.GGMLQuantizationType.Q8_0
  writer.add_tensor('b', gguf.quants.quantize(weights['b'], kind), raw_dtype=kind)
  for write in ('header', 'kv_data', 'tensors'):
    getattr(writer, f'write_{write}_to_file')()
  writer.close()
  fields, tensors = gguf_header.read(path)
  reader = gguf.GGUFReader(path)
  theirs = {
    n: f.contents() for n, f in reader.fields.items() if '.' in n or n.islower()
  }
  assert fields == {name: theirs[name] for name in fields}
  assert fields['words'] == ['a', 'b\u2581']
  assert {t.name for t in reader.tensors} == set(tensors)
  for one in reader.tensors:
    assert tensors[one.name].shape == tuple(reversed(one.shape.tolist()))
    assert np.array_equal(tensors[one.name].data, one.data)
