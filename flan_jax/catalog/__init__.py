"""Declarations: templates, datasets, mixtures, splits and leakage. numpy at most."""
