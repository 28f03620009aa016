"""Slices of a TPU pod: made, filled with this commit, run on, given back."""
