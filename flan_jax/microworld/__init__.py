"""A small generated world with all twelve task clusters: the embedded default."""
