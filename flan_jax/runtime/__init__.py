"""Process plumbing: progress, preemption, processes, workers, files."""
