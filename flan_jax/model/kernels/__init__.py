"""Attention kernels for TPU, GPU and CPU."""
