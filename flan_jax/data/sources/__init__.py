"""Sources of raw records other than TFDS: files, Hugging Face datasets."""
