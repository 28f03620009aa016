"""Whole jobs: training with evaluation, and evaluation of a checkpoint."""
