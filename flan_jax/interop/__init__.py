"""Models that others made, brought here; ours, taken away."""
