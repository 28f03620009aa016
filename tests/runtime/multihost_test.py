"""--multihost: its parts are checked before anything waits for other processes."""

import jax
import pytest

from flan_jax.errors import InputError
from flan_jax.runtime import multihost


@pytest.mark.parametrize(
  ('where', 'message'),
  [
    ('h:0,2,0', "got PORT 0 in 'h:0,2,0'; must be 1 to 65,535"),
    ('h:65536,2,0', 'got PORT 65536'),
    ('h:-5,2,0', 'must be ADDRESS:PORT,HOSTS,HOST'),
    (':8476,2,0', 'must be ADDRESS:PORT,HOSTS,HOST'),
    ('h,2,0', 'must be ADDRESS:PORT,HOSTS,HOST'),
    ('h:8476,0,0', 'got HOSTS 0'),
    ('h:8476,2,2', "got HOST 2 in 'h:8476,2,2'; must be 0 to 1"),
    ('h:8476,2,-1', 'must be ADDRESS:PORT,HOSTS,HOST'),
    ('', 'must be ADDRESS:PORT,HOSTS,HOST'),
    ('h:' + '1' * 5_000 + ',1,0', 'must be ADDRESS:PORT,HOSTS,HOST'),
  ],
)
def test_a_place_that_is_none_is_refused(where, message, monkeypatch):
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **_: pytest.fail(where))
  with pytest.raises(InputError, match=message):
    multihost.initialize(where)


@pytest.mark.parametrize('address', ['10.0.0.2:8476', '[::1]:8476', 'host-0.pod:1'])
def test_a_place_is_given_to_jax(address, monkeypatch):
  got = {}
  monkeypatch.setattr(jax.distributed, 'initialize', lambda **given: got.update(given))
  multihost.initialize(f'{address},4,3')
  wanted = {'coordinator_address': address, 'num_processes': 4, 'process_id': 3}
  assert got.items() >= wanted.items()
