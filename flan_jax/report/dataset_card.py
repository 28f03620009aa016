"""Dataset card: README.md of an export."""
