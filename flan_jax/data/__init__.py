"""Tokenizers, the store of rendered examples, the plan of rows, the loader."""
