"""Metric writers: where the metrics of a run go."""
