"""Compile a step for a TPU slice without one: memory, time, fit."""
