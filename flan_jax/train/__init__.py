"""The partitioned trainer: mesh, state, optimizer, step, loop, checkpoints."""
