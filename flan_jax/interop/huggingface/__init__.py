"""Import and export of Hugging Face and GGUF models."""
