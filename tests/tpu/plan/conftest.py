"""Fixture of the tests that load libtpu: it refuses XLA flags of CPUs."""

import os

import pytest
from compile_flags import without_those_of_cpus


@pytest.fixture(autouse=True)
def flags_of_any_backend(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', without_those_of_cpus(os.environ['XLA_FLAGS']))
