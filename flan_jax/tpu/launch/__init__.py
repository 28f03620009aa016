"""Runs a command on every host of a TPU slice."""
