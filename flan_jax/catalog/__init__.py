"""Declarations: templates, datasets, mixtures, splits, leakage; numpy at most."""
