"""Import and export: Hugging Face and GGUF models, seqio tasks, t5x checkpoints."""
