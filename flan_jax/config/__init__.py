"""gin at the edge, and the frozen dataclasses that it fills."""
