"""Compiles a step for a TPU slice without the hardware: memory, time, fit."""
