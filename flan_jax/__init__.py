"""FLAN instruction tuning in JAX: templates, mixtures, trainer, held-out evaluation."""

__version__ = '0.1.0'
