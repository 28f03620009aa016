"""TPU slices: planning a run without the hardware, and launching it."""
