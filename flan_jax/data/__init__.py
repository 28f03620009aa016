"""Tokenizers, the store of rendered examples, the packing plan, the loader."""
