"""Materialized examples: ArrayRecord shards and their manifest."""
