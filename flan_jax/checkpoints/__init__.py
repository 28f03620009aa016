"""Model folders and their weights on disk."""
