"""Held-out zero-shot evaluation: scores, generations, metrics, report."""
